"""`bulk_jobs` in MongoDB: ports.Jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bson.errors import BSONError
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from worker_glue.jobs import records
from worker_glue.jobs.errors import takes_no_entry
from worker_glue.jobs.link import UNHURRIED, Documents, Link, Patience, silent
from worker_glue.model import Outcome, Task
from worker_glue.ports import JobLook, Saved

_Jobs = Collection[dict[str, Any]]

NEAR_THE_END = 64
"""With so few tasks left, `progress` is set right after each result: whoever comes last must not leave it below 100 %.
More savers at one moment than this are not to be expected."""
SETTLE_TRIES = 5


class MongoJobs:
    """Looks at jobs and records outcomes, from any thread. A call takes one or two small reads and one update.

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
        self.link = Link(uri, where=where, warn=warn, patience=patience)

    def look(self, task: Task) -> JobLook:
        """See ports.Jobs. One query finds an open task; a second one tells why there is none."""
        unrecorded = records.guard(task, aliases=self._aliases)

        def work(db: Documents) -> JobLook:
            jobs = db[records.COLLECTION]
            job = jobs.find_one(unrecorded, {"status": 1})
            if job is not None:
                return JobLook(_status(job), True)
            return JobLook(_status(jobs.find_one({"job_id": task.job_id}, {"status": 1})), False)

        return self.link.call(work)

    def status(self, job_id: str) -> str | None:
        """See ports.Jobs."""
        return self.link.call(lambda db: _status(db[records.COLLECTION].find_one({"job_id": job_id}, {"status": 1})))

    def save(self, outcome: Outcome) -> Saved:
        """See ports.Jobs."""
        return self.link.call(lambda db: _save(db[records.COLLECTION], outcome, self._aliases))

    def close(self) -> None:
        """End the connection; safe to repeat."""
        self.link.close()


def _save(jobs: _Jobs, outcome: Outcome, aliases: records.Aliases | None) -> Saved:
    job_id = outcome.key.job_id
    before = jobs.find_one({"job_id": job_id}, records.COUNTERS)
    if before is None:
        return Saved.NO_JOB
    counted = records.counted(before)
    update = records.update(outcome, datetime.now(UTC), counted)
    try:
        done = jobs.update_one(records.guard(outcome, outcome.message_id, aliases), update)
    except (PyMongoError, BSONError) as error:
        if takes_no_entry(error):
            return Saved.TOO_LARGE
        raise
    if not done.matched_count:
        return _not_matched(jobs, job_id)
    if counted.total - counted.consumed <= NEAR_THE_END:
        _settle(jobs, job_id)
    return Saved.RECORDED


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
