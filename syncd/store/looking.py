"""Looking at the mirror without changing it: lists, stats, hashes, room. From any thread, by walks of their own."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from syncd.core import paths
from syncd.core.errors import LocalIOError
from syncd.core.model import Kind, LocalEntry, LocalStat, RelPath
from syncd.core.paths import STATE_FOLDER
from syncd.core.reasons import Reason, hint_for
from syncd.ports import Room
from syncd.store.disk_errors import translate, translated
from syncd.store.durable import sync_descriptor
from syncd.store.handles import READ, folder_below, open_below
from syncd.store.staging import digest_of

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY}
_F_NOCACHE = 48
"""<sys/fcntl.h> of macOS."""


class Looker:
    """What lies below an open root. inodes: False where inode numbers mean nothing (they are then given as 0)."""

    def __init__(self, root: int, *, inodes: bool) -> None:
        self._root = root
        self._inodes = inodes
        self._durable: set[str] = set()

    def local(self, status: os.stat_result) -> LocalStat:
        """Return the part of a stat that makes a record verified."""
        inode = status.st_ino if self._inodes else 0
        return tuple.__new__(LocalStat, (inode, status.st_size, status.st_mtime_ns))  # a third of what the class costs

    def list(self, directory: RelPath) -> dict[str, LocalEntry] | None:
        """Return what lies in one folder; None if it is not there. 100,000 files are looked at in a no-change run."""
        found: dict[str, LocalEntry] = {}
        kind_of, other, inodes = _KINDS.get, Kind.OTHER, self._inodes
        new, entry_type, stat_type = tuple.__new__, LocalEntry, LocalStat  # a third of what calling the classes costs
        with folder_below(self._root, directory, "list") as folder:
            if folder is None:
                return None
            with os.scandir(folder) as names:
                for entry in names:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    local = new(stat_type, (status.st_ino if inodes else 0, status.st_size, status.st_mtime_ns))
                    found[entry.name] = new(entry_type, (kind_of(status.st_mode & 0o170000, other), local))
        if not directory:
            found.pop(STATE_FOLDER, None)
        return found

    def stat(self, path: RelPath) -> LocalEntry | None:
        """Return one name's lstat; None if it, or a folder above it, is not there."""
        directory, name = paths.split(path)
        with folder_below(self._root, directory, "look at") as folder:
            if folder is None:
                return None
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False) if name else os.fstat(folder)
            except FileNotFoundError:
                return None
        return LocalEntry(_KINDS.get(stat.S_IFMT(status.st_mode), Kind.OTHER), self.local(status))

    def stat_open(self, path: RelPath) -> LocalStat | None:
        """Open a file and return its descriptor's stat; None when it, or a folder above it, is not there.

        That it can be opened here and now is part of the answer, so a link, another kind of thing and a file that may
        not be read are errors. Runs for every file that a worker asks for.
        Raises: PathUnsafe, LocalIOError.
        """
        directory, _, name = path.rpartition("/")
        try:
            folder = open_below(self._root, directory)
            if folder is None:
                return None
            try:
                descriptor = os.open(name, READ, dir_fd=folder)
            finally:
                os.close(folder)
            status = os.fstat(descriptor)
            os.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise translate(error, "open", path) from error
        if not stat.S_ISREG(status.st_mode):
            raise LocalIOError(f"{path} is no regular file", hint=hint_for(Reason.PATH_COLLISION))
        return self.local(status)

    def hash(self, path: RelPath, *, past_page_cache: bool, durable: bool) -> tuple[str, LocalStat]:
        """Return SHA-256 and stat of a regular file that does not change meanwhile; durable: made so first."""
        with self._regular(path, "hash") as (folder, descriptor):
            if durable:
                sync_descriptor(descriptor)
                sync_descriptor(folder)
            result = self._hash(descriptor, path, past_page_cache)
        if durable:
            self._sync_above(paths.split(path)[0])
        return result

    def read(self, path: RelPath, limit: int) -> bytes:
        """Return at most `limit` bytes of a regular file. Raises PathUnsafe, LocalIOError."""
        with self._regular(path, "read") as (_, descriptor), open(descriptor, "rb", closefd=False) as file:
            return file.read(limit)

    @contextmanager
    def _regular(self, path: RelPath, doing: str) -> Iterator[tuple[int, int]]:
        """Open a regular file for reading: (its folder, itself). Raises PathUnsafe, LocalIOError."""
        directory, name = paths.split(path)
        with folder_below(self._root, directory, doing) as folder, translated(doing, path):
            try:
                descriptor = os.open(name, READ, dir_fd=folder) if folder is not None else -1
            except FileNotFoundError:
                descriptor = -1
            if folder is None or descriptor < 0:
                raise LocalIOError(f"{path} is not in the mirror's folder", hint=hint_for(Reason.LOST))
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise LocalIOError(f"{path} is no regular file", hint=hint_for(Reason.PATH_COLLISION))
                yield folder, descriptor
            finally:
                os.close(descriptor)

    def _hash(self, descriptor: int, path: RelPath, past_page_cache: bool) -> tuple[str, LocalStat]:
        before = self.local(os.fstat(descriptor))
        if past_page_cache:
            _drop_cache(descriptor)
        digest = digest_of(descriptor)
        if past_page_cache:
            _drop_cache(descriptor)
        if digest is None or self.local(os.fstat(descriptor)) != before:
            raise LocalIOError(f"{path} changed while it was read", hint=hint_for(Reason.LOCAL_IO))
        return digest.hexdigest(), before

    def _sync_above(self, directory: RelPath) -> None:
        """Make the names of a folder and of those above it durable, once."""
        while directory and directory not in self._durable:
            above, _ = paths.split(directory)
            with folder_below(self._root, above, "sync") as folder:
                if folder is not None:
                    sync_descriptor(folder)
            self._durable.add(directory)
            directory = above

    def room(self) -> Room:
        """Return the space that an ordinary user has (statvfs(3): f_bavail, f_favail)."""
        with translated("look at the space of the target"):
            found = os.fstatvfs(self._root)
        return Room(
            free_bytes=found.f_bavail * found.f_frsize,
            total_bytes=found.f_blocks * found.f_frsize,
            free_inodes=found.f_favail if found.f_files else 0,
            total_inodes=found.f_files,
        )


def _drop_cache(descriptor: int) -> None:
    """Have the disk, not memory, answer the next read; what cannot be dropped stays (an advice, not a promise)."""
    with suppress(OSError):
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(descriptor, _F_NOCACHE, 1)
        else:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
