"""A folder and all below it, watched by one of watchdog's observers: FSEvents on macOS.

FSEvents merges events and, when there are too many, drops them without our being told; the schedule makes up for it.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirModifiedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

from syncd.core.model import ROOT
from syncd.watching import Listener, locate

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent, FileModifiedEvent, FileAttribEvent, FileClosedEvent, FileMovedEvent, FileDeletedEvent,
    DirCreatedEvent, DirModifiedEvent, DirAttribEvent, DirMovedEvent, DirDeletedEvent,
]  # fmt: skip
_STOP_S = 5.0


def fsevents_observer() -> Any:
    """Return the observer of macOS. Raises OSError elsewhere, and where watchdog was built without it."""
    if sys.platform == "darwin":
        try:
            from watchdog.observers.fsevents import FSEventsObserver
        except ImportError as error:
            raise OSError(errno.ENOSYS, "watchdog was installed without FSEvents") from error
        return FSEventsObserver()
    raise OSError(errno.ENOSYS, "this system tells of no changes")


class ObservedTree(FileSystemEventHandler):
    """syncd.watching.TreeWatch by an observer, which is started and ended here."""

    partly = ""

    def __init__(self, root: Path, listener: Listener, observer: Any) -> None:
        self._root = os.path.realpath(root)
        self._listener = listener
        self._observer = observer
        self._stopped = False

    def start(self) -> None:
        """See TreeWatch."""
        os.stat(self._root)
        self._observer.schedule(self, self._root, recursive=True, event_filter=_EVENTS)
        self._observer.name = "observer"
        self._observer.start()

    def stop(self) -> None:
        """See TreeWatch."""
        self._stopped = True
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join(_STOP_S)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take one event, in the observer's thread."""
        if self._stopped:
            return
        for place in (event.src_path, event.dest_path):
            if place:
                self._take(os.fsdecode(place), event)

    def _take(self, place: str, event: FileSystemEvent) -> None:
        if place == self._root:
            if isinstance(event, DirDeletedEvent | DirMovedEvent):
                self._listener.ended("the folder was removed, moved away or unmounted")
            return
        if not place.startswith(self._root + os.sep):
            return
        directory = path = ROOT
        for name in place[len(self._root) + 1 :].split(os.sep):
            found = locate(path, name)
            if found is None:
                return
            directory, path = path, found
            if directory == path:
                break
        if not isinstance(event, DirModifiedEvent):  # something in it was told already
            self._listener.changed(directory, path)
