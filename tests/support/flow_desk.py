"""A worker's flow on a desk: messages, nsqd, files and engine are fakes that a test steers; jobs and store are too."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

from syncd.core.errors import PublishFailed
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from worker_glue.flow import Limits, Means, Worker
from worker_glue.flow.limits import TASKS
from worker_glue.jobs.memory import MemoryJobs
from worker_glue.jobs.records import JobSpec, new_job
from worker_glue.model import Kind, OcrRequest, Page, Recognized, TaskKey
from worker_glue.store.memory import MemoryStore
from worker_glue.tasks.dead import DEAD_TOPIC

PATIENCE_S = 20.0


class FakeDelivery:
    """One message. ended: how ("" while it is in flight): finish, or requeue with its delay."""

    _ids = itertools.count(1)

    def __init__(self, body: bytes, attempts: int = 1, hold_max_s: float = 900.0) -> None:
        self.id = f"{next(self._ids):016x}"
        self.body = body
        self.attempts = attempts
        self.hold_max_s = hold_max_s
        self.touched = 0
        self.ended: tuple[str, float] | None = None
        self.done = threading.Event()
        self._lost = False
        self._arrived = time.monotonic()

    @property
    def lost(self) -> bool:
        return self._lost

    @property
    def held_s(self) -> float:
        return time.monotonic() - self._arrived

    def lose(self) -> None:
        self._lost = True

    def touch(self) -> None:
        self.touched += 1

    def finish(self) -> None:
        self._end("finish", 0)

    def requeue(self, delay_s: float) -> None:
        self._end("requeue", delay_s)

    def wait(self) -> tuple[str, float]:
        assert self.done.wait(PATIENCE_S), "the message was not ended"
        assert self.ended is not None
        return self.ended

    def _end(self, how: str, delay_s: float) -> None:
        if self.ended is None and not self._lost:
            self.ended = (how, delay_s)
            self.done.set()


class FakePublisher:
    """nsqd's publishing side. down: nothing is taken."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, float]] = []
        self.down = False

    def publish(self, topic: str, body: bytes, delay_s: float = 0) -> None:
        if self.down:
            raise PublishFailed("nsqd is away")
        self.sent.append((topic, body, delay_s))

    def of(self, topic: str) -> list[tuple[dict[str, Any], float]]:
        return [(json.loads(body), delay) for to, body, delay in self.sent if to == topic]


class FakeHold:
    """A lease. lost: renew() says so. intact: what release() answers."""

    def __init__(self, path: str) -> None:
        self.local_path = f"/mirror/{path}"
        self.server_path = path
        self.sha256 = "ab" * 32
        self.generation = 7
        self.size = 3
        self.intact = True
        self.lost = False
        self.released = 0

    def renew(self) -> bool:
        return not self.lost

    def release(self) -> bool:
        self.released += 1
        return self.intact and not self.lost


class FakeFiles:
    """states: path -> State, or a list of answers of ensure() in order, the last one for ever; default ready.

    arrives: paths that are ready once they were asked for by ensure().
    """

    def __init__(self) -> None:
        self.states: dict[str, State | list[State]] = {}
        self.arrives: set[str] = set()
        self.near: tuple[str, ...] = ()
        self.holds: list[FakeHold] = []
        self.make_hold: Callable[[str], FakeHold] = FakeHold
        self.resolved: list[str] = []
        self.asked: list[str] = []
        self._looked_at = 0

    def resolve(self, path: str) -> Resolution:
        self.resolved.append(path)
        return self._now(path)

    def _now(self, path: str) -> Resolution:
        state = self.states.get(path, State.READY)
        return self._answer(path, state[0] if isinstance(state, list) else state)

    def ensure(self, path: str, timeout_s: float) -> Resolution:
        self.asked.append(path)
        if path in self.arrives:
            self.states.pop(path, None)
        state = self.states.get(path, State.READY)
        if isinstance(state, list):
            state = state.pop(0) if len(state) > 1 else state[0]
        return self._answer(path, state)

    def hold(self, path: str) -> FakeHold | Resolution:
        found = self._now(path)
        if found.state is not State.READY:
            return found
        hold = self.make_hold(path)
        self.holds.append(hold)
        return hold

    def _answer(self, path: str, state: State) -> Resolution:
        self._looked_at += 20
        at = f"2026-01-01T{self._looked_at // 3600:02}:{self._looked_at // 60 % 60:02}:{self._looked_at % 60:02}Z"
        reason = {State.READY: None, State.MISSING: Reason.NOT_LISTED, State.FETCHING: Reason.NEW}.get(
            state, Reason.NAME_CONTROL if state is State.REFUSED else Reason.SOURCE_UNAVAILABLE
        )
        return Resolution(state, "B", path, path, reason=reason, retry_after_s=0.01, listed_at=at, near=self.near)


