"""Follow the changes in one folder: gathered, told in bunches once they pause, begun anew where some were missed."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from syncd.core.model import RelPath
from syncd.watching import watch_tree

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 60.0
_INSTANCES = "too many programs watch folders; raise the limit: sysctl fs.inotify.max_user_instances"
_WATCHES = "the limit on watched folders is reached; raise it: sysctl fs.inotify.max_user_watches"

Tell = Callable[["frozenset[RelPath] | None"], None]
"""Takes what changed since the last call; None: anything may have. Returns at once and does not raise."""


@dataclass(frozen=True, slots=True)
class Pace:
    """quiet_s: told when nothing more came for so long, longest_s after the first change at the latest.

    most: more paths than this are told as None. look_s: so often the folder's own presence is looked at.
    """

    quiet_s: float
    longest_s: float
    most: int
    look_s: float = 5.0


class Unwatchable(Exception):
    """The folder cannot be watched (any more). lasting: trying again will not mend it by itself."""

    def __init__(self, why: str, *, lasting: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.lasting = lasting


class Following:
    """Watches `root` and tells of changed paths below it (folders=True: of the folders in which they lie).

    run() may be called again after it ended (running is False). Thread-safe; close() ends run() from another thread.
    """

    def __init__(self, root: Path, tell: Tell, pace: Pace, *, folders: bool) -> None:
        self._root = root
        self._tell = tell
        self._pace = pace
        self._folders = folders
        self._news = threading.Condition()
        self._closed = False
        self.running = False
        self._state = "off: not begun"
        self._paths: set[RelPath] = set()
        self._everything = self._missed = False
        self._gone = ""
        self._first = self._last = 0.0

    @property
    def state(self) -> str:
        """ "on", "off: why" or "partly: why", as ports.HintSource has it."""
        return self._state

    def run(self) -> None:
        """Tell None once watching has begun and after changes were missed, else what changed; until close().

        Raises: Unwatchable when the folder is not there, went away, or cannot be watched.
        """
        self.running = True
        state = "off: closed"
        try:
            self._keep_watching()
        except OSError as error:
            why = _why(error, self._root)
            state = f"off: {why}"
            raise Unwatchable(why, lasting=error.errno in _LASTING) from error
        except Unwatchable as error:
            state = f"off: {error.why}"
            raise
        finally:
            self.running = False
            self._state = state

    def close(self) -> None:
        """End run(); safe to repeat, and for good."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    # --- syncd.watching.Listener

    def changed(self, directory: RelPath, path: RelPath) -> None:
        """Take one change."""
        if self._folders:
            path = directory
        elif path == directory:
            return  # no mirror holds a file of such a name
        with self._news:
            if not self._paths:
                self._first = time.monotonic()
                self._news.notify_all()
            self._last = time.monotonic()
            if not self._everything:
                self._paths.add(path)
                self._everything = len(self._paths) > self._pace.most

    def lost(self) -> None:
        """Take note that changes were missed."""
        with self._news:
            self._missed = True
            self._news.notify_all()

    def ended(self, why: str) -> None:
        """Take note that the folder is gone."""
        with self._news:
            self._gone = why
            self._news.notify_all()

    # --- inside

    def _keep_watching(self) -> None:
        """Begin anew, after a pause, whenever changes were missed. Raises OSError, Unwatchable."""
        pause_s = _FIRST_PAUSE_S
        while not self._closed:
            began = time.monotonic()
            self._watch_once()
            if not self._closed:
                self._state = "off: more changed at once than could be told; watching again soon"
                self._tell(None)
                self._wait(pause_s)
            pause_s = _FIRST_PAUSE_S if time.monotonic() - began > _STEADY_S else min(2 * pause_s, _LONGEST_PAUSE_S)

    def _watch_once(self) -> None:
        """Watch until close() or until changes were missed. Raises OSError, Unwatchable."""
        with self._news:
            self._paths = set()
            self._everything = self._missed = False
            self._gone = ""
        identity = _identity(self._root)
        tree = watch_tree(self._root, self)
        tree.start()
        try:
            self._tell(None)
            while not (self._closed or self._missed):
                self._state = f"partly: {tree.partly}" if tree.partly else "on"
                self._forward()
                self._check(identity)
        finally:
            tree.stop()

    def _check(self, identity: tuple[int, int]) -> None:
        """Raise Unwatchable once the folder is not there, or not the same, any more."""
        if self._gone:
            raise Unwatchable(self._gone)
        if _identity(self._root) != identity:
            raise Unwatchable("the folder was replaced by another one")

    def _forward(self) -> None:
        """Wait for changes, for some time at most; tell them once they pause."""
        with self._news:
            if not self._paths:
                self._news.wait(self._pace.look_s)
            while self._paths and (left := self._until_told_s()) > 0:
                self._news.wait(left)
            paths, self._paths = self._paths, set()
            everything, self._everything = self._everything, False
        if paths and not self._closed:
            self._tell(None if everything else frozenset(paths))

    def _until_told_s(self) -> float:
        if self._closed or self._missed or self._gone:
            return 0.0
        return min(self._last + self._pace.quiet_s, self._first + self._pace.longest_s) - time.monotonic()

    def _wait(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._closed, seconds)


_LASTING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOSYS})


def _identity(root: Path) -> tuple[int, int]:
    found = os.stat(root)
    return found.st_dev, found.st_ino


def _why(error: OSError, root: Path) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _INSTANCES
    if error.errno == errno.ENOSPC:
        return _WATCHES
    if error.errno == errno.ENOENT:
        return f"{root} is not there"
    return f"{root} cannot be watched: {error.strerror or error}"
