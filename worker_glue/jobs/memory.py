"""`bulk_jobs` in memory: the reference for ports.Jobs, with a script of faults. It stands for a MongoDB.

jobs = MemoryJobs()
jobs.put(records.job_document("id", 3, now))
jobs.script("rEL")          # the next call is right, the one after fails before, then one is done and says it failed
jobs.job("id")              # the document, as it is now
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.jobs import records
from worker_glue.jobs.documents import apply, matches
from worker_glue.model import Outcome, Task
from worker_glue.ports import JobLook, Saved

T = TypeVar("T")

FAULTS = "rELXT"
"""r: right. E: JobsAway, nothing done. L: done, and JobsAway, since the answer is lost. X: JobsRefused. T: a save is
too large."""


class MemoryJobs:
    """Keeps jobs. Knobs: script(), down, too_large_above; counters: calls."""

    def __init__(self, *, aliases: records.Aliases | None = None) -> None:
        self.calls: list[str] = []
        self.down = False
        self.too_large_above: int | None = None
        """An entry whose text is longer than so many characters is refused."""
        self._aliases = aliases
        self._jobs: dict[str, dict[str, Any]] = {}
        self._script: deque[str] = deque()
        self._lock = threading.Lock()

    # --- for tests

    def put(self, job: Mapping[str, Any]) -> None:
        """Have a job."""
        with self._lock:
            self._jobs[job["job_id"]] = copy.deepcopy(dict(job))

    def set_status(self, job_id: str, status: str) -> None:
        """Change a job's status, as the backend does."""
        with self._lock:
            self._jobs[job_id]["status"] = status

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a copy of a job's document."""
        with self._lock:
            return copy.deepcopy(self._jobs[job_id])

    def script(self, faults: str) -> None:
        """Say how the next calls end, one letter a call (see FAULTS); those after are right."""
        if not set(faults) <= set(FAULTS):
            raise ValueError(f"unknown faults in {faults!r}")
        with self._lock:
            self._script.extend(faults)

    # --- ports.Jobs

    def look(self, task: Task) -> JobLook:
        """See ports.Jobs."""

        def work() -> JobLook:
            job = self._jobs.get(task.job_id)
            if job is None:
                return JobLook(None, False)
            return JobLook(str(job.get("status", "")), matches(job, records.guard(task, aliases=self._aliases)))

        return self._call("look", work)

    def status(self, job_id: str) -> str | None:
        """See ports.Jobs."""

        def work() -> str | None:
            job = self._jobs.get(job_id)
            return None if job is None else str(job.get("status", ""))

        return self._call("status", work)

    def save(self, outcome: Outcome) -> Saved:
        """See ports.Jobs."""
        return self._call("save", lambda: self._save(outcome), Saved.TOO_LARGE)

    def _save(self, outcome: Outcome) -> Saved:
        job = self._jobs.get(outcome.key.job_id)
        if job is None:
            return Saved.NO_JOB
        if not matches(job, records.guard(outcome, outcome.message_id, self._aliases)):
            return Saved.DONE_BEFORE
        if self.too_large_above is not None and len(str(outcome.entry.get("text", ""))) > self.too_large_above:
            return Saved.TOO_LARGE
        apply(job, copy.deepcopy(records.update(outcome, datetime.now(UTC), records.counted(job))))
        return Saved.RECORDED

    def _call(self, name: str, work: Callable[[], T], too_large: T | None = None) -> T:
        with self._lock:
            self.calls.append(name)
            fault = self._script.popleft() if self._script else "r"
            if self.down or fault == "E":
                raise JobsAway("MongoDB in memory: no answer in time")
            if fault == "X":
                raise JobsRefused("MongoDB in memory: login refused")
            if fault == "T" and too_large is not None:
                return too_large
            done = work()
            if fault == "L":
                raise JobsAway("MongoDB in memory: the connection breaks")
            return done
