"""Announcements by hand: owe them again; and the feed as it is read without a daemon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Any

from syncd.app.owing import announce_owed
from syncd.app.site import Site, new_run_id
from syncd.config.settings import Settings
from syncd.config.spellings import spellings_of
from syncd.core.errors import ConfigError
from syncd.core.model import FileEvent, Record, RelPath
from syncd.core.paths import is_below
from syncd.core.spelling import candidates
from syncd.engine.feed import page
from syncd.store.catalogue import Catalogue
from syncd.store.mirror_reads import MirrorReads
from syncd.store.outbox import Again


class Announcing(Site):
    """What `syncd announce` and `syncd events` do where no daemon is running."""

    def announce(
        self, *, since: str | None = None, spelled: Sequence[str] = (), everything: bool = False
    ) -> tuple[int, int]:
        """Owe announcements again and send what is owed, under the state's lock; (owed again, still owed).

        Raises: ConfigError, AlreadyRunning, CatalogueError.
        """
        with self._writing() as (host, catalogue):
            count = announce_again(catalogue, self.settings, since=since, spelled=spelled, everything=everything)
            return count, announce_owed(catalogue, self.settings.nsq, host.name)

    def events(self, since: int, limit: int) -> dict[str, Any]:
        """Return a page of the feed (engine.feed.page), read without the lock."""
        host = self._state.known_host()
        with self.reading() as catalogue:
            return page(catalogue, host.name if host is not None else "", since, limit)


def announce_again(
    catalogue: Catalogue,
    settings: Settings,
    *,
    since: str | None = None,
    spelled: Sequence[str] = (),
    everything: bool = False,
) -> int:
    """Owe the current state of held files again, with the same ids; return how many.

    since:      ISO 8601: only what was announced at or after it; what was removed since and is not back, too.
    spelled:    files and folders in any spelling; a mirror's name means all of it.
    everything: all that is held; else since or spelled has to be given.
    Raises:     ConfigError (nothing chosen, a time that is none, a path at which nothing is held), CatalogueError.
    """
    if not (since or spelled or everything):
        raise ConfigError("nothing is chosen: say since when, which paths, or all", hint="syncd announce --since 15m")
    at = _time(since) if since else None
    chosen = [(mirror.name, RelPath("")) for mirror in settings.mirrors]
    if spelled:
        chosen = _places(catalogue, settings, spelled)
    now = _text(datetime.now(UTC))
    run_id = new_run_id()
    return sum(
        catalogue.mirror(mirror).owe_again(_again(catalogue.mirror(mirror), path, at), run_id=run_id, at=now)
        for mirror, path in chosen
    )


def _places(catalogue: Catalogue, settings: Settings, spelled: Sequence[str]) -> list[tuple[str, RelPath]]:
    """Return the (mirror, path) of each spelling: the most specific reading at which something is held."""
    spellings = [spellings_of(mirror) for mirror in settings.mirrors]
    found: dict[tuple[str, RelPath], None] = {}
    for each in spelled:
        readings = candidates(each, spellings) if each and _is_unicode(each) else []
        held = next((reading for reading in readings if _is_held(catalogue.mirror(reading[0]), reading[1])), None)
        if held is None:
            raise ConfigError(f'nothing is held at "{each}"', hint=f"syncd why {quote(each)}")
        found[held] = None
    return list(found)


def _is_unicode(text: str) -> bool:
    """Say whether a text could be the path of anything held: no name that cannot be decoded is."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def _is_held(mirror: MirrorReads, path: RelPath) -> bool:
    return mirror.record(path) is not None or mirror.knows_directory(path)


def _again(mirror: MirrorReads, path: RelPath, since: datetime | None) -> Iterator[Again]:
    """Stream what is held at or below a path, and what was removed there, as far as it was announced since."""
    record = mirror.record(path)
    held = mirror.records(path) if record is None else iter([(path, record)])
    first = 0 if since is None else int(since.timestamp() * 1000)
    yield from (_ready(each, record) for each, record in held if record.generation >= first)
    if since is not None:
        yield from (each for each in mirror.removed_since(_text(since)) if is_below(each.path, path))


def _ready(path: RelPath, record: Record) -> Again:
    return Again(path, FileEvent.READY, record.size, record.sha256, record.mtime_ns, record.generation)


def _time(text: str) -> datetime:
    """Read an ISO 8601 time; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f'"{text[:60]}" is not a time in ISO 8601', hint="2026-01-31T10:00:00Z") from None


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
