"""Mirrors on disk for tests: open one, put files into it, and see what lies on disk."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syncd.core.model import LocalStat, RelPath
from syncd.ports import Staged
from syncd.store.mirror import DiskMirror

BATCH = "20260102T030405Z-run"
MTIME_NS = 1_700_000_000_123_456_700

US: dict[str, Any] = {
    "mirror_uid": "uid-1",
    "mirror_name": "Bhushanji",
    "host_id": "host-1",
    "host_name": "tod-mac",
    "known": False,
}


def opened(target: Path, **changes: Any) -> DiskMirror:
    """Open a target as our own, for the first time unless told otherwise."""
    return DiskMirror.open(target, **{**US, **changes})


def peeked(target: Path, **changes: Any) -> DiskMirror | None:
    """Look at a target."""
    return DiskMirror.peek(target, **{**US, **changes})


def rel(path: str) -> RelPath:
    return RelPath(path)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def staged(mirror: DiskMirror, data: bytes, mtime_ns: int = MTIME_NS) -> Staged:
    """Stage and seal one file."""
    file = mirror.stage()
    if data:
        file.write(memoryview(data))
    assert file.seal(mtime_ns) == sha256(data)
    return file


def put(mirror: DiskMirror, path: str, data: bytes, *, batch: str = BATCH, mtime_ns: int = MTIME_NS) -> LocalStat:
    """Bring one file to its final place, durably."""
    file = staged(mirror, data, mtime_ns)
    mirror.sync([file])
    local = mirror.promote(file, rel(path), batch=batch)
    mirror.sync_directories()
    return local


def snapshot(folder: Path, *, leave_out: Callable[[str], bool] = lambda _: False) -> dict[str, object]:
    """Return everything below a folder: bytes of files, targets of links, modes of folders."""
    found: dict[str, object] = {}
    for above, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(above) / name
            key = str(path.relative_to(folder))
            if leave_out(key):
                continue
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                found[key] = ("link", str(path.readlink()))
            elif stat.S_ISREG(mode):
                found[key] = path.read_bytes()
            else:
                found[key] = stat.filemode(mode)
    return found


def visible(target: Path) -> dict[str, object]:
    """Return what a user sees of a mirror: everything but `.syncd`."""
    return snapshot(target, leave_out=lambda path: path.split("/")[0] == ".syncd")
