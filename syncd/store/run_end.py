# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What the end of a run writes: what its findings change, what is unheld, its row, its day. Used inside a transaction.

What is kept of runs, of days on which syncd ran, and of tombstones is bounded here too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from syncd.core.model import RelPath, Unheld
from syncd.store.findings import SqliteFindings
from syncd.store.rows import WHOLE_RUN
from syncd.store.sql import Row, below, by_directory, chunks, int64, storable, write_batches

KEPT_RUNS = 100
KEPT_RUN_DAYS = 1_000
KEPT_TOMBSTONES_MS = 90 * 86_400_000

_MARK_ABSENT = """
UPDATE records SET absent_run = ? WHERE directory_id = ? AND name IN (SELECT value FROM json_each(?))"""
_SUBTREE = """
SELECT json_group_array(id) FROM (
    SELECT id, path FROM directories WHERE mirror_id = ?1 AND path = ?2
    UNION ALL SELECT id, path FROM directories WHERE mirror_id = ?1 AND path >= ?3 AND path < ?4
    ORDER BY path DESC LIMIT -1)"""
_REMOVE_EMPTY = """
DELETE FROM directories WHERE id = ?1 AND path <> '' AND NOT EXISTS (SELECT 1 FROM records WHERE directory_id = ?1)
    AND NOT EXISTS (SELECT 1 FROM directories AS inner WHERE inner.parent_id = ?1)"""
_NOTE_UNHELD = """
INSERT INTO unheld (mirror_id, path, reason, detail, size, mtime_ns, attempts, since, run_id)
VALUES {}
ON CONFLICT (mirror_id, path) DO UPDATE SET
    attempts = CASE WHEN reason <> excluded.reason THEN 1
                    WHEN run_id = excluded.run_id THEN attempts ELSE attempts + 1 END,
    since = CASE WHEN reason <> excluded.reason THEN excluded.since ELSE since END,
    reason = excluded.reason, detail = excluded.detail, size = excluded.size, mtime_ns = excluded.mtime_ns,
    run_id = excluded.run_id"""


class Directories(Protocol):
    """Keys of directories; see Catalogue."""

    def directory_ids(self, mirror_id: int, paths: set[str], *, make: bool) -> dict[str, int]: ...
    def forget_directory_ids(self) -> None: ...


