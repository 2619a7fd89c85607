"""A worker's heartbeat file, as the worker writes it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from syncd import __version__
from syncd.client.heartbeats import BEAT, Heartbeat, file_of

EVERY_S = 3.0
_IDENTITY = ("worker_id", "pid", "host", "version", "started", "number", "at", "since")


class Beat:
    """Writes `RUN/ID.json`: at once when the state or the task changes, else every few seconds. Any thread.

    It says that its worker lives only while it is called: call it from what must not stand still, from nowhere else.
    A disk that is full or away stops no work.
    """

    def __init__(
        self,
        folder: Path,
        worker_id: str,
        *,
        host: str = "",
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        now = clock()
        self._path = file_of(folder, worker_id, BEAT)
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._written = 0.0
        self._last = Heartbeat(
            worker_id=worker_id, pid=os.getpid(), at=now, host=host, version=__version__, started=now, since=now
        )

    @property
    def last(self) -> Heartbeat:
        """What was told last, written or not."""
        with self._lock:
            return self._last

    def tell(self, **told: Any) -> None:
        """Take over fields of Heartbeat (others are passed over), and write them if it is time."""
        self.take(told)

    def take(self, told: Mapping[str, Any]) -> None:
        """The same, from a mapping."""
        known = {name: told[name] for name in Heartbeat._fields if name in told and name not in _IDENTITY}
        with self._lock:
            before, now = self._last, self._clock()
            after = before._replace(**known, at=now, number=before.number + 1)
            changed = (after.state, after.task) != (before.state, before.task)
            self._last = after._replace(since=now) if changed else after
            if changed or not 0 <= now - self._written < self._every_s:
                self._written = now
                self._write()

    def remove(self) -> None:
        """The worker has ended in order."""
        with self._lock, contextlib.suppress(OSError):
            self._path.unlink()

    def _write(self) -> None:
        staged = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            staged.write_text(json.dumps(self._last._asdict(), ensure_ascii=False), "utf-8", "replace")
            staged.replace(self._path)
