# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What can be asked of the catalogue: shared by its writer and by readers without a lock (reading.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from syncd.core.errors import CatalogueDamaged
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
from syncd.core.paths import fold, join, split
from syncd.core.reasons import Reason
from syncd.ports import Announcement, HeldDirectory, Totals
from syncd.store.findings import SqliteFindings
from syncd.store.sql import (
    CHUNK_ROWS,
    DAMAGED_HINT,
    RECORD_COLUMNS,
    Reader,
    Row,
    below,
    signed,
    to_record,
    unsigned,
)

T = TypeVar("T")

NEAR_NAMES = 3


@dataclass(frozen=True, slots=True)
class MirrorSummary:
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


@dataclass(frozen=True, slots=True)
class RunRow:
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


_HELD = f"""SELECT {RECORD_COLUMNS} FROM directories AS d CROSS JOIN records AS r ON r.directory_id = d.id
            WHERE d.mirror_id = ? AND d.path = ? AND r.name = ?"""
_IDENTITY = """SELECT 1 FROM records AS r INDEXED BY records_by_file_id CROSS JOIN directories AS d
               ON d.id = r.directory_id AND d.mirror_id = ?
               WHERE r.file_id = ? AND r.file_id <> 0 AND r.size = ? AND r.mtime_ns = ? LIMIT 1"""
_ANNOUNCEMENT = """SELECT o.seq, m.name, o.path, o.event, o.size, o.sha256, o.mtime_ns, o.generation, o.run_id, o.at
                   FROM outbox AS o {index} CROSS JOIN mirrors AS m ON m.id = o.mirror_id"""
_RUN = """SELECT r.run_id, m.name, r.started_at, r.finished_at, r.state, r.exit_code, r.report
          FROM runs AS r JOIN mirrors AS m ON m.id = r.mirror_id"""