class RunEnd:
    """Takes over what one run of one mirror found. at: when it ended (ISO 8601 UTC). One object a transaction."""

    def __init__(self, db: sqlite3.Connection, directories: Directories, mirror_id: int, run_id: str, at: str) -> None:
        self._db = db
        self._directories = directories
        self._mirror_id = mirror_id
        self._run_id = run_id
        self._at = at

    def take_over_part(self, findings: SqliteFindings) -> None:
        """First absences, what was seen again, what is unheld, new folders."""
        db, run_id = self._db, findings.run_id
        for chunk in chunks(findings.newly_absent()):
            db.executemany(_MARK_ABSENT, ((run_id, *names) for names in by_directory(chunk)))
        for chunk in chunks(findings.reappeared()):
            db.executemany(_MARK_ABSENT, (("", *names) for names in by_directory(chunk)))
        for rows in chunks((self._mirror_id, *unheld, 1, self._at, run_id) for unheld in findings.still_unheld()):
            write_batches(db, _NOTE_UNHELD, rows)
        for new in chunks(findings.folders_new()):
            self._directories.directory_ids(self._mirror_id, set(new), make=True)

    def take_over(self, findings: SqliteFindings, approved: Iterable[RelPath]) -> None:
        """The same of a look at the whole source, and what follows from it for approvals and absent folders."""
        db, mirror_id = self._db, self._mirror_id
        self.take_over_part(findings)
        db.execute(
            "DELETE FROM approvals WHERE mirror_id = ? AND approved = 0 AND run_id <> ?", (mirror_id, findings.run_id)
        )
        settled = json.dumps([path for path in approved if not findings.concerns(path)])
        drop = "DELETE FROM approvals WHERE mirror_id = ? AND path IN (SELECT value FROM json_each(?))"
        db.execute(drop, (mirror_id, settled))
        self._take_over_folders(findings)

    def _take_over_folders(self, findings: SqliteFindings) -> None:
        """Absent folders go where nothing is held at or below them."""
        self._directories.forget_directory_ids()
        for path in findings.folders_gone():
            rows = self._db.execute(_SUBTREE, (self._mirror_id, path, *below(path))).fetchone()
            self._db.executemany(_REMOVE_EMPTY, ((directory_id,) for directory_id in json.loads(rows[0])))

    def note_failures(self, failures: Iterable[Unheld]) -> None:
        """Note what was listed and could not be fetched."""
        for chunk in chunks(map(self._unheld_row, failures)):
            write_batches(self._db, _NOTE_UNHELD, chunk)

    def _unheld_row(self, unheld: Unheld) -> Row:
        path, detail = storable(unheld.path), storable(unheld.detail)
        listed = int64(unheld.size), int64(unheld.mtime_ns)
        return (self._mirror_id, path, unheld.reason.value, detail, *listed, 1, self._at, self._run_id)

    def note_look(self, started_at: str, *, success: bool) -> None:
        """Note a look at the whole source: it began then, and what no longer is unheld is forgotten."""
        db, mirror_id = self._db, self._mirror_id
        db.execute("DELETE FROM unheld WHERE mirror_id = ? AND run_id <> ?", (mirror_id, self._run_id))
        db.execute("UPDATE mirrors SET listed_at = ? WHERE id = ?", (started_at, mirror_id))
        if success:
            db.execute("UPDATE mirrors SET last_success = ? WHERE id = ?", (self._at, mirror_id))

    def note_run(self, started_at: str, state: str, exit_code: int, report: str, *, announce: bool) -> None:
        """Write the run's row. Kept are the latest KEPT_RUNS, the last whole one, and those that owe a message.

        announce: it owes one of its own, after everything announced so far.
        """
        self._db.execute(
            """INSERT OR REPLACE INTO runs
                   (run_id, mirror_id, started_at, finished_at, state, exit_code, report, announce_after)
               VALUES (?, ?, ?, ?, ?, ?, ?, CASE WHEN ? THEN (SELECT next_seq - 1 FROM feed) END)""",
            (self._run_id, self._mirror_id, started_at, self._at, state, exit_code, report, announce),
        )
        self._db.execute(
            f"""DELETE FROM runs WHERE mirror_id = ?1 AND announce_after IS NULL AND seq <= (
                   SELECT seq FROM runs WHERE mirror_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)
                AND seq <> coalesce((SELECT max(seq) FROM runs AS r WHERE mirror_id = ?1 AND {WHOLE_RUN}), -1)""",
            (self._mirror_id, KEPT_RUNS),
        )

    def note_day(self) -> None:
        """Note the day; with the first run of it, old tombstones are forgotten."""
        if note_day(self._db, self._at[:10]):
            _trim_tombstones(self._db, datetime.fromisoformat(self._at))


def note_day(db: sqlite3.Connection, day: str) -> bool:
    """Note a day on which syncd ran (YYYY-MM-DD, UTC); False when that is known already."""
    if not db.execute("INSERT OR IGNORE INTO run_days (day) VALUES (?)", (day,)).rowcount:
        return False
    keep = "SELECT day FROM run_days ORDER BY day DESC LIMIT ?"
    db.execute(f"DELETE FROM run_days WHERE day NOT IN ({keep})", (KEPT_RUN_DAYS,))
    return True


def _trim_tombstones(db: sqlite3.Connection, now: datetime) -> None:
    """Forget old tombstones; the floor under each mirror's generations takes their place."""
    before = int(now.timestamp() * 1_000) - KEPT_TOMBSTONES_MS
    newest = "SELECT max(generation) FROM tombstones WHERE mirror_id = mirrors.id AND generation < ?1"
    db.execute(f"UPDATE mirrors SET generation_floor = max(generation_floor, coalesce(({newest}), 0))", (before,))
    db.execute("DELETE FROM tombstones WHERE generation < ?", (before,))
