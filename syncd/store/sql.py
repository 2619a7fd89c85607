"""SQLite as the catalogue uses it: how connections are opened, and what SQLite's errors mean to syncd.

Everything that sqlite3 raises passes through `translated` and leaves as DiskFull, CatalogueDamaged or CatalogueError.
Never open the catalogue's file by other means in a process that has it open here: closing that descriptor would drop
SQLite's POSIX locks (https://sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from syncd.core.errors import CatalogueDamaged, CatalogueError, DiskFull, SyncdError
from syncd.core.model import Record

BUSY_TIMEOUT_MS = 5_000
WRITER_CACHE_KIB = 16_384
READER_CACHE_KIB = 8_192
CHUNK_ROWS = 1_000
"""Rows that a streaming read takes at a time, so that no read transaction stays open while its reader works."""

_WRAP = 1 << 64
_MASK = _WRAP - 1
_HALF = 1 << 63

Row = tuple[Any, ...]
Parameters = Sequence[object] | Mapping[str, object]

RECORD_COLUMNS = """r.size, r.mtime_ns, r.ctime_ns, r.file_id, r.sha256, r.generation,
    r.local_inode, r.local_size, r.local_mtime_ns, r.absent_run"""


def signed(number: int) -> int:
    """Map an unsigned 64-bit number (file id, inode) onto SQLite's signed ones."""
    return number - _WRAP if number >= _HALF else number


def unsigned(number: int) -> int:
    """Undo signed()."""
    return number & _MASK


def to_record(row: Sequence[Any]) -> Record:
    """Make a Record of RECORD_COLUMNS. Raises CatalogueDamaged where a column is not what was written."""
    size, mtime_ns, ctime_ns, file_id, sha256, generation, inode, local_size, local_mtime_ns, absent_run = row
    try:
        ids = file_id & _MASK, inode & _MASK
        digest = sha256.hex()
    except (TypeError, AttributeError) as error:
        raise CatalogueDamaged(
            f"the catalogue is damaged: a record is unreadable: {error}", hint=DAMAGED_HINT
        ) from error
    local = local_size, local_mtime_ns, absent_run
    return Record(size, mtime_ns, ctime_ns, ids[0], digest, generation, ids[1], *local)


def below(directory: str) -> tuple[str, str | bytes]:
    """Return (first, end) of the paths below a directory: first <= path < end, in SQLite's order (memcmp of UTF-8)."""
    return (f"{directory}/", f"{directory}0") if directory else ("", b"")  # any text sorts before any blob


def storable(text: str) -> str:
    """Return text that SQLite can keep: lone surrogates (of names that could not be decoded) are spelled out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


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
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    _tune(connection, WRITER_CACHE_KIB)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA journal_size_limit=67108864")
    if (
        sys.platform == "darwin"
    ):  # fsync() does not reach the disk there: https://sqlite.org/pragma.html#pragma_fullfsync
        connection.execute("PRAGMA fullfsync=1")
        connection.execute("PRAGMA checkpoint_fullfsync=1")
    return connection


def connect_reader(path: Path, *options: str) -> sqlite3.Connection:
    """Open a connection that can only read the file (and write temporary tables). Raises sqlite3.Error.

    options: URI parameters besides mode=ro. `immutable=1` takes no lock and looks at no WAL; `readonly_shm=1` reads the
    WAL without writing to its index, whether a writer lives or died (os_unix.c, unixOpenSharedMemory).
    """
    uri = "&".join([f"{path.absolute().as_uri()}?mode=ro", *options])
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    _tune(connection, READER_CACHE_KIB)
    return connection


def _tune(connection: sqlite3.Connection, cache_kib: int) -> None:
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", f"cache_size=-{cache_kib}", "mmap_size=0", "temp_store=FILE"):
        connection.execute(f"PRAGMA {pragma}")


class Reader:
    """Reads of one catalogue for any thread: each call is one short read transaction of its own.

    `open_` makes a connection; it is used again for another() and when a reader must be replaced.
    """

    def __init__(self, open_: Callable[[], sqlite3.Connection], path: Path) -> None:
        self.path = path
        self._open = open_
        self._lock = threading.RLock()
        with translated(path):
            self._connection = open_()

    def rows(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a query. Raises DiskFull, CatalogueDamaged, CatalogueError."""
        with self._lock, translated(self.path):
            return self._connection.execute(statement, parameters).fetchall()

    def row(self, statement: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row of a query, None when there is none."""
        rows = self.rows(statement, parameters)
        return rows[0] if rows else None

    def another(self) -> Reader:
        """Return a further, independent reader of the same catalogue; its temporary tables are its own."""
        return type(self)(self._open, self.path)

    def write_temporary(self, statement: str, rows: Iterable[Row]) -> None:
        """Run a statement on temporary tables once for each row of parameters."""
        with self._lock, translated(self.path):
            self._connection.executemany(statement, rows)

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        with self._lock, translated(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
