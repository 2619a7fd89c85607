"""Files waiting to be fetched, most urgent first, bounded; sources take from it."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from syncd.core.model import Fingerprint, Record, Wanted
from syncd.core.reasons import Reason

MAX_WAITING = 6_000
MAX_ATTEMPTS = 2
YIELD_STEP_S = 0.005


@dataclass(frozen=True, slots=True)
class Fetch(Wanted):
    """One fetch: why, what is held there now, whether local bytes are to be compared instead of written (adopt)."""

    reason: Reason = Reason.NEW
    held: Record | None = None
    adopt: bool = False
    attempts: int = 0
    rank: int = 0

    def known_by(self, stand_by: int) -> Fingerprint:
        """Return what a partial of it is known by: a prefix from one server is not completed with bytes of another."""
        return self.fingerprint._replace(file_id=stand_by) if stand_by else self.fingerprint


class Backlog:
    """A FetchQueue: a heap by rank, then newest first. put() waits while it is full: a scan cannot outrun it."""

    def __init__(self, limit: int = MAX_WAITING, yielding: Callable[[], bool] | None = None) -> None:
        """yielding: while it says so nothing is given out: others go first."""
        self._heap: list[tuple[int, int, int, Fetch]] = []
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._limit = limit
        self._yielding = yielding
        self._count = 0
        self._closed = False
        self._aborted = False

    def put(self, fetch: Fetch, *, wait: bool = True) -> None:
        """Add one; after abort() it is dropped. wait=False never blocks (a second attempt)."""
        heap = self._heap
        with self._lock:
            while wait and len(heap) >= self._limit and not self._aborted:
                self._changed.wait()
            if self._aborted:
                return
            self._count += 1
            heapq.heappush(heap, (fetch.rank, -fetch.fingerprint.mtime_ns, self._count, fetch))
            if len(heap) == 1:
                self._changed.notify_all()

    def take(self, wait_s: float) -> Fetch | None:
        """Return the most urgent; None when nothing came within `wait_s`."""
        if self._yielding is not None and self._yielding() and not self._closed_empty():
            wait_s -= self._let_others_go_first(wait_s)
            if self._yielding():
                return None
        heap = self._heap
        with self._lock:
            if not heap and wait_s > 0 and not self._closed:
                deadline = time.monotonic() + wait_s
                while not heap and not self._closed:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return None
                    self._changed.wait(left)
            if not heap:
                return None
            fetch = heapq.heappop(heap)[3]
            if len(heap) == self._limit - 1:
                self._changed.notify_all()
            return fetch

    def _let_others_go_first(self, wait_s: float) -> float:
        """Wait while somebody else is more urgent, at most `wait_s`; return for how long."""
        started = time.monotonic()
        while self._yielding is not None and self._yielding() and (spent := time.monotonic() - started) < wait_s:
            time.sleep(min(YIELD_STEP_S, wait_s - spent))
        return time.monotonic() - started

    def _closed_empty(self) -> bool:
        return self._closed and not self._heap

    @property
    def closed(self) -> bool:
        return self._closed and not self._heap

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Drop everything; whoever waits in put() goes on."""
        with self._lock:
            self._aborted = self._closed = True
            self._heap.clear()
            self._changed.notify_all()