class FakeRecognizer:
    """read: what happens for a request; by default one page of text at once."""

    engine, version = "tesseract", "5.3"

    def __init__(self) -> None:
        self.read: Callable[[OcrRequest, threading.Event], None] = lambda request, stop: None
        self.requests: list[OcrRequest] = []

    def recognize(self, request: OcrRequest, stop: threading.Event, progress: Callable[[int, int], None]) -> Recognized:
        self.requests.append(request)
        self.read(request, stop)
        progress(1, 1)
        return Recognized((Page(1, f"text of {request.path}", 0.9, (), 10, 10),), self.engine, self.version)


class Notes:
    """A witness that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.counts: dict[str, int] = {}
        self.beats: list[dict[str, Any]] = []

    def event(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def observe(self, what: str, seconds: float) -> None:
        pass

    def beat(self, state: Any) -> None:
        self.beats.append(dict(state))


QUICK: dict[str, Any] = {
    "engine": "tesseract",
    "missing_grace_s": 0.05,
    "ensure_s": 0.05,
    "status_every_s": 0.05,
    "room_full_delay_s": 5.0,
    "publish_again_s": 0.05,
}


class Desk:
    """One worker and its fakes; a context manager."""

    def __init__(self, message_timeout_s: float = 0.6, **limits: Any) -> None:
        self.jobs, self.store = MemoryJobs(), MemoryStore()
        self.files, self.recognizer = FakeFiles(), FakeRecognizer()
        self.publisher, self.notes = FakePublisher(), Notes()
        means = Means(self.files, lambda name: self.recognizer, self.store, self.jobs, self.publisher, self.notes)
        self.worker = Worker("tod-mac-1", "tod-mac", means, Limits(**{**QUICK, **limits}), lambda: message_timeout_s)

    def __enter__(self) -> Self:
        self.worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.stop(0.2)

    def give(self, path: str = "B/x.jpg", index: int | None = 0, *, job: str = "job", **fields: Any) -> FakeDelivery:
        """Deliver a task; returns its message."""
        body = {"job_id": job, "file_path": path, "file_index": index, "languages": ["en"], **fields}
        return self.deliver(FakeDelivery(json.dumps(body).encode()))

    def deliver(self, delivery: FakeDelivery) -> FakeDelivery:
        self.worker.take(delivery)
        return delivery

    def job(self, job_id: str, files: int, *, status: str = "processing") -> None:
        """Have a job of so many files."""
        self.jobs.put(new_job(JobSpec(job_id, tuple(f"B/{n}" for n in range(files))), datetime.now(UTC)))
        self.jobs.set_status(job_id, status)

    def set_status(self, job_id: str, status: str) -> None:
        self.jobs.set_status(job_id, status)

    def entries(self, job_id: str, kind: Kind) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.jobs.job(job_id)["checkpoint"][kind.value]
        return found

    def jobs_away(self) -> None:
        self.jobs.down = True

    def jobs_back(self) -> None:
        """MongoDB answers again, and the worker has noticed."""
        self.jobs.down = False
        until(lambda: self.worker.jobs.refresh("job") is not None and not self.worker.jobs.away_s)

    def jobs_full(self, saves: int) -> None:
        """The next saves are refused as too large."""
        self.jobs.script("r" + "T" * saves)  # the first call is look()

    def tries(self, path: str, index: int) -> int:
        """Return how many starts of a task came to no end."""
        key = TaskKey("job", index, path.rpartition("/")[2])
        before = self.store.begin(key)
        self.store.forgive(key)
        return before

    def begin_and_die(self, path: str, index: int) -> None:
        """A worker began with a task, and was killed by it."""
        self.store.begin(TaskKey("job", index, path.rpartition("/")[2]))

    def passed(self) -> list[tuple[dict[str, Any], float]]:
        """Return the copies that were published: (body, delay)."""
        return self.publisher.of(TASKS)

    def dead(self) -> list[dict[str, Any]]:
        return [body for body, _ in self.publisher.of(DEAD_TOPIC)]


def until(what: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)
