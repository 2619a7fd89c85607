"""`bulk_jobs` in MongoDB: ports.Jobs."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from bson.errors import BSONError
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from worker_glue.jobs import records
from worker_glue.jobs.errors import why_no_entry
from worker_glue.jobs.link import UNHURRIED, Documents, Link, Patience, silent
from worker_glue.jobs.looks import Looks
from worker_glue.model import Outcome, Task
from worker_glue.ports import JobLook, Saved

_Jobs = Collection[dict[str, Any]]

NEAR_THE_END = 64
"""With so few tasks left, `progress` is set right after each result: whoever comes last must not leave it below 100 %.
More savers at one moment than this are not to be expected."""
SETTLE_TRIES = 5
FRESH_S = 2.0
"""So long counters are good enough for `progress` to be set from them, while a job is far from its end."""
FAR_FROM_THE_END = 8
REMEMBERED = 1_000


class MongoJobs:
    """Looks at jobs and records outcomes, from any thread. A call takes one small read, or one update; of a job whose
    counters were not read lately, or that comes to its end, a few of them.

    uri, where, warn, patience: see Link. aliases: all spellings of a path's file, for tasks without file_index.
    """

    def __init__(
        self,
        uri: Callable[[], str],
        *,
        where: str = "the connection string",
        aliases: records.Aliases | None = None,
        warn: Callable[[str], None] = silent,
        patience: Patience = UNHURRIED,
    ) -> None:
        self._aliases = aliases
        self._fresh = Fresh()
        self._looks = Looks(self._look_alone, self._look_together)
        self._used: tuple[Documents, _Jobs] | None = None
        self.link = Link(uri, where=where, warn=warn, patience=patience)

    def look(self, task: Task) -> JobLook:
        """See ports.Jobs. Threads that look in the same moment look together."""
        return self._looks.look(task)

    def _look_alone(self, task: Task) -> JobLook:
        """Look at one task. One query finds an open one; a second one tells why there is none."""

        def work(db: Documents) -> JobLook:
            jobs = self._jobs(db)
            job = jobs.find_one(records.guard(task, aliases=self._aliases), records.COUNTERS)
            if job is not None:
                return self._open(task.job_id, job)
            return JobLook(_status(jobs.find_one({"job_id": task.job_id}, {"status": 1})), False)

        return self.link.call(work)

    def _look_together(self, tasks: Sequence[Task]) -> JobLook | None:
        """Look at several tasks of one job; None where not all are open."""
        job_id = tasks[0].job_id
        unrecorded = records.guard_all(job_id, [records.guard(task, aliases=self._aliases) for task in tasks])
        job = self.link.call(lambda db: self._jobs(db).find_one(unrecorded, records.COUNTERS))
        return None if job is None else self._open(job_id, job)

    def _open(self, job_id: str, job: dict[str, Any]) -> JobLook:
        self._fresh.remember(job_id, records.counted(job))
        return JobLook(_status(job), True)

    def status(self, job_id: str) -> str | None:
        """See ports.Jobs."""
        return self.link.call(lambda db: _status(db[records.COLLECTION].find_one({"job_id": job_id}, {"status": 1})))

    def save(self, outcome: Outcome) -> Saved:
        """See ports.Jobs."""
        return self.link.call(lambda db: self._save(self._jobs(db), outcome))

    def close(self) -> None:
        """End the connection; safe to repeat."""
        self.link.close()

    def _jobs(self, db: Documents) -> _Jobs:
        """Return the collection: the driver takes an eighth of a query's time to make one."""
        used = self._used
        if used is None or used[0] is not db:
            used = self._used = db, db[records.COLLECTION]
        return used[1]

    def _save(self, jobs: _Jobs, outcome: Outcome) -> Saved:
        counted = self._fresh.remembered(outcome.key.job_id)
        if counted is None or counted.total - counted.consumed <= FAR_FROM_THE_END:
            return _save(jobs, outcome, self._aliases)
        unfinished = records.before_the_last(records.guard(outcome, outcome.message_id, self._aliases), counted.total)
        matched = _update(jobs, unfinished, outcome, counted)
        if isinstance(matched, Saved):
            return matched
        if not matched:  # recorded before, or come to the job's end meanwhile: that takes a look
            return _save(jobs, outcome, self._aliases)
        self._fresh.advance(outcome.key.job_id)
        return Saved.RECORDED


