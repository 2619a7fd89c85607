# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What can be asked of the catalogue: shared by its writer and by readers without a lock (reading.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from syncd.core.model import (
    ROOT,
    FileEvent,
    Fingerprint,
    Intent,
    IntentKind,
    Partial,
    Record,
    RelPath,
    Unheld,
)
from syncd.core.named import NamedTuple
from syncd.core.paths import split
from syncd.core.reasons import Reason
from syncd.ports import Announcement, ClosedRun, HeldDirectory, Totals
from syncd.store import outbox
from syncd.store.findings import SqliteFindings
from syncd.store.held import HeldRows
from syncd.store.near import Near
from syncd.store.sql import (
    CHUNK_ROWS,
    PACKED_BYTES,
    Reader,
    Row,
    below,
    pack_print,
    unpack_print,
    unpack_record,
    unpack_records,
    unreadable,
    without_ids,
)

T = TypeVar("T")

RECENT_CHANGES = 5_000
STARTED_OVER_NOTE = "started_over"
"""The catalogue's note about a mirror that was given a new target: when (ms since the epoch)."""


class MirrorSummary(NamedTuple):
    """One mirror as the catalogue knows it. Times are ISO 8601 UTC, "" = never.

    listed_at: when the last complete look at the source began. last_success: when a run last ended with 0 or 3.
    """

    name: str
    uid: str
    target: str
    source_id: str
    totals: Totals
    listed_at: str
    last_success: str


class RunRow(NamedTuple):
    """One finished run of one mirror, with the report that finish_run() was given."""

    run_id: str
    mirror: str
    started_at: str
    finished_at: str
    state: str
    exit_code: int
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owed:
    """Announcements that nsqd has not accepted yet: how many, and when the oldest was committed ("" = none)."""

    count: int
    oldest: str


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
_ANNOUNCEMENT = """SELECT o.seq, m.name, o.path, o.event, o.size, hex(o.sha256), o.mtime_ns, o.generation, o.run_id,
                          o.at
                   FROM outbox AS o CROSS JOIN mirrors AS m ON m.id = o.mirror_id"""
_OLDEST_OWED = """SELECT o.at FROM outbox AS o WHERE o.seq > (SELECT published_through FROM feed)
                  AND o.published_at IS NULL"""
_RUN = """SELECT r.run_id, m.name, r.started_at, r.finished_at, r.state, r.exit_code, r.report
          FROM runs AS r JOIN mirrors AS m ON m.id = r.mirror_id"""
WHOLE_RUN = "coalesce(json_extract(r.report, '$.kind'), '') <> 'hint'"
"""Of runs AS r: not one that looked at a few directories after a hint."""
_UNHELD = "path, reason, detail, size, mtime_ns, attempts, since"


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
                for name, record in zip(names, map(self._known, unpack_records(absent_runs, packed)), strict=True):
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
        return _made(_intent, chain.from_iterable(json.loads(group) for (group,) in groups))

    def partial(self, path: RelPath) -> Partial | None:
        partials = self._partials("AND path = ?", path)
        return partials[0] if partials else None

    def partials(self) -> list[Partial]:
        return self._partials("ORDER BY path")

    def _partials(self, condition: str, *parameters: str) -> list[Partial]:
        select = "SELECT path, fingerprint, staged, offset, sha256 FROM partials WHERE mirror_id = ?"
        return _made(_partial, self._reader.rows(f"{select} {condition}", (self.id, *parameters)))

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
        select = f"SELECT {_UNHELD} FROM unheld WHERE mirror_id = ? ORDER BY path LIMIT ?"
        return _made(_unheld, self._reader.bulk(select, 7, (self.id, limit)))

    def unheld_at(self, path: RelPath) -> Unheld | None:
        """Return why one path is not held, or not as listed; None where nothing is known."""
        row = self._reader.row(f"SELECT {_UNHELD} FROM unheld WHERE mirror_id = ? AND path = ?", (self.id, path))
        return _made(_unheld, [row])[0] if row else None

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
        rows = self._reader.rows(f"{_RUN} WHERE r.mirror_id = ? ORDER BY r.seq DESC LIMIT ?", (self.id, limit))
        return _made(_run, rows)

    def last_run(self) -> RunRow | None:
        """Return the newest run that was not one after a hint."""
        rows = self._reader.rows(
            f"{_RUN} WHERE r.mirror_id = ? AND {WHOLE_RUN} ORDER BY r.seq DESC LIMIT 1", (self.id,)
        )
        return next(iter(_made(_run, rows)), None)

    def owed(self) -> Owed:
        """Return what of this mirror has not been announced yet."""
        oldest = self._reader.row(f"{_OLDEST_OWED} AND mirror_id = ? ORDER BY seq LIMIT 1", (self.id,))
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


