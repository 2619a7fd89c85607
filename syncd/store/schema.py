"""The catalogue's tables, and how a catalogue of an older syncd becomes one of this syncd.

`PRAGMA user_version` is the schema version: the number of MIGRATIONS that have run. Before each migration the whole
database is copied to `catalogue.db.v<version before>.bak`. A catalogue of a newer syncd is left alone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from syncd.core.errors import CatalogueDamaged, CatalogueError, CatalogueTooNew
from syncd.store.sql import connect_writer, damaged, translated
from syncd.store.state import sync_directory

Migration = Callable[[sqlite3.Connection], None]

APPLICATION_ID = 0x73796E63
"""What file(1) and we recognise a catalogue by (https://sqlite.org/pragma.html#pragma_application_id)."""

# What the columns mean that do not say so themselves:
# mirrors.revision      counts commits that changed records; records.revision: the one that wrote the record.
# mirrors.owed          outbox rows of the mirror that are not published.
# records.packed        see sql.pack_record(); hex(substr(packed, 65)) is the SHA-256.
# feed                  one row: the next number of the outbox, and the number up to which all is published.
# intents               one row a group, since it comes and goes as one: its ids, and the intents as JSON.
# runs.announce_after   the announcement after which the message that closes the run is due; NULL: nothing to say.
# leases.pin            the folder below .syncd/pins; leases of one version share it. boot: which start of the machine.
# approvals             what a run was refused (approved 0), and what of it a person let through (1).
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE mirrors (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL,
    target TEXT NOT NULL DEFAULT '',
    source_id TEXT NOT NULL DEFAULT '',
    files INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    manifest_revision INTEGER NOT NULL DEFAULT -1,
    generation_floor INTEGER NOT NULL DEFAULT 0,
    owed INTEGER NOT NULL DEFAULT 0,
    listed_at TEXT NOT NULL DEFAULT '',
    last_success TEXT NOT NULL DEFAULT ''
);

CREATE TABLE directories (
    id INTEGER PRIMARY KEY,
    mirror_id INTEGER NOT NULL,
    parent_id INTEGER,
    path TEXT NOT NULL,
    UNIQUE (mirror_id, path)
);
CREATE INDEX directories_by_parent ON directories (parent_id);

CREATE TABLE records (
    directory_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    packed BLOB NOT NULL,
    absent_run TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (directory_id, name)
) WITHOUT ROWID;
CREATE INDEX records_by_file_id ON records (substr(packed, 1, 8)) WHERE substr(packed, 1, 8) <> x'0000000000000000';

CREATE TABLE tombstones (
    mirror_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (mirror_id, path)
) WITHOUT ROWID;

CREATE TABLE feed (
    next_seq INTEGER NOT NULL,
    published_through INTEGER NOT NULL
);
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    mirror_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    event TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    mtime_ns INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    at TEXT NOT NULL,
    published_at TEXT
);

CREATE TABLE intents (
    seq INTEGER PRIMARY KEY,
    mirror_id INTEGER NOT NULL,
    ids TEXT NOT NULL,
    declared TEXT NOT NULL
);

CREATE TABLE partials (
    mirror_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    staged TEXT NOT NULL,
    offset INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    PRIMARY KEY (mirror_id, path)
) WITHOUT ROWID;

CREATE TABLE unheld (
    mirror_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    since TEXT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (mirror_id, path)
) WITHOUT ROWID;

CREATE TABLE approvals (
    mirror_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    action TEXT NOT NULL,
    approved INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (mirror_id, path)
) WITHOUT ROWID;

CREATE TABLE runs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    mirror_id INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    state TEXT NOT NULL,
    exit_code INTEGER NOT NULL,
    report TEXT NOT NULL,
    UNIQUE (mirror_id, run_id)
);

