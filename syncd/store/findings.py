# ruff: noqa: S608  (statements are put together from names in this file; values are always bound)
"""What one run's scan found, in temporary tables of a reading connection: bounded memory, and no commit waits for it.

SQLite keeps temporary tables in an unnamed file of the system's temporary directory, never in the state directory, so
findings work on a read-only catalogue as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from syncd.core.model import Fingerprint, Record, RelPath, Unheld
from syncd.core.paths import join, split
from syncd.store.sql import CHUNK_ROWS, Reader, Row, below, signed, storable, to_record, unsigned
from syncd.store.sql import RECORD_COLUMNS as RECORD

# Names of held files carry the catalogue's own key; what need not be held carries its path.
_TABLES = (
    "CREATE TEMP TABLE found_absent (directory_id, name, PRIMARY KEY (directory_id, name)) WITHOUT ROWID",
    "CREATE TEMP TABLE found_again (directory_id, name, PRIMARY KEY (directory_id, name)) WITHOUT ROWID",
    "CREATE TEMP TABLE found_flipped (directory_id, name, PRIMARY KEY (directory_id, name)) WITHOUT ROWID",
    "CREATE TEMP TABLE found_renames (directory_id, name, path, PRIMARY KEY (directory_id, name)) WITHOUT ROWID",
    "CREATE TEMP TABLE found_arrived (path PRIMARY KEY, size, mtime_ns, ctime_ns, file_id) WITHOUT ROWID",
    "CREATE INDEX temp.found_arrived_by_id ON found_arrived (file_id)",
    "CREATE TEMP TABLE found_replaced (path PRIMARY KEY, size, mtime_ns, ctime_ns, file_id, directory_id, name)",
    "CREATE INDEX temp.found_replaced_by_id ON found_replaced (file_id)",
    "CREATE TEMP TABLE found_unheld (path PRIMARY KEY, reason, detail, size, mtime_ns, directory, name) WITHOUT ROWID",
    "CREATE TEMP TABLE found_folders (path PRIMARY KEY, seen) WITHOUT ROWID",
)

_INSERTS = {
    "found_absent": "INSERT OR IGNORE INTO temp.found_absent VALUES (?, ?)",
    "found_again": "INSERT OR IGNORE INTO temp.found_again VALUES (?, ?)",
    "found_flipped": "INSERT OR IGNORE INTO temp.found_flipped VALUES (?, ?)",
    "found_arrived": "INSERT OR REPLACE INTO temp.found_arrived VALUES (?, ?, ?, ?, ?)",
    "found_replaced": "INSERT OR REPLACE INTO temp.found_replaced VALUES (?, ?, ?, ?, ?, ?, ?)",
    "found_unheld": "INSERT OR REPLACE INTO temp.found_unheld VALUES (?, ?, ?, ?, ?, ?, ?)",
    "found_folders": "INSERT OR REPLACE INTO temp.found_folders VALUES (?, ?)",
}

_ITS_RECORD = "CROSS JOIN main.records AS r ON r.directory_id = x.directory_id AND r.name = x.name"
_AGAIN = f"temp.found_again AS x {_ITS_RECORD} WHERE r.absent_run <> ''"
_FLIPPED = f"temp.found_flipped AS x {_ITS_RECORD} WHERE 1"
_REPLACED = f"temp.found_replaced AS x {_ITS_RECORD} WHERE (r.size <> x.size OR r.mtime_ns <> x.mtime_ns)"
_ABSENT = f"""temp.found_absent AS x {_ITS_RECORD}
    WHERE NOT EXISTS (SELECT 1 FROM temp.found_flipped AS f WHERE f.directory_id = x.directory_id AND f.name = x.name)
    AND r.absent_run """
_ABSENT_NEVER_BEFORE = f"{_ABSENT} = ''"
_ABSENT_FIRST = f"{_ABSENT} IN ('', :run)"
_ABSENT_CONFIRMED = f"{_ABSENT} NOT IN ('', :run)"

_ABSENT_BELOW = """
INSERT OR IGNORE INTO temp.found_absent
SELECT r.directory_id, r.name FROM main.directories AS d CROSS JOIN main.records AS r ON r.directory_id = d.id
WHERE d.mirror_id = ? AND (d.path = ? OR (d.path >= ? AND d.path < ?))
"""

# The index on file_id is partial: SQLite uses it only where the statement itself says that the id is not 0.
_PROVE_RENAMES = """
INSERT INTO temp.found_renames
SELECT r.directory_id, r.name, a.path
FROM temp.found_arrived AS a
CROSS JOIN main.records AS r INDEXED BY records_by_file_id ON r.file_id = a.file_id AND r.file_id <> 0
CROSS JOIN temp.found_absent AS x ON x.directory_id = r.directory_id AND x.name = r.name
CROSS JOIN main.directories AS d ON d.id = r.directory_id AND d.mirror_id = :mirror
WHERE a.file_id <> 0 AND r.size = a.size AND r.mtime_ns = a.mtime_ns
  AND NOT EXISTS (SELECT 1 FROM temp.found_flipped AS f WHERE f.directory_id = r.directory_id AND f.name = r.name)
  AND NOT EXISTS (SELECT 1 FROM temp.found_replaced AS p WHERE p.file_id = a.file_id)
  AND NOT EXISTS (SELECT 1 FROM temp.found_arrived AS b WHERE b.file_id = a.file_id AND b.path <> a.path)
  AND NOT EXISTS (SELECT 1 FROM main.records AS o INDEXED BY records_by_file_id
                  CROSS JOIN main.directories AS e ON e.id = o.directory_id AND e.mirror_id = :mirror
                  WHERE o.file_id = a.file_id AND o.file_id <> 0
                    AND (o.directory_id <> r.directory_id OR o.name <> r.name))
