"""What the operating system says of the target's disk -> our errors: the one table of the mirror."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.core.errors import (
    DiskFull,
    LocalIOError,
    PathCollision,
    PathUnsafe,
    SyncdError,
    TargetMissing,
    TargetUnusable,
)
from syncd.core.paths import printable
from syncd.core.reasons import Reason, hint_for

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP})
_IN_THE_WAY = frozenset({errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY})


def translate(error: OSError, doing: str, path: str = "") -> SyncdError:
    """Return our error for an OSError. doing: what was tried ("write"); path: of what, as an operator knows it."""
    code = error.errno
    shown = printable(path)
    message = f"cannot {doing} {shown}: {error.strerror or error}" if path else f"cannot {doing}: {error}"
    if code in _FULL:
        return DiskFull(message, hint=hint_for(Reason.DISK_FULL))
    if code == errno.EROFS:
        return TargetUnusable(message, hint="the target's file system is read-only: mount it writable")
    if code == errno.ESTALE:
        return TargetMissing(f"{message} (the target's disk went away)", hint=hint_for(Reason.TARGET_MISSING))
    if code in _NO_FOLDER:
        return PathUnsafe(
            f"{message} (a link or a file lies in the place of a folder)", hint=hint_for(Reason.PATH_UNSAFE)
        )
    if code in _IN_THE_WAY:
        return PathCollision(message, hint=hint_for(Reason.PATH_COLLISION))
    return LocalIOError(message, hint=hint_for(Reason.LOCAL_IO))


@contextmanager
def translated(doing: str, path: str = "") -> Iterator[None]:
    """Raise translate()'s error for an OSError from the block. Hot paths call translate() themselves."""
    try:
        yield
    except OSError as error:
        raise translate(error, doing, path) from error
