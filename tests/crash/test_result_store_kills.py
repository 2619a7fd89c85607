"""kill -9 of workers at random points of their work on the store of results: what was acknowledged is there, whole.

A sample by default; SYNCD_EXHAUSTIVE=1 kills 100 times. A failure prints its seed; SYNCD_SEED=N replays its choices.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from worker_glue.model import Kind, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store.reading import Reading
from worker_glue.store.sqlite import SqliteStore

KILLS = 100 if os.environ.get("SYNCD_EXHAUSTIVE") == "1" else 6
LIVES_S = (0.1, 1.2)
"""From before there is a store to well into the work."""
ROUNDS_OF_A_STORE = 4
THREADS = 4
BOUND_S = 60.0


class Step(NamedTuple):
    """One call. A task's calls are made one after another: begin, forgive, begin, keep, replace, settled."""

    call: str
    task: int


def outcome(task: int, call: str) -> Outcome:
    """Return what is kept of a task: from nothing to many pages of the file, told apart by what made it."""
    text = random.Random(f"{task} {call}").randbytes((task * 7_919) % 60_000).hex()
    kind = Kind.RESULT if call == "keep" else Kind.ERROR
    return Outcome(key(task), kind, f"Bhushanji/{task}.jpg", "id", {"made_by": call, "text": text})


def key(task: int) -> TaskKey:
    return TaskKey("job", task, f"{task}.jpg")


# --- the child -------------------------------------------------------------------------------------------------------


def steps_of(task: int) -> list[str]:
    """Return the calls of one task; each third one is left off at another place."""
    steps = ["begin", "forgive", "begin", "keep", "replace", "settled"]
    if task % 3 == 0:
        steps.remove("replace")
    return steps[: 6 - task % 4]


def work(store: SqliteStore, log: int, first: int) -> None:
    """Do tasks until killed; the log has each call before it is made (>), and after it has returned (<)."""
    for task in range(first, first + 1_000_000, 100):
        for call in steps_of(task):
            os.write(log, f"> {call} {task}\n".encode())
            make(store, call, task)
            os.write(log, f"< {call} {task}\n".encode())


def make(store: SqliteStore, call: str, task: int) -> None:
    match call:
        case "begin":
            store.begin(key(task))
        case "forgive":
            store.forgive(key(task))
        case "keep":
            store.keep(outcome(task, call))
        case "replace":
            store.replace(outcome(task, call))
        case _:
            store.settled(key(task), Saved.RECORDED)


def main(path: str, log_path: str, first: int) -> None:
    import threading

    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = SqliteStore(Path(path), worker_id="host-1")
    for number in range(THREADS):
        threading.Thread(target=work, args=(store, log, first + number)).start()


# --- the parent ------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """All that the store knows of a task."""

    starts: int
    owed: str
    settled: bool
    text: str


NOTHING = State(0, "", False, "")


def after(state: State, call: str) -> State:
    match call:
        case "begin":
            return state._replace(starts=state.starts + 1)
        case "forgive":
            return state._replace(starts=state.starts - 1)
        case "keep":
            return state._replace(starts=0, owed="keep", text="keep")
        case "replace":
            return state._replace(owed="replace")
        case _:
            return state._replace(owed="", settled=True, text=state.text if state.owed == "replace" else "")


def expected(log: Path) -> dict[int, set[State]]:
    """Return the states in which a task may be: after all that was acknowledged, or also after what was in the air."""
    acknowledged: dict[int, State] = {}
    may_be: dict[int, set[State]] = {}
    lines = log.read_text().splitlines() if log.exists() else []
    for mark, call, number in (line.split() for line in lines):
        task = int(number)
        before = acknowledged.get(task, NOTHING)
        if mark == ">":
            may_be[task] = {before, after(before, call)}
        else:
            acknowledged[task] = after(before, call)
            may_be[task] = {acknowledged[task]}
    return may_be


def found(path: Path) -> dict[int, State]:
    """Return what the store knows; every outcome in it is compared byte for byte."""
    states: dict[int, State] = {}

    def note(task: TaskKey, **changes: object) -> None:
        number = task.file_index or 0
        states[number] = states.get(number, NOTHING)._replace(**changes)

    with closing(SqliteStore(path, worker_id="after")) as store, Reading(path) as reading:
        for task, times, _ in reading.failing(1_000_000):
            note(task, starts=times)
        for there in store.owing(1_000_000, 0):
            made_by = str(there.entry["made_by"])
            assert there == outcome(there.key.file_index or 0, made_by)
            note(there.key, owed=made_by)
        for row in reading.settled():
            note(row.key, settled=True)
        for task in [key(number) for number in states]:
            kept = reading.outcome_of(task)
            if kept is not None:
                assert kept == outcome(task.file_index or 0, str(kept.entry["made_by"]))
                note(task, text=str(kept.entry["made_by"]))
        assert store.counts().owed == sum(bool(state.owed) for state in states.values())
    return states


@pytest.fixture
def choices() -> Iterator[random.Random]:
    seed = int(os.environ.get("SYNCD_SEED") or secrets.randbits(32))
    print(f"SYNCD_SEED={seed}")
    yield random.Random(seed)


@pytest.mark.timeout(60 + 4 * KILLS)
def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path, choices: random.Random) -> None:
    """Two workers on one store; one is killed, then the other, and both are started again on what they left."""
    seen = {"kept": 0, "in the air": 0}
    for turn in range(KILLS // 2):
        folder = tmp_path / f"store-{turn // ROUNDS_OF_A_STORE}"
        folder.mkdir(exist_ok=True)
        path = folder / "worker" / "results.db"
        children = [start(path, folder / f"log-{turn}-{number}", 50 * number + 1_000_000 * turn) for number in range(2)]
        for child in children:
            time.sleep(choices.uniform(*LIVES_S))
            assert child.poll() is None
            child.send_signal(signal.SIGKILL)
            child.wait(BOUND_S)
        check(path, folder, seen)
    assert seen["kept"] > 0


def start(path: Path, log: Path, first: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.test_result_store_kills", str(path), str(log), str(first)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


def check(path: Path, folder: Path, seen: dict[str, int]) -> None:
    states = found(path)
    may_be: dict[int, set[State]] = {}
    for log in folder.glob("log-*"):
        may_be |= expected(log)
    for task in states.keys() | may_be.keys():
        assert states.get(task, NOTHING) in may_be[task], task
    seen["kept"] += sum(bool(state.owed) for state in states.values())
    seen["in the air"] += sum(len(among) > 1 for among in may_be.values())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
