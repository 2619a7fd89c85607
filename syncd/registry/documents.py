"""What lies in MongoDB: documents <-> values. Pure.

sync_hosts   _id: the host's id. name, version, started_at, at (last heard of, by MongoDB's clock), files, workers,
             mirrors: [{name, state, files, bytes, last_success, source, target}],
             away: [{start, end}] when it sleeps by plan, in minutes of the day (UTC),
             bookmark: {through, mark, whole_ms, place}
sync_files   _id: host id, mirror, directory, name, with tabs between. host_id, mirror, server_path, size, sha256,
             generation, removed, at (since when it is so, by the host's clock)

A tab is in no name, and less than every character that is: so ids sort as the catalogue's records do (directory, then
name; MongoDB compares strings by their bytes), and one host, or one mirror of it, is one range of ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from syncd.core.model import RelPath
from syncd.core.paths import join, split
from syncd.core.wire import server_path
from syncd.ports import Bookmark, RegistryEntry

HOSTS, FILES = "sync_hosts", "sync_files"
STALE_AFTER_S = 120.0
"""A host that was not heard of for so long (four heartbeats) counts as gone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_000
"""The last second of the year 9999: what a clock that is far off says is cut to what a date can hold."""
_NUMBER_MAX = (1 << 63) - 1


class MirrorRow(NamedTuple):
    """A mirror as its host described it. last_success: ISO 8601 UTC, "" = never."""

    name: str
    state: str
    files: int
    bytes: int
    last_success: str
    source: str
    target: str


class HostRow(NamedTuple):
    """A host as the registry knows it. started_at, at: ISO 8601 UTC; age_s: since when it was last heard of.

    files: it records single files here; filling: not all of them are here yet.
    """

    id: str
    name: str
    version: str
    started_at: str
    at: str
    age_s: float
    files: bool
    filling: bool
    workers: int
    mirrors: tuple[MirrorRow, ...]

    @property
    def stale(self) -> bool:
        return self.age_s > STALE_AFTER_S


class Holding(NamedTuple):
    """One file that a host holds. since: ISO 8601 UTC, by the host's clock."""

    host_id: str
    mirror: str
    server_path: str
    size: int
    sha256: str
    generation: int
    since: str


# --- files -----------------------------------------------------------------------------------------------------------


def key(host_id: str, mirror: str, path: RelPath) -> str:
    """Return the id of one file's entry; of ROOT: what comes before all files of the mirror."""
    return "\t".join((host_id, mirror, *split(path)))


def after_mirror(host_id: str, mirror: str) -> str:
    """Return what comes after all ids of a mirror, and before those of the next."""
    return f"{host_id}\t{mirror}\n"


def ranges_beside(host_id: str, mirrors: Sequence[str]) -> list[tuple[str, str]]:
    """Return the ranges (first, end) of a host's ids that belong to none of these mirrors."""
    first, ranges = f"{host_id}\t", []
    for mirror in sorted(set(mirrors)):
        ranges.append((first, f"{host_id}\t{mirror}\t"))
        first = after_mirror(host_id, mirror)
    return [*ranges, (first, f"{host_id}\n")]


def key_of(host_id: str, entry: RegistryEntry) -> str:
    """Return an entry's id."""
    return key(host_id, entry.mirror, path_of(entry))


def file_fields(host_id: str, entry: RegistryEntry) -> dict[str, Any]:
    """Return an entry's document, but for its id."""
    return {
        "host_id": host_id,
        "mirror": entry.mirror,
        "server_path": entry.server_path,
        "size": min(entry.size, _NUMBER_MAX),
        "sha256": entry.sha256,
        "generation": entry.generation,
        "removed": entry.removed,
        "at": _date(entry.generation),
    }


def entry_of(document: Mapping[str, Any]) -> RegistryEntry:
    """Return the entry that a document of sync_files holds: which file, by its id; what is missing is empty."""
    _, mirror, directory, name, *_ = (*str(document.get("_id", "")).split("\t"), "", "", "")
    return RegistryEntry(
        mirror,
        server_path(mirror, join(RelPath(directory), name)),
        _number(document, "size"),
        _text(document, "sha256"),
        _number(document, "generation"),
        document.get("removed") is True,
    )