_INTENT = "id, kind, path, sha256, size, mtime_ns, ctime_ns, file_id, staged, from_path"
_PARTIAL = "path, size, mtime_ns, ctime_ns, file_id, staged, offset, sha256"
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

    def held_in(self, directory: RelPath) -> HeldDirectory:
        directory_id = self._directory_id(directory)
        if directory_id is None:
            return HeldDirectory({}, frozenset())
        rows = self._reader.rows(
            f"SELECT {RECORD_COLUMNS}, r.name FROM records AS r WHERE r.directory_id = ?",
            (directory_id,),
        )
        folders = self._reader.rows("SELECT path FROM directories WHERE parent_id = ?", (directory_id,))
        start = len(directory) + 1 if directory else 0
        records = {row[-1]: to_record(row[:-1]) for row in rows}
        if not self._ids_known:
            records = {name: self._known(record) for name, record in records.items()}
        return HeldDirectory(records, frozenset(path[start:] for (path,) in folders))

    def record(self, path: RelPath) -> Record | None:
        row = self._reader.row(_HELD, (self.id, *split(path)))
        return self._known(to_record(row)) if row else None

    def records(self, below: RelPath = ROOT) -> Iterator[tuple[RelPath, Record]]:
        for directory_id, directory in self._directories(below):
            after = ""
            while rows := self._names_after(directory_id, after):
                for row in rows:
                    yield join(directory, row[-1]), self._known(to_record(row[:-1]))
                after = rows[-1][-1]
                if len(rows) < CHUNK_ROWS:
                    break

    def holds_identity(self, fingerprint: Fingerprint) -> bool:
        size, mtime_ns, _, file_id = fingerprint
        if file_id == 0 or not self._ids_known:
            return False
        return self._reader.row(_IDENTITY, (self.id, signed(file_id), size, mtime_ns)) is not None

    def findings(self, run_id: str) -> SqliteFindings:
        return SqliteFindings(self._reader.another(), self.id, run_id, self.revision)

    def open_intents(self) -> list[Intent]:
        rows = self._reader.rows(f"SELECT {_INTENT} FROM intents WHERE mirror_id = ? ORDER BY seq", (self.id,))
        return _made(_intent, rows)

    def partial(self, path: RelPath) -> Partial | None:
        row = self._reader.row(f"SELECT {_PARTIAL} FROM partials WHERE mirror_id = ? AND path = ?", (self.id, path))
        return _made(_partial, [row])[0] if row else None

    def partials(self) -> list[Partial]:
        rows = self._reader.rows(f"SELECT {_PARTIAL} FROM partials WHERE mirror_id = ? ORDER BY path", (self.id,))
        return _made(_partial, rows)

    def approved(self) -> frozenset[RelPath]:
        rows = self._reader.rows("SELECT path FROM approvals WHERE mirror_id = ? AND approved = 1", (self.id,))
        return frozenset(RelPath(path) for (path,) in rows)

    def halted(self) -> list[tuple[RelPath, str]]:
        """Return (path, action) of what the last run held back and nobody has approved, by path."""
        rows = self._reader.rows(
            "SELECT path, action FROM approvals WHERE mirror_id = ? AND approved = 0 ORDER BY path", (self.id,)
        )
        return [(RelPath(path), action) for path, action in rows]

    def knows_directory(self, path: RelPath) -> bool:
        """Say whether this directory exists in the mirror as far as the catalogue knows."""
        return self._directory_id(path) is not None

    def known_directories_below(self, path: RelPath) -> Iterator[RelPath]:
        """Stream the known directories below one, itself left out, each after everything below it."""
        first, end = below(path)
        last: object = end
        while rows := self._reader.rows(
            "SELECT path FROM directories WHERE mirror_id = ? AND path >= ? AND path < ? AND path <> ''"
            f" ORDER BY path DESC LIMIT {CHUNK_ROWS}",
            (self.id, first, last),
        ):
            yield from (RelPath(row[0]) for row in rows)
            last = rows[-1][0]

    def unheld(self, limit: int = -1) -> list[Unheld]:
        """Return what the last run listed and does not hold, or not as listed, by path; limit -1: all."""
        rows = self._reader.rows(
            f"SELECT {_UNHELD} FROM unheld WHERE mirror_id = ? ORDER BY path LIMIT ?", (self.id, limit)
        )
        return _made(_unheld, rows)

    def unheld_at(self, path: RelPath) -> Unheld | None:
        """Return why one path is not held, or not as listed; None where nothing is known."""
        row = self._reader.row(f"SELECT {_UNHELD} FROM unheld WHERE mirror_id = ? AND path = ?", (self.id, path))
        return _made(_unheld, [row])[0] if row else None

    def count_unheld(self) -> dict[Reason, int]:
        """Return how many paths are unheld for which reason."""
        rows = self._reader.rows("SELECT reason, count(*) FROM unheld WHERE mirror_id = ? GROUP BY reason", (self.id,))
        return {Reason(reason): count for reason, count in rows}

    def runs(self, limit: int = 20) -> list[RunRow]:
        """Return the latest runs, the newest first."""
        rows = self._reader.rows(f"{_RUN} WHERE r.mirror_id = ? ORDER BY r.seq DESC LIMIT ?", (self.id, limit))
        return _made(_run, rows)

    def last_run(self) -> RunRow | None:
        """Return the newest run."""
        return next(iter(self.runs(1)), None)

    def owed(self) -> Owed:
        """Return what of this mirror has not been announced yet."""
        return _owed(self._reader, "AND mirror_id = ?", (self.id,))

    def near_names(self, path: RelPath) -> list[RelPath]:
        """Return held paths that somebody who says `path` may mean, at most NEAR_NAMES, the likeliest first.

        Its new name after a rename; the same but for case, spaces and Unicode form; the same basename elsewhere.
        Costs one look-up for each directory of the mirror.
        """
        near: dict[RelPath, None] = {}
        for candidate in self._near(path):
            if candidate != path:
                near[candidate] = None
            if len(near) == NEAR_NAMES:
                break
        return list(near)

    def close(self) -> None:
        """Do nothing: the catalogue that this belongs to is what is closed."""

    # --- plumbing

    def _one(self, columns: str, *default: object) -> Row:
        row = self._reader.row(f"SELECT {columns} FROM mirrors WHERE id = ?", (self.id,))
        return row if row is not None else default

    def _known(self, record: Record) -> Record:
        return record if self._ids_known else record._replace(ctime_ns=0, file_id=0)

    def _directory_id(self, path: RelPath) -> int | None:
        row = self._reader.row("SELECT id FROM directories WHERE mirror_id = ? AND path = ?", (self.id, path))
        return row[0] if row else None

    def _directories(self, top: RelPath) -> Iterator[tuple[int, RelPath]]:
        directory_id = self._directory_id(top)
        if directory_id is not None:
            yield directory_id, top
        first, end = below(top)
        after: object = ""
        while rows := self._reader.rows(
            f"SELECT id, path FROM directories WHERE mirror_id = ? AND path >= ? AND path < ? AND path > ?"
            f" ORDER BY path LIMIT {CHUNK_ROWS}",
            (self.id, first, end, after),
        ):
            yield from rows
            after = rows[-1][1]

    def _names_after(self, directory_id: int, name: str) -> list[Row]:
        return self._reader.rows(
            f"SELECT {RECORD_COLUMNS}, r.name FROM records AS r WHERE r.directory_id = ? AND r.name > ?"
            f" ORDER BY r.name LIMIT {CHUNK_ROWS}",
            (directory_id, name),
        )

    def _near(self, path: RelPath) -> Iterator[RelPath]:
        yield from self._renamed_to(path)
        directory, name = split(path)
        folded = _folded(directory), _folded(name)
        elsewhere: list[RelPath] = []
        for directory_id, candidate in self._directories(ROOT):
            if _folded(candidate) == folded[0]:
                names = self._reader.rows("SELECT name FROM records WHERE directory_id = ?", (directory_id,))
                yield from (join(candidate, held) for (held,) in names if _folded(held) == folded[1])
            elif len(elsewhere) < NEAR_NAMES and self._has(directory_id, name):
                elsewhere.append(join(candidate, name))
        yield from elsewhere

    def _has(self, directory_id: int, name: str) -> bool:
        return (
            self._reader.row("SELECT 1 FROM records WHERE directory_id = ? AND name = ?", (directory_id, name))
            is not None
        )

    def _renamed_to(self, path: RelPath) -> Iterator[RelPath]:
        """Yield held paths that appeared with the same bytes in the run that removed `path`."""
        removed = self._reader.row(
            "SELECT run_id, sha256 FROM outbox WHERE mirror_id = ? AND path = ? AND event = ?"
            " ORDER BY seq DESC LIMIT 1",
            (self.id, path, FileEvent.REMOVED.value),
        )
        if removed is not None:
            rows = self._reader.rows(
                "SELECT path FROM outbox WHERE mirror_id = ? AND run_id = ? AND sha256 = ? AND event = ?"
                " ORDER BY seq LIMIT ?",
                (self.id, *removed, FileEvent.READY.value, NEAR_NAMES),
            )
            yield from (RelPath(new) for (new,) in rows if self.record(new) is not None)


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
        select = _ANNOUNCEMENT.format(index="")
        return self._announcements(f"{select} WHERE o.seq > ? ORDER BY o.seq LIMIT ?", since, limit)

    def unpublished(self, limit: int) -> list[Announcement]:
        """Return the oldest announcements that nsqd has not accepted."""
        select = _ANNOUNCEMENT.format(index="INDEXED BY outbox_owed")
        return self._announcements(f"{select} WHERE o.published_at IS NULL ORDER BY o.seq LIMIT ?", limit)

    def published_since(self, at: str) -> list[Announcement]:
        """Return the newest announcement of each path that had one accepted at or after `at`, oldest first."""
        select = _ANNOUNCEMENT.format(index="")
        newest = "SELECT max(seq) FROM outbox WHERE published_at >= ? GROUP BY mirror_id, path"
        return self._announcements(f"{select} WHERE o.seq IN ({newest}) ORDER BY o.seq", at)

    def owed(self) -> Owed:
        """Return what has not been announced yet, over all mirrors."""
        return _owed(self._reader)

    def last_announcement(self) -> int:
        """Return the number of the newest announcement, 0 before the first."""
        row = self._reader.row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
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
        return _made(_announcement, self._reader.rows(statement, parameters))


