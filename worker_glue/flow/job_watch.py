"""How the jobs of the tasks in hand are: asked of MongoDB, hinted at by the control topic, remembered meanwhile."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.flow.rules import CANCELLED, PAUSED
from worker_glue.flow.witness import Witness
from worker_glue.model import Outcome, Task
from worker_glue.ports import JobLook, Jobs, Saved

T = TypeVar("T")

AWAY_S, AWAY_MAX_S = 2.0, 30.0
"""After a failure MongoDB is left alone for so long, doubling: work goes on meanwhile."""
REMEMBERED = 1_000
_ACTIONS = {"pause": PAUSED, "cancel": CANCELLED, "resume": "processing"}


class JobWatch:
    """ports.Jobs, with a memory. Thread-safe. Where MongoDB is away, answers are None at once."""

    def __init__(self, jobs: Jobs, witness: Witness, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._witness = witness
        self._clock = clock
        self._lock = threading.Lock()
        self._statuses: OrderedDict[str, str | None] = OrderedDict()
        self._away_since: float | None = None
        self._ask_again = 0.0
        self._pause_s = AWAY_S

    @property
    def away_s(self) -> float:
        """Seconds since MongoDB stopped answering; 0 while it answers."""
        with self._lock:
            return 0.0 if self._away_since is None else self._clock() - self._away_since

    def remembered(self, job_id: str) -> str | None:
        """Return the status as last heard of, without asking."""
        with self._lock:
            return self._statuses.get(job_id)

    def look(self, task: Task) -> JobLook | None:
        """Say how a task's job is and whether the task is to be done; None: MongoDB cannot say now."""
        found = self._ask(lambda: self._jobs.look(task))
        if found is not None:
            self._remember(task.job_id, found.status)
        return found

    def refresh(self, job_id: str) -> str | None:
        """Return a job's status, asked for now; as remembered where MongoDB cannot say."""
        asked = self._ask(lambda: (self._jobs.status(job_id),))
        if asked is None:
            return self.remembered(job_id)
        self._remember(job_id, asked[0])
        return asked[0]

    def told(self, job_id: str, action: str) -> None:
        """A command came by the control topic; what counts is what MongoDB says, where it can be asked."""
        if action in _ACTIONS:
            asked = self._ask(lambda: (self._jobs.status(job_id),))
            self._remember(job_id, _ACTIONS[action] if asked is None else asked[0])

    def save(self, outcome: Outcome) -> Saved | None:
        """Record an outcome; None: MongoDB is away, and it is not known whether it did."""
        started = self._clock()
        saved = self._ask(lambda: self._jobs.save(outcome))
        if saved is not None:
            self._witness.observe("save", self._clock() - started)
        return saved

    # --- inside

    def _ask(self, call: Callable[[], T]) -> T | None:
        with self._lock:
            if self._clock() < self._ask_again:
                return None
        try:
            answer = call()
        except (JobsAway, JobsRefused) as error:
            self._failed(error)
            return None
        self._answered()
        return answer

    def _failed(self, error: JobsAway | JobsRefused) -> None:
        with self._lock:
            now = self._clock()
            first = self._away_since is None
            self._away_since = now if self._away_since is None else self._away_since
            self._ask_again = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, AWAY_MAX_S)
        if first:
            self._witness.event("mongo.away", error=error.message, hint=error.hint)

    def _answered(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
            self._ask_again, self._pause_s = 0.0, AWAY_S
        if since is not None:
            self._witness.event("mongo.back", after_s=round(self._clock() - since, 1))

    def _remember(self, job_id: str, status: str | None) -> None:
        with self._lock:
            self._statuses[job_id] = status
            self._statuses.move_to_end(job_id)
            if len(self._statuses) > REMEMBERED:
                self._statuses.popitem(last=False)
