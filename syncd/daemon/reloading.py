"""Notices that the configuration file changed: by the operating system's word, and by a look at its stat.

The folder is watched, not the file: editors replace files. Whether it really changed is told by stat.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class ConfigWatch:
    """Calls `told` when something happened to the file; changed() says whether it is another one now."""

    def __init__(self, path: Path, told: Callable[[], None]) -> None:
        self._path = path
        self._told = told
        self._seen = self._stat()
        self._observer: Any = None

    def start(self) -> None:
        """Begin to watch; where the system cannot, changed() alone has to do."""
        from watchdog import events
        from watchdog.observers import Observer

        watch = self

        class _Handler(events.FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if watch._path.name in (os.path.basename(event.src_path), os.path.basename(event.dest_path or "")):
                    watch._told_of()

        # not that something was opened: where the mirror lies beside the configuration, each reader of it would tell us
        kinds: list[type[events.FileSystemEvent]] = [
            events.FileCreatedEvent,
            events.FileModifiedEvent,
            events.FileAttribEvent,
            events.FileClosedEvent,
            events.FileMovedEvent,
            events.FileDeletedEvent,
        ]
        observer = Observer()
        observer.name = "config"
        observer.daemon = True
        with suppress(OSError):
            observer.schedule(_Handler(), str(self._path.parent), recursive=False, event_filter=kinds)
            observer.start()
            self._observer = observer

    def changed(self) -> bool:
        """Say whether the file is another one than at the last call. A file that is gone for a moment is not."""
        now = self._stat()
        if now is None or now == self._seen:
            return False
        self._seen = now
        return True

    def close(self) -> None:
        """Watch no more; safe to repeat."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(2)

    def _told_of(self) -> None:
        if self.changed():
            self._told()

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