def generation_of(document: Mapping[str, Any]) -> int:
    """Return the generation that a document of sync_files has."""
    return _number(document, "generation")


def holding_of(document: Mapping[str, Any]) -> Holding:
    """Return what a document of sync_files says to people."""
    entry = entry_of(document)
    return Holding(
        _text(document, "host_id"),
        entry.mirror,
        entry.server_path,
        entry.size,
        entry.sha256,
        entry.generation,
        _iso(document.get("at")),
    )


# --- hosts -----------------------------------------------------------------------------------------------------------


def host_fields(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return a host's document, but for its id, `at` and bookmark."""
    return {
        "name": str(host["name"]),
        "version": str(host.get("version", "")),
        "started_at": _parsed(host.get("started_at")),
        "files": bool(host.get("files", False)),
        "workers": int(host.get("workers", 0)),
        "away": [{"start": int(start), "end": int(end)} for start, end in host.get("away", ())],
        "mirrors": [
            {
                "name": str(mirror["name"]),
                "state": str(mirror.get("state", "")),
                "files": int(mirror.get("files", 0)),
                "bytes": int(mirror.get("bytes", 0)),
                "last_success": _parsed(mirror.get("last_success")),
                "source": str(mirror.get("source", "")),
                "target": str(mirror.get("target", "")),
            }
            for mirror in host.get("mirrors", ())
        ],
    }


def host_row(document: Mapping[str, Any], now: datetime) -> HostRow:
    """Return a host for people; tolerates what another version wrote. now: by MongoDB's clock."""
    at = document.get("at")
    bookmark = bookmark_of(document.get("bookmark"))
    mirrors = document.get("mirrors")
    return HostRow(
        id=str(document.get("_id", "")),
        name=_text(document, "name"),
        version=_text(document, "version"),
        started_at=_iso(document.get("started_at")),
        at=_iso(at),
        age_s=max(0.0, (now - aware(at)).total_seconds()) if isinstance(at, datetime) else float(_NUMBER_MAX),
        files=document.get("files") is True,
        filling=bookmark is None or bookmark.place is not None,
        workers=_number(document, "workers"),
        mirrors=tuple(_mirror_row(each) for each in mirrors if isinstance(each, Mapping))
        if isinstance(mirrors, list)
        else (),
    )


def _mirror_row(mirror: Mapping[str, Any]) -> MirrorRow:
    return MirrorRow(
        _text(mirror, "name"),
        _text(mirror, "state"),
        _number(mirror, "files"),
        _number(mirror, "bytes"),
        _iso(mirror.get("last_success")),
        _text(mirror, "source"),
        _text(mirror, "target"),
    )


def bookmark_fields(bookmark: Bookmark) -> dict[str, Any]:
    """Return a bookmark as a document."""
    fields: dict[str, Any] = bookmark._asdict()
    fields["place"] = None if bookmark.place is None else list(bookmark.place)
    return fields


def bookmark_of(document: object) -> Bookmark | None:
    """Return the bookmark in a document, None where there is none that can be read."""
    if not isinstance(document, Mapping) or not isinstance(document.get("through"), int):
        return None
    place = document.get("place")
    if place is not None and not (
        isinstance(place, list) and len(place) == 2 and all(isinstance(part, str) for part in place)
    ):
        return None
    found = None if place is None else (place[0], place[1])
    return Bookmark(document["through"], _text(document, "mark"), _number(document, "whole_ms"), found)


# --- plain values ----------------------------------------------------------------------------------------------------


def aware(at: datetime) -> datetime:
    """Return a time with its zone; one without is UTC."""
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def path_of(entry: RegistryEntry) -> RelPath:
    """Return an entry's path in its mirror."""
    return RelPath(entry.server_path.removeprefix(f"{entry.mirror}/"))


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _number(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    return int(value) if isinstance(value, int | float) and abs(value) <= _NUMBER_MAX else 0


def _date(unix_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(unix_ms, 0), _LAST_MS))


def _iso(at: object) -> str:
    if not isinstance(at, datetime):
        return ""
    return aware(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parsed(at: object) -> datetime | None:
    try:
        return datetime.fromisoformat(at) if isinstance(at, str) and at else None
    except ValueError:
        return None
