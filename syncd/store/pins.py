"""Pins: `.syncd/pins/NAME/basename`, a second name (or a copy) of one version of a file, for as long as it is leased.

A pin does not outlive a restart of the machine, so nothing here is synced. Nothing changes a mirrored file in place:
what is replaced or retired lives on under its pin's name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from syncd.core import paths
from syncd.core.errors import DigestMismatch, DiskFull, LocalIOError
from syncd.core.model import LocalStat, RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.ports import Room
from syncd.store.disk_errors import translated
from syncd.store.handles import FOLDER, READ, demolish, folder_below
from syncd.store.looking import Looker
from syncd.store.staging import FILE_MODE, digest_of
from syncd.store.trash import fill, linked

_FOLDER_MODE = 0o755
_COPY = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Pins:
    """The pins folder of an open target. Any thread; two calls for one name are not made at the same time."""

    def __init__(self, folder: int, root: int, looker: Looker, *, hard_links: bool) -> None:
        self._folder = folder
        self._root = root
        self._looker = looker
        self._hard_links = hard_links

    def pin(
        self, path: RelPath, expected: LocalStat, sha256: str, name: str, floor: Callable[[int], int]
    ) -> LocalStat | None:
        """Pin a file if its stat is `expected`; return the pin's stat, None (and no pin) when it is not.

        A hard link, else shared blocks, else a copy that hashes to `sha256`. floor: bytes that a copy leaves free, from
        the disk's size.
        Raises: DiskFull, PathUnsafe, LocalIOError, DigestMismatch (the bytes are not what the record says).
        """
        directory, basename = paths.split(path)
        done: LocalStat | None = None
        with translated("pin", path), folder_below(self._root, directory, "pin") as source:
            if source is None:
                return None
            os.mkdir(name, _FOLDER_MODE, dir_fd=self._folder)
            try:
                pin = os.open(name, FOLDER, dir_fd=self._folder)
                try:
                    done = self._put(source, basename, pin, expected, sha256, floor)
                finally:
                    os.close(pin)
            except FileNotFoundError:
                done = None
            finally:
                if done is None:
                    self._remove(name)
        return done

    def _put(
        self,
        source: int,
        name: str,
        pin: int,
        expected: LocalStat,
        sha256: str,
        floor: Callable[[int], int],
    ) -> LocalStat | None:
        if not (self._hard_links and linked(source, name, pin, name)):
            return self._copy(source, name, pin, expected, sha256, floor)
        # the name may have been given to another file since it was verified: what counts is what the link leads to
        found = self._stat(name, pin)
        return found if found == expected else None

    def _copy(
        self,
        source: int,
        name: str,
        pin: int,
        expected: LocalStat,
        sha256: str,
        floor: Callable[[int], int],
    ) -> LocalStat | None:
        original = os.open(name, READ, dir_fd=source)
        try:
            status = os.fstat(original)
            if not stat.S_ISREG(status.st_mode) or self._looker.local(status) != expected:
                return None
            self._refuse_below_floor(name, status.st_size, self._looker.room(), floor)
            copy = os.open(name, _COPY, FILE_MODE, dir_fd=pin)
            try:
                fill(original, copy)
                os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
                os.lseek(copy, 0, os.SEEK_SET)
                digest = digest_of(copy)
            finally:
                os.close(copy)
        finally:
            os.close(original)
        if digest is None or digest.hexdigest() != sha256:
            raise DigestMismatch(
                f"{name} does not hash to its digest, though its stat is right", hint=hint_for(Reason.DIGEST_MISMATCH)
            )
        return self._stat(name, pin)

    @staticmethod
    def _refuse_below_floor(name: str, size: int, room: Room, floor: Callable[[int], int]) -> None:
        if room.free_bytes - size < floor(room.total_bytes):
            raise DiskFull(
                f"no room for a copy of {name}: {size} bytes; this file system has no hard links to pin it with",
                hint="free some space or lower min_free",
            )

    def stat(self, name: str, path: RelPath) -> LocalStat | None:
        """Return the stat of a pin's file (its name is that of `path`); None when it is gone, or no regular file."""
        _check(name)
        with translated("look at the pin of", path):
            try:
                pin = os.open(name, FOLDER, dir_fd=self._folder)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    return None
                raise
            try:
                return self._stat(paths.split(path)[1], pin)
            finally:
                os.close(pin)

    def _stat(self, name: str, pin: int) -> LocalStat | None:
        try:
            status = os.stat(name, dir_fd=pin, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return self._looker.local(status) if stat.S_ISREG(status.st_mode) else None

    def names(self) -> list[str]:
        """Return the names of all pins, and of what else lies there that could be one."""
        with translated("list the pins"):
            return [name for name in os.listdir(self._folder) if paths.refuse_name(name) is None]

    def remove(self, name: str) -> None:
        """Remove one pin, whatever lies in its folder; safe to repeat. Raises LocalIOError."""
        _check(name)
        with translated("remove the pin", name):
            self._remove(name)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            demolish(self._folder, name)


def _check(name: str) -> None:
    if paths.refuse_name(name) is not None:
        raise LocalIOError(f"{paths.printable(name)} is no pin", hint=hint_for(Reason.LOCAL_IO))
