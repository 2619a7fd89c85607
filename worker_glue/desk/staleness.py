"""Which results were made from bytes that the source has no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from syncd.core.resolution import Resolution, State
from worker_glue.desk.ports import Paths, SourceRow, Tell, quiet


class Freshness(StrEnum):
    """How a result stands to its source."""

    CURRENT = "current"
    CHANGED = "changed"
    GONE = "gone"
    UNKNOWN = "unknown"


class Judged(NamedTuple):
    """One result, and the bytes that the source has now ("" = not known)."""

    row: SourceRow
    freshness: Freshness
    found: Resolution

    def as_json(self) -> dict[str, Any]:
        """Return one result as `worker-glue stale --json` tells it."""
        return {
            "job_id": self.row.job_id,
            "file_index": self.row.file_index,
            "file_path": self.row.file_path,
            "state": self.freshness.value,
            "source_sha256": self.row.sha256 or None,
            "source_generation": self.row.generation or None,
            "sha256_now": self.found.sha256,
            "generation_now": self.found.generation,
        }


def judge(row: SourceRow, found: Resolution) -> Freshness:
    """Say how a result stands. Bytes decide: a file that was written again with the same ones is current."""
    match found.state:
        case State.READY:
            if not row.sha256:
                return Freshness.UNKNOWN
            return Freshness.CURRENT if found.sha256 == row.sha256 else Freshness.CHANGED
        case State.MISSING:
            return Freshness.GONE
        case _:
            return Freshness.UNKNOWN


def judged(rows: Iterable[SourceRow], paths: Paths, tell: Tell = quiet) -> list[Judged]:
    """Judge results; each path is looked at once."""
    known: dict[str, Resolution] = {}
    found = []
    for count, row in enumerate(rows, 1):
        if row.file_path not in known:
            known[row.file_path] = paths.resolve(row.file_path)
        now = known[row.file_path]
        found.append(Judged(row, judge(row, now), now))
        tell("compare", count, 0)
    return found


def counts(found: Sequence[Judged]) -> dict[str, int]:
    """Count results by how they stand."""
    return {each.value: sum(one.freshness is each for one in found) for each in Freshness}


def stale(found: Sequence[Judged]) -> list[Judged]:
    """Return the results that should be made anew, or looked at."""
    return [each for each in found if each.freshness in (Freshness.CHANGED, Freshness.GONE)]
