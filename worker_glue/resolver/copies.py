"""Private copies of verified files, for who needs a path while there is no daemon to give a lease (RULES, leases).

They lie in one folder a process, mode 0700, in $TMPDIR. The folder is locked for as long as the process lives, so that
what a killed one left is told from what is in use, and removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from syncd.client.verified import Verified
from syncd.core.reasons import Reason, hint_for
from syncd.core.resolution import UNAVAILABLE_S, UNVERIFIED_S, Resolution, State
from worker_glue.resolver.holds import CopyHold

PREFIX = "worker-glue-"
SPARE_BYTES = 64 << 20
"""What a copy leaves free."""
_PIECE = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Copies:
    """Makes copies for one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._descriptor = -1

    def of(self, verified: Verified) -> CopyHold | Resolution:
        """Copy an open file, hashing it on the way, and close its descriptor.

        FETCHING when the bytes are not (any more) those of the resolution, UNAVAILABLE when there is no place for them.
        """
        descriptor, found = verified
        place: Path | None = None
        try:
            place = Path(tempfile.mkdtemp(dir=self._opened()))
            if _room(place) < (found.size or 0) + SPARE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            name = found.path.rpartition("/")[2]
            if _copy(descriptor, place / name) == (found.sha256, found.size):
                return CopyHold(found, place, name)
        except OSError as error:
            _remove(place)
            return _no_place(found, error)
        except BaseException:
            _remove(place)
            raise
        finally:
            os.close(descriptor)
        _remove(place)
        return _instead(found, State.FETCHING, Reason.LOCAL_CHANGED, UNVERIFIED_S)

    def close(self) -> None:
        """Remove what is left of them; safe to repeat."""
        with self._lock:
            folder, self._folder = self._folder, None
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(self._descriptor)

    def _opened(self) -> Path:
        with self._lock:
            if self._folder is None or not self._folder.is_dir():
                if self._folder is not None:
                    os.close(self._descriptor)
                    self._folder = None
                _sweep(Path(tempfile.gettempdir()))
                self._folder, self._descriptor = _make()
            return self._folder


def _make() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(BlockingIOError):  # else another's sweep has just taken it for left over
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.is_dir():
                return folder, descriptor
        os.close(descriptor)


def _sweep(where: Path) -> None:
    """Remove the folders of our own user whose process is gone: nobody locks them."""
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _copy(descriptor: int, to: Path) -> tuple[str, int]:
    """Write a file's bytes to a new file that nobody writes any more; return their SHA-256 and number."""
    digest, offset = hashlib.sha256(), 0
    made = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with open(made, "wb") as file:
        while piece := os.pread(descriptor, _PIECE, offset):
            digest.update(piece)
            file.write(piece)
            offset += len(piece)
            time.sleep(0)  # under gevent the others run meanwhile
    return digest.hexdigest(), offset


def _room(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def _remove(place: Path | None) -> None:
    if place is not None:
        shutil.rmtree(place, ignore_errors=True)


def _no_place(found: Resolution, error: OSError) -> Resolution:
    where = tempfile.gettempdir()
    if error.errno in _FULL:
        hint = f"free some space in {where} (TMPDIR), or start the daemon: its leases take none"
        return _instead(found, State.UNAVAILABLE, Reason.DISK_FULL, UNAVAILABLE_S, hint)
    hint = f"a private copy cannot be made in {where} (TMPDIR): {error.strerror or error}"
    return _instead(found, State.UNAVAILABLE, Reason.LOCAL_IO, UNAVAILABLE_S, hint)


def _instead(found: Resolution, state: State, reason: Reason, retry_after_s: float, hint: str = "") -> Resolution:
    return Resolution(
        state,
        found.mirror,
        found.path,
        found.server_path,
        reason=reason,
        hint=hint or hint_for(reason, found.server_path),
        retry_after_s=retry_after_s,
        listed_at=found.listed_at,
    )
