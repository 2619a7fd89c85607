"""What stands in the place of MongoDB where none is configured: it is away, for ever."""

from __future__ import annotations

from worker_glue.errors import JobsAway
from worker_glue.model import Outcome, Task
from worker_glue.ports import JobLook, Saved


def _away() -> JobsAway:
    return JobsAway("no MongoDB is configured", hint="set MONGO_URI, or mongo.uri_file in the configuration")


class NoJobs:
    """ports.Jobs. Results stay in the local store, and go to MongoDB once there is one."""

    def look(self, _task: Task, /) -> JobLook:
        raise _away()

    def status(self, _job_id: str, /) -> str | None:
        raise _away()

    def save(self, _outcome: Outcome, /) -> Saved:
        raise _away()
