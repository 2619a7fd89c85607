# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What can be asked of one mirror's facts: shared by the writer and by readers without a lock (reading.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from syncd.core.model import ROOT, FileEvent, Fingerprint, Intent, Partial, Record, RelPath, Unheld
from syncd.core.paths import split
from syncd.core.reasons import Reason
from syncd.ports import HeldDirectory, Totals
from syncd.store import outbox
from syncd.store.findings import SqliteFindings
from syncd.store.held import HeldRows
from syncd.store.intents import unpack_group
from syncd.store.near import Near
from syncd.store.rows import OLDEST_OWED, RUN, UNHELD, WHOLE_RUN, Owed, RunRow, made, to_partial, to_run, to_unheld
from syncd.store.sql import (
    CHUNK_ROWS,
    PACKED_BYTES,
    Reader,
    Row,
    below,
    pack_print,
    unpack_record,
    unpack_records,
    unreadable,
    without_ids,
)

STARTED_OVER_NOTE = "started_over"
"""The catalogue's note about a mirror that was given a new target: when (ms since the epoch)."""

_HELD = """SELECT r.packed, r.absent_run FROM directories AS d CROSS JOIN records AS r ON r.directory_id = d.id
           WHERE d.mirror_id = ? AND d.path = ? AND r.name = ?"""
_DIRECTORY = """SELECT d.id, (SELECT group_concat(substr(f.path, ?), '/') FROM directories AS f
                              WHERE f.parent_id = d.id)
                FROM directories AS d WHERE d.mirror_id = ? AND d.path = ?"""
_RECORDS = f"""SELECT group_concat(name, '/'), group_concat(hex(packed), ''), group_concat(absent_run, '/')
               FROM (SELECT name, packed, absent_run FROM records WHERE directory_id = ? AND name > ?
                     ORDER BY name LIMIT {CHUNK_ROWS})"""
_IDENTITY = """SELECT 1 FROM records AS r INDEXED BY records_by_file_id CROSS JOIN directories AS d
               ON d.id = r.directory_id AND d.mirror_id = ?1
               WHERE substr(r.packed, 1, 8) = substr(?2, 1, 8) AND substr(r.packed, 1, 8) <> x'0000000000000000'
               AND substr(r.packed, 1, 24) = ?2 LIMIT 1"""


