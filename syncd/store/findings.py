# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What one run's scan found, in temporary tables of a reading connection: bounded memory, and no commit waits for it.

SQLite keeps temporary tables in an unnamed file of the system's temporary directory, never in the state directory, so
findings work on a read-only catalogue as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from syncd.core.model import Fingerprint, Record, RelPath, Unheld
from syncd.core.paths import join, split
from syncd.store.sql import (
    CHUNK_ROWS,
    Reader,
    Row,
    below,
    by_directory,
    int64,
    pack_print,
    storable,
    unpack_print,
    unpack_record,
)

# Names of held files carry the catalogue's own key; what need not be held carries its path. The types are those of the
# catalogue's columns: without them SQLite would not use these keys in a join.
_NAMES = "(directory_id INTEGER, name TEXT, PRIMARY KEY (directory_id, name)) WITHOUT ROWID"
_TABLES = (
    f"CREATE TEMP TABLE found_absent {_NAMES}",
    f"CREATE TEMP TABLE found_again {_NAMES}",
    f"CREATE TEMP TABLE found_flipped {_NAMES}",
    "CREATE TEMP TABLE found_renames (directory_id INTEGER, name TEXT, path TEXT, PRIMARY KEY (directory_id, name))",
    "CREATE TEMP TABLE found_arrived (path TEXT PRIMARY KEY, print BLOB) WITHOUT ROWID",
    "CREATE INDEX temp.found_arrived_by_id ON found_arrived (substr(print, 1, 8))",
    "CREATE TEMP TABLE found_replaced (path TEXT PRIMARY KEY, print BLOB, directory_id INTEGER, name TEXT)",
    "CREATE INDEX temp.found_replaced_by_id ON found_replaced (substr(print, 1, 8))",
    """CREATE TEMP TABLE found_unheld (path TEXT PRIMARY KEY, reason TEXT, detail TEXT, size INTEGER, mtime_ns INTEGER,
                                       directory TEXT, name TEXT)""",
    "CREATE TEMP TABLE found_folders (path TEXT PRIMARY KEY, seen INTEGER) WITHOUT ROWID",
)

_WRITES = {
    "absent": "INSERT OR IGNORE INTO temp.found_absent VALUES {}",
    "again": "INSERT OR IGNORE INTO temp.found_again VALUES {}",
    "flipped": "INSERT OR IGNORE INTO temp.found_flipped VALUES {}",
    "arrived": "INSERT OR REPLACE INTO temp.found_arrived VALUES {}",
    "replaced": "INSERT OR REPLACE INTO temp.found_replaced VALUES {}",
    "unheld": "INSERT OR REPLACE INTO temp.found_unheld VALUES {}",
    "folders": "INSERT OR REPLACE INTO temp.found_folders VALUES {}",
}
_SETTLE_ABSENT = """
DELETE FROM temp.found_absent WHERE directory_id = ? AND name IN (SELECT value FROM json_each(?))"""
_SETTLE_ARRIVED = "DELETE FROM temp.found_arrived WHERE path IN (SELECT value FROM json_each(?))"

_ITS_RECORD = "CROSS JOIN main.records AS r ON r.directory_id = x.directory_id AND r.name = x.name"
_AGAIN = f"temp.found_again AS x {_ITS_RECORD} WHERE r.absent_run <> ''"
_FLIPPED = f"temp.found_flipped AS x {_ITS_RECORD} WHERE 1"
_REPLACED = f"temp.found_replaced AS x {_ITS_RECORD} WHERE substr(r.packed, 9, 16) <> substr(x.print, 9, 16)"
_ABSENT = f"""temp.found_absent AS x {_ITS_RECORD}
    WHERE NOT EXISTS (SELECT 1 FROM temp.found_flipped AS f WHERE f.directory_id = x.directory_id AND f.name = x.name)
    AND r.absent_run """
_ABSENT_NEVER_BEFORE = f"{_ABSENT} = ''"
_ABSENT_FIRST = f"{_ABSENT} IN ('', :run)"
_ABSENT_CONFIRMED = f"{_ABSENT} NOT IN ('', :run)"

_ABSENT_IN = """
INSERT OR IGNORE INTO temp.found_absent
SELECT r.directory_id, r.name FROM main.directories AS d CROSS JOIN main.records AS r ON r.directory_id = d.id
WHERE d.mirror_id = ? AND """

