# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What one commit makes of its facts: records, announcements, generations, counters. Used inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from syncd.core.model import Dropped, Fact, FileEvent, Held, RelPath
from syncd.core.paths import split
from syncd.store.sql import Row, signed

_HELD = "SELECT size, sha256, generation FROM records WHERE directory_id = ? AND name = ?"
_LEAVING = """SELECT r.directory_id, r.name, r.size, r.sha256, r.mtime_ns, r.generation
              FROM directories AS d CROSS JOIN records AS r ON r.directory_id = d.id
              WHERE d.mirror_id = ? AND d.path = ? AND r.name = ?"""
_STORE = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?)"
_ANNOUNCE = """INSERT INTO outbox (mirror_id, path, event, size, sha256, mtime_ns, generation, run_id, at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class Change:
    """Transaction 2 of a group, as it is put together: one object a commit, used by one thread."""

    def __init__(
        self, directory_id: Callable[[int, str], int], db: sqlite3.Connection, mirror_id: int, run_id: str, now_ms: int
    ) -> None:
        self._directory_id = directory_id
        self._db = db
        self._mirror_id = mirror_id
        self._run_id = run_id
        self._now_ms = now_ms
        self._at = _iso(now_ms)
        self._files = 0
        self._bytes = 0
        revision, self._floor, *kept = db.execute(
            """SELECT m.revision, m.generation_floor, EXISTS (SELECT 1 FROM tombstones WHERE mirror_id = m.id),
                      EXISTS (SELECT 1 FROM unheld WHERE mirror_id = m.id),
                      EXISTS (SELECT 1 FROM partials WHERE mirror_id = m.id),
                      EXISTS (SELECT 1 FROM approvals WHERE mirror_id = m.id)
               FROM mirrors AS m WHERE m.id = ?""",
            (mirror_id,),
        ).fetchone()
        self._revision = revision + 1
        self._tombstones, self._unheld, self._partials, self._approvals = kept
        self._records: list[Row] = []
        self._removed: list[Row] = []
        self._events: list[Row] = []
        self._buried: list[Row] = []

    def apply(self, facts: Sequence[Fact]) -> None:
        """Write facts about distinct paths."""
        for fact in facts:
            if isinstance(fact, Held):
                self._hold(fact)
            else:
                self._drop(fact)
        self._write(facts)

    def _hold(self, fact: Held) -> None:
        path, digest = fact.path, bytes.fromhex(fact.sha256)
        directory, _, name = path.rpartition("/")
        directory_id = self._directory_id(self._mirror_id, directory)
        size, mtime_ns, ctime_ns, file_id = fact.fingerprint
        held = self._db.execute(_HELD, (directory_id, name)).fetchone()
        if held is not None and not fact.announce and held[1] == digest:
            generation = held[2]
        else:
            generation = self._generation(held[2] if held is not None else self._exhume(path))
            self._announce(
                path, FileEvent.READY if held is None else FileEvent.UPDATED, size, digest, mtime_ns, generation
            )
        self._files += held is None
        self._bytes += size - (held[0] if held is not None else 0)
        inode, local_size, local_mtime_ns = fact.local
        fingerprint = size, mtime_ns, ctime_ns, signed(file_id)
        local = signed(inode), local_size, local_mtime_ns
        self._records.append(
            (directory_id, name, *fingerprint, digest, generation, *local, self._now_ms, self._revision)
        )

    def _drop(self, fact: Dropped) -> None:
        held = self._db.execute(_LEAVING, (self._mirror_id, *split(fact.path))).fetchone()
        if held is None:
            return
        directory_id, name, size, digest, mtime_ns, previous = held
        generation = self._generation(previous)
        self._announce(fact.path, FileEvent.REMOVED, size, digest, mtime_ns, generation)
        self._buried.append((self._mirror_id, fact.path, generation))
        self._removed.append((directory_id, name))
        self._files -= 1
        self._bytes -= size

    def _generation(self, previous: int) -> int:
        return max(previous + 1, self._now_ms)

    def _exhume(self, path: str) -> int:
        """Return the generation that a path had when it was last held; the floor covers those long forgotten."""
        if self._tombstones:
            find = "SELECT generation FROM tombstones WHERE mirror_id = ? AND path = ?"
            row = self._db.execute(find, (self._mirror_id, path)).fetchone()
            if row is not None:
                return int(row[0])
        return int(self._floor)

    def _announce(self, path: str, event: FileEvent, size: int, digest: bytes, mtime_ns: int, generation: int) -> None:
        self._events.append(
            (self._mirror_id, path, event.value, size, digest, mtime_ns, generation, self._run_id, self._at)
        )

    def _write(self, facts: Sequence[Fact]) -> None:
        db, mirror_id = self._db, self._mirror_id
        db.executemany("DELETE FROM records WHERE directory_id = ? AND name = ?", self._removed)
        db.executemany(_STORE, self._records)
        db.executemany(_ANNOUNCE, self._events)
        db.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", self._buried)
        held = [(mirror_id, fact.path) for fact in facts if isinstance(fact, Held)]
        for table, occupied in (
            ("tombstones", self._tombstones),
            ("unheld", self._unheld),
            ("partials", self._partials),
        ):
            if occupied:
                db.executemany(f"DELETE FROM {table} WHERE mirror_id = ? AND path = ?", held)
        if self._approvals:
            done = [(mirror_id, fact.path) for fact in facts]
            db.executemany("DELETE FROM approvals WHERE mirror_id = ? AND path = ?", done)
        self._tombstones = self._tombstones or bool(self._buried)
        for rows in (self._records, self._removed, self._events, self._buried):
            rows.clear()

    def finish(self) -> None:
        """Bring the mirror's counters up to date."""
        self._db.execute(
            "UPDATE mirrors SET files = files + ?, bytes = bytes + ?, revision = ? WHERE id = ?",
            (self._files, self._bytes, self._revision, self._mirror_id),
        )


def distinct(facts: Sequence[Fact]) -> Iterator[Sequence[Fact]]:
    """Cut facts into batches in which no path occurs twice."""
    if len({fact.path for fact in facts}) == len(facts):
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
