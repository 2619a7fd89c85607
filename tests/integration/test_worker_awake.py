"""`worker-glue run` with keep_awake: held while a task is in OCR, unless a daemon's leases show it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.awake import Awake, ways
from syncd.client.heartbeats import Heartbeat, Seen
from syncd.core.wakefulness import Wakefulness, Work
from tests.support.daemon import Host, put
from tests.support.inhibitors import Inhibitors
from worker_glue.cli import run
from worker_glue.health.staff import Staff
from worker_glue.running.awake import daemon_answers, held, work_of
from worker_glue.running.settings import load


def staff(*states: str, since: float = 5.0, pages: int = 0, alive: bool = True) -> Staff:
    beats = [
        Heartbeat(f"w-{n}", 1, time.time(), state=state, since=since, pages_done=pages)
        for n, state in enumerate(states)
    ]
    return Staff([Seen(beat.worker_id, alive, beat) for beat in beats])


def no_daemon() -> bool:
    return False


def test_only_tasks_that_are_worked_at_are_in_hand() -> None:
    assert list(work_of(staff("working", "idle", "working", "waiting"), no_daemon).doing) == ["2 tasks in OCR"]
    assert list(work_of(staff("idle", "waiting", "paused", "starting"), no_daemon).doing) == []
    assert list(work_of(staff("working", alive=False), no_daemon).doing) == [], "it is dead"
    assert list(work_of(Staff([Seen("w-0", True, None)]), no_daemon).doing) == []


def test_a_daemon_is_asked_only_when_there_is_something_and_then_it_holds() -> None:
    asked: list[int] = []

    def daemon() -> bool:
        asked.append(1)
        return True

    assert list(work_of(staff("idle"), daemon).doing) == []
    assert asked == []
    assert list(work_of(staff("working"), daemon).doing) == []
    assert asked == [1]


def test_pages_and_further_tasks_are_progress() -> None:
    decide = Wakefulness(patience_s=100)
    assert decide.look(work_of(staff("working"), no_daemon), 0)
    assert decide.look(work_of(staff("working", pages=1), no_daemon), 90)
    assert decide.look(work_of(staff("working", pages=1), no_daemon), 189)
    assert not decide.look(work_of(staff("working", pages=1), no_daemon), 190)
    assert decide.look(work_of(staff("working", since=6), no_daemon), 200)


def test_held_while_the_workers_work_and_let_go_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_glue.running.awake.LOOK_S", 0.05)
    programs = Inhibitors(tmp_path / "programs")
    programs.systemd()
    env = {"PATH": str(programs.folder)}
    decide = Wakefulness(grace_s=0.1)
    events: list[str] = []

    def event(name: str, **_: object) -> None:
        events.append(name)

    awake = Awake(event, lambda: "now", find=lambda: ways("linux", env), decide=decide)
    work = [Work(("1 task in OCR",))]
    with held(event, lambda: work[0], awake):
        programs.until_living(1)
        work[0] = Work()
        programs.until_living(0)
        work[0] = Work(("2 tasks in OCR",))
        programs.until_living(1)
    assert programs.living() == 0
    assert events == 2 * ["awake.held", "awake.let_go"]


@pytest.mark.skipif(sys.platform == "darwin", reason="calls macOS's own caffeinate")
def test_the_command_holds_where_the_configuration_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_glue.running.awake.LOOK_S", 0.05)
    programs = Inhibitors(tmp_path / "programs")
    programs.systemd()
    monkeypatch.setenv("PATH", str(programs.folder), prepend=":")
    supervisor: Any = SimpleNamespace(staff=lambda: staff("working"))
    file = tmp_path / "syncd.toml"
    for wanted, count in (("false", 0), ("true", 1)):
        file.write_text(f'[host]\nstate_dir = "{tmp_path}/state"\nkeep_awake = {wanted}\n')
        with run._held(load(file, {"HOME": str(tmp_path)}), supervisor):
            if count:
                programs.until_living(count)
        assert (programs.living(), len(programs.started())) == (0, count)


def test_whether_a_daemon_answers(tmp_path: Path) -> None:
    put(tmp_path / "source", "x.jpg", b"x")
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{tmp_path}/source", tmp_path / "data" / "M")
    assert not daemon_answers(host.state)
    with host.daemon():
        assert daemon_answers(host.state)
    assert not daemon_answers(host.state)
