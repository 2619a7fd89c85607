"""One configuration on this machine: its state, its catalogue, its targets, opened for reading or for writing."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from syncd import __version__
from syncd.app.wiring import open_source
from syncd.config.settings import MirrorSettings, Settings
from syncd.config.urls import SourceUrl
from syncd.core.errors import CatalogueDamaged, ConfigError
from syncd.core.model import RelPath
from syncd.core.shown import printable
from syncd.engine.clock import Clock, utc_text
from syncd.ports import Mirror, Source
from syncd.store.reading import ReadonlyCatalogue, ReadonlyMirrorCatalogue, open_readonly
from syncd.store.schema import set_aside
from syncd.store.state import Host, StateDirectory

if TYPE_CHECKING:  # `syncd status` and its like only look, and do not pay for what writes
    from syncd.core.stand_by import StandBy
    from syncd.engine.pacing import Pacing
    from syncd.sources.failover import Refusals, Standing
    from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
    from syncd.store.mirror import DiskMirror


class Site:
    """What every command needs: settings, state directory, catalogue, targets."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        source_of: Callable[[MirrorSettings], Source] = open_source,
    ) -> None:
        self.settings = settings
        self._source_of = source_of
        self._pacings: dict[str, Pacing] = {}
        self._standings: dict[str, Standing] = {}
        self._clock = clock or Clock()
        self._state = StateDirectory.open(settings.host.state_dir, create=False)

    @contextmanager
    def reading(self) -> Iterator[ReadonlyCatalogue]:
        """Open the catalogue to read it, without the lock."""
        with open_readonly(self._state.catalogue) as catalogue:
            yield catalogue

    @contextmanager
    def writing(self) -> Iterator[Catalogue]:
        """Open the catalogue for a command that changes it, under the lock."""
        with self._writing() as (_, catalogue):
            yield catalogue

    @contextmanager
    def opened_target(self, name: str) -> Iterator[DiskMirror]:
        """Open one mirror's target for the trash commands. Without the lock: final names are not touched.

        Raises: ConfigError (never mirrored), TargetMissing and the like.
        """
        (settings,) = self._chosen([name])
        host = self._state.known_host()
        with open_readonly(self._state.catalogue) as catalogue:
            facts = catalogue.mirror(name)
            uid, target = facts.uid, facts.target
        if host is None or target != str(settings.target):
            raise ConfigError(f'"{name}" has not been mirrored into {settings.target} yet', hint="syncd run-once")
        from syncd.store.mirror import DiskMirror

        mirror = DiskMirror.open(
            settings.target,
            mirror_uid=uid,
            mirror_name=settings.name,
            host_id=host.id,
            host_name=host.name,
            known=True,
        )
        try:
            yield mirror
        finally:
            mirror.close()

    def spelled(self, path: str) -> list[tuple[str, RelPath]]:
        """Return what a spelling of a path may mean: (mirror, path) candidates, the most specific first."""
        from syncd.config.spellings import spellings_of
        from syncd.core.spelling import candidates

        return candidates(path, [spellings_of(settings) for settings in self.settings.mirrors])

    # -- for the commands

    def _open_source(self, settings: MirrorSettings, *, urgent: bool = False) -> Source:
        """Build a mirror's source, at the rate that all of its sources share; urgent ones go first."""
        source = self._source_of(settings)
        rate, zone, now_ns = settings.rate, self.settings.host.zone(), self._clock.now_ns
        if rate.bytes_per_s or rate.windows:
            from syncd.engine.pacing import Pacing

            def bytes_per_s() -> int:
                now = datetime.fromtimestamp(now_ns() / 1e9, UTC).astimezone(zone)
                return rate.at(now.hour * 60 + now.minute)

            pacing = self._pacings.setdefault(settings.name, Pacing(bytes_per_s))
            source.keep_pace(pacing.lane(urgent=urgent))
        return source

    def _open_servers(self, settings: MirrorSettings, *, urgent: bool = False) -> Source:
        """Build what files are fetched from: the source, or with fallback_sources the first of them that answers."""
        if not settings.fallback_sources:
            return self._open_source(settings, urgent=urgent)
        from syncd.sources.failover import FailoverSource, Server

        servers = [
            Server(str(url), url.id, partial(self._open_source, _only(settings, url), urgent=urgent))
            for url in settings.sources
        ]
        return FailoverSource(servers, self._standing(settings.name))

    def _standing(self, name: str) -> Standing:
        """Return what is remembered of a mirror's servers."""
        if name not in self._standings:
            from syncd.sources.failover import Standing

            self._standings[name] = Standing(lambda now: _log_server(name, now), self._refusals())
        return self._standings[name]

    def _refusals(self) -> Refusals | None:
        """Return what remembers that stand-bys refused the login (the daemon's); a run by hand tries once anyway."""
        return None

    def _open_target(
        self,
        settings: MirrorSettings,
        host: Host,
        facts: SqliteMirrorCatalogue,
        *,
        new_target: bool = False,
        take_over: bool = False,
    ) -> DiskMirror:
        from syncd.store.mirror import DiskMirror

        mirror = DiskMirror.open(
            settings.target,
            mirror_name=settings.name,
            mirror_uid=facts.uid,
            host_id=host.id,
            host_name=host.name,
            known=bool(facts.target) and facts.target == str(settings.target),
            new_target=new_target,
            take_over=take_over,
        )
        if mirror.owner.mirror_uid != facts.uid:
            facts.set_uid(mirror.owner.mirror_uid)
        if facts.target != str(settings.target):
            facts.set_target(str(settings.target))
        return mirror

    def _peek_target(
        self,
        settings: MirrorSettings,
        host: Host | None,
        facts: ReadonlyMirrorCatalogue,
        *,
        new_target: bool = False,
        take_over: bool = False,
    ) -> DiskMirror | None:
        from syncd.store.mirror import DiskMirror

        return DiskMirror.peek(
            settings.target,
            mirror_name=settings.name,
            mirror_uid=facts.uid,
            host_id=host.id if host is not None else "",
            known=bool(facts.target) and facts.target == str(settings.target),
            new_target=new_target,
            take_over=take_over,
        )

    @contextmanager
    def _writing(self) -> Iterator[tuple[Host, Catalogue]]:
        self._state = StateDirectory.open(self.settings.host.state_dir, create=True)
        with self._state.lock():
            host = self._state.host(self.settings.host.name or "")
            with self._open_catalogue() as catalogue:
                catalogue.record_run_day(utc_text(self._clock.now_ns())[:10])
                yield host, catalogue

    @contextmanager
    def open_catalogue_in(self, state: StateDirectory) -> Iterator[Catalogue]:
        """Open the catalogue of a state directory whose lock the caller holds."""
        self._state = state
        with self._open_catalogue() as catalogue:
            yield catalogue

    def _open_catalogue(self) -> Catalogue:
        """Open the catalogue; a damaged one is kept aside and rebuilt by the run that follows."""
        from syncd.store.catalogue import Catalogue

        try:
            return Catalogue.open(self._state.catalogue, app_version=__version__)
        except CatalogueDamaged as error:
            from syncd.log import logger

            kept = set_aside(self._state.catalogue)
            logger().warning("catalogue.damaged", detail=error.message, kept=str(kept), next="rebuilt by this run")
            return Catalogue.open(self._state.catalogue, app_version=__version__)

    def _chosen(self, names: Sequence[str]) -> Sequence[MirrorSettings]:
        if not names:
            return self.settings.mirrors
        chosen = []
        for name in dict.fromkeys(names):  # one named twice is meant once
            settings = self.settings.mirror(name)
            if settings is None:
                known = ", ".join(mirror.name for mirror in self.settings.mirrors)
                raise ConfigError(f'there is no mirror "{name}" in {self.settings.path}', hint=f"one of: {known}")
            chosen.append(settings)
        return chosen

    def in_mirrors(self, mirrors: Sequence[MirrorSettings], only: Sequence[str]) -> dict[str, tuple[RelPath, ...]]:
        """Return what the paths of --only mean in each of these mirrors. Raises ConfigError for one of another."""
        for path in only:
            if not any(self._in_mirror(settings, [path]) for settings in mirrors):
                name, rel = self.spelled(path)[0]
                known = shlex.quote(f"{name}/{rel}" if rel else name)
                raise ConfigError(
                    f'--only {printable(path)} means mirror "{name}", which is not among those of --mirror',
                    hint=f"syncd run-once --mirror {shlex.quote(name)} --only {known}",
                )
        return {settings.name: self._in_mirror(settings, only) for settings in mirrors}

    def _in_mirror(self, settings: MirrorSettings, only: Sequence[str]) -> tuple[RelPath, ...]:
        """Return what the paths of --only mean in this mirror: the most specific reading of each, a bare path any."""
        found = []
        for path in only:
            readings = self.spelled(path)
            mirror, rel = readings[0]
            bare = rel == readings[-1][1]
            if mirror == settings.name:
                found.append(rel)
            elif bare or len(self.settings.mirrors) == 1:
                found.extend(rel for name, rel in readings if name == settings.name)
        return tuple(found)


def _only(settings: MirrorSettings, url: SourceUrl) -> MirrorSettings:
    """Return one mirror's settings as if this server were its only one."""
    return settings._replace(source=url, fallback_sources=())


def _log_server(name: str, now: StandBy | None) -> None:
    from syncd.log import logger

    if now is None:
        logger().info("source.main_again", mirror=name)
    else:
        logger().warning("source.stand_by", mirror=name, server=now.server, why=now.why)


def new_run_id() -> str:
    """Return a short random id."""
    return secrets.token_hex(6)


def batch_name(now_ns: int, run_id: str) -> str:
    """Return a trash batch's name; sorts by time."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ-") + run_id


def write_manifest(mirror: Mirror, facts: SqliteMirrorCatalogue) -> None:
    """Rewrite the exported manifest if what is held has changed since it was written."""
    revision = facts.revision
    if facts.manifest_revision != revision:
        from syncd.store.manifest import manifest_lines

        mirror.write_manifest(manifest_lines(facts.records()))
        facts.manifest_written(revision)
