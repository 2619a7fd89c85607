"""The temporary folder of an engine's process: emptied by its worker, and swept by the next one if that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from typing import BinaryIO

PREFIX = "worker-glue-ocr-"
_LOCK = "lock"
_GRACE_S = 3600.0


class WorkFolder:
    """A folder of its own, locked as long as this process lives. Raises OSError."""

    def __init__(self) -> None:
        sweep()
        self.path = tempfile.mkdtemp(prefix=PREFIX)
        self.inside = os.path.join(self.path, "tmp")
        # locked before it has its name: a sweep never meets the lock of a living worker unlocked
        nameless = os.path.join(self.path, "new")
        self._lock: BinaryIO = open(nameless, "wb")  # noqa: SIM115 (held until close)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(nameless, os.path.join(self.path, _LOCK))
        os.mkdir(self.inside, 0o700)

    @property
    def is_there(self) -> bool:
        """Whether nobody has removed it: machines clear their temporary folders of what is some days old."""
        return os.path.isdir(self.inside)

    def empty(self) -> None:
        """Remove what the engine left."""
        shutil.rmtree(self.inside, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.mkdir(self.inside, 0o700)

    def close(self) -> None:
        """Remove it; safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep() -> None:
    """Remove this user's folders whose worker is gone."""
    parent = tempfile.gettempdir()
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False) and _abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    found = entry.stat(follow_symlinks=False)
    if found.st_uid != os.getuid():
        return False
    try:
        with open(os.path.join(entry.path, _LOCK), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return time.time() - found.st_mtime > _GRACE_S  # killed before it had a lock, or just being made
    except OSError:
        return False
    return True
