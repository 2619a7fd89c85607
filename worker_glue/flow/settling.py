"""From an outcome to its one entry in MongoDB: stored here first, then recorded; then the message ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from syncd.core.errors import DiskFull, PublishFailed
from worker_glue.errors import StoreFailed
from worker_glue.flow.endings import Ending, Finish, GiveBack, PassOn
from worker_glue.flow.job_watch import JobWatch
from worker_glue.flow.limits import Limits
from worker_glue.flow.witness import Witness
from worker_glue.model import Kind, Outcome, Task
from worker_glue.ports import Publisher, Saved, Store
from worker_glue.tasks import entries
from worker_glue.tasks.dead import DEAD_TOPIC, dead_body
from worker_glue.tasks.taken import NOT_TAKEN, not_taken


class Worker(NamedTuple):
    """Who works. id: `<host.name>-N`."""

    id: str
    host: str


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


class Dead:
    """The dead topic: what somebody has to look at. A message that nsqd does not take is buried in the local store."""

    def __init__(self, publisher: Publisher, store: Store, worker: Worker, witness: Witness) -> None:
        self._publisher = publisher
        self._store = store
        self.worker = worker
        self._witness = witness

    def send(self, body: bytes, reason: str, error: str, attempts: int) -> None:
        """Send a task's message there; on return nsqd or the local store has it. Raises: StoreFailed, DiskFull."""
        dead = dead_body(body, reason, error, attempts, self.worker.host, self.worker.id, utc_now())
        try:
            self._publisher.publish(DEAD_TOPIC, dead)
        except PublishFailed:
            self._store.bury(dead)
        self._witness.count("buried")
        self._witness.event("task.dead", reason=reason, error=error, attempts=attempts)


class Settling:
    """Records outcomes. Thread-safe.

    owed_delay: a task whose outcome this host owes comes again after so long, longer the longer MongoDB is away.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobWatch,
        dead: Dead,
        limits: Limits,
        witness: Witness,
        nudge: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._dead = dead
        self._limits = limits
        self._witness = witness
        self._nudge = nudge
        self._lock = threading.Lock()
        self.done = self.failed = 0

    def settle(self, task: Task, outcome: Outcome, attempts: int, *, dead: str = "") -> Ending:
        """Store and record an outcome; how the message ends. dead: the reason for which the dead topic gets it too."""
        try:
            kept = self._store.keep(outcome)
        except (StoreFailed, DiskFull) as error:
            self._witness.event("store.failed", error=error.message, hint=error.hint)
            # nothing is kept here: only what MongoDB acknowledges counts
            return self._unkept(outcome)
        if dead and kept.kind is Kind.ERROR:  # before it is recorded: killed in between, it comes again
            self._dead.send(task.body, dead, str(kept.entry.get("error", "")), attempts)
        return self.deliver(task, kept)

    def _unkept(self, outcome: Outcome) -> Ending:
        saved = self._jobs.save(outcome)
        if saved in (None, Saved.TOO_LARGE, Saved.WRONG_FORM):
            return GiveBack(self._limits.retry_delay_s)
        self._count(outcome, saved)
        return Finish()

    def deliver(self, task: Task, outcome: Outcome) -> Ending:
        """Bring an outcome that is stored to MongoDB; how the message of its task ends."""
        saved = self._jobs.save(outcome)
        if saved is Saved.TOO_LARGE:
            outcome = self._shorter(outcome)
            saved = self._jobs.save(outcome)
        if saved is None:
            self._nudge()
            return self.later(task)
        if saved in NOT_TAKEN:  # first: killed in between, it comes again
            self._dead.send(task.body, *not_taken(saved, task.job_id), 0)
        self._store.settled(outcome.key, saved)
        self._count(outcome, saved)
        return Finish()

    def later(self, task: Task) -> Ending:
        """Return the ending for a task whose outcome is owed: the same body comes again, and finds it done by then."""
        wait_s = min(max(self._jobs.away_s, self._limits.owed_delay_s), self._limits.owed_delay_max_s)
        return PassOn(task.body, wait_s)

    def _shorter(self, outcome: Outcome) -> Outcome:
        shorter = entries.too_large(outcome, host=self._dead.worker.host, now=utc_now())
        self._store.replace(shorter)
        self._witness.event("result.too_large", job_id=outcome.key.job_id, file=outcome.key.file)
        return shorter

    def _count(self, outcome: Outcome, saved: Saved | None) -> None:
        path, job = outcome.file_path, outcome.key.job_id
        if saved is not Saved.RECORDED:
            self._witness.count("done_before")
            self._witness.event("task.not_recorded", job_id=job, path=path, why=str(saved and saved.value))
            return
        with self._lock:
            if outcome.kind is Kind.RESULT:
                self.done += 1
            else:
                self.failed += 1
        if outcome.kind is Kind.RESULT:
            self._witness.count("recorded")
            self._witness.event("task.done", job_id=job, path=path, pages=outcome.entry.get("pages_processed"))
        else:
            self._witness.count("recorded_error")
            self._witness.event("task.error", job_id=job, path=path, error=outcome.entry.get("error"))