class CatalogueReads:
    """What is asked of the catalogue as a whole. Any thread; raises as MirrorReads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def mirrors(self) -> list[MirrorSummary]:
        """Return all mirrors that the catalogue knows, by name."""
        rows = self._reader.rows(
            "SELECT name, uid, target, source_id, files, bytes, listed_at, last_success FROM mirrors ORDER BY name"
        )
        return _made(_summary, rows)

    def announcements(self, since: int, limit: int) -> list[Announcement]:
        """Return the numbered event feed after number `since`, published or not; a gap in the numbers is a trim."""
        return self._announcements(f"{_ANNOUNCEMENT} WHERE o.seq > ? ORDER BY o.seq LIMIT ?", since, limit)

    def unpublished(self, limit: int, but_of: Collection[str] = ()) -> list[Announcement]:
        """Return the oldest announcements that nsqd has not accepted; but_of: without those of these mirrors."""
        owed = "o.seq > (SELECT published_through FROM feed) AND o.published_at IS NULL"
        if not but_of:
            return self._announcements(f"{_ANNOUNCEMENT} WHERE {owed} ORDER BY o.seq LIMIT ?", limit)
        others = f"{_ANNOUNCEMENT} WHERE {owed} AND m.name NOT IN (SELECT value FROM json_each(?))"
        rows = self._reader.rows(f"{others} ORDER BY o.seq LIMIT ?", (json.dumps(list(but_of)), limit))
        return _made(_announcement, rows)

    def published_since(self, at: str) -> Sequence[int]:
        """Return the numbers of what was accepted at or after `at` and is the newest of its path, owed rows counted.

        Looks at all that was announced since: on a connection of its own, so that no other read waits.
        """
        with self._reader.another() as reader:
            return outbox.newest_since(reader, at)

    def still_newest(self, numbers: Sequence[int], after: int) -> list[Announcement]:
        """Return those of these announcements whose path has not been announced again with a number above `after`."""
        chosen = json.dumps(list(numbers))
        newest = f"""{outbox.STILL_NEWEST} {_ANNOUNCEMENT} WHERE o.seq IN (SELECT value FROM json_each(?))
                     AND (o.mirror_id, o.path) NOT IN (SELECT mirror_id, path FROM newer) ORDER BY o.seq"""
        return _made(_announcement, self._reader.rows(newest, (after, chosen, chosen)))

    def runs_to_announce(self, limit: int) -> list[ClosedRun]:
        """Return runs whose message is due since all their announcements were accepted, the oldest first."""
        return outbox.closed_runs(self._reader, limit)

    def count_owed(self) -> int:
        """Return how many announcements have not been accepted."""
        row = self._reader.row("SELECT coalesce(sum(owed), 0) FROM mirrors")
        return int(row[0]) if row else 0

    def oldest_announcement(self) -> int:
        """Return the number of the oldest announcement that is kept; the next one's number where none is."""
        row = self._reader.row("SELECT coalesce((SELECT min(seq) FROM outbox), next_seq) FROM feed")
        return int(row[0]) if row else 1

    def count_events(self, after: int, through: int) -> list[tuple[str, str, int]]:
        """Return (mirror, event, how many) of the announcements numbered after one, through another."""
        rows = self._reader.rows(
            "SELECT m.name, o.event, count(*) FROM outbox AS o JOIN mirrors AS m ON m.id = o.mirror_id"
            " WHERE o.seq > ? AND o.seq <= ? GROUP BY m.name, o.event",
            (after, through),
        )
        return [(str(name), str(event), int(count)) for name, event, count in rows]

    def recent_directories(self, mirror: str, limit: int) -> list[RelPath]:
        """Return the directories of this mirror in which files were announced lately, the newest first."""
        rows = self._reader.rows(
            "SELECT o.path FROM outbox AS o CROSS JOIN mirrors AS m ON m.id = o.mirror_id"
            " WHERE o.seq > (SELECT next_seq FROM feed) - ? AND m.name = ? ORDER BY o.seq DESC",
            (RECENT_CHANGES, mirror),
        )
        found = dict.fromkeys(split(RelPath(path))[0] for (path,) in rows)
        return list(found)[:limit]

    def owed(self) -> Owed:
        """Return what has not been announced yet, over all mirrors."""
        oldest = self._reader.row(f"{_OLDEST_OWED} ORDER BY seq LIMIT 1")
        return Owed(self.count_owed(), oldest[0] if oldest else "")

    def last_announcement(self) -> int:
        """Return the number of the newest announcement; before the first, one less than its number will be."""
        row = self._reader.row("SELECT next_seq - 1 FROM feed")
        return int(row[0]) if row else 0

    def runs(self, limit: int = 20) -> list[RunRow]:
        """Return the latest runs of all mirrors, the newest first."""
        return _made(_run, self._reader.rows(f"{_RUN} ORDER BY r.seq DESC LIMIT ?", (limit,)))

    def run(self, run_id: str) -> list[RunRow]:
        """Return one run's rows, one a mirror it saw."""
        return _made(_run, self._reader.rows(f"{_RUN} WHERE r.run_id = ? ORDER BY r.seq", (run_id,)))

    def run_days_since(self, day: str) -> int:
        """Return on how many days after `day` (YYYY-MM-DD, UTC) syncd ran: what the trash ages by."""
        row = self._reader.row("SELECT count(*) FROM run_days WHERE day > ?", (day,))
        return int(row[0]) if row else 0

    def _announcements(self, statement: str, *parameters: object) -> list[Announcement]:
        return _made(_announcement, self._reader.bulk(statement, 10, parameters))


