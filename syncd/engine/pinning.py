"""Pins: what keeps a version of a file on disk while it is leased; which there are, who uses them, what is left over.

One pin a version, shared by all its leases. Pins are made before anybody is told of them and removed after nobody is.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from syncd.core.errors import SyncdError
from syncd.core.lease import KeptLease, WouldWait
from syncd.core.model import LocalStat, Record, RelPath
from syncd.core.paths import STATE_FOLDER, split

FOLDER = f"{STATE_FOLDER}/pins"
SWEEP_AGAIN_S = 60.0

_WAIT_FOR_PIN_S = 5.0
_STRIPES = 16


class PinningMirror(Protocol):
    """What is asked of one mirror's folder. Any thread. Raises LocalIOError, PathUnsafe, TargetMissing."""

    def pin(
        self, path: RelPath, expected: LocalStat, sha256: str, name: str, floor: Callable[[int], int]
    ) -> LocalStat | None:
        """Pin a file under `name` if its stat is `expected`; return the pin's stat, None when it is not.

        Raises: DiskFull (a copy would cross the floor), DigestMismatch.
        """

    def pin_stat(self, name: str, path: RelPath) -> LocalStat | None:
        """Return the stat of a pin's file; None when the pin is gone."""

    def pin_names(self) -> list[str]:
        """Return the names of all pins."""

    def unpin(self, name: str) -> None:
        """Remove one pin; safe to repeat."""


class HoldingFacts(Protocol):
    """What is asked of one mirror's catalogue. Raises CatalogueError."""

    @property
    def target(self) -> str:
        """The mirror's folder, absolute; "" before the first run."""

    def record(self, path: RelPath) -> Record | None:
        """Return one record."""


def _no_floor(total_bytes: int) -> int:
    return 0 * total_bytes


def _no_copy(total_bytes: int) -> int:
    raise WouldWait(f"a copy, on a disk of {total_bytes} bytes")


class LeasedMirror(NamedTuple):
    """One mirror, as leases see it.

    use: gives the open folder for the length of a block; raises TargetMissing and the like. writing: held by whoever
    changes final names or commits. floor: bytes that a copy leaves free, from the disk's size.
    """

    name: str
    use: Callable[[], AbstractContextManager[PinningMirror]]
    writing: threading.RLock
    facts: HoldingFacts
    floor: Callable[[int], int] = _no_floor


class Version(NamedTuple):
    """What one pin pins."""

    mirror: str
    path: RelPath
    sha256: str


@dataclass(slots=True, eq=False)
class Pin:
    """One pinned version. name: its folder. local: its file's stat. users: leases, also those about to be given out."""

    name: str
    version: Version
    local: LocalStat
    users: int = 0

    @property
    def rel(self) -> str:
        """Where its file is, below the mirror's folder."""
        return f"{FOLDER}/{self.name}/{split(self.version.path)[1]}"

    def stat(self, mirror: LeasedMirror) -> LocalStat | None:
        """Look at its file; None when it is gone. Raises TargetMissing and the like, LocalIOError."""
        with mirror.use() as opened:
            return opened.pin_stat(self.name, self.version.path)


