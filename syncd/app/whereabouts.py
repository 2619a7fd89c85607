"""Which host holds what, as the registry in MongoDB says: what `syncd where` and `syncd hosts` print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from syncd.config.settings import Settings
from syncd.config.spellings import spellings_of
from syncd.core.errors import ConfigError
from syncd.core.spelling import Spellings, candidates, malformed, variants
from syncd.core.wire import server_path

if TYPE_CHECKING:
    from syncd.registry.documents import Holding, HostRow


class Asked(Protocol):
    """The reading side of a registry."""

    @property
    def database(self) -> str: ...

    @property
    def place(self) -> str: ...

    def hosts(self) -> list[HostRow]: ...

    def holdings(self, server_paths: Sequence[str]) -> list[Holding]: ...


class Holder(NamedTuple):
    """A host that mirrors a collection. held: whether it holds the file, None where that is not recorded."""

    host: HostRow
    held: bool | None
    holding: Holding | None

    def as_json(self) -> dict[str, Any]:
        found = self.holding
        return {
            "id": self.host.id,
            "name": self.host.name,
            "held": self.held,
            "since": found.since if found else None,
            "size": found.size if found else None,
            "sha256": found.sha256 if found else None,
            "generation": found.generation if found else None,
            **_heartbeat(self.host),
        }


class Whereabouts(NamedTuple):
    """Who holds a file. server_path: what the path was taken for. place: the database that was asked."""

    path: str
    server_path: str
    holders: tuple[Holder, ...]
    place: str

    @property
    def is_held(self) -> bool:
        """Whether some host holds it."""
        return any(holder.held for holder in self.holders)

    @property
    def agree(self) -> bool | None:
        """Whether all that hold it hold the same bytes; None where nobody does."""
        digests = {holder.holding.sha256 for holder in self.holders if holder.holding is not None}
        return len(digests) == 1 if digests else None

    @property
    def remarks(self) -> list[str]:
        """What a reader of the table should know besides."""
        found = []
        if self.agree is False:
            found.append("these hosts do not hold the same bytes: what has the highest generation was fetched last")
        for holder in self.holders:
            if holder.held is None and not holder.host.files:
                key = "registry_files = true in [mongo]"
                found.append(f"{holder.host.name} does not record single files: set {key} there")
            elif holder.held is None:
                found.append(f"{holder.host.name} has not recorded all its files yet")
            if holder.host.stale and holder.held is not False:
                found.append(f"{holder.host.name} is silent: this is what it said last")
        return found

    @property
    def exit_code(self) -> int:
        """0: held, or perhaps held by a host that does not record files; 3: not held."""
        return 0 if any(holder.held is not False for holder in self.holders) else 3

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "server_path": self.server_path,
            "held": self.is_held,
            "agree": self.agree,
            "hosts": [holder.as_json() for holder in self.holders],
            "remarks": self.remarks,
        }


class Roll(NamedTuple):
    """All hosts. place: the database that was asked."""

    hosts: tuple[HostRow, ...]
    place: str

    @property
    def remarks(self) -> list[str]:
        """Two live hosts that have one name."""
        alive: dict[str, list[str]] = {}
        for host in self.hosts:
            if not host.stale:
                alive.setdefault(host.name, []).append(host.id)
        return [
            f'{len(ids)} live hosts are called "{name}" (ids {", ".join(ids)}): set another name in [host]'
            for name, ids in alive.items()
            if len(ids) > 1
        ]

    def as_json(self) -> dict[str, Any]:
        return {"hosts": [_host_json(host) for host in self.hosts], "remarks": self.remarks}


@contextmanager
def asking(settings: Settings, warn: Callable[[str], None]) -> Iterator[Asked]:
    """Open the registry to read it, also where this host does not write it. Raises ConfigError without [mongo]."""
    if settings.mongo.uri is None:
        raise ConfigError(
            f"no MongoDB is configured in {settings.path}: who holds what is kept there",
            hint="set uri_file (or uri_env) in [mongo], or $MONGO_URI",
        )
    from syncd.registry.mongo import MongoRegistry

    registry = MongoRegistry(settings.mongo.uri.reveal, where=settings.mongo.uri.where, warn=warn)
    try:
        yield registry
    finally:
        registry.close()


def call_the_roll(registry: Asked) -> Roll:
    """Return all hosts that ever registered. Raises the errors of registry.errors."""
    return Roll(tuple(registry.hosts()), _place(registry))


def find(registry: Asked, settings: Settings, path: str) -> Whereabouts:
    """Return who holds a file, whatever way its path is spelled; the most specific reading that somebody holds counts.

    Raises: ConfigError (that is no path), the errors of registry.errors.
    """
    if malformed(path) is not None:
        raise ConfigError("that cannot be the path of a file in a mirror", hint="syncd where --help")
    hosts = registry.hosts()
    readings = _readings(path, _spellings(settings, hosts))
    holdings = registry.holdings(list(readings))
    held = {holding.server_path for holding in holdings}
    chosen = next((reading for reading in readings if reading in held), next(iter(readings), path))
    by_host = {holding.host_id: holding for holding in holdings if holding.server_path == chosen}
    mirror = readings.get(chosen, "")
    known = [host for host in hosts if host.id in by_host or _mirrors(host, mirror)]
    gone = [_gone(host_id) for host_id in by_host.keys() - {host.id for host in hosts}]
    holders = [_holder(host, by_host.get(host.id)) for host in (*known, *gone)]
    holders.sort(key=lambda holder: (not holder.held, holder.held is False, holder.host.stale))
    return Whereabouts(path, chosen, tuple(holders), _place(registry))


def _spellings(settings: Settings, hosts: Sequence[HostRow]) -> list[Spellings]:
    """Return the names of this host's mirrors, and of those that only others have."""
    ours = [spellings_of(mirror) for mirror in settings.mirrors]
    others = {mirror.name for host in hosts for mirror in host.mirrors if mirror.name} - {each.mirror for each in ours}
    return [*ours, *(Spellings(name, "") for name in sorted(others))]


def _readings(path: str, spellings: Sequence[Spellings]) -> dict[str, str]:
    """Return what a path may mean, the most specific first: server path -> mirror."""
    found: dict[str, str] = {}
    for text in variants(path):
        for mirror, rel in candidates(text, spellings):
            if rel:
                found.setdefault(server_path(mirror, rel), mirror)
    return found


def _mirrors(host: HostRow, name: str) -> bool:
    return any(mirror.name == name for mirror in host.mirrors)


def _gone(host_id: str) -> HostRow:
    """Return what stands for a host that only its files tell of."""
    from syncd.registry.documents import host_row

    return host_row({"_id": host_id, "name": host_id, "files": True}, datetime.now(UTC))


def _holder(host: HostRow, holding: Holding | None) -> Holder:
    if holding is not None:
        return Holder(host, True, holding)
    return Holder(host, False if host.files and not host.filling else None, None)


def _place(registry: Asked) -> str:
    return f'database "{registry.database}" at {registry.place}'


def _heartbeat(host: HostRow) -> dict[str, Any]:
    return {"last_heartbeat": host.at or None, "age_s": round(host.age_s, 3) if host.at else None, "stale": host.stale}


def _host_json(host: HostRow) -> dict[str, Any]:
    return {
        "id": host.id,
        "name": host.name,
        "version": host.version,
        "started_at": host.started_at or None,
        **_heartbeat(host),
        "workers": host.workers,
        "files_recorded": host.files,
        "files_complete": host.files and not host.filling,
        "mirrors": [{**mirror._asdict(), "last_success": mirror.last_success or None} for mirror in host.mirrors],
    }
