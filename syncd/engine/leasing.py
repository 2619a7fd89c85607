"""Leases: a worker's claim on one version of a file, which stays under its pin while the lease lasts (RULES section 4).

Order: the pin is made, then the lease is journalled, then it is given out; at its end it is first struck from the
journal, then its pin goes. Killed anywhere, what is left is no pin, a pin that the journal knows, or one that is swept.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from syncd.core.errors import CatalogueError, DiskFull, LeaseRefused, Scope, SyncdError
from syncd.core.lease import KeptLease, Lease, WouldWait
from syncd.core.model import RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.core.resolution import UNAVAILABLE_S, UNVERIFIED_S, Resolution, State
from syncd.core.wire import server_path
from syncd.engine.pinning import LeasedMirror, Pin, Pins

__all__ = ["LeaseStore", "LeasedMirror", "Leases"]

TTL_MIN_S = 1.0
TTL_MAX_S = 3600.0
MAX_LEASES = 1_000
MAX_OF_ONE_PATH = 200
LOOKS = 3

_IN_FLUX = frozenset({Reason.LOCAL_CHANGED, Reason.LOST})
_WAIT_FOR_COMMIT_S = 1.0


class LeaseStore(Protocol):
    """The journal. Thread-safe; what it was told outlives this process when it returns (the machine it need not
    outlive: no lease does). Raises CatalogueError, DiskFull.
    """

    @property
    def is_busy(self) -> bool:
        """Whether somebody writes just now, so that a call would have to wait."""

    def load(self) -> list[KeptLease]:
        """Return all leases that are journalled."""

    def add(self, lease: KeptLease) -> None:
        """Journal a lease."""

    def change(self, lease_id: str, ttl_s: float, expires_at_ms: int) -> None:
        """Journal another time for a lease."""

    def remove(self, lease_ids: Sequence[str]) -> None:
        """Journal that leases have ended."""


@dataclass(slots=True, eq=False)
class _Held:
    """One lease that is out. deadline: monotonic."""

    lease_id: str
    pin: Pin
    generation: int
    ttl_s: float
    deadline: float

    @property
    def place(self) -> tuple[str, RelPath]:
        return self.pin.version.mirror, self.pin.version.path


class Leases:
    """All leases of one daemon. Thread-safe.

    mirrors: those that are kept at the moment, by name. resolve: as Resolver.resolve. boot: which start of the machine
    this is ("" = cannot be told: then leases of an earlier daemon have ended). Time is counted by `monotonic`, so that
    no jump of the clock ends a lease.
    """

    def __init__(
        self,
        store: LeaseStore,
        mirrors: Callable[[], Mapping[str, LeasedMirror]],
        resolve: Callable[[str], Resolution],
        now_ms: Callable[[], int],
        boot: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over the journalled leases; each has its whole time again. Raises CatalogueError, DiskFull."""
        self._store = store
        self._mirrors = mirrors
        self._resolve = resolve
        self._now_ms = now_ms
        self._boot = boot
        self._monotonic = monotonic
        self._pins = Pins(mirrors, monotonic)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._of_path: Counter[tuple[str, RelPath]] = Counter()  # out, or about to be given out
        self._coming = 0
        self._take_over(store.load())

    def _take_over(self, kept: Sequence[KeptLease]) -> None:
        ended = [lease.lease_id for lease in kept if not self._boot or lease.boot != self._boot]
        if ended:
            with suppress(DiskFull):  # they have ended all the same; the next start strikes them
                self._store.remove(ended)
        for lease in kept:
            if self._boot and lease.boot == self._boot:
                deadline = self._monotonic() + lease.ttl_s
                pin = self._pins.adopt(lease)
                self._put(_Held(lease.lease_id, pin, lease.generation, lease.ttl_s, deadline))

    # -- for workers

    def lease(self, path: str, ttl_s: float, *, wait: bool = True) -> Lease | Resolution:
        """Pin the version that is held now, for 1 s to 1 h (a time beyond is cut to that; `expires_at` tells).

        The resolution where the path is not READY, or not as verified by the time it was pinned. wait: for whoever
        commits, and for a copy where there are no hard links; else WouldWait is raised instead, and nothing is left.
        Raises: LeaseRefused (too many), DiskFull (a copy, where there are no hard links), CatalogueError.
        """
        self._come_back_at_once(wait)
        ttl_s = _clamped(ttl_s)
        found = self._resolve(path)
        for _ in range(LOOKS):
            if found.state is State.READY:
                lease = self._lease_found(found, ttl_s, wait)
                if lease is not None:
                    return lease
            elif found.reason not in _IN_FLUX:
                return found
            if not wait:
                raise WouldWait("the file is being replaced")
            self._wait_for_commit(found.mirror)
            found = self._resolve(path)
        return _not_now(found, State.FETCHING, Reason.LOCAL_CHANGED) if found.state is State.READY else found

    def renew(self, lease_id: str, ttl_s: float) -> Lease | None:
        """Have a lease end ttl_s (1 s to 1 h) from now; None when there is none (any more), or its pin is gone.

        Raises: TargetMissing and the like, LeaseRefused: the pin cannot be looked at, but it is not lost, and the time
                of the lease has begun again; CatalogueError, DiskFull.
        """
        ttl_s = _clamped(ttl_s)
        with self._lock:
            held = self._held.get(lease_id)
            if held is None:
                return None
            changed = held.ttl_s != ttl_s
            held.ttl_s, held.deadline = ttl_s, self._monotonic() + ttl_s
        name = held.pin.version.mirror
        mirror = self._mirrors().get(name)
        if mirror is None:
            raise LeaseRefused(f"the mirror {name} is not kept just now", reason=Reason.STOPPED)
        if held.pin.stat(mirror) is None:
            self._end([held])
            return None
        if changed:
            self._store.change(lease_id, ttl_s, self._now_ms() + int(ttl_s * 1000))
        return self._told(held, mirror) if lease_id in self._held else None

    def release(self, lease_id: str, *, wait: bool = True) -> bool | None:
        """End a lease; whether the pinned file's stat is still what it was, None when there is no such lease.

        False: changed, gone, or on a target that cannot be looked at: what was read from it is not to be relied on.
        wait: for whoever commits; else WouldWait is raised instead.
        Raises: CatalogueError, DiskFull; then the lease is still there.
        """
        self._come_back_at_once(wait)
        with self._lock:
            held = self._held.get(lease_id)
        if held is None:
            return None
        mirror = self._mirrors().get(held.pin.version.mirror)
        try:
            intact = mirror is not None and held.pin.stat(mirror) == held.pin.local
        except SyncdError:
            intact = False
        return intact if self._end([held]) else None

    # -- for the daemon

    def expire(self) -> int:
        """End the leases whose time is over; return how many. Where the journal cannot be written, later."""
        due = self._pins.due()
        if due:
            self._sweep(due)
        now = self._monotonic()
        with self._lock:
            over = [held for held in self._held.values() if held.deadline <= now]
        return self._end_quietly(over, over_at=now)

    def woke(self) -> None:
        """The machine slept: every lease has its whole time again, so that its worker can renew it."""
        with self._lock:
            for held in self._held.values():
                held.deadline = self._monotonic() + held.ttl_s

    def sweep(self) -> None:
        """Remove the pins that no lease knows, and end leases whose pin is gone; targets that are away come later."""
        self._sweep(list(self._mirrors()))

    def counts(self) -> dict[str, int]:
        """Return {"count": leases, "pins": versions that are pinned for them}."""
        with self._lock:
            return {"count": len(self._held), "pins": len({held.pin.name for held in self._held.values()})}

    def _come_back_at_once(self, wait: bool) -> None:
        if not wait and self._store.is_busy:
            raise WouldWait("the catalogue is being written")

    # -- giving out

    def _wait_for_commit(self, name: str) -> None:
        """Let whoever commits finish: between its rename and its record a file is not what its record says."""
        mirror = self._mirrors().get(name)
        if mirror is not None and mirror.writing.acquire(timeout=_WAIT_FOR_COMMIT_S):
            mirror.writing.release()

    def _lease_found(self, found: Resolution, ttl_s: float, wait: bool) -> Lease | Resolution | None:
        """Lease what was resolved; None when it is not (any more) what its record says."""
        mirror = self._mirrors().get(found.mirror)
        path = RelPath(found.path)
        record = mirror.facts.record(path) if mirror is not None else None
        if mirror is None or record is None:
            return None
        with self._coming_to(found.mirror, path):
            try:
                pin = self._pins.take(mirror, path, record, wait=wait)
            except (DiskFull, CatalogueError):
                raise
            except SyncdError as error:
                state = State.FETCHING if error.scope is Scope.FILE else State.UNAVAILABLE
                return _not_now(found, state, error.reason, error.hint)
            return None if pin is None else self._given_out(mirror, pin, record.generation, ttl_s)

    @contextmanager
    def _coming_to(self, mirror: str, path: RelPath) -> Iterator[None]:
        """Count a lease that is about to be given out. Raises LeaseRefused."""
        place = mirror, path
        with self._lock:
            of_path = self._of_path[place]
            if of_path >= MAX_OF_ONE_PATH:
                raise _too_many(f"{server_path(mirror, path)} has {of_path} leases, the most that one file may have")
            count = len(self._held) + self._coming
            if count >= MAX_LEASES:
                raise _too_many(f"there are {count} leases, the most that this daemon keeps")
            self._coming += 1
            self._of_path[place] += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming -= 1
                self._one_less(place)

    def _one_less(self, place: tuple[str, RelPath]) -> None:
        self._of_path[place] -= 1
        if not self._of_path[place]:
            del self._of_path[place]

    def _put(self, held: _Held) -> None:
        """Count a lease among those that are out; under the lock."""
        self._held[held.lease_id] = held
        self._of_path[held.place] += 1

    def _take_out(self, held: _Held) -> bool:
        """Count it no more; False when it was not out. Under the lock."""
        if self._held.pop(held.lease_id, None) is None:
            return False
        self._one_less(held.place)
        return True

    def _given_out(self, mirror: LeasedMirror, pin: Pin, generation: int, ttl_s: float) -> Lease:
        """Journal a lease, then hand it out; its pin is let go of where that fails."""
        version = pin.version
        kept = KeptLease(
            lease_id=secrets.token_hex(16),
            mirror=version.mirror,
            path=version.path,
            pin=pin.name,
            sha256=version.sha256,
            local=pin.local,
            generation=generation,
            ttl_s=ttl_s,
            expires_at_ms=self._now_ms() + int(ttl_s * 1000),
            boot=self._boot,
        )
        try:
            self._store.add(kept)
        except BaseException:
            self._pins.let_go([pin])
            raise
        held = _Held(kept.lease_id, pin, generation, ttl_s, self._monotonic() + ttl_s)
        with self._lock:
            self._put(held)
        return self._told(held, mirror)

    def _told(self, held: _Held, mirror: LeasedMirror) -> Lease:
        version = held.pin.version
        expires_at_ms = self._now_ms() + int((held.deadline - self._monotonic()) * 1000)
        return Lease(
            lease_id=held.lease_id,
            mirror=version.mirror,
            path=version.path,
            server_path=server_path(version.mirror, version.path),
            pinned_path=f"{mirror.facts.target}/{held.pin.rel}",
            pinned_rel=held.pin.rel,
            size=held.pin.local.size,
            sha256=version.sha256,
            generation=held.generation,
            expires_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_at_ms // 1000)),
        )

    # -- ending

    def _end(self, ending: Sequence[_Held], over_at: float | None = None) -> int:
        """Strike leases from the journal, then let go of their pins; return how many were still out.

        over_at: not those that were renewed beyond it. Raises CatalogueError, DiskFull; then they are still out.
        """
        with self._lock:
            ended = [held for held in ending if over_at is None or held.deadline <= over_at]
            ended = [held for held in ended if self._take_out(held)]
        if not ended:
            return 0
        try:
            self._store.remove([held.lease_id for held in ended])
        except BaseException:
            with self._lock:
                for held in ended:
                    self._put(held)
            raise
        self._pins.let_go([held.pin for held in ended])
        return len(ended)

    def _end_quietly(self, ending: Sequence[_Held], over_at: float | None = None) -> int:
        try:
            return self._end(ending, over_at)
        except SyncdError:
            return 0

    def _sweep(self, names: Sequence[str]) -> None:
        lost = self._pins.sweep(names)
        with self._lock:
            without = [held for held in self._held.values() if held.pin in lost]
        self._end_quietly(without)


def _clamped(ttl_s: float) -> float:
    return max(TTL_MIN_S, min(ttl_s, TTL_MAX_S))


def _too_many(what: str) -> LeaseRefused:
    return LeaseRefused(what, hint=hint_for(Reason.TOO_MANY_LEASES))


def _not_now(found: Resolution, state: State, reason: Reason, hint: str = "") -> Resolution:
    """Return the answer for what was READY a moment ago."""
    return found._replace(
        state=state,
        local_path=None,
        size=None,
        sha256=None,
        generation=None,
        reason=reason,
        hint=hint or hint_for(reason, found.server_path),
        retry_after_s=UNVERIFIED_S if state is State.FETCHING else UNAVAILABLE_S,
    )