class Pins:
    """All pins of one daemon. Thread-safe. mirrors: those that are kept at the moment, by name."""

    def __init__(
        self, mirrors: Callable[[], Mapping[str, LeasedMirror]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._mirrors = mirrors
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._pins: dict[str, Pin] = {}
        self._shared: dict[Version, Pin] = {}
        self._making: set[str] = set()
        self._unswept: dict[str, float] = {}

    def adopt(self, lease: KeptLease) -> Pin:
        """Return the pin of a journalled lease, with one user more."""
        version = Version(lease.mirror, lease.path, lease.sha256)
        with self._lock:
            pin = self._pins.setdefault(lease.pin, Pin(lease.pin, version, lease.local))
            pin.users += 1
            self._shared[version] = pin
        return pin

    def take(self, mirror: LeasedMirror, path: RelPath, record: Record, *, wait: bool = True) -> Pin | None:
        """Return a pin of a held version, with one user more; None when the file is not what its record says.

        wait: for others, and for a copy where it takes one; else WouldWait is raised instead.
        Raises: TargetMissing and the like; DiskFull, DigestMismatch (where it takes a copy); PathUnsafe, LocalIOError.
        """
        version = Version(mirror.name, path, record.sha256)
        floor = mirror.floor if wait else _no_copy
        with self._alone(version, wait), mirror.use() as opened:
            return self._share(opened, version) or self._make(opened, version, record, floor)

    @contextmanager
    def _alone(self, version: Version, wait: bool) -> Iterator[None]:
        """Have one version pinned by one thread; who has waited for long makes a pin of its own."""
        stripe = self._stripes[hash(version) % _STRIPES]
        got = stripe.acquire(timeout=_WAIT_FOR_PIN_S if wait else 0)
        if not (got or wait):
            raise WouldWait("another takes a lease on the same file")
        try:
            yield
        finally:
            if got:
                stripe.release()

    def _share(self, opened: PinningMirror, version: Version) -> Pin | None:
        """Return the pin that there is, unless somebody changed or removed it: then nobody new gets it."""
        with self._lock:
            pin = self._shared.get(version)
            if pin is None:
                return None
            pin.users += 1
        intact = False
        try:
            intact = opened.pin_stat(pin.name, version.path) == pin.local
        finally:
            if not intact:
                self._share_no_more(pin)
        return pin if intact else None

    def _share_no_more(self, pin: Pin) -> None:
        with self._lock:
            if self._shared.get(pin.version) is pin:
                del self._shared[pin.version]
        self.let_go([pin])

    def _make(self, opened: PinningMirror, version: Version, record: Record, floor: Callable[[int], int]) -> Pin | None:
        name = secrets.token_hex(8)
        with self._lock:
            self._making.add(name)
        try:
            local = opened.pin(version.path, record.local, record.sha256, name, floor)
            if local is None:
                return None
            with self._lock:
                pin = self._pins[name] = self._shared[version] = Pin(name, version, local, 1)
            return pin
        finally:
            with self._lock:
                self._making.discard(name)

    def let_go(self, pins: Sequence[Pin]) -> None:
        """Take one user from each; what nobody uses any more is removed. What cannot be is swept later."""
        unused = []
        with self._lock:
            for pin in pins:
                pin.users -= 1
                if not pin.users:
                    del self._pins[pin.name]
                    if self._shared.get(pin.version) is pin:
                        del self._shared[pin.version]
                    unused.append(pin)
        for pin in unused:
            self._remove(pin)

    def _remove(self, pin: Pin) -> None:
        name = pin.version.mirror
        mirror = self._mirrors().get(name)
        if mirror is None:
            return  # swept when it is kept again
        try:
            with mirror.use() as opened:
                opened.unpin(pin.name)
        except SyncdError:
            self._sweep_later(name)

    # -- what is left over

    def sweep(self, names: Sequence[str]) -> list[Pin]:
        """Remove what no lease knows from these mirrors; return the pins that are gone though somebody uses them.

        A mirror that cannot be looked at is due again in a minute.
        """
        mirrors = self._mirrors()
        lost: list[Pin] = []
        for name in names:
            with self._lock:
                self._unswept.pop(name, None)
            try:
                # a target that no run has made yet is not opened: that would make it
                if name in mirrors and mirrors[name].facts.target:
                    lost += self._sweep_one(mirrors[name])
            except SyncdError:
                self._sweep_later(name)
        return lost

    def due(self) -> list[str]:
        """Return which mirrors have to be swept again by now."""
        with self._lock:
            return [name for name, at in self._unswept.items() if at <= self._monotonic()]

    def _sweep_one(self, mirror: LeasedMirror) -> list[Pin]:
        with mirror.use() as opened:
            found = opened.pin_names()
            with self._lock:  # after the look at the disk: what was being made by then is known
                known = self._making | self._pins.keys()
                used = [pin for pin in self._pins.values() if pin.version.mirror == mirror.name]
            for name in found:
                if name not in known:
                    opened.unpin(name)
            return [pin for pin in used if opened.pin_stat(pin.name, pin.version.path) is None]

    def _sweep_later(self, name: str) -> None:
        with self._lock:
            self._unswept[name] = self._monotonic() + SWEEP_AGAIN_S
