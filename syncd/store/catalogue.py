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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from syncd.core.model import Fact, FileEvent, Intent, Partial, RelPath, Unheld
from syncd.core.paths import parents
from syncd.ports import ClosedRun
from syncd.store import outbox, schema
from syncd.store.catalogue_commit import Change, distinct
from syncd.store.catalogue_reads import CatalogueReads
from syncd.store.findings import SqliteFindings
from syncd.store.intents import close_intents, pack_group
from syncd.store.looks import Looks
from syncd.store.mirror_reads import MirrorReads
from syncd.store.run_end import RunEnd, note_day
from syncd.store.sql import (
    Reader,
    Row,
    chunks,
    connect_reader,
    connect_writer,
    pack_print,
    translated,
    write_batches,
)

_REMEMBERED_DIRECTORIES = 8_192

_FINISHED = frozenset({0, 3})
"""Exit codes of a run that did all it could: done, and done but for some files."""

_FORGET_IDS = """
UPDATE records SET packed = CAST(zeroblob(8) || substr(packed, 9, 16) || zeroblob(8) || substr(packed, 33) AS BLOB)
WHERE directory_id IN (SELECT id FROM directories WHERE mirror_id = ?)"""


class Catalogue(CatalogueReads):
    """All mirrors' facts. Thread-safe: one transaction at a time; reads beside it.

    on_announced: called after each commit that left new announcements, by the thread that committed; has to be quick.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(Reader(lambda: connect_reader(path), path))
        self.path = path
        self.looks = self._reader.another()  # of its own: a worker's look-up waits for no long read
        self._connection = connection
        self._writing = threading.RLock()
        self._syncs = True
        self._known_ids: dict[tuple[int, str], int] = {}
        self.on_announced: Callable[[], None] = _nobody

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
            there = db.execute("SELECT id FROM mirrors WHERE name = ?", (name,)).fetchone()
            if there is not None:  # another thread was quicker
                return int(there[0])
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
            for table in (
                "directories",
                "tombstones",
                "outbox",
                "intents",
                "partials",
                "unheld",
                "approvals",
                "runs",
                "notes",
                "leases",
            ):
                db.execute(f"DELETE FROM {table} WHERE mirror_id = ?", row)
            db.execute("DELETE FROM mirrors WHERE id = ?", row)
            self._known_ids.clear()
        return True

    def mark_published(self, numbers: Iterable[int], *, at: str) -> None:
        """Note, durably, that nsqd said OK to these announcements (ISO 8601 UTC)."""
        with self.transaction() as db:
            outbox.mark_published(db, numbers, at)

    def mark_run_announced(self, run: ClosedRun) -> None:
        """Note, durably, that nsqd said OK to the message that closes a run."""
        done = """UPDATE runs SET announce_after = NULL
                  WHERE run_id = ? AND mirror_id = (SELECT id FROM mirrors WHERE name = ?)"""
        with self.transaction() as db:
            db.execute(done, (run.run_id, run.mirror))

    def trim_announcements(self, before: str, *, owed_too: bool = False) -> int:
        """Remove announcements published before a time (owed_too: all committed before it); return how many."""
        with self.transaction() as db:
            return outbox.trim(db, before, owed_too=owed_too)

    def record_run_day(self, day: str) -> None:
        """Note that syncd ran on a day (YYYY-MM-DD, UTC)."""
        if self._reader.row("SELECT 1 FROM run_days WHERE day = ?", (day,)) is None:
            with self.transaction() as db:
                note_day(db, day)

    @property
    def is_busy(self) -> bool:
        """Whether somebody else writes just now, so that a transaction would have to wait."""
        free = self._writing.acquire(blocking=False)
        if free:
            self._writing.release()
        return not free

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction on the writing connection; durable when the block has been left.

        synced False: it outlives this process, not the machine; the next synced one makes it durable too. See
        https://sqlite.org/pragma.html#pragma_synchronous, WAL mode.
        """
        with self._writing, translated(self.path):
            db = self._connection
            if synced is not self._syncs and not db.in_transaction:
                db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
                self._syncs = synced
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                self._known_ids.clear()
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def directory_ids(self, mirror_id: int, paths: set[str], *, make: bool) -> dict[str, int]:
        """Return the keys of directories; with `make`, those that are new are made, their parents too.

        Inside a transaction only.
        """
        ids = {path: self._known_ids[mirror_id, path] for path in paths if (mirror_id, path) in self._known_ids}
        if len(ids) < len(paths):
            found = self._find_directories(mirror_id, paths - ids.keys(), make=make)
            ids |= {path: found[path] for path in paths & found.keys()}
            if len(self._known_ids) + len(found) > _REMEMBERED_DIRECTORIES:
                self._known_ids.clear()
            self._known_ids.update(((mirror_id, path), key) for path, key in found.items())
        return ids

    def _find_directories(self, mirror_id: int, paths: set[str], *, make: bool) -> dict[str, int]:
        db = self._connection
        wanted = {parent for path in paths for parent in (*parents(RelPath(path)), path, "")}
        find = """SELECT json_group_array(json_array(path, id)) FROM directories
                  WHERE mirror_id = ? AND path IN (SELECT value FROM json_each(?))"""
        found = dict(json.loads(db.execute(find, (mirror_id, json.dumps(list(wanted)))).fetchone()[0]))
        if make and len(found) < len(wanted):
            (first,) = db.execute("SELECT max(id) + 1 FROM directories").fetchone()
            rows: list[Row] = []
            for key, path in enumerate(sorted(wanted - found.keys()), first):  # parents before what lies in them
                rows.append((key, mirror_id, found[path.rpartition("/")[0]], path))
                found[path] = key
            write_batches(db, "INSERT INTO directories (id, mirror_id, parent_id, path) VALUES {}", rows)
        return found

    def forget_directory_ids(self) -> None:
        """Look directories up again: some are about to be removed."""
        self._known_ids.clear()

    def shrink(self) -> None:
        """Give back what SQLite keeps of the file in memory (after large work, before a long rest)."""
        with self._writing, translated(self.path):
            self._connection.execute("PRAGMA shrink_memory")
        self._reader.shrink()

    def close(self) -> None:
        """Close all connections, the writing one last (it tidies up the write-ahead log); safe to repeat."""
        with self._writing, translated(self.path):
            self._reader.close()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SqliteMirrorCatalogue(Looks, MirrorReads):
    """ports.MirrorCatalogue, and what the composition, `approve` and the end of a run need besides."""

    def __init__(self, catalogue: Catalogue, reader: Reader, mirror_id: int, name: str) -> None:
        super().__init__(reader, mirror_id, name)
        self._catalogue = catalogue
        self._looks = catalogue.looks
        self._announced_run = ""

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

    def set_note(self, topic: str, note: str) -> None:
        """Keep a short text about this mirror under a topic, "" forgets it."""
        with self._catalogue.transaction() as db:
            if note:
                db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (self.id, topic, note))
            else:
                db.execute("DELETE FROM notes WHERE mirror_id = ? AND topic = ?", (self.id, topic))

    def use_source(self, source_id: str) -> None:
        with self._catalogue.transaction() as db:
            (known,) = db.execute("SELECT source_id FROM mirrors WHERE id = ?", (self.id,)).fetchone()
            if known not in ("", source_id):
                db.execute(_FORGET_IDS, (self.id,))
                db.execute("DELETE FROM partials WHERE mirror_id = ?", (self.id,))
            if known != source_id:
                db.execute("UPDATE mirrors SET source_id = ? WHERE id = ?", (source_id, self.id))

    # --- a group of files

    def declare(self, intents: Sequence[Intent]) -> None:
        ids, declared = pack_group(intents)
        with self._catalogue.transaction() as db:
            db.execute("INSERT INTO intents (mirror_id, ids, declared) VALUES (?, ?, ?)", (self.id, ids, declared))

    def commit(self, facts: Sequence[Fact], closes: Sequence[Intent], *, run_id: str, now_ms: int) -> None:
        """See ports.MirrorCatalogue. announce=False is silent only for a held path whose digest stays the same.

        Facts count in their order, so one path may occur twice.
        """
        with self._catalogue.transaction() as db:
            change = Change(db, self._catalogue.directory_ids, self.id, run_id, now_ms)
            for batch in distinct(facts):
                change.apply(batch)
            announced = change.finish()
            if closes:
                close_intents(db, self.id, closes)
        if announced:
            self._announced_run = run_id
            self._catalogue.on_announced()

    def owe_again(self, chosen: Iterable[outbox.Again], *, run_id: str, at: str) -> int:
        """Owe announcements again, as they were, but for what has changed since; return how many.

        A chunk is durable when the next one is taken. No older state can come after a newer one of the same path: what
        is held is looked at while nothing else can be committed.
        """
        count = 0
        for chunk in chunks(chosen):
            with self._catalogue.transaction() as db:
                current = [each for each in chunk if self._is_current(each)]
                outbox.owe_again(db, self.id, current, run_id=run_id, at=at)
            count += len(current)
        if count:
            self._catalogue.on_announced()
        return count

    def _is_current(self, again: outbox.Again) -> bool:
        record = self.record(again.path)
        if record is None:
            return again.event is FileEvent.REMOVED
        return again.event is not FileEvent.REMOVED and record.generation == again.generation

    def save_partial(self, partial: Partial) -> None:
        digest = bytes.fromhex(partial.sha256)
        row = (self.id, partial.path, pack_print(partial.fingerprint), partial.staged, partial.offset, digest)
        with self._catalogue.transaction() as db:
            db.execute("INSERT OR REPLACE INTO partials VALUES (?, ?, ?, ?, ?, ?)", row)

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
            for chunk in chunks((self.id, path, action, 0, run_id) for path, action in items):
                write_batches(db, "INSERT OR IGNORE INTO approvals VALUES {}", chunk)

    def approve(self, paths: Iterable[RelPath]) -> int:
        """Let these of the held-back paths through; return how many of them there were."""
        statement = """UPDATE approvals SET approved = 1
                       WHERE mirror_id = ? AND approved = 0 AND path IN (SELECT value FROM json_each(?))"""
        with self._catalogue.transaction() as db:
            return db.execute(statement, (self.id, json.dumps(list(paths)))).rowcount

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
        partial: bool = False,
        keep: bool = True,
    ) -> None:
        """Write what a run ended with, in one transaction. Times are ISO 8601 UTC.

        findings: given when the scan was complete enough to count as a look at the source. Then first absences become
                  sightings of this run, what was seen again loses its sighting, what is unheld is what findings and
                  `failures` say (attempts and since go on for the same path and reason), known directories are those
                  of the source, an approval of a path that is no longer absent or changed drops out, and what another
                  run was refused is halted no more. They are closed.
        failures: what was listed and could not be fetched.
        partial:  the run looked at some directories only (after a hint): first absences and what is unheld there are
                  noted, nothing else is concluded, and it is no look at the whole source.
        keep:     False writes no row for the run itself (it changed nothing that anybody would look for).
        A run that announced or changed something owes a message of its own, after everything announced so far.
        """
        changed = self._announced_run == run_id or any(report.get(count) for count in outbox.CHANGES)
        with self._catalogue.transaction() as db:
            end = RunEnd(db, self._catalogue, self.id, run_id, finished_at)
            if findings is not None and partial:
                end.take_over_part(findings)
            elif findings is not None:
                end.take_over(findings, self.approved())
            end.note_failures(failures)
            if findings is not None and not partial:
                end.note_look(started_at, success=exit_code in _FINISHED)
            if keep or changed:
                end.note_run(started_at, state, exit_code, json.dumps(report), announce=changed)
            end.note_day()
        if findings is not None:
            findings.close()

    def _set(self, column: str, value: object) -> None:
        with self._catalogue.transaction() as db:
            db.execute(f"UPDATE mirrors SET {column} = ? WHERE id = ?", (value, self.id))


def _nobody() -> None:
    """Be told of new announcements, and do nothing."""