# The index is partial: SQLite uses it only where the statement itself says that the id is not 0. See sql.pack_record()
# for the bytes: 1-8 are the file id, 1-24 the identity (id, size, mtime).
_SAME_ID = "substr({0}.packed, 1, 8) = substr(a.print, 1, 8) AND substr({0}.packed, 1, 8) <> x'0000000000000000'"
_PROVE_RENAMES = f"""
INSERT INTO temp.found_renames
SELECT r.directory_id, r.name, a.path
FROM temp.found_arrived AS a
CROSS JOIN main.records AS r INDEXED BY records_by_file_id ON {_SAME_ID.format("r")}
CROSS JOIN temp.found_absent AS x ON x.directory_id = r.directory_id AND x.name = r.name
CROSS JOIN main.directories AS d ON d.id = r.directory_id AND d.mirror_id = :mirror
WHERE substr(r.packed, 1, 24) = substr(a.print, 1, 24)
  AND NOT EXISTS (SELECT 1 FROM temp.found_flipped AS f WHERE f.directory_id = r.directory_id AND f.name = r.name)
  AND NOT EXISTS (SELECT 1 FROM temp.found_replaced AS p WHERE substr(p.print, 1, 8) = substr(a.print, 1, 8))
  AND NOT EXISTS (SELECT 1 FROM temp.found_arrived AS b
                  WHERE substr(b.print, 1, 8) = substr(a.print, 1, 8) AND b.path <> a.path)
  AND NOT EXISTS (SELECT 1 FROM main.records AS o INDEXED BY records_by_file_id
                  CROSS JOIN main.directories AS e ON e.id = o.directory_id AND e.mirror_id = :mirror
                  WHERE {_SAME_ID.format("o")} AND (o.directory_id <> r.directory_id OR o.name <> r.name))
"""

_RENAMES = f"""
SELECT x.directory_id, x.name, d.path, a.path, hex(a.print), hex(r.packed), r.absent_run
FROM temp.found_renames AS x
CROSS JOIN temp.found_arrived AS a ON a.path = x.path
CROSS JOIN main.directories AS d ON d.id = x.directory_id
{_ITS_RECORD}
WHERE (x.directory_id, x.name) > (:directory, :after)
ORDER BY x.directory_id, x.name LIMIT {CHUNK_ROWS}"""

_STILL_UNHELD = f"""
SELECT x.path, x.reason, x.detail, x.size, x.mtime_ns FROM temp.found_unheld AS x
WHERE x.path >= :after AND NOT EXISTS (
    SELECT 1 FROM main.directories AS d CROSS JOIN main.records AS r ON r.directory_id = d.id
    WHERE d.mirror_id = :mirror AND d.path = x.directory AND r.name = x.name AND r.revision > :revision)
ORDER BY x.path LIMIT {CHUNK_ROWS}"""

_CONCERNS = """
SELECT 1 FROM main.directories AS d WHERE d.mirror_id = :mirror AND d.path = :directory AND (
    EXISTS (SELECT 1 FROM temp.found_absent AS x WHERE x.directory_id = d.id AND x.name = :name)
    OR EXISTS (SELECT 1 FROM temp.found_flipped AS x WHERE x.directory_id = d.id AND x.name = :name)
    OR EXISTS (SELECT 1 FROM temp.found_replaced AS x WHERE x.path = :path))"""


