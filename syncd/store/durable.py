"""Making bytes and names durable: fsync, F_FULLFSYNC, or one syncfs for a whole group.

Sources: fsync(2), syncfs(2) (write-back errors are reported per open file description since Linux 5.8, errors of the
journal since 5.17), fcntl(2) of macOS (fsync does not reach the disk there, F_FULLFSYNC does).
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

MANY = 8
"""From this many descriptors on, one syncfs is cheaper than an fsync of each."""

_THREADS = 8
_SYNCFS_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"})
"""Where syncfs is known to wait for the disk and to report errors (it does neither on FUSE and overlayfs)."""

_SLOW_S = 2.0
_EACH_FOR_S = 120.0
_NOT_KNOWN_HERE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOTTY})


def sync_descriptor(descriptor: int) -> None:
    """Make one file or folder durable. Raises OSError."""
    if sys.platform == "darwin":
        _full_fsync(descriptor)
    else:
        os.fsync(descriptor)


def _full_fsync(descriptor: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(descriptor, getattr(fcntl, "F_FULLFSYNC", 51))
    except OSError as error:
        if error.errno not in _NOT_KNOWN_HERE:
            raise
        os.fsync(descriptor)  # a file system without F_FULLFSYNC (SMB, FAT): fsync is all there is


class Syncer:
    """Makes groups of files and folders of one file system durable.

    anchor: a descriptor on that file system which stays open, and was opened before the first write: syncfs reports
    through it what went wrong since.
    """

    def __init__(self, anchor: int, file_system: str) -> None:
        self._anchor = anchor
        release = _kernel_release()
        known = file_system in _SYNCFS_SYSTEMS
        self._files_by_syncfs = known and release >= (5, 8)
        self._folders_by_syncfs = known and release >= (5, 17)
        self._each_until = 0.0
        self._syncfs: Callable[[int], int] | None = None

    @property
    def needs_descriptors(self) -> bool:
        """True where a file must stay open until it is synced, so that the error of its own write-back is seen."""
        return not self._files_by_syncfs or time.monotonic() < self._each_until

    def files(self, descriptors: Sequence[int], closed: bool) -> None:
        """Make files durable. closed: there are more, whose descriptors were closed: only syncfs reaches those.

        Raises OSError; then none of them may be trusted, and none may be synced again.
        """
        if closed or (len(descriptors) >= MANY and not self.needs_descriptors):
            if self._whole():
                return
            if closed:
                raise OSError(errno.EIO, "syncfs is refused here, and the files are closed already")
        _fsync_each(descriptors)

    def folders(self, descriptors: Sequence[int], closed: bool) -> None:
        """Make folders durable, in this order. closed: there were more. Raises OSError."""
        if closed or (self._folders_by_syncfs and len(descriptors) >= MANY and time.monotonic() >= self._each_until):
            if self._whole():
                return
            if closed:
                raise OSError(errno.EIO, "syncfs is refused here, and the folders are closed already")
        # the first one commits the journal, the others find nothing left to do
        for descriptor in descriptors[:-1]:
            os.fsync(descriptor)
        if descriptors:
            sync_descriptor(descriptors[-1])

    @property
    def may_close_folders(self) -> bool:
        """True where a folder may be closed before it is synced (syncfs reaches it)."""
        return self._folders_by_syncfs

    def _whole(self) -> bool:
        """Sync the whole file system; False where that does not exist (from then on each file is synced)."""
        started = time.monotonic()
        if self._syncfs is None:
            self._syncfs = _load_syncfs()
        code = self._syncfs(self._anchor)
        now = time.monotonic()
        if code in _NOT_KNOWN_HERE:
            self._files_by_syncfs = self._folders_by_syncfs = False
            return False
        if code or now - started > _SLOW_S:
            # somebody else's dirty pages are slow or cannot be written: for a while look at our own files only
            self._each_until = now + _EACH_FOR_S
        if code:
            raise OSError(code, os.strerror(code))
        return True


def _fsync_each(descriptors: Sequence[int]) -> None:
    """Sync files from a few threads (the disk merges them), the last one down to the platters."""
    pending = list(descriptors[:-1])
    failed: list[OSError] = []

    def work() -> None:
        while not failed:
            try:
                descriptor = pending.pop()
            except IndexError:
                return
            try:
                os.fsync(descriptor)
            except OSError as error:
                failed.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_THREADS, len(pending) // 4))]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    if descriptors:
        # F_FULLFSYNC flushes the drive's cache, and with it everything that fsync handed to the drive before
        sync_descriptor(descriptors[-1])


def _kernel_release() -> tuple[int, int]:
    """Return (major, minor) of a Linux kernel, (0, 0) elsewhere."""
    if sys.platform != "linux":
        return 0, 0
    major, minor, *_ = (*os.uname().release.split("."), "0", "0")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _load_syncfs() -> Callable[[int], int]:
    """Return a function that calls syncfs(descriptor) and returns 0 or the errno."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "syncfs", None)

    def syncfs(descriptor: int) -> int:
        if function is None:
            return errno.ENOSYS
        while function(ctypes.c_int(descriptor)):
            code = ctypes.get_errno()
            if code != errno.EINTR:
                return code or errno.EIO
        return 0

    return syncfs
