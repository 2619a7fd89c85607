"""The exported manifest: one JSON object a line, its file, and its index when a catalogue is rebuilt from it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

from syncd.core.model import Fingerprint, Record, RelPath
from syncd.store.disk_errors import translated
from syncd.store.durable import sync_descriptor
from syncd.store.handles import CREATE, READ
from syncd.store.owner import MANIFEST
from syncd.store.staging import FILE_MODE, Staging

_BUFFER = 256 << 10
_AT_A_TIME = 500

_encode = json.encoder.encode_basestring  # json.dumps of a str without its ASCII escapes, several times faster


def manifest_lines(records: Iterable[tuple[RelPath, Record]]) -> Iterator[bytes]:
    """Return a manifest, some hundred lines at a time: each has path, size, sha256, the source's mtime_ns, generation.

    Hot: for every file after every run that changed something.
    """
    lines = (
        f'{{"path": {_encode(path)}, "size": {size}, "sha256": "{sha256}", '
        f'"mtime_ns": {mtime_ns}, "generation": {generation}}}\n'
        for path, (size, mtime_ns, _, _, sha256, generation, _, _, _, _) in records
    )
    while some := "".join(islice(lines, _AT_A_TIME)):
        yield some.encode()


def replace_manifest(state: int, folder: int, staging: Staging, lines: Iterable[bytes]) -> None:
    """Replace the manifest in `.syncd` (state) atomically and durably; it is written in staging (folder)."""
    name = staging.reserve("manifest-")
    try:
        with translated("write the manifest"):
            descriptor = os.open(name, CREATE, FILE_MODE, dir_fd=folder)
            with open(descriptor, "wb", buffering=_BUFFER) as file:
                file.writelines(line if line.endswith(b"\n") else line + b"\n" for line in lines)
                file.flush()
                sync_descriptor(descriptor)
            os.rename(name, MANIFEST, src_dir_fd=folder, dst_dir_fd=state)
            sync_descriptor(state)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise
    finally:
        staging.let_go(name)


def read_manifest(state: int) -> Iterator[bytes]:
    """Return the lines of the manifest in `.syncd` (none when there is none)."""
    with translated("read the manifest"):
        try:
            descriptor = os.open(MANIFEST, READ, dir_fd=state)
        except FileNotFoundError:
            return
        with open(descriptor, "rb", buffering=_BUFFER) as file:
            yield from file


class ManifestIndex:
    """The manifest of a mirror whose catalogue was lost, looked up by path; kept in a temporary file, not in memory."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._table = sqlite3.connect("", check_same_thread=False)
        self._table.execute(
            "CREATE TABLE line (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT) WITHOUT ROWID"
        )
        self._table.executemany("INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?)", _read(lines))

    def digest(self, path: RelPath, fingerprint: Fingerprint) -> str | None:
        """Return the digest of this very version (size and mtime as the server lists them); None when there is none."""
        row = self._table.execute(
            "SELECT sha256 FROM line WHERE path = ? AND size = ? AND mtime_ns = ?",
            (path, fingerprint.size, fingerprint.mtime_ns),
        ).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Throw the index away."""
        self._table.close()


def _read(lines: Iterable[bytes]) -> Iterator[tuple[str, int, int, str]]:
    """Yield what whole lines say; a torn or foreign line only costs that file a comparison with the server."""
    for line in lines:
        try:
            found = json.loads(line)
            row = (found["path"], found["size"], found["mtime_ns"], found["sha256"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if isinstance(row[0], str) and isinstance(row[1], int) and isinstance(row[2], int) and isinstance(row[3], str):
            yield row
