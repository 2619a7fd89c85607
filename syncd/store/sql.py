"""SQLite as the catalogue uses it: how connections are opened, and what SQLite's errors mean to syncd.

Everything that sqlite3 raises passes through `translated` and leaves as DiskFull, CatalogueDamaged or CatalogueError.
Never open the catalogue's file by other means in a process that has it open here: closing that descriptor would drop
SQLite's POSIX locks (https://sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from syncd.core.errors import CatalogueDamaged, CatalogueError, DiskFull, SyncdError
from syncd.core.model import Fingerprint, LocalStat, Record

BUSY_TIMEOUT_MS = 5_000
WRITER_CACHE_KIB = 16_384
READER_CACHE_KIB = 8_192
CHUNK_ROWS = 1_000
"""Rows that a streaming read takes at a time, so that no read transaction stays open while its reader works."""

T = TypeVar("T")
Row = Sequence[Any]
Parameters = Sequence[object] | Mapping[str, object]

_KEPT = struct.Struct(">QqqqqQqq32s")
PACKED_BYTES = _KEPT.size
_PRINT = struct.Struct(">Qqqq")
_HALF = 1 << 63
_BATCHES = (512, 64, 8, 1)


# --- values ----------------------------------------------------------------------------------------------------------


def pack_record(fingerprint: Fingerprint, digest: bytearray, generation: int, local: LocalStat) -> bytearray:
    """Return what `records.packed` keeps: big-endian file_id, size, mtime_ns, ctime_ns, generation, local_inode,
    local_size, local_mtime_ns, SHA-256 (`digest`). absent_run has a column of its own.

    One column, so that a whole directory is read in one step of SQLite (see in_batches). Times that no clock shows
    (a server may send anything) are cut to 64 bits; such a file is then fetched again by every run.
    A bytearray, since sqlite3 binds it as it is; for bytes, and None, it asks for an adapter first, which takes ten
    times as long (need_adapt() in CPython's Modules/_sqlite/cursor.c).
    """
    size, mtime_ns, ctime_ns, file_id = fingerprint
    inode, local_size, local_mtime_ns = local
    packed = bytearray(_KEPT.size)
    try:
        _KEPT.pack_into(
            packed, 0, file_id, size, mtime_ns, ctime_ns, generation, inode, local_size, local_mtime_ns, digest
        )
    except struct.error:
        numbers = int64(size), int64(mtime_ns), int64(ctime_ns), generation
        local_numbers = uint64(inode), local_size, int64(local_mtime_ns)
        _KEPT.pack_into(packed, 0, uint64(file_id), *numbers, *local_numbers, digest)
    return packed


def unpack_record(packed: bytes, absent_run: str) -> Record:
    """Return the record that pack_record() packed. Raises CatalogueDamaged."""
    try:
        file_id, size, mtime, ctime, generation, inode, local_size, local_mtime, sha256 = _KEPT.unpack(packed)
    except struct.error as error:
        raise unreadable(error) from error
    return Record(size, mtime, ctime, file_id, sha256.hex(), generation, inode, local_size, local_mtime, absent_run)


def unpack_records(absent_runs: Iterable[str], packed: bytes) -> list[Record]:
    """Return the records that lie packed end to end, one for each absent_run. Raises CatalogueDamaged."""
    make = tuple.__new__  # three times as fast as Record(...), and this runs for every file of every run
    try:
        return [
            make(
                Record, (size, mtime, ctime, file_id, sha256.hex(), generation, inode, local_size, local_mtime, absent)
            )
            for absent, (file_id, size, mtime, ctime, generation, inode, local_size, local_mtime, sha256) in zip(
                absent_runs, _KEPT.iter_unpack(packed), strict=True
            )
        ]
    except (struct.error, ValueError) as error:
        raise unreadable(error) from error


def without_ids(record: Record) -> Record:
    """Return a record as it is known at another server: file ids and change times are each server's own."""
    return record._replace(ctime_ns=0, file_id=0)


def pack_print(fingerprint: Fingerprint) -> bytearray:
    """Return a fingerprint as a record's first 32 bytes have it: the first 8 are the id, the first 24 the identity."""
    size, mtime_ns, ctime_ns, file_id = fingerprint
    try:
        return bytearray(_PRINT.pack(file_id, size, mtime_ns, ctime_ns))  # see pack_record()
    except struct.error:
        return bytearray(_PRINT.pack(uint64(file_id), int64(size), int64(mtime_ns), int64(ctime_ns)))


def unpack_print(packed: bytes) -> Fingerprint:
    """Return the fingerprint that pack_print() packed. Raises CatalogueDamaged."""
    try:
        file_id, size, mtime_ns, ctime_ns = _PRINT.unpack(packed)
    except struct.error as error:
        raise unreadable(error) from error
    return Fingerprint(size, mtime_ns, ctime_ns, file_id)


def int64(number: int) -> int:
    """Return the nearest number that SQLite can keep."""
    return number if -_HALF <= number < _HALF else max(-_HALF, min(number, _HALF - 1))


def uint64(number: int) -> int:
    """Return the nearest number that a file id or an inode can be."""
    return max(0, min(number, 2 * _HALF - 1))


def below(directory: str) -> tuple[str, str | bytes]:
    """Return (first, end) of the paths below a directory: first <= path < end, in SQLite's order (memcmp of UTF-8)."""
    return (f"{directory}/", f"{directory}0") if directory else ("", b"")  # any text sorts before any blob


def storable(text: str) -> str:
    """Return text that SQLite can keep: lone surrogates (of names that could not be decoded) are spelled out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


# --- many rows -------------------------------------------------------------------------------------------------------


def in_batches(
    connection: sqlite3.Connection, template: str, rows: Sequence[Row], leading: Row = ()
) -> Iterator[sqlite3.Cursor]:
    """Execute `template` with its "{}" replaced by many rows of parameters, in as few steps of SQLite as can be.

    sqlite3 gives up Python's GIL around every step, and beside a busy thread it takes up to sys.getswitchinterval()
    (5 ms) to get it back: executemany() of 512 rows, a step each, then takes 300 ms instead of 3 (measured).
    """
    start = 0
    for size in _BATCHES:
        while len(rows) - start >= size:
            batch = rows[start : start + size]
            statement = _with_values(template, len(batch[0]), size)
            yield connection.execute(statement, [*leading, *chain.from_iterable(batch)])
            start += size


def write_batches(connection: sqlite3.Connection, template: str, rows: Sequence[Row], leading: Row = ()) -> int:
    """Execute in_batches() to the end; return how many rows were changed."""
    return sum(cursor.rowcount for cursor in in_batches(connection, template, rows, leading))


def write_flat(connection: sqlite3.Connection, template: str, row: str, values: list[Any], leading: Row = ()) -> None:
    """Execute `template` like write_batches(), for rows whose values lie end to end in one list.

    row: what stands for one row, "(?1, ?, ?)": `?1`, `?2` are the leading values, bound once, which stand first.
    """
    width = row.count("?") - len(leading)
    count, start = len(values) // width, 0
    for size in _BATCHES:
        while count - start >= size:
            chosen = values[start * width : (start + size) * width]
            connection.execute(_with_rows(template, row, size), [*leading, *chosen])
            start += size


def _with_values(template: str, width: int, size: int) -> str:
    return _with_rows(template, f"({', '.join('?' * width)})", size)


@cache
def _with_rows(template: str, row: str, size: int) -> str:
    return template.format(", ".join([row] * size))


def chunks(rows: Iterable[T]) -> Iterator[list[T]]:
    """Cut any number of rows into lists of at most CHUNK_ROWS."""
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def by_directory(places: Iterable[Row]) -> Iterator[tuple[int, str]]:
    """Return (directory_id, its names as JSON) for each directory in (directory_id, name) rows.

    SQLite looks up `directory_id = ? AND name IN (...)` by key, but not `(directory_id, name) IN (...)`.
    """
    for directory_id, group in groupby(sorted(map(tuple, places)), itemgetter(0)):
        yield directory_id, json.dumps([name for _, name in group])


@cache
def in_one_row(statement: str, columns: int) -> str:
    """Return a query for the rows of `statement` as one JSON text: one step instead of one a row (see in_batches).

    Blobs have to be turned into hex() by the statement; a statement with ORDER BY needs a LIMIT to keep its order.
    """
    names = ", ".join(f"c{n}" for n in range(columns))
    return f"WITH q ({names}) AS ({statement}) SELECT json_group_array(json_array({names})) FROM q"  # noqa: S608


# --- errors ----------------------------------------------------------------------------------------------------------

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_REFUSED = {
    sqlite3.SQLITE_BUSY: "is locked by another program",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be opened: permission denied",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "could not be read or written (I/O error)",
}
DAMAGED_HINT = "nothing to do: the next run keeps it aside and rebuilds it from the mirror"


def damaged(path: str | Path, detail: str) -> CatalogueDamaged:
    """Return the error for a catalogue that cannot be believed."""
    return CatalogueDamaged(f"the catalogue {path} is damaged: {detail}", hint=DAMAGED_HINT)


def unreadable(error: Exception) -> CatalogueDamaged:
    """Return the error for a value that syncd cannot have written."""
    return CatalogueDamaged(f"the catalogue is damaged: it holds what syncd never wrote: {error}", hint=DAMAGED_HINT)


def translate(error: sqlite3.Error, path: str | Path) -> SyncdError:
    """Return syncd's error for one of sqlite3's (table: https://sqlite.org/rescode.html)."""
    primary = primary_code(error)
    if primary in _DAMAGED or "Could not decode to UTF-8" in str(error):
        return damaged(path, str(error))
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return _disk_full(path)
    return CatalogueError(f"the catalogue {path} {_REFUSED.get(primary, 'refused a statement')}: {error}")


def primary_code(error: BaseException | None) -> int:
    """Return SQLite's primary result code of an error, 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _translate_os(error: OSError, path: str | Path) -> SyncdError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(path)
    return CatalogueError(f"the catalogue {path} cannot be used: {error}")


def _disk_full(path: str | Path) -> DiskFull:
    return DiskFull(
        f"no space left for the catalogue {path} (or for SQLite's temporary files)",
        hint=f"free space on the file system of {Path(path).parent}; work goes on by itself",
    )


def _is_full(path: str | Path) -> bool:
    """Say whether an I/O error comes from lack of space: SQLite reports some failed extensions of a file that way."""
    try:
        room = os.statvfs(Path(path).parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 1 << 16


class translated:  # noqa: N801  (used as a context manager, like contextlib.suppress)
    """Turn what sqlite3 raises inside the block into syncd's errors. A class: hot paths enter it a million times."""

    __slots__ = ("_path",)

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, sqlite3.Error):
            raise translate(error, self._path) from error
        if isinstance(error, OSError):
            raise _translate_os(error, self._path) from error
        if isinstance(error, OverflowError):
            raise CatalogueError(f"a number does not fit into the catalogue {self._path}: {error}") from error


# --- connections -----------------------------------------------------------------------------------------------------


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the one writing connection: WAL, every commit synced before it returns. Raises sqlite3.Error."""
    more = ["synchronous=FULL", "journal_size_limit=67108864"]
    if (
        sys.platform == "darwin"
    ):  # fsync() does not reach the disk there: https://sqlite.org/pragma.html#pragma_fullfsync
        more += ["fullfsync=1", "checkpoint_fullfsync=1"]
    return _connect(path.absolute().as_uri(), WRITER_CACHE_KIB, *more)


def connect_reader(path: Path, *options: str) -> sqlite3.Connection:
    """Open a connection that can only read the file (and write temporary tables). Raises sqlite3.Error.

    options: URI parameters besides mode=ro. `immutable=1` takes no lock and looks at no WAL; `readonly_shm=1` reads the
    WAL without writing to its index, whether a writer lives or died (os_unix.c, unixOpenSharedMemory).
    """
    return _connect("&".join([f"{path.absolute().as_uri()}?mode=ro", *options]), READER_CACHE_KIB)


def _connect(uri: str, cache_kib: int, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        usual = (f"busy_timeout={BUSY_TIMEOUT_MS}", f"cache_size=-{cache_kib}", "mmap_size=0", "temp_store=FILE")
        for pragma in (*usual, *pragmas):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


class Reader:
    """Reads of one catalogue for any thread: each call is one short read transaction of its own.

    `open_` makes a connection; it is used again for another() and when a reader must be replaced.
    """

    def __init__(self, open_: Callable[[], sqlite3.Connection], path: Path) -> None:
        self.path = path
        self._translated = translated(path)
        self._open = open_
        self._lock = threading.RLock()
        self._others: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._closed = False
        with translated(path):
            self._connection = open_()

    def rows(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a query. Raises DiskFull, CatalogueDamaged, CatalogueError."""
        try:
            with self._lock, self._translated:
                return self._connection.execute(statement, parameters).fetchall()
        except UnicodeEncodeError:
            return []  # asked for a text that is not UTF-8 (bytes of an argument), and nothing is kept under such

    def row(self, statement: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row of a query, None when there is none."""
        rows = self.rows(statement, parameters)
        return rows[0] if rows else None

    def bulk(self, statement: str, columns: int, parameters: Parameters = ()) -> list[Row]:
        """Return many rows of a query in one step; what in_one_row() says of statements holds. Raises as rows()."""
        try:
            return json.loads(self.rows(in_one_row(statement, columns), parameters)[0][0])  # type: ignore[no-any-return]
        except ValueError as error:
            raise unreadable(error) from error

    def shrink(self) -> None:
        """Give back what SQLite keeps of the file in memory, other readers made here too; nothing once closed."""
        for other in list(self._others):  # one that was closed stays here for as long as anybody refers to it
            other.shrink()
        with self._lock:
            if not self._closed:
                self.rows("PRAGMA shrink_memory")

    def another(self) -> Reader:
        """Return a further reader with temporary tables of its own; it is closed with this one at the latest."""
        return self._adopt(Reader(self._open, self.path))

    def _adopt(self, reader: Reader) -> Reader:
        self._others.add(reader)
        return reader

    def write_temporary(self, template: str, rows: Sequence[Row]) -> None:
        """Write rows to temporary tables; `template` as in in_batches()."""
        with self._lock, translated(self.path):
            write_batches(self._connection, template, rows)

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        with self._lock, translated(self.path):
            for other in list(self._others):
                other.close()
            self._closed = True
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
