# ruff: noqa: ARG002  (a dry run's catalogue has methods of ports.MirrorCatalogue that it refuses)
"""The catalogue without its lock, for `status`, `why`, `runs`, `manifest`, dry runs and workers on the same machine.

Nothing is written into the state directory, neither beside a running syncd nor over what a killed one left:
- no write-ahead log there: nobody is writing, the file alone is the catalogue (`immutable=1`); every read is followed
  by a look whether that is still so, and repeated when it is not;
- a log is there: `readonly_shm=1` reads it with locks but without writing to its index; where a killed writer left no
  index, a copy is read.
Close it before a Catalogue is opened in the same process: see sql.py on descriptors.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn, Self

from syncd.core.errors import CatalogueError
from syncd.core.model import Fact, Intent, Partial, RelPath
from syncd.store import schema
from syncd.store.catalogue_reads import CatalogueReads
from syncd.store.looks import Looks
from syncd.store.mirror_reads import MirrorReads
from syncd.store.sql import Parameters, Reader, Row, connect_reader, primary_code, translated

_ATTEMPTS = 5
_PAUSE_S = 0.02
_ABSENT = (-1, -1, -1, -1)
_UNKNOWN_MIRROR = 0  # SQLite numbers rows from 1 on


def open_readonly(path: Path) -> ReadonlyCatalogue:
    """Open a catalogue to read it; where there is none yet, an empty one in memory.

    Raises: CatalogueTooNew, CatalogueDamaged, CatalogueError (an older one that no run has brought up to date yet).
    """
    trouble = schema.find_damage(path)
    if trouble is not None:
        raise trouble
    if not path.exists():
        return ReadonlyCatalogue(Reader(_empty, path))
    return ReadonlyCatalogue(SnapshotReader(path))


class ReadonlyCatalogue(CatalogueReads):
    """The reading half of Catalogue."""

    def mirror(self, name: str) -> ReadonlyMirrorCatalogue:
        """Return one mirror's facts; of a mirror that never ran, none."""
        row = self._reader.row("SELECT id FROM mirrors WHERE name = ?", (name,))
        return ReadonlyMirrorCatalogue(self._reader, row[0] if row else _UNKNOWN_MIRROR, name)

    def blank(self, name: str) -> ReadonlyMirrorCatalogue:
        """Return a mirror's facts as if it had never run."""
        return ReadonlyMirrorCatalogue(self._reader, _UNKNOWN_MIRROR, name)

    def close(self) -> None:
        """Close all connections; safe to repeat."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ReadonlyMirrorCatalogue(Looks, MirrorReads):
    """ports.MirrorCatalogue for a dry run: whatever would write raises CatalogueError."""

    def __init__(self, reader: Reader, mirror_id: int, name: str) -> None:
        super().__init__(reader, mirror_id, name)
        self._looks = reader

    def use_source(self, source_id: str) -> None:
        """Read fingerprints as the writer would leave them: another server's change times and file ids say nothing."""
        known = str(self._one("source_id", "")[0])
        self._ids_known = known in ("", source_id)

    def declare(self, intents: Sequence[Intent]) -> None:
        self._refuse()

    def commit(self, facts: Sequence[Fact], closes: Sequence[Intent], *, run_id: str, now_ms: int) -> None:
        self._refuse()

    def save_partial(self, partial: Partial) -> None:
        self._refuse()

    def forget_partial(self, path: RelPath) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise CatalogueError(f"the catalogue {self._reader.path} was opened only to be read")


class SnapshotReader(Reader):
    """A Reader that leaves no trace, and that follows a catalogue whose writer comes, goes or replaces it."""

    def __init__(self, path: Path) -> None:
        self._frozen = False
        self._signature: tuple[int, ...] = ()
        self._files = os.fspath(path), os.fspath(schema.companions(path)[0])  # as text: looked at for every read
        super().__init__(self._connect, path)

    def rows(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        for _ in range(_ATTEMPTS):
            # what is frozen is looked at after it was read, which is enough
            if not self._signature or (not self._frozen and self._look() != self._signature):
                self._reopen()
            try:
                rows = super().rows(statement, parameters)
            except CatalogueError as error:
                if self._look() == self._signature and primary_code(error.__cause__) != sqlite3.SQLITE_READONLY:
                    raise
                self._signature = ()
                continue
            if not self._frozen or self._look() == self._signature:
                return rows
            self._signature = ()
        raise CatalogueError(f"the catalogue {self.path} keeps changing while it is read", hint="try again")

    def another(self) -> Reader:
        return self._adopt(_Still(self.path))

    def _connect(self) -> sqlite3.Connection:
        """Open the file alone, the file with its log, or a copy of both; the first and the last are frozen."""
        log, index = schema.companions(self.path)
        self._frozen = not log.exists()
        self._signature = self._look()
        if self._frozen:
            return _checked(connect_reader(self.path, "immutable=1"), self.path)
        for _ in range(_ATTEMPTS):
            with suppress(sqlite3.OperationalError):
                return _checked(_open_quietly(self.path), self.path)
            if not index.exists():
                break
            time.sleep(_PAUSE_S)  # a writer may be about to make or to end it
        self._frozen = True
        self._signature = self._look()
        return _checked(_open_copy(self.path), self.path)

    def _reopen(self) -> None:
        with self._lock, translated(self.path):
            self._connection.close()
            self._connection = self._connect()

    def _look(self) -> tuple[int, ...]:
        """Return what tells one catalogue from another; where what is read is frozen, one state of it from another."""
        catalogue, log = self._files
        file = _stat(catalogue)
        if not self._frozen:
            return file[:2]
        return (*file, *_stat(log)) if os.access(log, os.F_OK) else file  # no log is the rule


class _Still(SnapshotReader):
    """For findings, whose temporary tables would not survive a change of connection: a changed catalogue ends it."""

    def rows(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        rows = Reader.rows(self, statement, parameters)
        if self._look()[:4] != self._signature[:4]:
            raise CatalogueError(f"the catalogue {self.path} was changed by another syncd meanwhile", hint="try again")
        return rows


def _stat(path: str) -> tuple[int, int, int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return _ABSENT
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open_quietly(path: Path) -> sqlite3.Connection:
    connection = connect_reader(path, "readonly_shm=1")
    try:
        schema.version_of(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_copy(path: Path) -> sqlite3.Connection:
    """Open a catalogue and its log as a copy that is gone with the connection, so that the original stays untouched.

    A killed writer left a log and no usable index of it, which only a writer could make again.
    """
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="syncd-read-") as folder:
        copy = Path(folder, path.name)
        for original in (schema.companions(path)[0], path):
            if original.exists():
                shutil.copyfile(original, copy.with_name(original.name))
        with closing(sqlite3.connect(copy, isolation_level=None)) as writer:
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection = connect_reader(copy, "immutable=1")
        schema.version_of(connection)  # reads: from here on the open descriptor is enough
        return connection


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    try:
        version = schema.check(connection, path)
        if version < len(schema.MIGRATIONS):
            raise CatalogueError(
                f"the catalogue {path} is of an older syncd (schema {version}) and has not been brought up to date",
                hint="syncd run-once",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _empty() -> sqlite3.Connection:
    """Return a catalogue that knows nothing, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for migrate in schema.MIGRATIONS:
        migrate(connection)
    return connection
