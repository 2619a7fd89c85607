"""Small parts of the daemon: the shared target, refused logins, the schedule, errands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.config.cron import Cron
from syncd.core.errors import RunStopped, SourceAuthFailed, SourceUnavailable, TargetMissing
from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.daemon.errands import DoctorErrand, Errands, RunErrand, VerifyErrand
from syncd.daemon.logins import REFUSED_FOR_S, Logins
from syncd.daemon.schedule import Schedule, WallClock
from syncd.daemon.target import KEPT_OPEN_S, OpenTarget
from syncd.doctor.checks import Group, fail, ok
from syncd.engine.verify import Verification
from syncd.web.port import Errand


class Opened:
    """Stands in for an open DiskMirror."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Folder:
    """A target, the mirrors that were opened of it, and a clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[Opened] = []
        self.now = 0.0
        path.mkdir()
        self.target = OpenTarget(path, self.open, lambda: self.now)

    def open(self, *, new_target: bool, take_over: bool) -> Any:
        if not self.path.is_dir():
            raise TargetMissing("gone")
        self.opened.append(Opened())
        return self.opened[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "target")


def test_a_target_is_opened_once_for_all_and_closed_when_idle(folder: Folder) -> None:
    with folder.target.use() as first, folder.target.use() as second:
        assert first is second
        folder.now += 10
        folder.target.close_idle()
    folder.target.close_idle()
    assert [each.closed for each in folder.opened] == [0], "it was used just now"
    folder.now += KEPT_OPEN_S + 1
    folder.target.close_idle()
    assert [each.closed for each in folder.opened] == [1]
    with folder.target.use():
        assert len(folder.opened) == 2


def test_a_target_that_was_replaced_is_opened_anew_and_the_old_one_stays_open_for_its_user(folder: Folder) -> None:
    with folder.target.use() as old:
        folder.path.rename(folder.path.with_name("unplugged"))
        with pytest.raises(TargetMissing), folder.target.use():
            pass
        folder.path.mkdir()
        with folder.target.use() as new:
            assert new is not old
        assert folder.opened[0].closed == 0
    assert [each.closed for each in folder.opened] == [1, 0]
    folder.target.close()
    assert [each.closed for each in folder.opened] == [1, 1]


def test_a_refused_login_is_remembered_until_something_changes() -> None:
    secret, now = ["one"], [0.0]
    logins = Logins(lambda: secret[0], lambda: now[0])
    logins.note(SourceUnavailable("away"))
    assert not logins.refused
    logins.note(SourceAuthFailed("refused", hint="syncd secret M"))
    with pytest.raises(SourceAuthFailed, match="refused"):
        logins.check()
    secret[0] = "two"
    assert not logins.refused, "the secret changed"
    logins.note(SourceAuthFailed("refused"))
    now[0] += REFUSED_FOR_S + 1
    assert not logins.refused, "an hour has passed"
    logins.note(SourceAuthFailed("refused"))
    logins.forgive()
    assert not logins.refused, "a person asked for a run"


def test_a_clock_that_jumps_is_noticed_once() -> None:
    wall, steady = [1000.0], [0.0]
    clock = WallClock(lambda: wall[0], lambda: steady[0])
    wall[0], steady[0] = 1005.0, 5.0
    assert clock.jumped_s() == 0
    wall[0] += 3600
    assert clock.jumped_s() == 3600
    assert clock.jumped_s() == 0
    wall[0] -= 7200
    assert clock.jumped_s() == -7200
    wall[0] += 1
    steady[0] += 0.5
    assert clock.jumped_s() == 0, "clocks drift"


@pytest.fixture
def due() -> Callable[..., Any]:
    def settings(name: str, every_s: float | None = None, cron: str = "") -> Any:
        return SimpleNamespace(name=name, every_s=every_s, cron=Cron(cron) if cron else None)

    return settings


def test_mirrors_are_called_at_their_times(due: Callable[..., Any]) -> None:
    schedule = Schedule(None)
    try:
        called = threading.Event()
        schedule.add(due("M", every_s=1), called.set)
        schedule.add(due("N", cron="*/10 * * * *"), lambda: None)
        assert schedule.next_run("M").endswith("Z")
        assert schedule.next_run("N")[14:16] in {"00", "10", "20", "30", "40", "50"}
        assert called.wait(20)
        schedule.begin_anew()
        assert schedule.next_run("M")
        schedule.remove("M")
        assert schedule.next_run("M") == ""
        assert schedule.next_run("unknown") == ""
    finally:
        schedule.close()


def test_a_run_over_two_mirrors_is_done_when_both_are() -> None:
    errand = RunErrand("r1", {"A": (), "B": ()})
    assert errand.answer().progress is None
    first = errand.begin("A")
    first.fetched, first.wanted, first.bytes = 2, 5, 100
    told = errand.answer()
    assert (told.done, told.progress and told.progress["files_done"]) == (False, 2)
    errand.done_with("A")
    errand.begin("B").error = SourceUnavailable("away", hint="syncd doctor")
    errand.done_with("B")
    told = errand.answer()
    assert (told.done, told.exit_code) == (True, 10)
    assert told.result is not None
    assert [mirror["name"] for mirror in told.result["mirrors"]] == ["A", "B"]
    assert told.errors == ({"message": "away", "hint": "syncd doctor", "problems": []},)


def test_a_path_that_is_on_no_source_is_said_once_however_often_it_is_asked() -> None:
    errand = RunErrand("r1", {"A": (RelPath("x"),)})
    errand.begin("A").not_found.append("x")
    errand.done_with("A")
    answers = [errand.answer() for _ in range(3)]
    assert answers[0].result is not None
    assert [failure["path"] for failure in answers[2].result["mirrors"][0]["failures"]] == ["x"]  # type: ignore[index]
    assert answers[2].exit_code == 3


def test_errands_end_with_the_daemon_and_are_found_by_their_id() -> None:
    errands = Errands()
    run = RunErrand("r1", {"A": ()})
    verify = VerifyErrand("v1", ["A"], fraction=1, source=False, checksums=False, repair=False)
    errands.add(run)
    errands.add(verify)
    run.fail("A", RunStopped("the daemon ends"))
    told = errands.find("r1")
    assert told is not None
    assert (told.done, told.exit_code) == (True, 143)
    result = Verification("A", checked=3, total=3)
    verify.show("A")(result)
    told = errands.find("v1")
    assert told is not None
    assert told.progress is not None
    result.note(RelPath("x"), Reason.DAMAGED, "", dropped=True)
    verify.done_with("A", result)
    told = errands.find("v1")
    assert told is not None
    assert (told.exit_code, told.result and told.result["mirrors"][0]["damaged"]) == (3, 1)
    assert errands.find("unknown") is None


def test_one_examination_goes_on_at_a_time_and_a_second_caller_follows_it() -> None:
    errands, go_on = Errands(), threading.Event()

    def slow() -> Iterator[Group]:
        go_on.wait(20)
        yield Group("M", "", [fail("target", "not permitted")])

    assert errands.examine(DoctorErrand("d1", slow)) == "d1"
    assert errands.examine(DoctorErrand("d2", slow)) == "d1"
    assert errands.find("d2") is None
    go_on.set()
    told = until_done(errands, "d1")
    assert (told.exit_code, told.errors) == (3, ())
    assert told.result is not None
    assert [(check["group"], check["mirror"], check["status"]) for check in told.result["checks"]] == [
        ("mirror", "M", "fail")
    ]
    assert errands.examine(DoctorErrand("d3", slow)) == "d3"
    until_done(errands, "d3")


def test_an_examination_that_breaks_off_says_so() -> None:
    errands = Errands()

    def broken() -> Iterator[Group]:
        yield Group("M", "", [ok("target", "there")])
        raise KeyError("x")

    told = until_done(errands, errands.examine(DoctorErrand("d1", broken)))
    assert told.exit_code == 1
    assert [error["message"] for error in told.errors] == ["a bug in the daemon: KeyError"]


def until_done(errands: Errands, errand_id: str) -> Errand:
    deadline = time.monotonic() + 20
    while not ((told := errands.find(errand_id)) and told.done):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return told
