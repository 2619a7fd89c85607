"""What left the mirror: `.syncd/trash/BATCH/path`, kept until it is purged, and restored only as a copy."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Self

from syncd.core import paths
from syncd.core.errors import PathCollision, PathUnsafe
from syncd.core.model import RelPath
from syncd.ports import Trashed
from syncd.store.disk_errors import translated
from syncd.store.durable import Syncer, sync_descriptor
from syncd.store.handles import CREATE, FOLDER, READ, Handles, demolish, folder_below, is_there, open_below
from syncd.store.staging import FILE_MODE, Staging

_NO_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EXDEV})
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP})
_MAX_SUB_BATCHES = 1000
_CHUNK = 1 << 20
_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_LENGTH = 16
_FICLONE = 0x40049409
"""_IOW(0x94, 9, int), <linux/fs.h>: share the blocks of another file (ioctl_ficlone(2))."""


class Trash:
    """The trash folder. link_in() and move_in() belong to the writing thread; the others may be used from any."""

    def __init__(self, folder: int, state: int, staging: Staging, syncer: Syncer, *, hard_links: bool) -> None:
        self._folder = folder
        self._state = state
        self._staging = staging
        self._hard_links = hard_links
        self.handles = Handles(folder, syncer, 0o700)

    def link_in(self, source: int, name: str, path: RelPath, batch: str) -> None:
        """Put a second name (or a synced copy) of the file `name` in folder `source` into the trash.

        It stays where it is too, so that a rename can replace it without a moment of nothing. What can neither be
        linked nor copied (a link, a file of another owner) is moved. Nothing there: nothing to do. Raises OSError.
        """
        folder, directory, free = self._place(batch, path)
        try:
            if not (self._hard_links and linked(source, name, folder, free)) and not _copied(
                source, name, folder, free
            ):
                os.rename(name, free, src_dir_fd=source, dst_dir_fd=folder)
            self.handles.touch(directory)
        except FileNotFoundError:
            if is_there(name, source):
                raise  # it is the trash that vanished: the old version has no other place

    def move_in(self, source: int, name: str, path: RelPath, batch: str) -> None:
        """Move the file `name` in folder `source` into the trash. Raises OSError."""
        folder, directory, free = self._place(batch, path)
        os.rename(name, free, src_dir_fd=source, dst_dir_fd=folder)
        self.handles.touch(directory)

    def _place(self, batch: str, path: RelPath) -> tuple[int, str, str]:
        """Return a free place: folder, its path, name. The same path twice in one batch goes to a sub-batch."""
        _check_batch(batch)
        above, name = paths.split(path)
        for number in range(1, _MAX_SUB_BATCHES):
            top = batch if number == 1 else f"{batch}.{number}"
            directory = f"{top}/{above}" if above else top
            try:
                folder = self.handles.make(directory)
            except OSError as error:
                if error.errno not in _NO_FOLDER:
                    raise
                continue  # a file (or a link, never followed) lies in the trash where a folder is needed
            if not is_there(name, folder):
                return folder, directory, name
        raise PathCollision(f"{path} is in the trash batch {batch} too often", hint="syncd trash purge")

    def restore(self, trashed: Trashed, to: str) -> str:
        """Copy one trashed file to `to`/its path (outside .syncd), never over an existing file; return where it is."""
        above, name = paths.split(trashed.path)
        target = os.path.join(to, trashed.path)
        with folder_below(self._folder, f"{trashed.batch}/{above}".rstrip("/"), "restore") as source:
            if source is None or not is_there(name, source):
                raise PathCollision(
                    f"{trashed.path} is not in the trash batch {trashed.batch}", hint="syncd trash list"
                )
            with translated("restore", target), self._folder_for(to, above) as folder:
                _restore(source, name, folder)
        return target

    @contextmanager
    def _folder_for(self, to: str, above: RelPath) -> Iterator[int]:
        """Open (and make) a folder outside of `.syncd`; below `to` no link is followed. Raises OSError, PathUnsafe."""
        base = os.path.realpath(to)
        self._refuse_state(base)
        os.makedirs(base, exist_ok=True)
        folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in above.split("/") if above else ():
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=folder)
                below = os.open(name, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
                self._refuse_same(os.fstat(folder), to)
            yield folder
        finally:
            os.close(folder)

    def _refuse_state(self, base: str) -> None:
        while True:
            with suppress(FileNotFoundError, NotADirectoryError):
                self._refuse_same(os.stat(base), base)
            above = os.path.dirname(base)
            if above == base:
                return
            base = above

    def _refuse_same(self, status: os.stat_result, shown: str) -> None:
        if os.path.samestat(status, os.fstat(self._state)):
            raise PathUnsafe(f"{shown} is syncd's own folder", hint="restore to a folder outside of .syncd")

    def purge(self, batch: str) -> int:
        """Remove one batch; return the bytes freed. It leaves the trash at once; what a crash leaves is swept."""
        _check_batch(batch)
        aside = self._staging.reserve("purge-")
        try:
            with translated("purge", batch), self._staging.folder_named(aside) as folder:
                try:
                    os.rename(batch, "batch", src_dir_fd=self._folder, dst_dir_fd=folder)
                except FileNotFoundError:
                    return 0
                return demolish(folder, "batch")
        finally:
            self._staging.let_go(aside)


def list_trash(trash: int) -> Iterator[Trashed]:
    """List an open trash folder, oldest batch first. Any thread."""
    with translated("list the trash"):
        batches = sorted(os.listdir(trash))
    for batch in batches:
        yield from _files_of(trash, batch)


def _files_of(trash: int, batch: str) -> Iterator[Trashed]:
    stamp = _stamp_ns(batch)
    pending = [RelPath(batch)]
    with _Descent(trash) as descent:
        while pending:
            directory = pending.pop()
            with translated("list the trash"):
                found = descent.entries(directory)
            for path, status in found:
                if not stat.S_ISDIR(status.st_mode):
                    below = RelPath(path[len(batch) + 1 :])
                    yield Trashed(batch, below, status.st_size, stamp or status.st_ctime_ns)
            pending += [path for path, status in reversed(found) if stat.S_ISDIR(status.st_mode)]


class _Descent:
    """Reads folders below a root; one below the last is entered from there, so that a deep tree costs no more."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._last = ""
        self._open = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._enter(-1, "")

    def _enter(self, descriptor: int, directory: str) -> None:
        if self._open >= 0:
            os.close(self._open)
        self._open, self._last = descriptor, directory

    def entries(self, directory: RelPath) -> list[tuple[RelPath, os.stat_result]]:
        """Return paths and lstats, sorted; nothing of what is no folder (a foreign file or link). Raises OSError."""
        near = self._open >= 0 and directory.startswith(self._last + "/")
        try:
            start, rest = (self._open, directory[len(self._last) + 1 :]) if near else (self._root, directory)
            opened = open_below(start, rest)
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            return []
        if opened is None:
            return []
        self._enter(opened, directory)
        found = []
        for name in sorted(os.listdir(opened)):
            with suppress(FileNotFoundError):  # purged by another thread just now
                found.append((paths.join(directory, name), os.stat(name, dir_fd=opened, follow_symlinks=False)))
        return found


