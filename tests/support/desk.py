"""What a daemon has of one mirror, without its threads: runs, resolver and leases over a real mirror and catalogue."""

from __future__ import annotations

import os
from pathlib import Path

from syncd.config.settings import MirrorSettings
from syncd.config.spellings import spellings_of
from syncd.core.filters import Filters
from syncd.core.lease import Lease
from syncd.daemon.keeping import Keeping
from syncd.engine.leasing import LeasedMirror, Leases
from syncd.engine.report import Report
from syncd.engine.resolving import KnownMirror, Resolver
from syncd.engine.rules import RunOptions
from syncd.sources.memory import MemorySource
from syncd.store.catalogue import Catalogue
from syncd.store.leases import SqliteLeases
from syncd.store.state import StateDirectory
from tests.support.world import World

BOOT = "boot-1"


class Desk:
    """The mirror M of a world, as a daemon keeps it. now: the leases' clock. suspected: what the resolver reported."""

    def __init__(self, world: World, boot: str = BOOT) -> None:
        self.world = world
        self.now = 0.0
        self.suspected: list[str] = []
        state = StateDirectory.open(world.state, create=True)
        self.catalogue = Catalogue.open(state.catalogue, app_version="test")
        settings = world.settings
        self.mirror: MirrorSettings = settings.mirrors[0]
        self.keeping = Keeping(
            settings,
            self.mirror,
            state.host("test"),
            self.catalogue,
            clock=world.clock,
            source_of=self._source,
            yielding=lambda: False,
        )
        target, facts = self.keeping.target, self.keeping.facts
        drops = Filters(self.mirror.include, self.mirror.exclude).drops
        known = KnownMirror("M", spellings_of(self.mirror), facts, drops, target.use, str(self.mirror.target))
        self.resolver = Resolver([known], lambda mirror, path: self.suspected.append(path))
        self.kept = {"M": LeasedMirror("M", target.use, target.writing, facts)}
        self.leases = Leases(
            SqliteLeases(self.catalogue),
            lambda: self.kept,
            self.resolver.resolve,
            lambda: int(1_700_000_000_000 + self.now * 1000),
            boot,
            monotonic=lambda: self.now,
        )

    def _source(self, _: object) -> MemorySource:
        self.world.source._closed = False
        return self.world.source

    def run(self) -> Report:
        report = Report("M", f"run-{os.urandom(4).hex()}")
        self.keeping.execute_run(RunOptions(), report)
        assert report.error is None
        return report

    def lease(self, path: str, ttl_s: float = 60.0) -> Lease:
        found = self.leases.lease(path, ttl_s)
        assert isinstance(found, Lease), found
        return found

    @property
    def pins_folder(self) -> Path:
        return self.world.target / ".syncd" / "pins"

    def pins(self) -> set[str]:
        return {path.name for path in self.pins_folder.iterdir()}

    def journalled(self) -> dict[str, str]:
        return {lease.lease_id: lease.pin for lease in SqliteLeases(self.catalogue).load()}

    def close(self) -> None:
        self.keeping.target.close()
        self.catalogue.close()
