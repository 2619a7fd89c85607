"""Workers as processes: one that dies or hangs is started again, and all end together, however the first one goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from syncd.client.heartbeats import is_held, read
from worker_glue.running.ids import Claim, claim
from worker_glue.running.supervisor import Pace, Supervisor

WITHIN_S = 30.0
QUICK = Pace(grace_s=5, hung_s=1.0, restart_s=0.05, restart_max_s=0.2, lived_s=100, look_s=0.02, beat_look_s=0.1)
CHILD = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from worker_glue.health.beat import Beat

folder, worker_id, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
(folder / f"{worker_id}.starts").open("a").write(f"{os.getpid()}\\n")
starts = len((folder / f"{worker_id}.starts").read_text().splitlines())
beat = Beat(folder, worker_id, every_s=0)
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
def follow():
    while os.read(0, 100): pass
    ended.append(1)
threading.Thread(target=follow, daemon=True).start()
if what.isdecimal():
    sys.exit(int(what))
if what == "once" and starts == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if what == "hang" and starts == 1:
    below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)
    (folder / "below").write_text(str(below.pid))
    beat.tell(state="working")
    time.sleep(600)
while not ended or what == "stubborn":
    beat.tell(state="idle")
    time.sleep(0.05)
(folder / f"{worker_id}.ended").touch()
"""


class Team:
    """A supervisor in a thread, over children of this test."""

    def __init__(self, folder: Path, what: Sequence[str], pace: Pace = QUICK, *, done: bool = False) -> None:
        self.folder = folder
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.code: int | None = None
        self.claims = claim(folder, (f"w-{n + 1}" for n in range(len(what))), len(what))
        wanted = {each.worker_id: what[n] for n, each in enumerate(self.claims)}

        def command(each: Claim) -> list[str]:
            return [sys.executable, "-c", CHILD, str(folder), each.worker_id, wanted[each.worker_id]]

        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self.supervisor = Supervisor(self.claims, command, env, folder, self._event, pace, finished_is_done=done)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run()

    def _event(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))

    def pids(self, worker_id: str) -> list[int]:
        """The processes that have been this worker, the last one living."""
        file = self.folder / f"{worker_id}.starts"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def end(self) -> int | None:
        self.supervisor.stop()
        self._thread.join(WITHIN_S)
        return self.code

    def wait(self) -> int | None:
        self._thread.join(WITHIN_S)
        return self.code


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Callable[..., Team]]:
    teams: list[Team] = []

    def make(*what: str, pace: Pace = QUICK, done: bool = False) -> Team:
        teams.append(Team(tmp_path, what, pace, done=done))
        return teams[-1]

    yield make
    for each in teams:
        each.supervisor.stop()
        each.supervisor.stop()
        each.wait()


def until(true: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, what or "did not come true"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_all_are_up_and_end_in_order(team: Callable[..., Team], tmp_path: Path) -> None:
    three = team("work", "work", "work")
    until(lambda: all(read(tmp_path, f"w-{n}") for n in (1, 2, 3)))
    staff = three.supervisor.staff()
    assert [seen.worker_id for seen in staff.seen] == ["w-1", "w-2", "w-3"]
    assert all(is_held(tmp_path / f"w-{n}.lock") for n in (1, 2, 3))
    assert three.end() == 0
    assert sorted(each.name for each in tmp_path.glob("*.ended")) == ["w-1.ended", "w-2.ended", "w-3.ended"]
    assert list(tmp_path.glob("*.json")) == []
    assert not any(is_held(tmp_path / f"w-{n}.lock") for n in (1, 2, 3))


def test_one_that_is_killed_is_started_again_under_its_id(team: Callable[..., Team]) -> None:
    two = team("work", "once")
    until(lambda: len(two.pids("w-2")) == 2)
    assert len(two.pids("w-1")) == 1
    assert any(name == "worker.ended" and fields["why"] == "killed by SIGKILL" for name, fields in two.events)
    assert two.supervisor.staff().restarts == {"w-1": 0, "w-2": 1}
    assert two.end() == 0


def test_starting_again_is_no_tight_loop(team: Callable[..., Team]) -> None:
    one = team("1", pace=QUICK._replace(restart_s=0.2, restart_max_s=1.0))
    until(lambda: sum(name == "worker.ended" for name, _ in one.events) >= 4)
    pauses = [fields["again_in_s"] for name, fields in one.events if name == "worker.ended"]
    assert pauses[:3] == sorted(pauses[:3])  # each is given up to a fifth more or less; then the longest is reached
    assert pauses[2] >= 0.6
    assert max(pauses) <= 1.2
    assert "exit code 1" in one.supervisor.staff().down.get("w-1", "exit code 1")
    assert one.end() == 0


@pytest.mark.parametrize("code", [2, 12])
def test_a_configuration_error_ends_all_with_its_code(team: Callable[..., Team], tmp_path: Path, code: int) -> None:
    two = team("work", str(code))
    assert two.wait() == code
    assert len(two.pids("w-2")) == 1
    assert not any(lives(pid) for pid in two.pids("w-1"))


def test_one_that_hangs_is_killed_with_all_below_it(team: Callable[..., Team], tmp_path: Path) -> None:
    two = team("work", "hang", pace=QUICK._replace(hung_s=3.0))
    until(lambda: len(two.pids("w-2")) == 2, "not started again")
    assert any(name == "worker.hung" and fields["worker"] == "w-2" for name, fields in two.events)
    below = int((tmp_path / "below").read_text())
    until(lambda: not lives(below), "the process below it lives on")
    assert len(two.pids("w-1")) == 1, "one that beats is left alone"
    assert two.end() == 0


def test_one_that_does_not_end_is_killed_at_the_end_of_the_grace(team: Callable[..., Team]) -> None:
    one = team("stubborn", pace=QUICK._replace(grace_s=0.5))
    until(lambda: one.pids("w-1"))
    assert one.end() == 0
    assert ("worker.killed", {"worker": "w-1", "why": "it did not end in time"}) in one.events


def test_a_second_stop_ends_all_at_once(team: Callable[..., Team]) -> None:
    one = team("stubborn", pace=QUICK._replace(grace_s=600))
    until(lambda: one.pids("w-1"))
    one.supervisor.stop()
    time.sleep(0.3)
    one.supervisor.stop()
    assert one.wait() == 0


def test_one_that_has_finished_is_not_started_again_where_that_is_wanted(team: Callable[..., Team]) -> None:
    one = team("0", done=True)
    assert one.wait() == 0
    assert len(one.pids("w-1")) == 1


ALONE = """
import sys, os
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.integration.test_worker_run_supervisor import Team
team = Team(Path(sys.argv[2]), ["work", "work"])
team.wait()
"""


def test_the_workers_end_when_the_first_process_is_killed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    first = subprocess.Popen([sys.executable, "-c", ALONE, str(root), str(tmp_path)])
    try:
        until(lambda: all(read(tmp_path, name) for name in ("w-1", "w-2")))
        first.send_signal(signal.SIGKILL)
        first.wait(WITHIN_S)
        until(lambda: len(list(tmp_path.glob("*.ended"))) == 2, "they live on")
        until(lambda: not is_held(tmp_path / "w-1.lock"))
    finally:
        first.kill()
        first.wait()
