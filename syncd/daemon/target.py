"""One mirror's target, opened when somebody needs it, shared by the daemon's threads, closed when nobody does.

An open handle keeps a disk from being unmounted, so none is kept for long. A target that is unplugged, replaced or
plugged in again is noticed at the next use: the folder's identity is compared each time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from syncd.core.errors import SyncdError
from syncd.store.mirror import DiskMirror

KEPT_OPEN_S = 2.0


class Opening(Protocol):
    """Opens the target; raises TargetMissing, TargetForeign and the like."""

    def __call__(self, *, new_target: bool, take_over: bool) -> DiskMirror: ...


class _Opened(NamedTuple):
    mirror: DiskMirror
    identity: tuple[int, int]


class OpenTarget:
    """Gives out the one open DiskMirror of a target. Thread-safe.

    writing: held by whoever changes final names or commits facts of this mirror. usable: whether it could be opened the
    last time that somebody wanted to; None before the first.
    """

    def __init__(self, target: Path, open_: Opening, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = target
        self.writing = threading.RLock()
        self.usable: bool | None = None
        self._open = open_
        self._clock = clock
        self._lock = threading.Lock()
        self._current: _Opened | None = None
        self._users: dict[int, int] = {}
        self._retired: dict[int, DiskMirror] = {}
        self._last_used = 0.0

    @contextmanager
    def use(self, *, new_target: bool = False, take_over: bool = False) -> Iterator[DiskMirror]:
        """Give the open target for the length of the block; it is not closed meanwhile. Raises as `open_`."""
        mirror = self._take(new_target, take_over)
        try:
            yield mirror
        finally:
            self._give_back(mirror)

    def close_idle(self) -> None:
        """Close it if nobody has used it for a moment; to be called now and then."""
        with self._lock:
            opened = self._current
            in_use = opened is not None and id(opened.mirror) in self._users
            if not in_use and self._clock() - self._last_used > KEPT_OPEN_S:
                self._retire()

    def close(self) -> None:
        """Close it as soon as nobody uses it any more; safe to repeat."""
        with self._lock:
            self._retire()

    def _take(self, new_target: bool, take_over: bool) -> DiskMirror:
        with self._lock:
            if self._current is not None and (
                new_target or take_over or self._current.identity != identity_of(self.path)
            ):
                self._retire()
            if self._current is None:
                mirror = self._open_now(new_target, take_over)
                self._current = _Opened(mirror, identity_of(self.path) or (0, 0))
            self.usable = True
            mirror = self._current.mirror
            self._users[id(mirror)] = self._users.get(id(mirror), 0) + 1
            self._last_used = self._clock()
            return mirror

    def _open_now(self, new_target: bool, take_over: bool) -> DiskMirror:
        try:
            return self._open(new_target=new_target, take_over=take_over)
        except SyncdError:
            self.usable = False
            raise

    def _give_back(self, mirror: DiskMirror) -> None:
        with self._lock:
            self._last_used = self._clock()
            self._users[id(mirror)] -= 1
            if not self._users[id(mirror)]:
                del self._users[id(mirror)]
                if self._retired.pop(id(mirror), None) is not None:
                    mirror.close()

    def _retire(self) -> None:
        """Give it out no more; the last user closes it."""
        opened, self._current = self._current, None
        if opened is None:
            return
        if id(opened.mirror) in self._users:
            self._retired[id(opened.mirror)] = opened.mirror
        else:
            opened.mirror.close()


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what tells one folder from another at the same place (a mount point without its disk); None: none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
