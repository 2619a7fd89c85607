"""A version of a file that stays as it is while it is held: a daemon's lease, or a private copy (ports.Hold)."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from syncd.client.below import open_below
from syncd.core.errors import SyncdError
from syncd.core.lease import Lease
from syncd.core.resolution import Resolution
from worker_glue.ports import Hold
from worker_glue.resolver.mounts import Seen, Signature

__all__ = ["CopyHold", "DaemonHold", "Hold", "renewed"]


class DaemonHold:
    """A lease of the daemon, as this process sees its pinned file.

    renew: asks the daemon; None = lost. release: whether it was intact, None = lost. Both may raise SyncdError, which
    says nothing about the lease: the daemon may be starting anew, and leases survive that.
    """

    def __init__(
        self, lease: Lease, seen: Seen, renew: Callable[[], Lease | None], release: Callable[[], bool | None]
    ) -> None:
        self._lease = lease
        self._seen = seen
        self._renew = renew
        self._release = release
        self._lock = threading.Lock()
        self._lost = False
        self._intact: bool | None = None

    @property
    def local_path(self) -> str:
        return self._seen.path

    @property
    def place(self) -> tuple[str, str]:
        """The mirror's folder as this process sees it, and the pinned file below it."""
        return self._seen.root, self._seen.rel

    @property
    def server_path(self) -> str:
        return self._lease.server_path

    @property
    def sha256(self) -> str:
        return self._lease.sha256

    @property
    def generation(self) -> int:
        return self._lease.generation

    @property
    def size(self) -> int:
        return self._lease.size

    def renew(self) -> bool:
        """Have the lease last its whole time from now; False when it is lost or was released."""
        if self._lost or self._intact is not None:
            return False
        with contextlib.suppress(SyncdError):  # unreachable is not lost
            self._lost = self._renew() is None
        if not self._lost:
            self._lost = _signature(self._seen) is None
        return not self._lost

    def release(self) -> bool:
        """End the lease; whether the bytes were as they should be to the end."""
        with self._lock:
            if self._intact is None:
                unchanged = _signature(self._seen) == self._seen.signature
                told: bool | None = unchanged
                with contextlib.suppress(SyncdError):  # it ends by itself, and the file has been looked at
                    told = self._release()
                self._intact = bool(told) and unchanged and not self._lost
            return self._intact


class CopyHold:
    """A private copy whose bytes were hashed on the way; only this process knows of it."""

    def __init__(self, of: Resolution, folder: Path, name: str) -> None:
        self._of = of
        self._folder = folder
        status = os.lstat(folder / name)
        self._seen = Seen(str(folder), name, (status.st_size, status.st_mtime_ns))
        self._lock = threading.Lock()
        self._intact: bool | None = None

    @property
    def local_path(self) -> str:
        return self._seen.path

    @property
    def server_path(self) -> str:
        return self._of.server_path

    @property
    def sha256(self) -> str:
        return self._of.sha256 or ""

    @property
    def generation(self) -> int:
        return self._of.generation or 0

    @property
    def size(self) -> int:
        return self._of.size or 0

    def renew(self) -> bool:
        """Nothing ends it but release(); False when somebody removed it."""
        return self._intact is None and _signature(self._seen) is not None

    def release(self) -> bool:
        """Remove the copy; whether it was as it should be to the end."""
        with self._lock:
            if self._intact is None:
                self._intact = _signature(self._seen) == self._seen.signature
                shutil.rmtree(self._folder, ignore_errors=True)
            return self._intact


def _signature(seen: Seen) -> Signature | None:
    """Return the signature of what lies there now; None when nothing does that could be read."""
    try:
        descriptor, status = open_below(seen.root, seen.rel)
    except OSError:
        return None
    os.close(descriptor)
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def renewed(hold: Hold, every_s: float) -> Iterator[None]:
    """Renew a hold for the length of the block, from a thread; one that is lost shows when it is released."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(every_s):
            if not hold.renew():
                return

    thread = threading.Thread(target=renew, name="worker-glue-renew", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