class SqliteFindings:
    """ports.Findings. Rows are gathered and written in batches; every read sees all that was found before it.

    Absences leave out flips, which are judged on their own; absences(confirmed=False) are those that no earlier run
    had missed. Reads are streamed in chunks, so the catalogue may change while they are consumed; what is no longer
    held then is left out. close() gives the disk space back; Catalogue.close() closes what is left.
    """

    def __init__(self, reader: Reader, mirror_id: int, run_id: str, revision: int) -> None:
        if "/" in run_id:
            raise ValueError(f"a run's id without '/' is needed, not {run_id!r}: see MirrorReads.held_in")
        self.run_id = run_id
        self._reader = reader
        self._mirror_id = mirror_id
        self._bind: dict[str, object] = {"mirror": mirror_id, "run": run_id, "revision": revision}
        self._gathered: dict[str, list[Row]] = {what: [] for what in _WRITES}
        self._pending = 0
        self._settled: list[Row] = []
        self._arrived: list[RelPath] = []
        self._last_directory: tuple[str, int] | None = None
        reader.rows("PRAGMA temp.journal_mode=MEMORY")
        for statement in _TABLES:
            reader.rows(statement)

    # --- what the scan says

    def absent(self, directory: RelPath, names: Iterable[str]) -> None:
        directory_id = self._directory_id(directory)
        if directory_id is not None:
            for name in names:
                self._gather("absent", (directory_id, name))

    def absent_below(self, directory: RelPath) -> None:
        self._reader.rows(f"{_ABSENT_IN} d.path = ?", (self._mirror_id, directory))
        self._reader.rows(f"{_ABSENT_IN} d.path >= ? AND d.path < ?", (self._mirror_id, *below(directory)))
        self.directory(directory, seen=False)

    def seen_again(self, path: RelPath) -> None:
        self._gather_name("again", path)

    def arrived(self, path: RelPath, fingerprint: Fingerprint) -> None:
        self._gather("arrived", (path, pack_print(fingerprint)))

    def replaced(self, path: RelPath, fingerprint: Fingerprint) -> None:
        directory, name = split(path)
        self._gather("replaced", (path, pack_print(fingerprint), self._directory_id(directory), name))

    def flipped(self, path: RelPath) -> None:
        self._gather_name("flipped", path)

    def unheld(self, unheld: Unheld) -> None:
        path, detail = storable(unheld.path), storable(unheld.detail)
        listed = int64(unheld.size), int64(unheld.mtime_ns)
        self._gather("unheld", (path, unheld.reason.value, detail, *listed, *split(RelPath(path))))

    def directory(self, path: RelPath, seen: bool) -> None:
        self._gather("folders", (path, int(seen)))

    # --- what follows from it

    def renames(self) -> Iterator[tuple[RelPath, Record, RelPath, Fingerprint]]:
        self._flush()
        self._reader.rows("DELETE FROM temp.found_renames")
        self._reader.rows(_PROVE_RENAMES, self._bind)
        for _, name, directory, new, print_, packed, absent_run in self._by_name(_RENAMES, 7):
            record = unpack_record(bytes.fromhex(packed), absent_run)
            yield join(directory, name), record, RelPath(new), unpack_print(bytes.fromhex(print_))

    def settle_rename(self, old: RelPath, new: RelPath) -> None:
        directory, name = split(old)
        self._settled.append((self._directory_id(directory), name))
        self._arrived.append(new)

    def arrivals(self) -> Iterator[tuple[RelPath, Fingerprint]]:
        return self._fingerprints("found_arrived")

    def replacements(self) -> Iterator[tuple[RelPath, Fingerprint]]:
        return self._fingerprints("found_replaced")

    def flips(self) -> Iterator[tuple[RelPath, Record]]:
        return self._records(_FLIPPED)

    def absences(self, *, confirmed: bool) -> Iterator[tuple[RelPath, Record]]:
        return self._records(_ABSENT_CONFIRMED if confirmed else _ABSENT_FIRST)

    def count_absences(self, *, confirmed: bool) -> int:
        return self._count(_ABSENT_CONFIRMED if confirmed else _ABSENT_FIRST)

    def count_replacements(self) -> int:
        return self._count(_REPLACED)

    def close(self) -> None:
        """Forget everything and give its disk space back; safe to repeat."""
        self._reader.close()

    # --- what SqliteMirrorCatalogue.finish_run carries over

    def newly_absent(self) -> Iterator[Row]:
        """Return (directory_id, name) of the held files that this run was the first to miss."""
        return self._names(_ABSENT_NEVER_BEFORE)

    def reappeared(self) -> Iterator[Row]:
        """Return (directory_id, name) of the held files that an earlier run had missed and this one saw."""
        return self._names(_AGAIN)

    def still_unheld(self) -> Iterator[Row]:
        """Return (path, reason, detail, size, mtime_ns) of unheld paths that were not committed meanwhile."""
        return self._by_path(_STILL_UNHELD, 5)

    def folders_gone(self) -> Iterator[RelPath]:
        """Return the known directories that were absent."""
        return (RelPath(row[0]) for row in self._by_path(_folders("NOT x.seen"), 1))

    def folders_new(self) -> Iterator[RelPath]:
        """Return the listed directories that the catalogue does not know."""
        unknown = "NOT EXISTS (SELECT 1 FROM main.directories AS d WHERE d.mirror_id = :mirror AND d.path = x.path)"
        return (RelPath(row[0]) for row in self._by_path(_folders(f"x.seen AND {unknown}"), 1))

    def concerns(self, path: RelPath) -> bool:
        """Say whether this held path was found absent, replaced or flipped."""
        self._flush()
        directory, name = split(path)
        return bool(self._reader.rows(_CONCERNS, self._bind | {"directory": directory, "name": name, "path": path}))

    # --- plumbing

    def _gather(self, what: str, row: Row) -> None:
        self._gathered[what].append(row)
        self._pending += 1
        if self._pending >= CHUNK_ROWS:
            self._flush()

    def _gather_name(self, what: str, path: RelPath) -> None:
        directory, name = split(path)
        directory_id = self._directory_id(directory)
        if directory_id is not None:
            self._gather(what, (directory_id, name))

    def _flush(self) -> None:
        if self._pending:
            for what, rows in self._gathered.items():
                self._reader.write_temporary(_WRITES[what], rows)
                rows.clear()
            self._pending = 0
        if self._settled:
            for names in by_directory(self._settled):
                self._reader.rows(_SETTLE_ABSENT, names)
            self._reader.rows(_SETTLE_ARRIVED, (json.dumps(self._arrived),))
            self._settled.clear()
            self._arrived.clear()

    def _directory_id(self, path: RelPath) -> int | None:
        """Return a directory's key, None where nothing can be held; a scan asks for the same one again and again."""
        if self._last_directory is not None and self._last_directory[0] == path:
            return self._last_directory[1]
        rows = self._reader.rows(
            "SELECT id FROM main.directories WHERE mirror_id = ? AND path = ?", (self._mirror_id, path)
        )
        if not rows:
            return None
        self._last_directory = (path, rows[0][0])
        return self._last_directory[1]

    def _count(self, source: str) -> int:
        self._flush()
        return int(self._reader.rows(f"SELECT count(*) FROM {source}", self._bind)[0][0])

    def _records(self, source: str) -> Iterator[tuple[RelPath, Record]]:
        path = "(SELECT d.path FROM main.directories AS d WHERE d.id = x.directory_id)"
        statement = _in_order(f"x.directory_id, x.name, {path}, hex(r.packed), r.absent_run", source)
        for _, name, directory, packed, absent_run in self._by_name(statement, 5):
            yield join(directory, name), unpack_record(bytes.fromhex(packed), absent_run)

    def _names(self, source: str) -> Iterator[Row]:
        return self._by_name(_in_order("x.directory_id, x.name", source), 2)

    def _fingerprints(self, table: str) -> Iterator[tuple[RelPath, Fingerprint]]:
        statement = f"SELECT path, hex(print) FROM temp.{table} WHERE path >= :after ORDER BY path LIMIT {CHUNK_ROWS}"
        for path, print_ in self._by_path(statement, 2):
            yield RelPath(path), unpack_print(bytes.fromhex(print_))

    def _by_name(self, statement: str, columns: int) -> Iterator[Row]:
        """Stream rows that begin with (directory_id, name), in that order."""
        directory_id, after = -1, ""
        while rows := self._chunk(statement, columns, {"directory": directory_id, "after": after}):
            yield from rows
            directory_id, after = rows[-1][:2]

    def _by_path(self, statement: str, columns: int) -> Iterator[Row]:
        """Stream rows that begin with their path, in that order."""
        after = ""
        while rows := self._chunk(statement, columns, {"after": after}):
            yield from rows
            after = f"{rows[-1][0]}\0"  # the next text there can be

    def _chunk(self, statement: str, columns: int, position: dict[str, object]) -> list[Row]:
        self._flush()
        return self._reader.bulk(statement, columns, self._bind | position)


def _in_order(columns: str, source: str) -> str:
    return (
        f"SELECT {columns} FROM {source} AND (x.directory_id, x.name) > (:directory, :after)"
        f" ORDER BY x.directory_id, x.name LIMIT {CHUNK_ROWS}"
    )


def _folders(condition: str) -> str:
    return (
        f"SELECT x.path FROM temp.found_folders AS x WHERE x.path >= :after AND {condition}"
        f" ORDER BY x.path LIMIT {CHUNK_ROWS}"
    )
