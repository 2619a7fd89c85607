"""What only macOS does, told by its symptoms: permissions for the local network and folders, sleep."""

from __future__ import annotations

import os

import pytest

from syncd.doctor import mac
from syncd.doctor.checks import Level, fail, ok

AWAKE = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                0 (sleep prevented by powerd, caffeinate)
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 lowpowermode         0
 womp                 1
"""
SEQUOIA, SONOMA = 24, 23


def test_a_mac_that_stays_awake_is_fine() -> None:
    (check,) = mac.sleep_of(AWAKE)
    assert (check.status, check.name) == (Level.OK, "sleep")


@pytest.mark.parametrize(
    ("line", "minutes", "by"),
    [
        (" sleep                1", "1 min", ""),
        (" sleep                10 (sleep prevented by sharingd, powerd)", "10 min", "kept awake by sharingd, powerd"),
        (" sleep                15 (prevented by Backup)", "15 min", "kept awake by Backup"),
    ],
)
def test_a_mac_that_sleeps_is_a_warning_with_a_way_that_needs_no_admin(line: str, minutes: str, by: str) -> None:
    lines = [line if each.startswith(" sleep ") else each for each in AWAKE.splitlines()]
    (check,) = mac.sleep_of("\n".join(lines))
    assert check.status is Level.WARN
    assert minutes in check.seen
    assert by in check.seen
    assert "caffeinate -s" in check.todo


def test_a_mac_that_is_held_while_it_works_may_sleep_otherwise() -> None:
    (check,) = mac.sleep_of(
        AWAKE.replace(" sleep                0 (sleep", " sleep                10 (sleep"), held=True
    )
    assert check.status is Level.OK
    assert "not while work is in hand" in check.seen


@pytest.mark.parametrize("text", ["", "Usage: pmset <options>", AWAKE.replace(" sleep  ", " asleep ")])
def test_other_words_of_pmset_tell_nothing(text: str) -> None:
    assert mac.sleep_of(text) == []


@pytest.mark.parametrize("sign", ["No route to host", "Network is unreachable"])
def test_the_local_network_permission_is_named_by_its_symptom(sign: str) -> None:
    check = fail("port", f"cannot connect to 172.12.0.132:13445: {sign}", "check host and port")
    (advised,) = mac.with_network_advice([check], SEQUOIA)
    assert "Privacy & Security > Local Network" in advised.todo
    assert "proxy on 127.0.0.1" in advised.todo
    assert (advised.seen, advised.status) == (check.seen, check.status)


@pytest.mark.parametrize(
    ("check", "version"),
    [
        (fail("port", "cannot connect to 172.12.0.132:13445: No route to host", "t"), SONOMA),
        (fail("port", "cannot connect to 172.12.0.132:13445: No route to host", "t"), 0),
        (fail("port", "cannot connect to 127.0.0.1:13445: No route to host", "t"), SEQUOIA),
        (fail("port", "nothing listens at 172.12.0.132:13445 (connection refused)", "t"), SEQUOIA),
        (ok("port", "No route to host was yesterday"), SEQUOIA),
    ],
)
def test_it_is_not_named_otherwise(check: object, version: int) -> None:
    assert mac.with_network_advice([check], version) == [check]  # type: ignore[list-item]


def test_the_permission_for_folders_is_named_for_a_target_that_is_refused_or_hangs() -> None:
    refused = fail("target", f"/Volumes/usb/B cannot be looked at: {os.strerror(1)}", "look at the disk")
    hangs = fail("target", "/Users/tod/Documents/B: no answer within 10 s: is it away?", "df")
    modes = fail("target", "/Users/tod/B may not be written by this user", "chown")
    told = mac.with_folder_advice([refused, hangs, modes], mac=True)
    assert ["Files & Folders" in check.todo for check in told] == [True, True, False]
    assert mac.with_folder_advice([refused, hangs], mac=False) == [refused, hangs]


def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert mac.darwin() == 0
    assert not mac.is_mac()


def test_the_kernel_tells_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.release", lambda: "25.1.0")
    assert mac.darwin() == 25