# --- rows to values --------------------------------------------------------------------------------------------------


def _owed(reader: Reader, condition: str = "", parameters: Row = ()) -> Owed:
    row = reader.row(
        "SELECT count(*), min(seq) FROM outbox INDEXED BY outbox_owed WHERE published_at IS NULL " + condition,
        parameters,
    )
    if row is None or row[0] == 0:
        return Owed(0, "")
    oldest = reader.row("SELECT at FROM outbox WHERE seq = ?", (row[1],))
    return Owed(row[0], oldest[0] if oldest else "")


def _announcement(row: Row) -> Announcement:
    seq, mirror, path, event, size, sha256, *rest = row
    return Announcement(seq, mirror, RelPath(path), FileEvent(event), size, sha256.hex(), *rest)


def _summary(row: Row) -> MirrorSummary:
    name, uid, target, source_id, files, size, listed_at, last_success = row
    return MirrorSummary(name, uid, target, source_id, Totals(files, size), listed_at, last_success)


def _run(row: Row) -> RunRow:
    run_id, mirror, started_at, finished_at, state, exit_code, report = row
    return RunRow(run_id, mirror, started_at, finished_at, state, exit_code, json.loads(report))


def _intent(row: Row) -> Intent:
    identity, kind, path, sha256, size, mtime_ns, ctime_ns, file_id, staged, from_path = row
    fingerprint = Fingerprint(size, mtime_ns, ctime_ns, unsigned(file_id))
    return Intent(identity, IntentKind(kind), RelPath(path), sha256.hex(), fingerprint, staged, RelPath(from_path))


def _partial(row: Row) -> Partial:
    path, size, mtime_ns, ctime_ns, file_id, staged, offset, sha256 = row
    fingerprint = Fingerprint(size, mtime_ns, ctime_ns, unsigned(file_id))
    return Partial(RelPath(path), fingerprint, staged, offset, sha256.hex())


def _unheld(row: Row) -> Unheld:
    path, reason, *rest = row
    return Unheld(RelPath(path), Reason(reason), *rest)


def _folded(name: str) -> str:
    """Return the form in which names that people mix up are equal: case, Unicode form, spaces."""
    return "".join(fold(name).split())


def _made(make: Callable[[Row], T], rows: Iterable[Row]) -> list[T]:
    """Make values of rows. Raises CatalogueDamaged where a row is not what syncd writes."""
    try:
        return [make(row) for row in rows]
    except (ValueError, TypeError, AttributeError) as error:
        raise CatalogueDamaged(f"the catalogue is damaged: a row is unreadable: {error}", hint=DAMAGED_HINT) from error
