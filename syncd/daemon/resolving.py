"""The resolver and the leases, over the mirrors that the daemon keeps at the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from syncd.config.spellings import spellings_of
from syncd.core.filters import Filters
from syncd.core.lease import Lease
from syncd.core.model import RelPath
from syncd.core.resolution import Resolution
from syncd.daemon.kept import KeptMirror
from syncd.engine.leasing import LeasedMirror, Leases
from syncd.engine.resolving import KnownMirror, Resolver
from syncd.store.leases import SqliteLeases, boot_id

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon


class Resolving:
    """Resolves paths. Thread-safe: the resolver is replaced as a whole when mirrors come and go."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._resolver = Resolver((), self._suspect)
        self._lent: tuple[KeptMirror, ...] = ()

    def mirrors_changed(self, back_soon: Sequence[KeptMirror] = ()) -> None:
        """Other mirrors are kept now; those that are back soon are answered for meanwhile."""
        kept = dict(self._daemon.kept)
        lent = {each.name: each for each in (*self._lent, *back_soon)}
        for name in lent.keys() & kept.keys():
            lent.pop(name).keeping.target.close()  # back: whoever asked meanwhile may have opened it again
        self._lent = tuple(lent.values())
        self._resolver = Resolver([_known(each) for each in (*kept.values(), *self._lent)], self._suspect)

    def resolve(self, spelled: str, *, near: bool = True) -> Resolution:
        """Say what a spelling means and how it is."""
        return self._resolver.resolve(spelled, near=near)

    def resolve_in(self, mirror: str, path: RelPath) -> Resolution:
        """Say how a path of a mirror is."""
        return self._resolver.resolve_in(mirror, path)

    def places(self, spelled: str) -> Sequence[tuple[str, RelPath]]:
        """Return where a file may lie that is spelled without its mirror: (mirror, path)."""
        return self._resolver.places(spelled)

    def _suspect(self, mirror: str, path: RelPath) -> None:
        """A held file is not as its record says: have it looked at."""
        kept = self._daemon.find(mirror)
        if kept is not None:
            kept.keeper.local_changed(frozenset({path}))


class Leasing:
    """Leases, see engine/leasing.py. given: how many were, so far."""

    def __init__(self, daemon: Daemon, resolving: Resolving) -> None:
        self._daemon = daemon
        store = SqliteLeases(daemon.catalogue)
        self._leases = Leases(store, self._mirrors, resolving.resolve, daemon.now_ms, boot_id())
        self._swept = False
        self.given = 0

    def mirrors_changed(self) -> None:
        """Other mirrors are kept now: what pins of earlier ones were left there goes."""
        self._swept = False

    def expire(self) -> None:
        """End leases whose time is over; once after a start, sweep what no lease knows."""
        if not self._swept:
            self._swept = True
            self._leases.sweep()
        self._leases.expire()

    def woke(self) -> None:
        """The machine slept: every lease gets its time again."""
        self._leases.woke()

    def counts(self) -> dict[str, int]:
        """Return {"count", "pins"}."""
        return self._leases.counts()

    def lease(self, path: str, ttl_s: float, *, wait: bool = True) -> Lease | Resolution:
        found = self._leases.lease(path, ttl_s, wait=wait)
        self.given += isinstance(found, Lease)
        return found

    def renew(self, lease_id: str, ttl_s: float) -> Lease | None:
        return self._leases.renew(lease_id, ttl_s)

    def release(self, lease_id: str, *, wait: bool = True) -> bool | None:
        return self._leases.release(lease_id, wait=wait)

    def _mirrors(self) -> Mapping[str, LeasedMirror]:
        return {
            name: LeasedMirror(
                name,
                kept.keeping.target.use,
                kept.keeping.target.writing,
                kept.keeping.facts,
                kept.settings.min_free.floor,
            )
            for name, kept in list(self._daemon.kept.items())
        }


def _known(kept: KeptMirror) -> KnownMirror:
    settings = kept.settings
    return KnownMirror(
        settings.name,
        spellings_of(settings),
        kept.keeping.facts,
        Filters(settings.include, settings.exclude).drops,
        kept.keeping.target.use,
        str(settings.target),
    )