class MirrorReads:
    """The reading half of ports.MirrorCatalogue, and what the screens ask. Any thread; nothing here waits for a commit.

    Every read may raise CatalogueDamaged or CatalogueError. Iterators take a chunk at a time: the catalogue may change
    while they are consumed, and each row is as it was when its chunk was read.
    """

    def __init__(self, reader: Reader, mirror_id: int, name: str) -> None:
        self.name = name
        self.id = mirror_id
        self._reader = reader
        self._ids_known = True

    def totals(self) -> Totals:
        return Totals(*self._one("files, bytes", 0, 0))

    def count_below(self, directory: RelPath) -> int:
        """Return how many files are held below a directory."""
        count = """SELECT count(*) FROM directories AS d CROSS JOIN records AS r ON r.directory_id = d.id
                   WHERE d.mirror_id = ? AND (d.path = ? OR (d.path >= ? AND d.path < ?))"""
        row = self._reader.row(count, (self.id, directory, *below(directory)))
        return int(row[0]) if row else 0

    @property
    def uid(self) -> str:
        """Random identity of the mirror, which its target's owner file repeats."""
        return str(self._one("uid", "")[0])

    @property
    def target(self) -> str:
        """The target that this mirror was last kept in, "" before the first."""
        return str(self._one("target", "")[0])

    @property
    def revision(self) -> int:
        """Rises with every commit that changes records."""
        return int(self._one("revision", 0)[0])

    @property
    def manifest_revision(self) -> int:
        """The revision that the manifest on disk shows, -1 before the first."""
        return int(self._one("manifest_revision", -1)[0])

    @property
    def listed_at(self) -> str:
        """When the last complete look at the source began, "" = never."""
        return str(self._one("listed_at", "")[0])

    @property
    def last_success(self) -> str:
        """When a run last finished, "" = never."""
        return str(self._one("last_success", "")[0])

    def note(self, topic: str) -> str:
        """Return the text kept under a topic, "" when there is none."""
        row = self._reader.row("SELECT note FROM notes WHERE mirror_id = ? AND topic = ?", (self.id, topic))
        return str(row[0]) if row else ""

    def held_in(self, directory: RelPath) -> HeldDirectory:
        name_at = len(directory) + 2 if directory else 1
        row = self._reader.row(_DIRECTORY, (name_at, self.id, directory))
        if row is None:
            return HeldDirectory({}, frozenset())
        folders = frozenset(row[1].split("/") if row[1] else ())
        chunks = list(self._chunks_in(row[0]))
        if len(chunks) == 1:
            names, packed, absent_runs = chunks[0]
        else:
            names = list(chain.from_iterable(chunk[0] for chunk in chunks))
            packed = b"".join(chunk[1] for chunk in chunks)
            absent_runs = list(chain.from_iterable(chunk[2] for chunk in chunks))
        return HeldRows(names, packed, absent_runs, folders, ids_known=self._ids_known)

    def record(self, path: RelPath) -> Record | None:
        row = self._reader.row(_HELD, (self.id, *split(path)))
        return self._known(unpack_record(*row)) if row else None

    def records(self, below: RelPath = ROOT) -> Iterator[tuple[RelPath, Record]]:
        for directory_id, directory in self._directories(below):
            prefix = f"{directory}/" if directory else ""
            for names, packed, absent_runs in self._chunks_in(directory_id):
                records: Iterable[Record] = unpack_records(absent_runs, packed)
                if not self._ids_known:
                    records = map(without_ids, records)
                for name, record in zip(names, records, strict=True):
                    yield RelPath(prefix + name), record

    def _chunks_in(self, directory_id: int) -> Iterator[tuple[list[str], bytes, list[str]]]:
        """Stream names, packed records and absent_runs of one directory, by name.

        A "/" parts names and absent_runs: it is in no name, and in no run's id.
        """
        after = ""
        while True:
            row = self._reader.row(_RECORDS, (directory_id, after))
            if row is None or row[0] is None:
                return
            names, absent_runs, packed = row[0].split("/"), row[2].split("/"), bytes.fromhex(row[1])
            if not (len(names) * PACKED_BYTES == len(absent_runs) * PACKED_BYTES == len(packed)):
                raise unreadable(ValueError("names and records do not match"))
            yield names, packed, absent_runs
            if len(names) < CHUNK_ROWS:
                return
            after = names[-1]

    def holds_identity(self, fingerprint: Fingerprint) -> bool:
        if fingerprint.file_id == 0 or not self._ids_known:
            return False
        return self._reader.row(_IDENTITY, (self.id, pack_print(fingerprint)[:24])) is not None

    def findings(self, run_id: str) -> SqliteFindings:
        return SqliteFindings(self._reader.another(), self.id, run_id, self.revision)

    def open_intents(self) -> list[Intent]:
        groups = self._reader.rows("SELECT declared FROM intents WHERE mirror_id = ? ORDER BY seq", (self.id,))
        return list(chain.from_iterable(made(unpack_group, groups)))

    def partial(self, path: RelPath) -> Partial | None:
        partials = self._partials("AND path = ?", path)
        return partials[0] if partials else None

    def partials(self) -> list[Partial]:
        return self._partials("ORDER BY path")

    def _partials(self, condition: str, *parameters: str) -> list[Partial]:
        select = "SELECT path, fingerprint, staged, offset, sha256 FROM partials WHERE mirror_id = ?"
        return made(to_partial, self._reader.rows(f"{select} {condition}", (self.id, *parameters)))

    def approved(self) -> frozenset[RelPath]:
        rows = self._reader.bulk("SELECT path FROM approvals WHERE mirror_id = ? AND approved = 1", 1, (self.id,))
        return frozenset(RelPath(path) for (path,) in rows)

    def halted(self) -> list[tuple[RelPath, str]]:
        """Return (path, action) of what the last run held back and nobody has approved, by path."""
        select = "SELECT path, action FROM approvals WHERE mirror_id = ? AND approved = 0 ORDER BY path LIMIT -1"
        return [(RelPath(path), action) for path, action in self._reader.bulk(select, 2, (self.id,))]

    def count_halted(self) -> int:
        """Return how many changes the last whole run held back that nobody has approved."""
        select = "SELECT count(*) FROM approvals WHERE mirror_id = ? AND approved = 0"
        row = self._reader.row(select, (self.id,))
        return int(row[0]) if row else 0

    def knows_directory(self, path: RelPath) -> bool:
        """Say whether this directory exists in the mirror as far as the catalogue knows."""
        return self._directory_id(path) is not None

    def known_directories_below(self, path: RelPath) -> Iterator[RelPath]:
        """Stream the known directories below one, itself left out, each after everything below it."""
        first, last = below(path)
        select = f"""SELECT path FROM directories WHERE mirror_id = ? AND path >= ? AND path < ? AND path <> ''
                     ORDER BY path DESC LIMIT {CHUNK_ROWS}"""
        while rows := self._reader.bulk(select, 1, (self.id, first, last)):
            yield from (RelPath(row[0]) for row in rows)
            last = rows[-1][0]

    def unheld(self, limit: int = -1) -> list[Unheld]:
        """Return what the last run listed and does not hold, or not as listed, by path; limit -1: all."""
        select = f"SELECT {UNHELD} FROM unheld WHERE mirror_id = ? ORDER BY path LIMIT ?"
        return made(to_unheld, self._reader.bulk(select, 7, (self.id, limit)))

    def unheld_at(self, path: RelPath) -> Unheld | None:
        """Return why one path is not held, or not as listed; None where nothing is known."""
        row = self._reader.row(f"SELECT {UNHELD} FROM unheld WHERE mirror_id = ? AND path = ?", (self.id, path))
        return made(to_unheld, [row])[0] if row else None

    def removed_at(self, paths: Sequence[RelPath]) -> dict[RelPath, int]:
        """Return when these paths left the mirror, as far as that is remembered; not what was only started over."""
        select = """SELECT json_group_array(json_array(path, generation)) FROM tombstones
                    WHERE mirror_id = ? AND generation > ? AND path IN (SELECT value FROM json_each(?))"""
        since = int(self.note(STARTED_OVER_NOTE) or 0)
        row = self._reader.row(select, (self.id, since, json.dumps(paths)))
        return {RelPath(path): generation for path, generation in json.loads(row[0])} if row else {}

    def count_unheld(self) -> dict[Reason, int]:
        """Return how many paths are unheld for which reason."""
        rows = self._reader.rows("SELECT reason, count(*) FROM unheld WHERE mirror_id = ? GROUP BY reason", (self.id,))
        return {Reason(reason): count for reason, count in rows}

    def runs(self, limit: int = 20) -> list[RunRow]:
        """Return the latest runs, the newest first."""
        rows = self._reader.rows(f"{RUN} WHERE r.mirror_id = ? ORDER BY r.seq DESC LIMIT ?", (self.id, limit))
        return made(to_run, rows)

    def last_run(self) -> RunRow | None:
        """Return the newest run that was not one after a hint."""
        rows = self._reader.rows(f"{RUN} WHERE r.mirror_id = ? AND {WHOLE_RUN} ORDER BY r.seq DESC LIMIT 1", (self.id,))
        return next(iter(made(to_run, rows)), None)

    def owed(self) -> Owed:
        """Return what of this mirror has not been announced yet."""
        oldest = self._reader.row(f"{OLDEST_OWED} AND mirror_id = ? ORDER BY seq LIMIT 1", (self.id,))
        return Owed(int(self._one("owed", 0)[0]), oldest[0] if oldest else "")

    def removed_since(self, at: str) -> Iterator[outbox.Again]:
        """Stream the announcements of files removed at or after `at` that are not held (again)."""
        select = f"""SELECT path, size, hex(sha256), mtime_ns, generation, seq FROM outbox WHERE mirror_id = ?
                     AND seq > ? AND event = 'removed' AND at >= ? ORDER BY seq LIMIT {CHUNK_ROWS}"""
        after = 0
        while rows := self._reader.bulk(select, 6, (self.id, after, at)):
            for path, size, sha256, mtime_ns, generation, _ in rows:
                if self.record(RelPath(path)) is None:
                    yield outbox.Again(RelPath(path), FileEvent.REMOVED, size, sha256.lower(), mtime_ns, generation)
            after = rows[-1][5]

    def near_names(self, path: RelPath) -> list[RelPath]:
        """Return held paths that somebody who says `path` may mean, at most three, the likeliest first."""
        return Near(self._reader, self.id, lambda new: self.record(new) is not None).names(path)

    def close(self) -> None:
        """Do nothing: the catalogue that this belongs to is what is closed."""

    # --- plumbing

    def _one(self, columns: str, *default: object) -> Row:
        row = self._reader.row(f"SELECT {columns} FROM mirrors WHERE id = ?", (self.id,))
        return row if row is not None else default

    def _known(self, record: Record) -> Record:
        return record if self._ids_known else without_ids(record)

    def _directory_id(self, path: RelPath) -> int | None:
        row = self._reader.row("SELECT id FROM directories WHERE mirror_id = ? AND path = ?", (self.id, path))
        return row[0] if row else None

    def _directories(self, top: RelPath) -> Iterator[tuple[int, RelPath]]:
        """Stream a directory and the known ones below it, by path."""
        directory_id = self._directory_id(top)
        if directory_id is not None:
            yield directory_id, top
        first, end = below(top)
        after = ""
        select = f"""SELECT id, path FROM directories WHERE mirror_id = ? AND path >= ? AND path < ? AND path > ?
                     ORDER BY path LIMIT {CHUNK_ROWS}"""
        while rows := self._reader.bulk(select, 2, (self.id, first, end, after)):
            yield from ((row[0], RelPath(row[1])) for row in rows)
            after = rows[-1][1]
