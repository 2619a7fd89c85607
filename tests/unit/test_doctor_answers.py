"""What doctor tells of the checks that the daemon makes."""

from __future__ import annotations

import pytest

from syncd.doctor import daemon, mac


def test_the_daemon_s_own_answers_are_told_where_they_are_not_well() -> None:
    checks = [
        {"mirror": "B", "group": "mirror", "name": "target", "status": "ok", "seen": "there", "todo": ""},
        {"mirror": "B", "group": "mirror", "name": "port", "status": "fail", "seen": "refused", "todo": "look"},
        {"mirror": None, "group": "nsqd", "name": "topic", "status": "warn", "seen": "nobody reads", "todo": ""},
    ]
    told = daemon.check_answers(checks)
    assert [(check.name, check.status.value) for check in told] == [
        ("port", "fail"),
        ("topic", "warn"),
        ("in the daemon", "ok"),
    ]
    assert told[0].seen == "in the daemon, B: refused"
    assert told[0].todo == "look"
    assert told[1].seen.startswith("in the daemon, nsqd:")
    assert told[2].seen == "1 check made by the daemon: well"
    assert daemon.check_answers(None)[0].status.value == "warn"


def test_what_the_daemon_did_not_try_follows_from_what_failed_and_is_left_out() -> None:
    failed = {"mirror": "B", "name": "port", "status": "fail", "seen": "refused", "todo": "look"}
    untried = {"mirror": "B", "name": "login", "status": "warn", "seen": "not tried: port failed", "todo": ""}
    assert [check.name for check in daemon.check_answers([failed, untried])] == ["port"]


def test_nothing_that_is_well_is_told_as_nothing() -> None:
    assert daemon.check_answers([]) == []


def test_what_macos_refuses_the_daemon_s_own_checks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mac, "darwin", lambda: 25)
    monkeypatch.setattr(mac, "is_mac", lambda: True)
    hangs = {"mirror": "B", "name": "target", "status": "fail", "seen": "/Volumes/u: no answer within 10 s", "todo": ""}
    lan = {"mirror": "B", "name": "port", "status": "fail", "seen": "172.12.0.132: No route to host", "todo": ""}
    told = daemon.check_answers([hangs, lan])
    assert "Files & Folders" in told[0].todo
    assert "Local Network" in told[1].todo


def test_a_failure_without_advice_asks_to_compare() -> None:
    (told,) = daemon.check_answers([{"mirror": "B", "name": "port", "status": "fail", "seen": "refused", "todo": ""}])
    assert "refused what a terminal may do" in told.todo
