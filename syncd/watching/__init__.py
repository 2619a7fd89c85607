"""Changes in a folder of this machine as the operating system tells them; every one is a hint, and any may be missing.

Used by the file:// source and by the watch on the mirror itself. watchdog's Observer says nothing of a queue that
overflowed and of folders that it could not watch (7.1, read and measured), so on Linux only its inotify layer is used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from syncd.core.model import RelPath
from syncd.core.paths import STATE_FOLDER, fold, join, refuse_name


class Listener(Protocol):
    """Who is told, from a thread of the watch's own: returns at once and does not raise."""

    def changed(self, directory: RelPath, path: RelPath) -> None:
        """Something in a directory was made, written, renamed or removed: a file, or a folder with all below it.

        path is the directory's own where the name can be no RelPath.
        """

    def lost(self) -> None:
        """Changes were missed: anything may have changed, and the watch must be made anew."""

    def ended(self, why: str) -> None:
        """The folder itself is not there any more; nothing further will be told."""


class TreeWatch(Protocol):
    """Watches a folder and everything below it, `.syncd` left out, until stop()."""

    @property
    def partly(self) -> str:
        """Why some folders are not watched; "" when all are."""

    def start(self) -> None:
        """Begin; returns when everything that is there is watched. Raises OSError."""

    def stop(self) -> None:
        """End; nothing is told afterwards, nothing is left open. Safe to repeat."""


def watch_tree(root: Path, listener: Listener) -> TreeWatch:
    """Return the watch that this system has. Raises OSError where it has none."""
    if sys.platform == "linux":
        from syncd.watching.inotify import InotifyTree

        return InotifyTree(root, listener)
    from syncd.watching.observed import ObservedTree, fsevents_observer

    return ObservedTree(root, listener, fsevents_observer())


def locate(directory: RelPath, name: str) -> RelPath | None:
    """Return the path of a name in a directory, the directory's where that can be no RelPath, None for `.syncd`."""
    if refuse_name(name) is None:
        return join(directory, name)
    return None if not directory and fold(name) == STATE_FOLDER else directory
