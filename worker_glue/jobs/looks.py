"""Looks at jobs that several threads want in the same moment: one query, where all their tasks are open, as usual."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.model import Task
from worker_glue.ports import JobLook

TOGETHER = 16
"""Tasks in one query."""
GATHER_S = 0.1
"""Where threads look one after the other faster than this, so long is waited for more of them. They are ahead of the
work then: that many tasks are in hand only where each takes less than a moment (flow.appetite).
"""


class _Look:
    """One thread's look. answer: None = it has to look for itself."""

    __slots__ = ("answer", "done", "error", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = False
        self.answer: JobLook | None = None
        self.error: JobsAway | JobsRefused | None = None


class Looks:
    """Any thread: whoever comes first asks for all that wait by then.

    alone: as ports.Jobs.look. together: the same for several tasks of one job; None where not all of them are open.
    """

    def __init__(self, alone: Callable[[Task], JobLook], together: Callable[[Sequence[Task]], JobLook | None]) -> None:
        self._alone = alone
        self._together = together
        self._asking = threading.Lock()
        self._waiting: deque[_Look] = deque()
        self._last = (float("-inf"), 0)

    def look(self, task: Task) -> JobLook:
        """See ports.Jobs. Where it fails, it has failed for all that waited: nobody waits for two failures."""
        look = _Look(task)
        self._waiting.append(look)
        with self._asking:
            if not look.done:
                self._gather()
            while not look.done:
                self._answer(self._next())
        if look.error is not None:
            raise type(look.error)(look.error.message, hint=look.error.hint) from look.error.__cause__
        return self._alone(task) if look.answer is None else look.answer

    def _gather(self) -> None:
        """Wait a moment where another thread looked a moment ago."""
        (last_at, by), this = self._last, threading.get_ident()
        left_s = last_at + GATHER_S - time.monotonic()
        if by != this and left_s > 0:
            time.sleep(left_s)
        self._last = time.monotonic(), this

    def _next(self) -> list[_Look]:
        """Return the looks at one job that came first. They are away from those that wait then."""
        first = self._waiting.popleft()
        found = [first]
        while self._waiting and len(found) < TOGETHER and self._waiting[0].task.job_id == first.task.job_id:
            found.append(self._waiting.popleft())
        return found

    def _answer(self, looks: list[_Look]) -> None:
        try:
            if len(looks) == 1:
                looks[0].answer = self._alone(looks[0].task)
            else:
                answer = self._together([look.task for look in looks])
                for look in looks:
                    look.answer = answer
        except (JobsAway, JobsRefused) as error:
            looks = [*looks, *(self._waiting.popleft() for _ in range(len(self._waiting)))]
            for look in looks:
                look.error = error
        finally:
            for look in looks:
                look.done = True
