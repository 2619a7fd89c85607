"""A lease: protection of one version of a file while somebody works on it (RULES section 4). Values only."""

from __future__ import annotations

from typing import Any, NamedTuple

from syncd.core.model import LocalStat, RelPath


class WouldWait(Exception):
    """A call that was to come back at once would have to wait for others, or to copy a file."""


class Lease(NamedTuple):
    """One lease: a version of a file that stays as it is until `expires_at` (ISO 8601 UTC), whatever happens to it.

    pinned_path: absolute, as this host sees it; pinned_rel: relative to the mirror's target, for containers.
    """

    lease_id: str
    mirror: str
    path: str
    server_path: str
    pinned_path: str
    pinned_rel: str
    size: int
    sha256: str
    generation: int
    expires_at: str

    def as_json(self) -> dict[str, Any]:
        """Return the object of `POST /api/v1/leases` (DESIGN 4.5)."""
        return self._asdict()


class KeptLease(NamedTuple):
    """A lease as it is journalled. pin: its folder in `.syncd/pins`. local: the pinned file's stat.

    expires_at_ms: Unix time, as of the last change; what counts is the daemon's own clock, and after its start ttl_s.
    boot: which start of the machine it was taken in; it does not outlive that.
    """

    lease_id: str
    mirror: str
    path: RelPath
    pin: str
    sha256: str
    local: LocalStat
    generation: int
    ttl_s: float
    expires_at_ms: int
    boot: str
