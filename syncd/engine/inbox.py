"""Arrivals on their way to the committer, in groups: the fetching thread puts, the committing thread takes."""

from __future__ import annotations

import threading
import time

from syncd.engine.commit import Arrived

GROUP_FILES = 512
GROUP_BYTES = 64 << 20
GROUP_AGE_S = 0.2


class Inbox:
    """Arrivals on their way to the committer: taken all at once when there are enough, or the first is old enough."""

    def __init__(self, age_s: float) -> None:
        self._age_s = age_s
        self._items: list[Arrived] = []
        self._bytes = 0
        self._first = 0.0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ended = False
        self._busy = False
        self.files = GROUP_FILES

    def put(self, item: Arrived, size: int) -> None:
        """Add one file of `size` bytes. Hot: for each file of a run."""
        with self._lock:
            items = self._items
            while len(items) >= self.files and not self._ended:
                self._changed.wait()
                items = self._items
            if not items:
                self._first = time.monotonic()
                self._changed.notify_all()
            items.append(item)
            self._bytes += size
            if len(items) >= self.files or self._bytes >= GROUP_BYTES:
                self._changed.notify_all()

    def take(self) -> list[Arrived]:
        """Wait for the next group; empty when nothing will come any more."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            while True:
                full = len(self._items) >= self.files or self._bytes >= GROUP_BYTES
                left = self._first + self._age_s - time.monotonic() if self._items else None
                if self._items and (full or self._ended or (left is not None and left <= 0)):
                    group, self._items, self._bytes = self._items, [], 0
                    self._busy = True
                    self._changed.notify_all()
                    return group
                if self._ended:
                    return []
                self._changed.wait(left)

    def drain(self) -> None:
        """Wait until everything put so far has been committed (or the committer ended)."""
        with self._changed:
            self._first = 0.0
            self._changed.notify_all()
            while (self._items or self._busy) and not self._ended:
                self._changed.wait(GROUP_AGE_S)

    def discard(self) -> None:
        """Throw away what no group took (the committer ended early)."""
        with self._changed:
            for item in self._items:
                if item.staged is not None:
                    item.staged.discard()
            self._items = []

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