CREATE TABLE run_days (day TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE notes (
    mirror_id INTEGER NOT NULL,
    topic TEXT NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (mirror_id, topic)
) WITHOUT ROWID;
"""

_LEASES = """
ALTER TABLE runs ADD COLUMN announce_after INTEGER;

CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    mirror_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    pin TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    ttl_s REAL NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    boot TEXT NOT NULL
) WITHOUT ROWID;
"""

TABLES = (
    "meta",
    "mirrors",
    "directories",
    "records",
    "tombstones",
    "feed",
    "outbox",
    "intents",
    "partials",
    "unheld",
    "approvals",
    "runs",
    "run_days",
    "notes",
    "leases",
)


def _create_tables(connection: sqlite3.Connection) -> None:
    """Version 1. The event feed is numbered from the time of creation on, so that it also rises across a rebuild."""
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    first = time.time_ns() // 1_000_000
    connection.execute("INSERT INTO feed (next_seq, published_through) VALUES (?, ?)", (first, first - 1))


def _add_leases(connection: sqlite3.Connection) -> None:
    """Version 2: leases, and the messages that close runs."""
    for statement in _LEASES.split(";"):
        connection.execute(statement)


MIGRATIONS: tuple[Migration, ...] = (_create_tables, _add_leases)


def create(path: Path, app_version: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make an empty catalogue at `path`, whole or not at all. Raises DiskFull, CatalogueError."""
    unfinished = path.with_name(f"{path.name}.new")
    with translated(path):
        for leftover in (unfinished, *companions(unfinished)):
            leftover.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(connect_writer(unfinished)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for version, migrate in enumerate(migrations):
                _step(connection, version, migrate, app_version)
        unfinished.replace(path)
        sync_directory(path.parent)


def companions(path: Path) -> tuple[Path, Path]:
    """Return the names of SQLite's write-ahead log and of its index beside a database."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection, path: Path, *, newest: int = len(MIGRATIONS)) -> int:
    """Look briefly whether this is a catalogue that can be believed, and return its version; at most `newest`.

    Not a full check, which takes seconds for a million records: a page found damaged later is CatalogueDamaged then.
    Raises: CatalogueDamaged, CatalogueTooNew.
    """
    with translated(path):
        version = version_of(connection)
        if version == 0 or connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise damaged(path, "this is not a catalogue of syncd")
        if version > newest:
            raise _too_new(connection, path, version, newest)
        if version == len(MIGRATIONS):
            _touch_every_table(connection, path)
    return version


def _touch_every_table(connection: sqlite3.Connection, path: Path) -> None:
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not present.issuperset(TABLES):
        raise damaged(path, "tables are missing")
    for table in TABLES:
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()  # noqa: S608  (names are ours)


def _too_new(connection: sqlite3.Connection, path: Path, version: int, newest: int) -> CatalogueError:
    row = connection.execute("SELECT value FROM meta WHERE key = 'written_by'").fetchone()
    writer = f"syncd {row[0]}" if row else "a newer syncd"
    return CatalogueTooNew(
        f"the catalogue {path} was written by {writer} (schema {version}); this syncd knows schema {newest}",
        hint=f"install {writer} or newer" if row else "install the newer syncd again",
    )


def upgrade(
    connection: sqlite3.Connection, path: Path, app_version: str, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Run the migrations that this catalogue lacks, each after a copy and in one transaction of its own.

    Killed or failed in between: the catalogue is as before the step that failed, and the next start goes on from there.
    Raises: CatalogueTooNew, CatalogueDamaged, DiskFull, CatalogueError.
    """
    with translated(path):
        for version in range(check(connection, path, newest=len(migrations)), len(migrations)):
            _back_up(connection, path.with_name(f"{path.name}.v{version}.bak"))
            _step(connection, version, migrations[version], app_version)
        _note_writer(connection, app_version)


def _step(connection: sqlite3.Connection, version: int, migrate: Migration, app_version: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrate(connection)
        connection.execute(f"PRAGMA user_version={version + 1}")
        _note_writer(connection, app_version)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _note_writer(connection: sqlite3.Connection, app_version: str) -> None:
    """Keep who wrote this catalogue last; nothing is written when that is known already."""
    statement = """INSERT INTO meta (key, value) VALUES ('written_by', ?)
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value"""
    connection.execute("INSERT OR IGNORE INTO meta (key, value) SELECT 'created_at', strftime('%Y-%m-%dT%H:%M:%SZ')")
    connection.execute(statement, (app_version,))


def _back_up(connection: sqlite3.Connection, backup: Path) -> None:
    """Copy the whole database, durably, over an older copy of the same version."""
    unfinished = backup.with_name(f"{backup.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
        connection.backup(copy)
    unfinished.replace(backup)
    sync_directory(backup.parent)


def set_aside(path: Path) -> Path:
    """Rename a damaged catalogue and its companions out of the way; return where the database lies now.

    The database goes first: killed in between, what is left is again recognised as a catalogue to be set aside.
    Raises: CatalogueError.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    for attempt in range(1, 1_000):
        if not any(name.exists() for name in (aside, *companions(aside))):
            break
        aside = path.with_name(f"{path.stem}.damaged-{stamp}-{attempt}{path.suffix}")
    try:
        for old, new in zip((path, *companions(path)), (aside, *companions(aside)), strict=True):
            if old.exists():
                old.rename(new)
        sync_directory(path.parent)
    except OSError as error:
        raise CatalogueError(f"the damaged catalogue {path} cannot be moved out of the way: {error}") from error
    return aside


def find_damage(path: Path) -> CatalogueDamaged | None:
    """Say what is wrong with the files as they lie, before SQLite would quietly make an empty catalogue of them."""
    log, _ = companions(path)
    if not path.exists():
        return damaged(path, "it is gone, but its journal is there") if log.exists() else None
    if not path.is_file():
        return damaged(path, "it is no file")
    return damaged(path, "it is empty") if path.stat().st_size == 0 else None
