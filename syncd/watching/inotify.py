"""A folder and all below it, watched by inotify(7) through watchdog's lowest layer.

Of watchdog only the reading thread and the bookkeeping of descriptors are used (InotifyFD): it hands on what the kernel
says of a full queue and of watches refused, which its Observer keeps to itself.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import watchdog.observers  # noqa: F401 (its parent first: another thread that imports that one holds its lock, and waits)
from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyFD, Mask, WatchDescriptor

from syncd.core.model import ROOT, RelPath
from syncd.core.paths import join, refuse_name
from syncd.watching import Listener, locate

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import InotifyEvent

# What it would log (a full queue, a descriptor it does not know) is told to the listener, or of no interest.
logging.getLogger("watchdog").addHandler(logging.NullHandler())
logging.getLogger("watchdog").propagate = False

_IN = InotifyConstants
_MASK = Mask(
    _IN.IN_CREATE | _IN.IN_DELETE | _IN.IN_MODIFY | _IN.IN_CLOSE_WRITE | _IN.IN_ATTRIB | _IN.IN_MOVED_FROM
    | _IN.IN_MOVED_TO | _IN.IN_DELETE_SELF | _IN.IN_MOVE_SELF | _IN.IN_ONLYDIR | _IN.IN_DONT_FOLLOW
    | _IN.IN_EXCL_UNLINK
)  # fmt: skip
_NO_WATCH = WatchDescriptor(-1)
_GONE = _IN.IN_DELETE_SELF | _IN.IN_MOVE_SELF | _IN.IN_UNMOUNT
_CAME = _IN.IN_CREATE | _IN.IN_MOVED_TO
_LEFT = _IN.IN_DELETE | _IN.IN_MOVED_FROM
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_ROOM = frozenset({errno.ENOSPC, errno.ENOMEM})
_STOP_S = 5.0
_LIMIT_TEXT = "the limit on watched folders is reached; raise it: sysctl fs.inotify.max_user_watches"


class _Folder:
    """One watched folder. Paths never change: what is moved is watched anew where it arrives."""

    __slots__ = ("below", "path", "watch")

    def __init__(self, path: RelPath, watch: tuple[WatchDescriptor, CallbackId]) -> None:
        self.path = path
        self.watch = watch
        self.below: dict[str, _Folder] = {}


class InotifyTree:
    """syncd.watching.TreeWatch by inotify. Links are not followed; folders whose names no mirror holds are left out."""

    def __init__(self, root: Path, listener: Listener) -> None:
        self._root = os.path.realpath(root)
        self._listener = listener
        self._inotify: InotifyFD | None = None
        self._lock = threading.Lock()
        self._folders: dict[WatchDescriptor, _Folder] = {}
        self._top: _Folder | None = None
        self._left_out: set[RelPath] = set()
        self._full = False
        self._ids = itertools.count()
        self._stopped = False

    @property
    def partly(self) -> str:
        """See TreeWatch."""
        if not self._left_out:
            return ""
        why = _LIMIT_TEXT if self._full else "they may not be read"
        missing = len(self._left_out)
        return f"{missing} of {len(self._folders) + missing} folders are not watched: {why}"

    def start(self) -> None:
        """See TreeWatch."""
        self._inotify = inotify = InotifyFD()
        inotify.name = "inotify"
        inotify.start()
        try:
            with self._lock:
                self._top = self._watch(None, ROOT, "")
                if self._top is not None:
                    collections.deque(self._descend(self._top), maxlen=0)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """See TreeWatch."""
        self._stopped = True
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.stop()
            if threading.current_thread() is not inotify:
                inotify.join(_STOP_S)

    # --- what InotifyFD calls, in its thread

    def on_event(self, event: InotifyEvent) -> None:
        """Take one event."""
        with self._lock:
            folder = self._folders.get(event.wd)
            if folder is None or self._stopped:
                return
            if folder is self._top and event.mask & _GONE:
                self._end()
            elif event.name:
                self._take(folder, os.fsdecode(event.name), event.mask)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """The kernel dropped a watch: its folder was removed, or its file system unmounted."""
        with self._lock:
            folder = self._folders.pop(wd, None)
            if folder is not None and folder is self._top and not self._stopped:
                self._end()

    def on_queue_overflow(self) -> None:
        """The kernel dropped events, perhaps those of new folders."""
        if not self._stopped:
            self._listener.lost()

    # --- inside

    def _end(self) -> None:
        self._stopped = True
        self._listener.ended("the folder was removed, moved away or unmounted")

    def _take(self, folder: _Folder, name: str, mask: int) -> None:
        path = locate(folder.path, name)
        if path is None:
            return
        self._listener.changed(folder.path, path)
        if mask & _IN.IN_ISDIR and path != folder.path:
            if mask & _LEFT:
                self._left_out.discard(path)
                self._forget(folder.below.pop(name, None))
            elif mask & _CAME or path in self._left_out:
                self._arrived(folder, path, name)

    def _arrived(self, above: _Folder, path: RelPath, name: str) -> None:
        """A folder came into being or was moved here: what is in it by now was told by nobody."""
        self._forget(above.below.pop(name, None))
        folder = self._watch(above, path, name)
        if folder is not None:
            for directory, found in self._descend(folder):
                self._listener.changed(directory, found)

    def _watch(self, above: _Folder | None, path: RelPath, name: str) -> _Folder | None:
        """Watch one folder; None where that cannot be. Raises OSError for the root."""
        place = f"{self._root}/{path}" if path else self._root
        callback = CallbackId(next(self._ids))
        self._left_out.discard(path)
        try:
            wd = self._add(place, callback)
        except OSError as error:
            if above is None:
                raise
            if error.errno not in _NOT_THERE:
                self._full = self._full or error.errno in _NO_ROOM
                self._left_out.add(path)
            return None
        folder = self._folders[wd] = _Folder(path, (wd, callback))
        if above is not None:
            above.below[name] = folder
        return folder

    def _add(self, place: str, callback: CallbackId) -> WatchDescriptor:
        inotify = self._inotify
        if inotify is None:
            raise FileNotFoundError(errno.ENOENT, "stopped")
        # add_callback() takes a folder that may not be read for watched, with a descriptor of -1
        wd = inotify.add_callback(os.fsencode(place), _MASK, self, callback) if os.access(place, os.R_OK) else _NO_WATCH
        if wd == _NO_WATCH:
            os.stat(place)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return wd

    def _descend(self, top: _Folder) -> Iterator[tuple[RelPath, RelPath]]:
        """Watch everything below a folder; yield (directory, path) of all found there that a mirror could hold."""
        pending = [top]
        while pending and not self._stopped:
            folder = pending.pop()
            with contextlib.suppress(OSError), os.scandir(f"{self._root}/{folder.path}") as found:
                for each in found:
                    if refuse_name(each.name) is not None:
                        continue
                    path = join(folder.path, each.name)
                    yield folder.path, path
                    if each.is_dir(follow_symlinks=False):
                        below = self._watch(folder, path, each.name)
                        if below is not None:
                            pending.append(below)

    def _forget(self, top: _Folder | None) -> None:
        """Watch a folder and those below it no longer."""
        pending = [top] if top is not None else []
        dropped = []
        while pending:
            folder = pending.pop()
            pending.extend(folder.below.values())
            if self._folders.get(folder.watch[0]) is folder:
                del self._folders[folder.watch[0]]
                dropped.append(folder.watch)
        if dropped and self._inotify is not None:
            self._inotify.remove_callbacks(dropped)
