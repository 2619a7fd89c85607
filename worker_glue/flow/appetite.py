"""How many messages a worker asks nsqd for: what it needs for a moment, so that idle neighbours get the others."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from worker_glue.flow.limits import Limits

AHEAD_S = 2.0
"""So much work is had in hand beside what is worked on, but one task at least: its file is fetched meanwhile."""
QUICK_S = 0.25
_WEIGHT = 0.3


class Appetite:
    """Thread-safe. asks: told how many messages to have in hand, whenever that changes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._task_s: float | None = None
        self._waiting = 0
        self._asked = 0
        self._asks: Callable[[int], None] = lambda _: None

    @property
    def messages(self) -> int:
        """How many: those that wait for their files, what is worked on, and what comes next."""
        limits = self._limits
        ahead = 1 if self._task_s is None else math.ceil(AHEAD_S / max(self._task_s, 1e-3))
        return min(limits.in_flight, limits.concurrency + self._waiting + max(1, ahead))

    @property
    def is_quick(self) -> bool:
        """Whether a task takes so little that its lease may be taken before its turn; else its file is asked about, and
        brought meanwhile."""
        task_s = self._task_s
        return task_s is not None and task_s < QUICK_S

    def begin(self, asks: Callable[[int], None]) -> None:
        """From now on tell whoever can ask nsqd."""
        with self._lock:
            self._asks, self._asked = asks, 0
            self._tell()

    def worked(self, seconds: float) -> None:
        """Take note of how long the work on one task took."""
        with self._lock:
            before = seconds if self._task_s is None else self._task_s
            self._task_s = before + _WEIGHT * (seconds - before)
            self._tell()

    def waiting(self, count: int) -> None:
        """Take note of how many tasks wait."""
        with self._lock:
            self._waiting = count
            self._tell()

    def _tell(self) -> None:
        if self.messages != self._asked:
            self._asked = self.messages
            self._asks(self._asked)
