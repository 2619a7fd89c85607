"""One regular file below a folder, opened component by component: no link is followed, and nothing outside is reached.

Source: openat(2) (O_NOFOLLOW, O_DIRECTORY: a link or a file in the place of a folder is ELOOP or ENOTDIR).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from syncd.core.reasons import Reason

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REASONS = {
    errno.ENOENT: Reason.LOST,
    errno.ELOOP: Reason.PATH_UNSAFE,
    errno.ENOTDIR: Reason.PATH_UNSAFE,
}


class Opened(NamedTuple):
    """An open file: who has it closes the descriptor."""

    descriptor: int
    status: os.stat_result


def open_below(root: str | Path, path: str) -> Opened:
    """Open a regular file for reading. root: may be a link itself. path: relative, "/"-separated.

    Raises: OSError (reason_of() says what it means).
    """
    names = path.split("/")
    if not all(name not in ("", ".", "..") and "\0" not in name for name in names):
        raise OSError(errno.ELOOP, "no path below a folder", path)
    folder = os.open(root, _ROOT)
    try:
        for name in names[:-1]:
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return _regular(os.open(names[-1], _FILE, dir_fd=folder), path)
    finally:
        os.close(folder)


def _regular(descriptor: int, path: str) -> Opened:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", path)
    return Opened(descriptor, status)


def reason_of(error: OSError) -> Reason:
    """Say why a held file could not be opened."""
    return _REASONS.get(error.errno or 0, Reason.LOCAL_IO)


def signature_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what changes when a file's bytes do."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