"""

_RENAMES = f"""
SELECT x.directory_id, x.name, d.path, a.path, a.size, a.mtime_ns, a.ctime_ns, a.file_id, {RECORD}
FROM temp.found_renames AS x
CROSS JOIN temp.found_arrived AS a ON a.path = x.path
CROSS JOIN main.directories AS d ON d.id = x.directory_id
{_ITS_RECORD}
WHERE (x.directory_id, x.name) > (:directory, :after)
ORDER BY x.directory_id, x.name LIMIT {CHUNK_ROWS}"""

_STILL_UNHELD = f"""
SELECT x.path, x.reason, x.detail, x.size, x.mtime_ns FROM temp.found_unheld AS x
WHERE x.path > :after AND NOT EXISTS (
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
        self.run_id = run_id
        self._reader = reader
        self._mirror_id = mirror_id
        self._bind: dict[str, object] = {"mirror": mirror_id, "run": run_id, "revision": revision}
        self._gathered: dict[str, list[Row]] = {table: [] for table in _INSERTS}
        self._pending = 0
        self._last_directory: tuple[str, int] | None = None
        reader.rows("PRAGMA temp.journal_mode=MEMORY")
        for statement in _TABLES:
            reader.rows(statement)

    # --- what the scan says

    def absent(self, directory: RelPath, names: Iterable[str]) -> None:
        directory_id = self._directory_id(directory)
        if directory_id is not None:
            for name in names:
                self._gather("found_absent", (directory_id, name))

    def absent_below(self, directory: RelPath) -> None:
        self._reader.rows(_ABSENT_BELOW, (self._mirror_id, directory, *below(directory)))

    def seen_again(self, path: RelPath) -> None:
        self._gather_name("found_again", path)

    def arrived(self, path: RelPath, fingerprint: Fingerprint) -> None:
        size, mtime_ns, ctime_ns, file_id = fingerprint
        self._gather("found_arrived", (path, size, mtime_ns, ctime_ns, signed(file_id)))

    def replaced(self, path: RelPath, fingerprint: Fingerprint) -> None:
        directory, name = split(path)
        size, mtime_ns, ctime_ns, file_id = fingerprint
        row = (path, size, mtime_ns, ctime_ns, signed(file_id), self._directory_id(directory), name)
        self._gather("found_replaced", row)

    def flipped(self, path: RelPath) -> None:
        self._gather_name("found_flipped", path)

    def unheld(self, unheld: Unheld) -> None:
        path, detail = storable(unheld.path), storable(unheld.detail)
        row = (path, unheld.reason.value, detail, unheld.size, unheld.mtime_ns, *split(RelPath(path)))
        self._gather("found_unheld", row)

    def directory(self, path: RelPath, seen: bool) -> None:
        self._gather("found_folders", (path, int(seen)))

    # --- what follows from it

    def renames(self) -> Iterator[tuple[RelPath, Record, RelPath, Fingerprint]]:
        self._flush()
        self._reader.rows("DELETE FROM temp.found_renames")
        self._reader.rows(_PROVE_RENAMES, self._bind)
        for _, name, directory, new, *print_and_record in self._by_name(_RENAMES):
            record = to_record(print_and_record[4:])
            yield join(directory, name), record, RelPath(new), _fingerprint(print_and_record[:4])

    def settle_rename(self, old: RelPath, new: RelPath) -> None:
        self._flush()
        directory, name = split(old)
        held = (self._directory_id(directory), name)
        self._reader.rows("DELETE FROM temp.found_absent WHERE directory_id = ? AND name = ?", held)
        self._reader.rows("DELETE FROM temp.found_arrived WHERE path = ?", (new,))

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
        return self._by_path(_STILL_UNHELD)

    def folders_gone(self) -> Iterator[RelPath]:
        """Return the known directories that were absent."""
        return (RelPath(row[0]) for row in self._by_path(_folders("NOT x.seen")))

    def folders_new(self) -> Iterator[RelPath]:
        """Return the listed directories that the catalogue does not know."""
        unknown = "NOT EXISTS (SELECT 1 FROM main.directories AS d WHERE d.mirror_id = :mirror AND d.path = x.path)"
        return (RelPath(row[0]) for row in self._by_path(_folders(f"x.seen AND {unknown}")))

    def concerns(self, path: RelPath) -> bool:
        """Say whether this held path was found absent, replaced or flipped."""
        self._flush()
        directory, name = split(path)
        return bool(self._reader.rows(_CONCERNS, self._bind | {"directory": directory, "name": name, "path": path}))

    # --- plumbing

    def _gather(self, table: str, row: Row) -> None:
        self._gathered[table].append(row)
        self._pending += 1
        if self._pending >= CHUNK_ROWS:
            self._flush()

    def _gather_name(self, table: str, path: RelPath) -> None:
        directory, name = split(path)
        directory_id = self._directory_id(directory)
        if directory_id is not None:
            self._gather(table, (directory_id, name))

    def _flush(self) -> None:
        if self._pending:
            for table, rows in self._gathered.items():
                self._reader.write_temporary(_INSERTS[table], rows)
                rows.clear()
            self._pending = 0

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
        for _, name, directory, *record in self._by_name(_names(source, f"{path}, {RECORD}")):
            yield join(directory, name), to_record(record)

    def _names(self, source: str) -> Iterator[Row]:
        return self._by_name(_names(source))

    def _fingerprints(self, table: str) -> Iterator[tuple[RelPath, Fingerprint]]:
        for path, *fingerprint in self._by_path(
            f"SELECT path, size, mtime_ns, ctime_ns, file_id FROM temp.{table}"
            f" WHERE path > :after ORDER BY path LIMIT {CHUNK_ROWS}"
        ):
            yield RelPath(path), _fingerprint(fingerprint)

    def _by_name(self, statement: str) -> Iterator[Row]:
        """Stream rows that begin with (directory_id, name), in that order."""
        directory_id, after = -1, ""
        while rows := self._chunk(statement, {"directory": directory_id, "after": after}):
            yield from rows
            directory_id, after = rows[-1][:2]

    def _by_path(self, statement: str) -> Iterator[Row]:
        """Stream rows that begin with their path, in that order."""
        after: object = -1  # a number sorts before any text, "" (the root) included
        while rows := self._chunk(statement, {"after": after}):
            yield from rows
            after = rows[-1][0]

    def _chunk(self, statement: str, position: dict[str, object]) -> list[Row]:
        self._flush()
        return self._reader.rows(statement, self._bind | position)


def _names(source: str, more: str = "") -> str:
    columns = f"x.directory_id, x.name{', ' if more else ''}{more}"
    return (
        f"SELECT {columns} FROM {source} AND (x.directory_id, x.name) > (:directory, :after)"
        f" ORDER BY x.directory_id, x.name LIMIT {CHUNK_ROWS}"
    )


def _folders(condition: str) -> str:
    return (
        f"SELECT x.path FROM temp.found_folders AS x WHERE x.path > :after AND {condition}"
        f" ORDER BY x.path LIMIT {CHUNK_ROWS}"
    )


def _fingerprint(row: list[int]) -> Fingerprint:
    size, mtime_ns, ctime_ns, file_id = row
    return Fingerprint(size, mtime_ns, ctime_ns, unsigned(file_id))