class Fresh:
    """Counters of jobs as they were a moment ago. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, records.Counted]] = OrderedDict()

    def remember(self, job_id: str, counted: records.Counted) -> None:
        """Take what was read just now."""
        with self._lock:
            self._known[job_id] = self._clock(), counted
            self._known.move_to_end(job_id)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def remembered(self, job_id: str) -> records.Counted | None:
        """Return what was read at most FRESH_S ago, with what was recorded here since."""
        with self._lock:
            read_at, counted = self._known.get(job_id, (float("-inf"), None))
            return counted if self._clock() - read_at <= FRESH_S else None

    def advance(self, job_id: str) -> None:
        """One more was recorded."""
        with self._lock:
            known = self._known.get(job_id)
            if known is not None:
                self._known[job_id] = known[0], known[1]._replace(consumed=known[1].consumed + 1)


def _save(jobs: _Jobs, outcome: Outcome, aliases: records.Aliases | None) -> Saved:
    job_id = outcome.key.job_id
    before = jobs.find_one({"job_id": job_id}, records.COUNTERS)
    if before is None:
        return Saved.NO_JOB
    counted = records.counted(before)
    matched = _update(jobs, records.guard(outcome, outcome.message_id, aliases), outcome, counted)
    if isinstance(matched, Saved):
        return matched
    if not matched:
        return _not_matched(jobs, job_id)
    if counted.total - counted.consumed <= NEAR_THE_END:
        _settle(jobs, job_id)
    return Saved.RECORDED


def _update(jobs: _Jobs, wanted: records.Document, outcome: Outcome, counted: records.Counted) -> bool | Saved:
    """Enter an outcome; whether the filter found the job, or why the job takes no such entry."""
    entered = _enter(jobs, wanted, outcome, counted)
    if entered is Saved.WRONG_FORM:
        without = [jobs.update_one(*each).matched_count for each in records.without_nulls(outcome.key.job_id)]
        if any(without):
            return _enter(jobs, wanted, outcome, counted)
    return entered


def _enter(jobs: _Jobs, wanted: records.Document, outcome: Outcome, counted: records.Counted) -> bool | Saved:
    try:
        done = jobs.update_one(wanted, records.update(outcome, datetime.now(UTC), counted))
    except (PyMongoError, BSONError) as error:
        why = why_no_entry(error)
        if why is None:
            raise
        return why
    return bool(done.matched_count)


def _not_matched(jobs: _Jobs, job_id: str) -> Saved:
    job = jobs.find_one({"job_id": job_id}, records.COUNTERS)
    if job is None:
        return Saved.NO_JOB
    if not records.is_settled(records.counted(job)):  # whoever recorded it may have died before it came to this
        _settle(jobs, job_id)
    return Saved.DONE_BEFORE


def _settle(jobs: _Jobs, job_id: str) -> None:
    """Have `progress` follow the counters; whoever saves meanwhile does it again, with later ones.

    Where this fails the whole save does: it is sent again then, finds itself recorded, and comes here again.
    """
    for _ in range(SETTLE_TRIES):
        job = jobs.find_one({"job_id": job_id}, records.COUNTERS)
        if job is None or records.is_settled(counted := records.counted(job)):
            return
        wanted, update = records.settling(job_id, counted)
        if jobs.update_one(wanted, update).matched_count:
            return


def _status(job: dict[str, Any] | None) -> str | None:
    """Return a job's status; "" where it has none that is text."""
    if job is None:
        return None
    status = job.get("status")
    return status if isinstance(status, str) else ""
