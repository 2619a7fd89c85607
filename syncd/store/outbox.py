# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""The outbox, which is the numbered feed too, and the messages that close runs: what the relay asks and notes."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from syncd.core.model import FileEvent, RelPath
from syncd.ports import ClosedRun
from syncd.store.sql import Reader, Row, int64, write_batches

CHANGES = ("fetched", "adopted", "renamed", "retired")
"""Counters of a run's report that say that it changed something."""
TRIMMED_AT_ONCE = 20_000

_ADVANCE = """
UPDATE feed SET published_through = coalesce(
    (SELECT seq FROM outbox WHERE seq > published_through AND published_at IS NULL ORDER BY seq LIMIT 1),
    next_seq) - 1"""
_BEFORE = "SELECT seq FROM outbox WHERE published_at < ? ORDER BY seq DESC LIMIT 1"
# "published_at" is that of the row with the highest number: https://sqlite.org/lang_select.html#bareagg
_NEWEST = """
SELECT json_group_array(seq) FROM (
    SELECT seq FROM (SELECT max(seq) AS seq, published_at FROM outbox WHERE seq > ? GROUP BY mirror_id, path)
    WHERE published_at >= ? ORDER BY seq)"""
STILL_NEWEST = """
WITH newer AS MATERIALIZED (
    SELECT DISTINCT mirror_id, path FROM outbox
    WHERE seq > ? AND path IN (SELECT path FROM outbox WHERE seq IN (SELECT value FROM json_each(?))))"""
"""A common table: the paths of some announcements that have been announced after a number."""
_CLOSED = """
SELECT m.name, r.run_id, r.state, r.finished_at, r.report FROM runs AS r JOIN mirrors AS m ON m.id = r.mirror_id
WHERE r.announce_after <= (SELECT published_through FROM feed) ORDER BY r.seq LIMIT ?"""


class Again(NamedTuple):
    """One announcement to be owed again, as it was: same digest and generation, so the same id."""

    path: RelPath
    event: FileEvent
    size: int
    sha256: str
    mtime_ns: int
    generation: int


def newest_since(reader: Reader, at: str) -> array[int]:
    """Return the numbers of published rows that are the newest of their path, and published at or after `at`.

    Rows are published in the order of their numbers, so what lies before the last one published earlier is left out.
    """
    row = reader.row(_BEFORE, (at,))
    found = reader.row(_NEWEST, (row[0] if row else 0, at))
    return array("q", json.loads(found[0]) if found else ())


def closed_runs(reader: Reader, limit: int) -> list[ClosedRun]:
    """Return runs of which all announcements are published, and whose own message is due, the oldest first."""
    rows = reader.rows(_CLOSED, (limit,))
    return [ClosedRun(mirror, run_id, state, at, json.loads(report)) for mirror, run_id, state, at, report in rows]


def mark_published(db: sqlite3.Connection, numbers: Iterable[int], at: str) -> None:
    """Note that these rows are published; those that are already stay as they are."""
    chosen = json.dumps(list(numbers))
    _uncount(db, "published_at IS NULL AND seq IN (SELECT value FROM json_each(?))", chosen)
    owed = "published_at IS NULL AND seq IN (SELECT value FROM json_each(?))"
    db.execute(f"UPDATE outbox SET published_at = ? WHERE {owed}", (at, chosen))
    db.execute(_ADVANCE)


def trim(db: sqlite3.Connection, before: str, *, owed_too: bool) -> int:
    """Remove rows published before a time, or all that were committed before it, runs' messages included.

    At most TRIMMED_AT_ONCE at a call, so that no other transaction waits for long; return how many.
    """
    oldest = f"seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT {TRIMMED_AT_ONCE})"
    if not owed_too:
        return db.execute(f"DELETE FROM outbox WHERE published_at < ? AND {oldest}", (before,)).rowcount
    _uncount(db, f"published_at IS NULL AND at < ? AND {oldest}", before)
    removed = db.execute(f"DELETE FROM outbox WHERE at < ? AND {oldest}", (before,)).rowcount
    db.execute("UPDATE runs SET announce_after = NULL WHERE finished_at < ?", (before,))
    db.execute(_ADVANCE)
    return removed


def owe_again(db: sqlite3.Connection, mirror_id: int, chosen: Sequence[Again], *, run_id: str, at: str) -> None:
    """Add rows to the outbox; the records stay as they are."""
    (first,) = db.execute("SELECT next_seq FROM feed").fetchone()
    rows: list[Row] = [
        (
            number,
            mirror_id,
            each.path,
            each.event.value,
            each.size,
            bytes.fromhex(each.sha256),
            int64(each.mtime_ns),
            each.generation,
            run_id,
            at,
            None,
        )
        for number, each in enumerate(chosen, first)
    ]
    write_batches(db, "INSERT INTO outbox VALUES {}", rows)
    db.execute("UPDATE feed SET next_seq = next_seq + ?", (len(rows),))
    db.execute("UPDATE mirrors SET owed = owed + ? WHERE id = ?", (len(rows), mirror_id))


def _uncount(db: sqlite3.Connection, owed: str, parameter: object) -> None:
    """Take rows that are about to be no longer owed off their mirrors' counters."""
    counts = db.execute(f"SELECT count(*), mirror_id FROM outbox WHERE {owed} GROUP BY mirror_id", (parameter,))
    db.executemany("UPDATE mirrors SET owed = owed - ? WHERE id = ?", counts.fetchall())
