"""Files that are wanted in the background: asked for one after the other by a few threads, until they are there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from syncd.core.errors import SyncdError
from syncd.core.resolution import State
from worker_glue.resolver.daemon import DaemonFiles

THREADS = 4
QUEUED_MAX = 10_000
PATIENCE_S = 600.0
"""How long one file is asked for."""
_SLICE_S = 5.0
_PAUSE_S = 1.0


class _Wish(NamedTuple):
    path: str
    daemon: DaemonFiles


class Prefetch:
    """What is wanted by one process. Its threads end when nothing is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: deque[_Wish] = deque(maxlen=QUEUED_MAX)
        self._threads = 0
        self._closed = threading.Event()

    def want(self, paths: Iterable[str], daemon: DaemonFiles) -> None:
        """Want files; of too many the oldest are let go, and a run fetches those."""
        with self._lock:
            self._wishes.extend(_Wish(path, daemon) for path in paths)
            starting = min(THREADS, len(self._wishes)) - self._threads
            for _ in range(max(0, starting)):
                self._threads += 1
                threading.Thread(target=self._work, name="worker-glue-prefetch", daemon=True).start()

    def close(self) -> None:
        """Want nothing any more; threads end soon."""
        self._closed.set()
        with self._lock:
            self._wishes.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wishes:
                    self._threads -= 1
                    return
                wish = self._wishes.popleft()
            self._fetch(wish)

    def _fetch(self, wish: _Wish) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self._closed.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(SyncdError):
                if wish.daemon.ensure(wish.path, _SLICE_S).state not in (State.FETCHING, State.UNAVAILABLE):
                    return
            self._closed.wait(_PAUSE_S)
