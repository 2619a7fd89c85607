"""The rate of one mirror, shared by all that reads from its source: runs, files on demand, verification."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from syncd.core import pacing

LOOK_S = 1.0
"""So often the configured rate is asked for: it changes at the borders of time windows."""

URGENT_SOON_S = 0.1
"""So long after its time the others leave the next read to who is urgent."""


class Pacing:
    """One bucket for a mirror. bytes_per_s: the rate that holds now (0: unlimited). Thread-safe."""

    def __init__(self, bytes_per_s: Callable[[], int], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ask_rate = bytes_per_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._bucket = pacing.Bucket(clock_s())
        self._rate = 0
        self._rate_until_s = clock_s()
        self._urgent_until_s = clock_s()

    def lane(self, *, urgent: bool = False) -> Lane:
        """Return a source's own way to ask; urgent ones are let through first."""
        return Lane(self, urgent)

    def rate(self) -> int:
        """Return the rate that holds now; 0 is unlimited."""
        with self._lock:
            return self._rate_at(self._clock_s())

    def wait_s(self, urgent: bool) -> float:
        """See ports.Pace."""
        with self._lock:
            now_s = self._clock_s()
            wait_s = self._bucket.wait_s(self._rate_at(now_s), now_s)
            if urgent:
                self._urgent_until_s = now_s + min(wait_s, LOOK_S) + URGENT_SOON_S if wait_s else now_s
            elif now_s < self._urgent_until_s:
                wait_s = max(wait_s, self._urgent_until_s - now_s)
            return min(wait_s, LOOK_S)

    def charge(self, count: int) -> None:
        """See ports.Pace."""
        with self._lock:
            now_s = self._clock_s()
            self._bucket.charge(count, self._rate_at(now_s), now_s)

    def _rate_at(self, now_s: float) -> int:
        if now_s >= self._rate_until_s:
            self._rate, self._rate_until_s = self._ask_rate(), now_s + LOOK_S
        return self._rate


class Lane:
    """A ports.Pace."""

    __slots__ = ("_pacing", "_urgent")

    def __init__(self, paced: Pacing, urgent: bool) -> None:
        self._pacing = paced
        self._urgent = urgent

    def piece(self, longest: int) -> int:
        """See ports.Pace."""
        return pacing.piece(self._pacing.rate(), longest)

    def wait_s(self) -> float:
        """See ports.Pace."""
        return self._pacing.wait_s(self._urgent)

    def charge(self, count: int) -> None:
        """See ports.Pace."""
        self._pacing.charge(count)
