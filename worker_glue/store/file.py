"""The store's file: made whole or not at all, opened, judged; and what SQLite's errors mean to a worker.

Everything that sqlite3 raises leaves as DiskFull or StoreFailed. The file is never opened by other means in a process
that has it open here: closing that descriptor would drop SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from syncd.client.file_systems import file_system_type, is_network
from syncd.core.errors import DiskFull, SyncdError
from worker_glue.errors import StoreFailed
from worker_glue.store.rows import DAMAGED_HINT

BUSY_MS = 10_000
"""So long a call waits for the other workers of this host; their transactions take milliseconds."""
OPEN_WAIT_S = 15.0
VERSION = 1
APPLICATION_ID = 0x73796E77
TABLES = ("starts", "owed", "settled", "texts", "buried")

# starts   OCR that began and came to no end. process: which store of which process, so that forgive() takes its own.
# owed     outcomes that MongoDB has not acknowledged, the oldest first by seq. size: of the packed outcome. replaced:
#          whether it stands for one that was too large.
# settled  what is left of those it has. brief: see rows.brief().
# texts    outcomes that were too large for their job's document, whole.
_SCHEMA = """
CREATE TABLE starts (
    seq INTEGER PRIMARY KEY, task TEXT NOT NULL, worker TEXT NOT NULL, pid INTEGER NOT NULL, process TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX starts_by_task ON starts (task);
CREATE INDEX starts_by_age ON starts (at);

CREATE TABLE owed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL UNIQUE, job TEXT NOT NULL, worker TEXT NOT NULL,
    at REAL NOT NULL, size INTEGER NOT NULL, brief TEXT NOT NULL, replaced INTEGER NOT NULL DEFAULT 0,
    outcome BLOB NOT NULL
);
CREATE INDEX owed_by_age ON owed (at, size);

CREATE TABLE settled (
    seq INTEGER PRIMARY KEY, task TEXT NOT NULL UNIQUE, job TEXT NOT NULL, worker TEXT NOT NULL, at REAL NOT NULL,
    saved TEXT NOT NULL, brief TEXT NOT NULL
);
CREATE INDEX settled_by_job ON settled (job);
CREATE INDEX settled_by_age ON settled (at);

CREATE TABLE texts (seq INTEGER PRIMARY KEY, task TEXT NOT NULL UNIQUE, at REAL NOT NULL, outcome BLOB NOT NULL);

CREATE TABLE buried (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, body BLOB NOT NULL)"""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_REFUSED = {
    sqlite3.SQLITE_BUSY: "is locked by another program",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be opened: permission denied",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "could not be read or written (I/O error)",
}


# --- opening ---------------------------------------------------------------------------------------------------------


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the store to write, and make an empty one where there is none; several processes may do so at once.

    Raises: StoreFailed (damaged, of a newer version, on a network file system, no right), DiskFull.
    """
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_network(path.parent)
        with only_one(path.with_name(f"{path.name}.lock"), OPEN_WAIT_S):
            _refuse_remains(path)
            if not path.exists():
                _create(path)
        connection = _connect(path, "rw")
        try:
            check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that only reads a store that is there. Raises: StoreFailed."""
    with translated(path):
        if not path.exists():
            raise StoreFailed(f"there is no store of results at {path}", hint="`worker-glue run` makes it")
        connection = _connect(path, "ro")
        try:
            check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Look briefly whether this is a store that can be used. Raises: StoreFailed."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 or connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise damaged(path, "this is no store of results")
    if version > VERSION:
        raise StoreFailed(
            f"the store of results {path} was written by a newer worker_glue (schema {version}, known here: {VERSION})",
            hint="install that version again; nothing has been changed",
        )
    for table in TABLES:
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()  # noqa: S608  (names are ours)


def _create(path: Path) -> None:
    """Make an empty store beside its place and move it there, so that a file without content is always damage."""
    fresh = path.with_name(f"{path.name}.new")
    for leftover in (fresh, *companions(fresh)):
        leftover.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(_connect(fresh, "rw")) as connection:
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    # macOS: fsync() does not reach the disk there (https://sqlite.org/pragma.html#pragma_fullfsync)
    mac = ("fullfsync=1", "checkpoint_fullfsync=1") if sys.platform == "darwin" else ()
    pragmas = (f"busy_timeout={BUSY_MS}", "synchronous=FULL", "mmap_size=0", "journal_size_limit=67108864", *mac)
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def companions(path: Path) -> tuple[Path, Path]:
    """Return the names of SQLite's write-ahead log and its index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _refuse_remains(path: Path) -> None:
    """Say so where SQLite would quietly begin anew: what was owed would be forgotten."""
    log, _ = companions(path)
    if not path.exists():
        if log.exists() and log.stat().st_size > 0:
            raise damaged(path, "it is gone, but its write-ahead log is there")
    elif not path.is_file() or path.stat().st_size == 0:
        raise damaged(path, "it is empty, or no file")


def _refuse_network(folder: Path) -> None:
    kind = file_system_type(folder)
    if is_network(kind):
        raise StoreFailed(
            f"the store of results cannot lie in {folder}: {kind} is a network file system, where SQLite loses data",
            hint="set host.state_dir to a directory on a local disk",
        )


# --- locks between the processes of a host ---------------------------------------------------------------------------


def take(path: Path) -> int | None:
    """Take a lock that ends with this process at the latest; None where another holds it. Returns its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def only_one(path: Path, wait_s: float) -> Iterator[None]:
    """Let one process at a time in. Raises: StoreFailed when another stays inside for longer than wait_s."""
    deadline = time.monotonic() + wait_s
    while (descriptor := take(path)) is None:
        if time.monotonic() >= deadline:
            raise StoreFailed(f"another process has held {path} for {wait_s:.0f} s", hint=f"see: fuser {path}")
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(descriptor)


# --- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise inside the block into our errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path) from error
        raise StoreFailed(f"the store of results {path} cannot be used: {error}") from error


def damaged(path: Path, detail: str) -> StoreFailed:
    """Return the error for a store that cannot be believed. It is left as it lies: what is owed may be in it."""
    return StoreFailed(f"the store of results {path} is damaged: {detail}", hint=DAMAGED_HINT)


def _translate(error: sqlite3.Error, path: Path) -> SyncdError:
    """Return our error for one of sqlite3's (table: https://sqlite.org/rescode.html)."""
    primary = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
    if primary in _DAMAGED or "no such table" in str(error):
        return damaged(path, str(error))
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return _disk_full(path)
    return StoreFailed(f"the store of results {path} {_REFUSED.get(primary, 'refused a statement')}: {error}")


def _is_full(path: Path) -> bool:
    """Say whether an I/O error comes from lack of space: some failed extensions of a file look like one."""
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 1 << 16


def _disk_full(path: Path) -> DiskFull:
    return DiskFull(
        f"no space left for the store of results {path}",
        hint=f"free space on the file system of {path.parent}; work goes on by itself",
    )
