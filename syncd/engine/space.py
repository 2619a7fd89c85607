"""Room on the mirror's disk: a floor is kept, and old trash goes before a fetch is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from syncd.core.errors import DiskFull
from syncd.ports import Mirror

LOOK_EVERY_S = 0.5
TRASH_KEPT_NS = 24 * 3600 * 10**9
BLOCK = 4096


class Space:
    """Reserves room for one file after the other; looks at the disk twice a second, not once a file.

    unwritten: bytes reserved earlier that have not been written yet (the disk does not show them as used).
    """

    def __init__(self, mirror: Mirror, floor: Callable[[int], int], now_ns: Callable[[], int]) -> None:
        self.unwritten: Callable[[], int] = lambda: 0
        self._mirror = mirror
        self._floor = floor
        self._now_ns = now_ns
        self._left = 0
        self._look_at = float("-inf")
        self._lock = threading.Lock()

    def reserve(self, size: int) -> None:
        """Count `size` bytes as used. Raises DiskFull when they would cross the floor, old trash notwithstanding."""
        size += BLOCK
        with self._lock:
            if size > self._left or time.monotonic() > self._look_at:
                self._make_sure_of(size)
            self._left -= size

    def _make_sure_of(self, size: int) -> None:
        self._look()
        if size > self._left and self._empty_old_trash():
            self._look()
        if size > self._left:
            raise DiskFull(
                f"no room for {size - BLOCK} bytes more: {max(self._left, 0)} bytes are free above the floor",
                hint="free some space or lower min_free; the next run goes on by itself",
            )

    def _look(self) -> None:
        room = self._mirror.room()
        self._left = room.free_bytes - self._floor(room.total_bytes) - self.unwritten()
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def _empty_old_trash(self) -> bool:
        freed = 0
        now = self._now_ns()
        batches = {trashed.batch: trashed.trashed_at_ns for trashed in self._mirror.trash()}
        for batch, trashed_at_ns in sorted(batches.items()):
            if now - trashed_at_ns > TRASH_KEPT_NS:
                freed += self._mirror.purge(batch)
        return freed > 0
