"""Whatever a queue loses, doubles and reorders: publishing again ends a job with one entry a task, by the guard."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from syncd.core.errors import ConfigError
from syncd.core.resolution import State
from tests.support.desk_fakes import FakeListing, FakePaths, FakePress
from worker_glue.desk.jobs import missing, requeue, requeue_from, retry_errors, standing_of
from worker_glue.desk.ports import Entry, Line, SourceRow, Standing, Wish
from worker_glue.desk.publishing import launch, lines_of, task_body
from worker_glue.jobs import records
from worker_glue.jobs.memory import MemoryJobs
from worker_glue.model import Page, Recognized, SourceOf, Task
from worker_glue.tasks import entries
from worker_glue.tasks.parse import read_task

SEEDS = range(3_000 if os.environ.get("SYNCD_EXHAUSTIVE") else 150)
WISH = Wish(("hi",))


class Board:
    """ports.Board over the reference MongoDB."""

    def __init__(self) -> None:
        self.jobs = MemoryJobs()
        self.known: set[str] = set()
        self.kept: dict[str, Sequence[Line]] = {}
        self.older = 0.0

    def standing(self, job_id: str) -> Standing | None:
        if job_id not in self.known:
            return None
        job = self.jobs.job(job_id)
        counts = [len(job["checkpoint"][kind]) for kind in ("results", "errors")]
        counters = job["total_files"], job["published_count"], job["consumed_count"]
        return Standing(job_id, job["status"], *counters, *counts)

    def recent(self, limit: int) -> Sequence[Standing]:
        return []

    def create(self, job_id: str, total: int, extra: dict[str, Any]) -> None:
        self.known.add(job_id)
        self.jobs.put(records.job_document(job_id, total, datetime.now(UTC), extra))

    def entries(self, job_id: str) -> Sequence[Entry]:
        checkpoint = self.jobs.job(job_id)["checkpoint"]
        results = [Entry(e["file_index"], e["file"], e["file_path"], None, WISH) for e in checkpoint["results"]]
        errors = [Entry(e.get("file_index"), e["file"], e["file_path"], "x", None) for e in checkpoint["errors"]]
        return [*results, *errors]

    def keep_lines(self, job_id: str, lines: Sequence[Line]) -> None:
        self.kept[job_id] = lines

    def lines(self, job_id: str) -> Sequence[Line]:
        return self.kept.get(job_id, ())

    def sources(self, job_id: str | None) -> Sequence[SourceRow]:
        return []

    def work(self, body: bytes, chance: random.Random, errors: float = 0.2) -> None:
        """Do a task as a worker does: look, read, record."""
        task = read_task(body)
        assert isinstance(task, Task)
        if not self.jobs.look(task).open:
            return
        told: dict[str, Any] = {
            "message_id": f"{chance.getrandbits(64):016x}",
            "worker_id": "w",
            "now": datetime.now(UTC),
        }
        if chance.random() < errors:
            outcome = entries.error(task, "damaged", **told)
            if chance.random() < self.older:  # older workers record errors without number
                outcome = outcome._replace(entry={k: v for k, v in outcome.entry.items() if k != "file_index"})
            self.jobs.save(outcome)
        else:
            read = Recognized((Page(1, "t", None, (), 1, 1),), "null", "1")
            self.jobs.save(entries.result(task, read, SourceOf("", "s", 1, 1), took_s=0, retries=0, **told))


def assert_once(board: Board, job_id: str, paths: Sequence[str]) -> None:
    found = [entry.file_path for entry in board.entries(job_id)]
    assert sorted(found) == sorted(paths)
    standing = board.standing(job_id)
    assert standing is not None
    assert standing.complete


def some_paths(chance: random.Random) -> list[str]:
    """Paths in few folders with few names, so that names come again."""
    names = {f"M/{chance.choice('abc')}/{chance.randrange(6)}.jpg" for _ in range(chance.randrange(1, 15))}
    return sorted(names)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_submitted_job(seed: int) -> None:
    chance = random.Random(seed)
    board, press, paths = Board(), FakePress(), some_paths(chance)
    board.older = chance.choice([0, 0.5])
    launch("j", lines_of(paths, [WISH] * len(paths)), board, press)
    queue = [body for body in press.bodies for _ in range(chance.choice([0, 1, 1, 2]))]
    for _ in range(20):
        chance.shuffle(queue)
        late = queue[len(queue) // 2 :]
        for body in queue[: len(queue) // 2]:
            board.work(body, chance)
        standing = standing_of("j", board)
        again = FakePress()
        assert requeue(standing, board, again) == missing(standing, board).open == standing.open
        queue = late + [body for body in again.bodies if chance.random() < 0.7]
        if not standing.open:
            break
    for body in queue + press.bodies:
        board.work(body, chance)
    assert_once(board, "j", paths)
    made = retry_errors(standing_of("j", board), board, retried := FakePress())
    for body in retried.bodies:
        board.work(body, chance, errors=0)
    failed = [entry.file_path for entry in board.entries("j") if entry.error is not None]
    if made is None:
        assert not failed
    else:
        assert_once(board, made.job_id, failed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_of_the_backend_put_together_from_its_folder(seed: int) -> None:
    """The backend's order is not ours, and what seemed lost may come after all."""
    chance = random.Random(seed)
    board, paths = Board(), some_paths(chance)
    order = list(paths)
    chance.shuffle(order)
    front, board.older = chance.choice(["", "/app/"]), chance.choice([0, 0.5])
    spelled = [front + path for path in order]
    bodies = [task_body("j", line, len(order)) for line in lines_of(spelled, [WISH] * len(order))]
    board.create("j", len(order), {})
    board.work(bodies[0], chance, errors=0)
    for body in bodies[1:]:
        if chance.random() < 0.5:
            board.work(body, chance)
    states = FakePaths({path.removeprefix("M/"): State.READY for path in paths})
    listing = FakeListing(states.states)
    for _ in range(20):
        standing = standing_of("j", board)
        if not standing.open:
            break
        press = FakePress()
        requeue_from(standing, ["M"], board, press, states, listing)
        assert len(press.bodies) == standing.open
        queue = press.bodies + [body for body in bodies if chance.random() < 0.1]
        chance.shuffle(queue)
        for body in queue:
            board.work(body, chance)
    for body in bodies:
        board.work(body, chance)
    assert_once(board, "j", spelled)


def test_nothing_is_guessed() -> None:
    board = Board()
    board.create("j", 2, {})
    with pytest.raises(ConfigError, match="no entry yet"):
        states = FakePaths({"a.jpg": State.READY, "b.jpg": State.READY})
        requeue_from(standing_of("j", board), ["M"], board, FakePress(), states, FakeListing(states.states))
