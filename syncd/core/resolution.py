"""What the resolver answers (RULES section 4). A value; never raised, and never with a path that is not verified."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from syncd.core.reasons import Reason


class State(StrEnum):
    """How a path is, for a worker that wants its file."""

    READY = "ready"
    FETCHING = "fetching"
    MISSING = "missing"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"
    UNAVAILABLE = "unavailable"
    NO_MIRROR = "no_mirror"


class Resolution(NamedTuple):
    """One answer. Only READY has local_path, size, sha256 and generation.

    mirror, path: what the spelling means ("" while that is not known); server_path: mirror/path. reason: why it is not
    ready; hint: the operator's next step. retry_after_s: when asking again makes sense (None: not by itself).
    listed_at: the complete look at the source that this goes by (ISO 8601 UTC, "" = none). near: paths that may be
    meant, at most three; candidates: for AMBIGUOUS, the server paths of all readings.
    """

    state: State
    mirror: str = ""
    path: str = ""
    server_path: str = ""
    local_path: str | None = None
    size: int | None = None
    sha256: str | None = None
    generation: int | None = None
    reason: Reason | None = None
    hint: str = ""
    retry_after_s: float | None = None
    listed_at: str = ""
    near: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object of `POST /api/v1/resolve` (DESIGN 4.5)."""
        return {
            "state": self.state.value,
            "mirror": self.mirror or None,
            "path": self.path or None,
            "server_path": self.server_path or None,
            "local_path": self.local_path,
            "size": self.size,
            "sha256": self.sha256,
            "generation": self.generation,
            "reason": None if self.reason is None else self.reason.value,
            "hint": self.hint,
            "retry_after_s": self.retry_after_s,
            "listed_at": self.listed_at or None,
            "near": list(self.near),
            "candidates": list(self.candidates),
        }
