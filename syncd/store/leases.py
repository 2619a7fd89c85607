"""The journal of leases, and which start of the machine this is: a lease survives the daemon, not the machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from syncd.core.lease import KeptLease
from syncd.core.model import LocalStat, RelPath
from syncd.store.catalogue import Catalogue
from syncd.store.sql import Row, int64, unreadable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNSIGNED = 1 << 64
_ADD = """
INSERT INTO leases (id, mirror_id, path, pin, sha256, size, inode, mtime_ns, generation, ttl_s, expires_at_ms, boot)
SELECT ?, m.id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM mirrors AS m WHERE m.name = ?"""
_LOAD = """
SELECT l.id, m.name, l.path, l.pin, hex(l.sha256), l.inode, l.size, l.mtime_ns, l.generation, l.ttl_s, l.expires_at_ms,
       l.boot
FROM leases AS l JOIN mirrors AS m ON m.id = l.mirror_id ORDER BY l.expires_at_ms, l.id"""


class SqliteLeases:
    """engine.leasing.LeaseStore in the catalogue. Thread-safe. Raises CatalogueError, DiskFull.

    Nothing is synced: what a power cut takes from the journal is leases that have ended with it.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @property
    def is_busy(self) -> bool:
        """Whether somebody writes to the catalogue just now."""
        return self._catalogue.is_busy

    def load(self) -> list[KeptLease]:
        """Return all leases that are journalled, of earlier starts of the machine too."""
        with self._catalogue.transaction() as db:
            rows = db.execute(_LOAD).fetchall()
        try:
            return [_lease(row) for row in rows]
        except (TypeError, ValueError) as error:
            raise unreadable(error) from error

    def add(self, lease: KeptLease) -> None:
        """Journal a lease; of a mirror that is not known (any more), nothing."""
        inode, size, mtime_ns = lease.local
        row = (
            *(lease.lease_id, lease.path, lease.pin, bytes.fromhex(lease.sha256)),
            *(size, inode - _UNSIGNED if inode >= _UNSIGNED >> 1 else inode, int64(mtime_ns)),
            *(lease.generation, lease.ttl_s, lease.expires_at_ms, lease.boot, lease.mirror),
        )
        with self._catalogue.transaction(synced=False) as db:
            db.execute(_ADD, row)

    def change(self, lease_id: str, ttl_s: float, expires_at_ms: int) -> None:
        """Journal another time for a lease."""
        with self._catalogue.transaction(synced=False) as db:
            db.execute("UPDATE leases SET ttl_s = ?, expires_at_ms = ? WHERE id = ?", (ttl_s, expires_at_ms, lease_id))

    def remove(self, lease_ids: Sequence[str]) -> None:
        """Journal that leases have ended."""
        with self._catalogue.transaction(synced=False) as db:
            db.executemany("DELETE FROM leases WHERE id = ?", [(lease_id,) for lease_id in lease_ids])


def _lease(row: Row) -> KeptLease:
    lease_id, mirror, path, pin, sha256, inode, size, mtime_ns, *rest = row
    local = LocalStat(inode % _UNSIGNED, size, mtime_ns)
    return KeptLease(lease_id, mirror, RelPath(path), pin, sha256.lower(), local, *rest)


def boot_id() -> str:
    """Return what tells this start of the machine from others, "" where nothing does (then leases end with the daemon).

    Linux: random(4), boot_id. macOS: kern.bootsessionuuid; kern.boottime moves when the clock is set.
    """
    if sys.platform == "darwin":
        return _sysctl("kern.bootsessionuuid") or _sysctl("kern.boottime")
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _sysctl(name: str) -> str:
    import subprocess  # slow to load, and only macOS asks

    try:
        command = ["/usr/sbin/sysctl", "-n", name]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