# --- rows to values --------------------------------------------------------------------------------------------------


def _announcement(row: Row) -> Announcement:
    seq, mirror, path, event, size, sha256, *rest = row
    return Announcement(seq, mirror, RelPath(path), FileEvent(event), size, sha256.lower(), *rest)


def _summary(row: Row) -> MirrorSummary:
    name, uid, target, source_id, files, size, listed_at, last_success = row
    return MirrorSummary(name, uid, target, source_id, Totals(files, size), listed_at, last_success)


def _run(row: Row) -> RunRow:
    run_id, mirror, started_at, finished_at, state, exit_code, report = row
    return RunRow(run_id, mirror, started_at, finished_at, state, exit_code, json.loads(report))


def _intent(row: Row) -> Intent:
    identity, kind, path, sha256, fingerprint, staged, from_path = row
    return Intent(
        identity, IntentKind(kind), RelPath(path), sha256, Fingerprint(*fingerprint), staged, RelPath(from_path)
    )


def _partial(row: Row) -> Partial:
    path, fingerprint, staged, offset, sha256 = row
    return Partial(RelPath(path), unpack_print(fingerprint), staged, offset, sha256.hex())


def _unheld(row: Row) -> Unheld:
    path, reason, *rest = row
    return Unheld(RelPath(path), Reason(reason), *rest)


def _made(make: Callable[[Row], T], rows: Iterable[Row]) -> list[T]:
    """Make values of rows. Raises CatalogueDamaged where a row is not what syncd writes."""
    try:
        return [make(row) for row in rows]
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(error) from error
