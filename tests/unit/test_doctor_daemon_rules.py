"""The service and the daemon's own view, judged from what they say; logs for the bundle."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.doctor import daemon, logs, mac
from syncd.doctor.checks import Check, Level
from syncd.service import Inspection
from tests.support import statuses

RUNS = Inspection(
    "syncd",
    kind="systemd user service",
    file=Path("/home/tod/.config/systemd/user/syncd.service"),
    installed=True,
    ours=True,
    running=True,
    enabled=True,
    survives_logout=True,
    survives_reboot=True,
    detail="active (running)",
    logout="yes",
    reboot="yes",
)


@pytest.mark.parametrize(
    ("found", "level", "seen", "todo"),
    [
        (RUNS, Level.OK, "survives logout and reboot", ""),
        (Inspection("syncd", detail="neither systemd nor launchd", todo="syncd run"), Level.OK, "neither", ""),
        (Inspection("syncd", kind="launchd agent"), Level.OK, "syncd service install", ""),
        (replace(RUNS, running=False, detail="failed", todo="journalctl"), Level.FAIL, "failed", "journalctl"),
        (replace(RUNS, running=False, detail="failed"), Level.FAIL, "failed", "syncd service status"),
        (
            replace(RUNS, survives_logout=False, logout="no, it lingers not", todo="sudo loginctl enable-linger tod"),
            Level.WARN,
            "after logout: no, it lingers not",
            "loginctl",
        ),
    ],
)
def test_a_service_is_judged(found: Inspection, level: Level, seen: str, todo: str) -> None:
    check = daemon.check_service(found, "syncd")
    assert check.status is level
    assert seen in check.seen
    assert todo in check.todo


def by_seen(checks: list[Check], part: str) -> Check:
    return next(check for check in checks if part in check.seen)


def test_a_daemon_that_is_well_tells_of_every_hop_and_mirror() -> None:
    checks = daemon.check_view(statuses.status())
    assert {check.status for check in checks} == {Level.OK}
    assert [check.name for check in checks] == [
        "source Bhushanji",
        "nsqd",
        "mongodb",
        "announcements",
        "mirror",
        "mirror",
    ]
    assert "SMB 3.1.1, signed" in checks[0].seen
    assert "0.8 ms" in checks[0].seen
    assert "the daemon says" in checks[0].seen


def test_a_hop_that_is_down_for_the_daemon_fails_and_asks_to_compare() -> None:
    checks = daemon.check_view(statuses.halted())
    nsqd = next(check for check in checks if check.name == "nsqd")
    assert nsqd.status is Level.FAIL
    assert "connection refused" in nsqd.seen
    assert "refused what a terminal may do" in nsqd.todo
    held_back = by_seen(checks, '"newsletters"')
    assert (held_back.status, held_back.todo) == (Level.FAIL, "syncd approve --mirror newsletters")
    assert by_seen(checks, "3 owed").status is Level.WARN


def test_what_macos_refuses_the_daemon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mac, "darwin", lambda: 25)
    monkeypatch.setattr(mac, "is_mac", lambda: True)
    status = statuses.status(statuses.mirror("B", "halted", message="/Volumes/u/B: Operation not permitted"))
    status["hops"][0] |= {"state": "down", "detail": "cannot connect to 172.12.0.132:13445: No route to host"}
    checks = daemon.check_view(status)
    assert "Local Network" in checks[0].todo
    assert "Files & Folders" in checks[-1].todo


@pytest.mark.parametrize("status", [{}, {"hops": None, "mirrors": 3}, {"hops": [1], "mirrors": [[]], "announcing": 0}])
def test_a_daemon_of_another_version_may_say_other_things(status: dict[str, object]) -> None:
    assert daemon.check_view(status) == []


def test_an_unhealthy_daemon_fails_with_each_of_its_problems() -> None:
    health = {"ok": False, "version": "1", "pid": 7, "since": "now", "problems": ["a", "b"]}
    assert [(c.status, c.seen.rpartition(": ")[2]) for c in daemon.check_health(health)] == [
        (Level.FAIL, "a"),
        (Level.FAIL, "b"),
    ]
    assert [c.status for c in daemon.check_health(health | {"ok": True})] == [Level.OK]
    assert [c.status for c in daemon.check_health({})] == [Level.FAIL]


# --- logs ------------------------------------------------------------------------------------------------------------


def test_the_end_of_a_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "syncd.log"
    path.write_text("".join(f"line {n}\n" for n in range(1000)))
    text = logs.tail(path, limit=100)
    assert text.endswith("line 999\n")
    assert all(line.startswith("line ") for line in text.splitlines())
    assert logs.tail(path) == path.read_text()
    assert logs.tail(tmp_path / "none") == ""


def test_launchd_logs_into_files(tmp_path: Path) -> None:
    (tmp_path / "my syncd.log").write_text("run.done\n")
    (tmp_path / "my syncd.err").write_text("error: no\n")
    assert logs.shown_by(f"tail -F '{tmp_path}/my syncd.log'", {}) == {
        "log-my syncd.log.txt": "run.done\n",
        "log-my syncd.err.txt": "error: no\n",
    }


def test_systemd_logs_into_the_journal(tmp_path: Path) -> None:
    (tmp_path / "journalctl").write_text(f"#!{sys.executable}\nimport sys\nprint(*sys.argv[1:])\n")
    (tmp_path / "journalctl").chmod(0o755)
    env = {"PATH": str(tmp_path)}
    assert logs.shown_by("journalctl --user -u syncd -f", env) == {
        "log-journal.txt": "--user -u syncd -n 2000 --no-pager -o short-iso\n"
    }
    assert logs.shown_by("journalctl -f", {"PATH": str(tmp_path / "none")}) == {}
    assert logs.shown_by("", {}) == {}