def _check_batch(batch: str) -> None:
    if paths.refuse_name(batch) is not None:
        raise PathUnsafe(f"{paths.printable(batch)} is not a trash batch", hint="syncd trash list")


def _stamp_ns(batch: str) -> int:
    """Return the time that a batch's name begins with, 0 when it does not."""
    try:
        stamp = datetime.strptime(batch[:_STAMP_LENGTH], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(stamp.timestamp()) * 10**9


def linked(source: int, name: str, folder: int, free: str) -> bool:
    """Give a file or link a second name at `free`; False where the system will not."""
    try:
        os.link(name, free, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        # EPERM: another owner's file (protected_hardlinks, proc(5)); EMLINK: too many leases pin it
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def _copied(source: int, name: str, folder: int, free: str) -> bool:
    """Put a durable copy of a regular file at `free`; False when it is none, or may not be read."""
    try:
        original = os.open(name, READ, dir_fd=source)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO):
            return False
        raise
    try:
        status = os.fstat(original)
        if not stat.S_ISREG(status.st_mode):
            return False
        copy = os.open(free, CREATE, FILE_MODE, dir_fd=folder)
        try:
            try:
                fill(original, copy)
                os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
                sync_descriptor(copy)
            finally:
                os.close(copy)
        except OSError:
            os.unlink(free, dir_fd=folder)
            raise
    finally:
        os.close(original)
    return True


def fill(original: int, copy: int) -> None:
    """Share the blocks where the file system can, else copy the bytes."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.ioctl(copy, _FICLONE, original)
            return
    while chunk := os.read(original, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(copy, view) :]


def _restore(source: int, name: str, folder: int) -> None:
    """Copy into `folder` under `name`, whole or not at all, never over what is there. Raises OSError."""
    temporary = f".syncd-restore-{os.urandom(8).hex()}"
    if not _copied(source, name, folder, temporary):
        raise PathUnsafe(f"{name} in the trash is no regular file that can be read", hint="look at it in .syncd/trash")
    try:
        try:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if is_there(name, folder):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
    sync_descriptor(folder)
