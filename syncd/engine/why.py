"""Everything known about one path, and what happens to it next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any, NamedTuple

from syncd.core.model import LocalEntry, Record, RelPath, Unheld
from syncd.core.reasons import MEANING, Reason, hint_for


class Known(NamedTuple):
    """What is known of one path in one mirror. excluded_by: the pattern that leaves it out ("" = none).

    local: its lstat in the mirror now, None when nothing lies there. listed_at: the last complete look ("" = never).
    held_back: what a run wanted to do with it and was not allowed to ("" = nothing). stand_by: which one the last
    run asked, since the main server was unavailable ("" = the main server). folder: files are held below it.
    """

    mirror: str
    path: RelPath
    target: str
    record: Record | None
    unheld: Unheld | None
    excluded_by: str
    refused: Reason | None
    local: LocalEntry | None
    listed_at: str
    near: Sequence[RelPath]
    held_back: str = ""
    stand_by: str = ""
    folder: bool = False

    @property
    def is_fact(self) -> bool:
        """Whether something was seen of this very path, rather than concluded from its spelling or what is above it."""
        seen = self.unheld is not None and self.unheld.path == self.path
        return seen or self.folder or self.record is not None or self.local is not None

    @property
    def state(self) -> str:
        """held, excluded, refused, failed (or the reason it waits), folder, unknown."""
        if self.record is not None:
            return (
                "held" if self.local is not None and self.local.stat == self.record.local else "held, to be re-checked"
            )
        if self.excluded_by:
            return "excluded"
        if self.refused is not None:
            return "refused"
        if self.unheld is not None:
            return "not held"
        return "folder" if self.folder else "unknown"

    @property
    def reason(self) -> Reason | None:
        """Why nothing is held there, as far as that is known."""
        if self.refused is not None or self.unheld is not None:
            return self.refused or (self.unheld.reason if self.unheld else None)
        return Reason.FOLDER if self.state == "folder" else None

    @property
    def next(self) -> str:
        """What happens next, or what to do."""
        if self.held_back:
            wanted = f"a run wanted to {self.held_back} it and was held back"
            return f"{wanted}; decide: syncd approve --mirror {quote(self.mirror)}"
        if self.record is not None:
            if self.record.absent_run:
                return "missed by the last run; retired when the next complete run does not see it either"
            return "nothing" if self.state == "held" else "the next run re-hashes it: syncd run-once"
        if self.excluded_by:
            return f"nothing: the pattern {self.excluded_by!r} leaves it out"
        reason = self.reason
        if reason is not None:
            return hint_for(reason, self.path) or "the next run tries again: syncd run-once"
        if not self.listed_at:
            return f"the source was never listed to its end: syncd run-once --mirror {quote(self.mirror)}"
        if self.stand_by:
            return (
                "not on the main server as of the last look at it; the next run takes it from any that has it by then"
            )
        return "not on the source as of the last look; if it was added since: syncd run-once"

    def as_json(self) -> dict[str, Any]:
        record, unheld = self.record, self.unheld
        reason = self.reason
        return {
            "mirror": self.mirror,
            "path": self.path,
            "state": self.state,
            "local_path": f"{self.target}/{self.path}",
            "on_disk": self.local is not None,
            "listed_at": self.listed_at or None,
            "stand_by": self.stand_by or None,
            "size": record.size if record else (unheld.size if unheld else None),
            "mtime_ns": record.mtime_ns if record else (unheld.mtime_ns if unheld else None),
            "sha256": record.sha256 if record else None,
            "generation": record.generation if record else None,
            "excluded_by": self.excluded_by or None,
            "reason": reason.value if reason else None,
            "meaning": MEANING[reason][0] if reason else None,
            "detail": unheld.detail if unheld else "",
            "attempts": unheld.attempts if unheld else 0,
            "since": unheld.since if unheld else None,
            "near": list(self.near),
            "next": self.next,
        }
