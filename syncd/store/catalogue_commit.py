"""What one commit makes of its facts: records, announcements, generations, counters. Used inside a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from syncd.core.model import Dropped, Fact, FileEvent, Held, Record, RelPath
from syncd.store.sql import Row, by_directory, int64, pack_record, unpack_record, write_batches, write_flat

_STATE = """
SELECT m.revision, m.generation_floor, f.next_seq,
       EXISTS (SELECT 1 FROM tombstones WHERE mirror_id = m.id), EXISTS (SELECT 1 FROM unheld WHERE mirror_id = m.id),
       EXISTS (SELECT 1 FROM partials WHERE mirror_id = m.id), EXISTS (SELECT 1 FROM approvals WHERE mirror_id = m.id)
FROM mirrors AS m CROSS JOIN feed AS f WHERE m.id = ?"""
_HELD = """
SELECT json_group_array(json_array(r.directory_id, r.name, hex(r.packed)))
FROM json_each(?) AS d CROSS JOIN json_each(d.value) AS n
    CROSS JOIN records AS r ON r.directory_id = CAST(d.key AS INTEGER) AND r.name = n.value"""
_BURIED = """
SELECT json_group_array(json_array(path, generation))
FROM tombstones WHERE mirror_id = ? AND path IN (SELECT value FROM json_each(?))"""
_COUNT = """
UPDATE mirrors SET files = files + ?, bytes = bytes + ?, owed = owed + ?, revision = ? WHERE id = ?"""

# What a commit has in common is bound once, and stands first (see write_flat).
_RECORDS = "INSERT OR REPLACE INTO records (revision, absent_run, directory_id, name, packed) VALUES {}"
_RECORD = "(?1, '', ?, ?, ?)"
_EVENTS = """
INSERT INTO outbox (mirror_id, run_id, at, seq, path, event, size, sha256, mtime_ns, generation) VALUES {}"""
_EVENT = "(?1, ?2, ?3, ?, ?, ?, ?, ?, ?, ?)"

_READY, _UPDATED, _REMOVED = (event.value for event in (FileEvent.READY, FileEvent.UPDATED, FileEvent.REMOVED))

Key = tuple[int, str]


class DirectoryIds(Protocol):
    """Keys of directories; see Catalogue.directory_ids."""

    def __call__(self, mirror_id: int, paths: set[str], *, make: bool) -> dict[str, int]: ...


class Change:
    """Transaction 2 of a group, as it is put together: one object a commit, used by one thread."""

    def __init__(
        self, db: sqlite3.Connection, directory_ids: DirectoryIds, mirror_id: int, run_id: str, now_ms: int
    ) -> None:
        self._db = db
        self._directory_ids = directory_ids
        self._mirror_id = mirror_id
        self._run_id = run_id
        self._now_ms = now_ms
        self._at = _iso(now_ms)
        self._files = 0
        self._bytes = 0
        revision, self._floor, self._first_seq, *occupied = db.execute(_STATE, (mirror_id,)).fetchone()
        self._revision = revision + 1
        self._next_seq = self._first_seq
        self._tombstones, self._unheld, self._partials, self._approvals = occupied
        self._records: list[Any] = []
        self._removed: list[Key] = []
        self._events: list[Any] = []
        self._buried: list[Row] = []
        self._lost: list[Row] = []

    def apply(self, facts: Sequence[Fact]) -> None:
        """Write facts about distinct paths."""
        places = self._places(facts)
        previous = self._previous(places)
        generations = self._buried_generations(facts, places, previous)
        self._decide(facts, places, previous, generations)
        self._write(facts)

    def finish(self) -> int:
        """Bring the counters up to date; return how many announcements there are."""
        owed: int = self._next_seq - self._first_seq
        self._db.execute(_COUNT, (self._files, self._bytes, owed, self._revision, self._mirror_id))
        if owed:
            self._db.execute("UPDATE feed SET next_seq = ?", (self._next_seq,))
        return owed

    # --- what is there

    def _places(self, facts: Sequence[Fact]) -> list[Key]:
        """Return where the records of these paths are kept; (0, name) of a dropped one whose directory is not known."""
        parts = [fact[0].rpartition("/") for fact in facts]
        coming = {directory for (directory, _, _), fact in zip(parts, facts, strict=True) if isinstance(fact, Held)}
        ids = self._directory_ids(self._mirror_id, coming, make=True)
        leaving = {directory for directory, _, _ in parts} - coming
        if leaving:
            ids |= self._directory_ids(self._mirror_id, leaving, make=False)
        return [(ids.get(directory, 0), name) for directory, _, name in parts]

    def _previous(self, places: Sequence[Key]) -> dict[Key, Record]:
        """Return the records that lie there: one step of SQLite (see in_batches), one parameter."""
        names: dict[int, list[str]] = {}
        for directory_id, name in places:
            if directory_id in names:
                names[directory_id].append(name)
            else:
                names[directory_id] = [name]
        (found,) = self._db.execute(_HELD, (json.dumps(names),)).fetchone()
        return {
            (directory_id, name): unpack_record(bytes.fromhex(packed), "")
            for directory_id, name, packed in json.loads(found)
        }

    def _buried_generations(
        self, facts: Sequence[Fact], places: Sequence[Key], previous: Mapping[Key, Record]
    ) -> dict[str, int]:
        """Return the generations that paths which are not held had when they were last held."""
        if not self._tombstones:
            return {}
        paths = [fact.path for fact, place in zip(facts, places, strict=True) if place not in previous]
        row = self._db.execute(_BURIED, (self._mirror_id, json.dumps(paths))).fetchone()
        return dict(json.loads(row[0]))

    # --- what becomes of it

    def _decide(
        self, facts: Sequence[Fact], places: Sequence[Key], previous: Mapping[Key, Record], buried: Mapping[str, int]
    ) -> None:
        """Put together the rows that facts become. Hot, so flat: it runs for every file."""
        records, events = self._records, self._events
        floor, now_ms = self._floor, self._now_ms
        fromhex, before = bytearray.fromhex, previous.get  # see pack_record()
        for fact, place in zip(facts, places, strict=True):
            held = before(place)
            if not isinstance(fact, Held):
                if held is not None:
                    self._drop(fact, place, held)
                continue
            path, fingerprint, sha256, local, announce = fact
            size, mtime_ns, _, _ = fingerprint
            digest = fromhex(sha256)
            if held is None:
                event, generation = _READY, max(buried.get(path, floor) + 1, now_ms)
                self._files += 1
                self._bytes += size
            else:
                event, generation = _UPDATED, held.generation
                announce = announce or held.sha256 != sha256
                if announce:
                    generation = max(generation + 1, now_ms)
                self._bytes += size - held.size
            directory_id, name = place
            records += (directory_id, name, pack_record(fingerprint, digest, generation, local))
            if announce or held is None:
                events += (self._next_seq, path, event, size, digest, int64(mtime_ns), generation)
                self._next_seq += 1

    def _drop(self, fact: Dropped, place: Key, held: Record) -> None:
        generation = max(held.generation + 1, self._now_ms)
        digest, mtime_ns = bytearray.fromhex(held.sha256), int64(held.mtime_ns)
        self._events += (self._next_seq, fact.path, _REMOVED, held.size, digest, mtime_ns, generation)
        self._next_seq += 1
        self._buried.append((self._mirror_id, fact.path, generation))
        if fact.why is not None:
            listed = held.size, mtime_ns, 1, f"{self._at[:19]}Z"
            self._lost.append((self._mirror_id, fact.path, fact.why.value, "", *listed, self._run_id))
        self._removed.append(place)
        self._files -= 1
        self._bytes -= held.size

    def _write(self, facts: Sequence[Fact]) -> None:
        db = self._db
        for names in by_directory(self._removed):
            db.execute("DELETE FROM records WHERE directory_id = ? AND name IN (SELECT value FROM json_each(?))", names)
        write_flat(db, _RECORDS, _RECORD, self._records, (self._revision,))
        write_flat(db, _EVENTS, _EVENT, self._events, (self._mirror_id, self._run_id, self._at))
        write_batches(db, "INSERT OR REPLACE INTO tombstones VALUES {}", self._buried)
        write_batches(db, "INSERT OR REPLACE INTO unheld VALUES {}", self._lost)
        if self._unheld or self._partials:
            held = [fact.path for fact in facts if isinstance(fact, Held)]
            self._forget("unheld", self._unheld, held)
            self._forget("partials", self._partials, held)
        if self._approvals:
            self._forget("approvals", self._approvals, [fact.path for fact in facts])
        self._tombstones = self._tombstones or bool(self._buried)
        self._unheld = self._unheld or bool(self._lost)
        for rows in (self._records, self._removed, self._events, self._buried, self._lost):
            rows.clear()

    def _forget(self, table: str, occupied: bool, paths: list[RelPath]) -> None:
        if occupied and paths:
            statement = f"DELETE FROM {table} WHERE mirror_id = ? AND path IN (SELECT value FROM json_each(?))"  # noqa: S608
            self._db.execute(statement, (self._mirror_id, json.dumps(paths)))


def distinct(facts: Sequence[Fact]) -> Iterator[Sequence[Fact]]:
    """Cut facts into batches in which no path occurs twice."""
    if len({fact[0] for fact in facts}) == len(facts):
        yield facts
        return
    batch: dict[RelPath, Fact] = {}
    for fact in facts:
        if fact.path in batch:
            yield list(batch.values())
            batch = {}
        batch[fact.path] = fact
    yield list(batch.values())


def _iso(now_ms: int) -> str:
    """Return a time in ms since the epoch as ISO 8601 UTC with milliseconds."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
