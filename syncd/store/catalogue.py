# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""The catalogue's writer: one SQLite file in the state directory, one writing connection, every commit synced.

The process that opens it holds the state directory's lock (state.py). Reads go through a connection of their own and
never wait for a commit. A transaction that raises leaves the catalogue as it was.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from syncd.core.model import Fact, Intent, Partial, RelPath, Unheld
from syncd.store import schema
from syncd.store.catalogue_commit import Change, distinct
from syncd.store.catalogue_reads import CatalogueReads, MirrorReads
from syncd.store.findings import SqliteFindings
from syncd.store.sql import Reader, Row, below, connect_reader, connect_writer, signed, storable, translated

KEPT_RUNS = 100
KEPT_RUN_DAYS = 1_000
KEPT_TOMBSTONES_MS = 90 * 86_400_000
_REMEMBERED_DIRECTORIES = 8_192

_FINISHED = frozenset({0, 3})
"""Exit codes of a run that did all it could: done, and done but for some files."""

_DECLARE = """INSERT INTO intents (id, mirror_id, kind, path, sha256, size, mtime_ns, ctime_ns, file_id, staged,
                                   from_path)
              VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_NOTE_UNHELD = """
INSERT INTO unheld (mirror_id, path, reason, detail, size, mtime_ns, attempts, since, run_id)
VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?)
ON CONFLICT (mirror_id, path) DO UPDATE SET
    attempts = CASE WHEN reason <> excluded.reason THEN 1
                    WHEN run_id = excluded.run_id THEN attempts ELSE attempts + 1 END,
    since = CASE WHEN reason <> excluded.reason THEN excluded.since ELSE since END,
    reason = excluded.reason, detail = excluded.detail, size = excluded.size, mtime_ns = excluded.mtime_ns,
    run_id = excluded.run_id"""


class Catalogue(CatalogueReads):
    """All mirrors' facts. Thread-safe: one transaction at a time; reads beside it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(Reader(lambda: connect_reader(path), path))
        self.path = path
        self._connection = connection
        self._writing = threading.RLock()
        self._directory_ids: dict[tuple[int, str], int] = {}
        self._findings: weakref.WeakSet[SqliteFindings] = weakref.WeakSet()

    @classmethod
    def open(cls, path: Path, *, app_version: str) -> Catalogue:
        """Open the catalogue for writing; make an empty one where there is none; bring an older one up to date.

        Raises: CatalogueDamaged (then schema.set_aside() and open again), CatalogueTooNew, DiskFull, CatalogueError.
        """
        trouble = schema.find_damage(path)
        if trouble is not None:
            raise trouble
        if not path.exists():
            schema.create(path, app_version)
        with translated(path):
            connection = connect_writer(path)
            try:
                schema.upgrade(connection, path, app_version)
                return cls(connection, path)
            except BaseException:
                connection.close()
                raise

    def mirror(self, name: str) -> SqliteMirrorCatalogue:
        """Return one mirror's facts; a mirror of this name is begun where there is none."""
        row = self._reader.row("SELECT id FROM mirrors WHERE name = ?", (name,))
        return SqliteMirrorCatalogue(self, self._reader, row[0] if row else self._begin_mirror(name), name)

    def _begin_mirror(self, name: str) -> int:
        with self.transaction() as db:
            begun = db.execute("INSERT INTO mirrors (name, uid) VALUES (?, ?)", (name, secrets.token_hex(16)))
            db.execute("INSERT INTO directories (mirror_id, path) VALUES (?, '')", (begun.lastrowid,))
            return int(begun.lastrowid or 0)

    def forget_mirror(self, name: str) -> bool:
        """Remove everything known of a mirror, announcements owed included; False when there is none of that name."""
        with self.transaction() as db:
            row = db.execute("SELECT id FROM mirrors WHERE name = ?", (name,)).fetchone()
            if row is None:
                return False
            db.execute(
                "DELETE FROM records WHERE directory_id IN (SELECT id FROM directories WHERE mirror_id = ?)", row
            )
            for table in ("directories", "tombstones", "outbox", "intents", "partials", "unheld", "approvals", "runs"):
                db.execute(f"DELETE FROM {table} WHERE mirror_id = ?", row)
            db.execute("DELETE FROM mirrors WHERE id = ?", row)
            self._directory_ids.clear()
        return True

    def mark_published(self, numbers: Iterable[int], *, at: str) -> None:
        """Note, durably, that nsqd said OK to these announcements (ISO 8601 UTC)."""
        with self.transaction() as db:
            db.executemany("UPDATE outbox SET published_at = ? WHERE seq = ?", ((at, number) for number in numbers))

    def trim_announcements(self, before: str) -> int:
        """Remove published announcements that were committed before a time; return how many."""
        with self.transaction() as db:
            return db.execute("DELETE FROM outbox WHERE published_at IS NOT NULL AND at < ?", (before,)).rowcount

    def record_run_day(self, day: str) -> None:
        """Note that syncd ran on a day (YYYY-MM-DD, UTC)."""
        if self._reader.row("SELECT 1 FROM run_days WHERE day = ?", (day,)) is None:
            with self.transaction() as db:
                _note_day(db, day)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction on the writing connection; durable when the block has been left."""
        with self._writing, translated(self.path):
            db = self._connection
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._directory_ids.clear()
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def directory_id(self, mirror_id: int, path: str) -> int:
        """Return a directory's key, making it and its parents where they are new. Inside a transaction only."""
        known = self._directory_ids.get((mirror_id, path))
        if known is None:
            find = "SELECT id FROM directories WHERE mirror_id = ? AND path = ?"
            row = self._connection.execute(find, (mirror_id, path)).fetchone()
            known = int(row[0]) if row else self._make_directory(mirror_id, path)
            if len(self._directory_ids) >= _REMEMBERED_DIRECTORIES:
                self._directory_ids.clear()
            self._directory_ids[mirror_id, path] = known
        return known

    def _make_directory(self, mirror_id: int, path: str) -> int:
        parent = self.directory_id(mirror_id, path.rpartition("/")[0])
        make = "INSERT INTO directories (mirror_id, parent_id, path) VALUES (?, ?, ?)"
        return int(self._connection.execute(make, (mirror_id, parent, path)).lastrowid or 0)

    def forget_directory_ids(self) -> None:
        """Look directories up again: some are about to be removed."""
        self._directory_ids.clear()

    def watch(self, findings: SqliteFindings) -> SqliteFindings:
        """Close these findings with the catalogue, should nobody else do it."""
        self._findings.add(findings)
        return findings

    def close(self) -> None:
        """Close all connections, the writing one last (it tidies up the write-ahead log); safe to repeat."""
        with self._writing, translated(self.path):
            for findings in list(self._findings):
                findings.close()
            self._reader.close()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SqliteMirrorCatalogue(MirrorReads):
    """ports.MirrorCatalogue, and what the composition, `approve` and the end of a run need besides."""

    def __init__(self, catalogue: Catalogue, reader: Reader, mirror_id: int, name: str) -> None:
        super().__init__(reader, mirror_id, name)
        self._catalogue = catalogue

    # --- what the mirror is

    def set_target(self, target: str) -> None:
        """Remember which directory this mirror is kept in."""
        self._set("target", target)

    def set_uid(self, uid: str) -> None:
        """Take over the identity that the target's owner file shows (after a rebuild)."""
        self._set("uid", uid)

    def manifest_written(self, revision: int) -> None:
        """Note which revision the manifest on disk shows."""
        self._set("manifest_revision", revision)

    def use_source(self, source_id: str) -> None:
        with self._catalogue.transaction() as db:
            (known,) = db.execute("SELECT source_id FROM mirrors WHERE id = ?", (self.id,)).fetchone()
            if known not in ("", source_id):
                db.execute(
                    "UPDATE records SET ctime_ns = 0, file_id = 0"
                    " WHERE directory_id IN (SELECT id FROM directories WHERE mirror_id = ?)",
                    (self.id,),
                )
                db.execute("DELETE FROM partials WHERE mirror_id = ?", (self.id,))
            if known != source_id:
                db.execute("UPDATE mirrors SET source_id = ? WHERE id = ?", (source_id, self.id))

    def findings(self, run_id: str) -> SqliteFindings:
        return self._catalogue.watch(super().findings(run_id))

    # --- a group of files

    def declare(self, intents: Sequence[Intent]) -> None:
        with self._catalogue.transaction() as db:
            db.executemany(_DECLARE, map(self._intent_row, intents))

    def _intent_row(self, intent: Intent) -> Row:
        size, mtime_ns, ctime_ns, file_id = intent.fingerprint
        fingerprint = size, mtime_ns, ctime_ns, signed(file_id)
        digest = bytes.fromhex(intent.sha256)
        return (
            intent.id,
            self.id,
            intent.kind.value,
            intent.path,
            digest,
            *fingerprint,
            intent.staged,
            intent.from_path,
        )

    def commit(self, facts: Sequence[Fact], closes: Sequence[Intent], *, run_id: str, now_ms: int) -> None:
        """See ports.MirrorCatalogue. announce=False is silent only for a held path whose digest stays the same.

        Facts count in their order, so one path may occur twice.
        """
        with self._catalogue.transaction() as db:
            change = Change(self._catalogue.directory_id, db, self.id, run_id, now_ms)
            for batch in distinct(facts):
                change.apply(batch)
            change.finish()
            db.executemany("DELETE FROM intents WHERE id = ?", [(intent.id,) for intent in closes])

    def save_partial(self, partial: Partial) -> None:
        size, mtime_ns, ctime_ns, file_id = partial.fingerprint
        fingerprint = size, mtime_ns, ctime_ns, signed(file_id)
        row = (self.id, partial.path, *fingerprint, partial.staged, partial.offset, bytes.fromhex(partial.sha256))
        with self._catalogue.transaction() as db:
            db.execute("INSERT OR REPLACE INTO partials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def forget_partial(self, path: RelPath) -> None:
        with self._catalogue.transaction() as db:
            db.execute("DELETE FROM partials WHERE mirror_id = ? AND path = ?", (self.id, path))

    # --- what a person lets through

    def hold(self, run_id: str, items: Iterable[tuple[RelPath, str]]) -> None:
        """Store what this run was refused, as (path, action), in place of what an earlier run was.

        What has been approved and not carried out stays approved.
        """
        with self._catalogue.transaction() as db:
            db.execute("DELETE FROM approvals WHERE mirror_id = ? AND approved = 0", (self.id,))
            db.executemany(
                "INSERT OR IGNORE INTO approvals (mirror_id, path, action, approved, run_id) VALUES (?, ?, ?, 0, ?)",
                ((self.id, path, action, run_id) for path, action in items),
            )

    def approve(self, paths: Iterable[RelPath]) -> int:
        """Let these of the held-back paths through; return how many of them there were."""
        statement = "UPDATE approvals SET approved = 1 WHERE mirror_id = ? AND path = ? AND approved = 0"
        with self._catalogue.transaction() as db:
            return db.executemany(statement, ((self.id, path) for path in paths)).rowcount

    # --- the end of a run

    def finish_run(
        self,
        report: dict[str, Any],
        *,
        run_id: str,
        state: str,
        exit_code: int,
        started_at: str,
        finished_at: str,
        findings: SqliteFindings | None = None,
        failures: Iterable[Unheld] = (),
    ) -> None:
        """Write what a run ended with, in one transaction. Times are ISO 8601 UTC.

        findings: given when the scan was complete enough to count as a look at the source. Then first absences become
                  sightings of this run, what was seen again loses its sighting, what is unheld is what findings and
                  `failures` say (attempts and since go on for the same path and reason), known directories are those
                  of the source, an approval of a path that is no longer absent or changed drops out, and what another
                  run was refused is halted no more. They are closed.
        failures: what was listed and could not be fetched.
        """
        with self._catalogue.transaction() as db:
            if findings is not None:
                self._take_over(db, findings, finished_at)
            db.executemany(_NOTE_UNHELD, (self._unheld_row(unheld, finished_at, run_id) for unheld in failures))
            if findings is not None:
                db.execute("DELETE FROM unheld WHERE mirror_id = ? AND run_id <> ?", (self.id, run_id))
                db.execute("UPDATE mirrors SET listed_at = ? WHERE id = ?", (started_at, self.id))
                if exit_code in _FINISHED:
                    db.execute("UPDATE mirrors SET last_success = ? WHERE id = ?", (finished_at, self.id))
            row = (run_id, self.id, started_at, finished_at, state, exit_code, json.dumps(report))
            _note_run(db, self.id, row)
            if _note_day(db, finished_at[:10]):
                _trim_tombstones(db, datetime.fromisoformat(finished_at))
        if findings is not None:
            findings.close()

    def _take_over(self, db: sqlite3.Connection, findings: SqliteFindings, at: str) -> None:
        run_id = findings.run_id
        mark = "UPDATE records SET absent_run = ? WHERE directory_id = ? AND name = ?"
        db.executemany(mark, ((run_id, *name) for name in findings.newly_absent()))
        db.executemany(mark, (("", *name) for name in findings.reappeared()))
        db.executemany(_NOTE_UNHELD, ((self.id, *unheld, at, run_id) for unheld in findings.still_unheld()))
        db.execute("DELETE FROM approvals WHERE mirror_id = ? AND approved = 0 AND run_id <> ?", (self.id, run_id))
        approved = db.execute("SELECT path FROM approvals WHERE mirror_id = ? AND approved = 1", (self.id,)).fetchall()
        drop = [(self.id, path) for (path,) in approved if not findings.concerns(path)]
        db.executemany("DELETE FROM approvals WHERE mirror_id = ? AND path = ?", drop)
        self._take_over_folders(db, findings)

    def _take_over_folders(self, db: sqlite3.Connection, findings: SqliteFindings) -> None:
        """Absent folders go where nothing is held at or below them; listed ones come."""
        self._catalogue.forget_directory_ids()
        subtree = "mirror_id = ? AND (path = ? OR (path >= ? AND path < ?))"
        for path in findings.folders_gone():
            parameters = (self.id, path, *below(path))
            candidates = db.execute(
                f"SELECT id FROM directories WHERE {subtree} AND path <> '' ORDER BY path DESC",
                parameters,
            ).fetchall()
            db.executemany(
                """DELETE FROM directories WHERE id = ?1
                   AND NOT EXISTS (SELECT 1 FROM records WHERE directory_id = ?1)
                   AND NOT EXISTS (SELECT 1 FROM directories AS below WHERE below.parent_id = ?1)""",
                candidates,
            )
        for path in findings.folders_new():
            self._catalogue.directory_id(self.id, path)

    def _unheld_row(self, unheld: Unheld, at: str, run_id: str) -> Row:
        path, detail = storable(unheld.path), storable(unheld.detail)
        return (self.id, path, unheld.reason.value, detail, unheld.size, unheld.mtime_ns, at, run_id)

    def _set(self, column: str, value: object) -> None:
        with self._catalogue.transaction() as db:
            db.execute(f"UPDATE mirrors SET {column} = ? WHERE id = ?", (value, self.id))


def _note_run(db: sqlite3.Connection, mirror_id: int, row: Row) -> None:
    """Write a run's row; only the latest KEPT_RUNS of the mirror are kept."""
    db.execute(
        """INSERT OR REPLACE INTO runs (run_id, mirror_id, started_at, finished_at, state, exit_code, report)
           VALUES (?, ?, ?, ?, ?, ?, ?)""",
        row,
    )
    db.execute(
        """DELETE FROM runs WHERE mirror_id = ?1 AND seq <= (
               SELECT seq FROM runs WHERE mirror_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)""",
        (mirror_id, KEPT_RUNS),
    )


def _note_day(db: sqlite3.Connection, day: str) -> bool:
    """Note a day on which syncd ran; False when that is known already."""
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
