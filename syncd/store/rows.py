"""Rows of the catalogue and the values that they become; the statements that several reads begin with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from syncd.core.model import FileEvent, Partial, RelPath, Unheld
from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason
from syncd.ports import Announcement, Totals
from syncd.store.sql import Row, unpack_print, unreadable

T = TypeVar("T")

ANNOUNCEMENT = """SELECT o.seq, m.name, o.path, o.event, o.size, hex(o.sha256), o.mtime_ns, o.generation, o.run_id,
                          o.at
                   FROM outbox AS o CROSS JOIN mirrors AS m ON m.id = o.mirror_id"""
OLDEST_OWED = """SELECT o.at FROM outbox AS o WHERE o.seq > (SELECT published_through FROM feed)
                  AND o.published_at IS NULL"""
RUN = """SELECT r.run_id, m.name, r.started_at, r.finished_at, r.state, r.exit_code, r.report
          FROM runs AS r JOIN mirrors AS m ON m.id = r.mirror_id"""
WHOLE_RUN = "coalesce(json_extract(r.report, '$.kind'), '') <> 'hint'"
"""Of runs AS r: not one that looked at a few directories after a hint."""
UNHELD = "path, reason, detail, size, mtime_ns, attempts, since"


class MirrorSummary(NamedTuple):
    """One mirror as the catalogue knows it. Times are ISO 8601 UTC, "" = never.

    listed_at: when the last complete look at the source began. last_success: when a run last ended with 0 or 3.
    """

    name: str
    uid: str
    target: str
    source_id: str
    totals: Totals
    listed_at: str
    last_success: str


class RunRow(NamedTuple):
    """One finished run of one mirror, with the report that finish_run() was given."""

    run_id: str
    mirror: str
    started_at: str
    finished_at: str
    state: str
    exit_code: int
    report: dict[str, Any]

    def as_json(self) -> dict[str, object]:
        """Return the run as `syncd runs --json` prints it."""
        return {
            "run_id": self.run_id,
            "mirror": self.mirror,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "state": self.state,
            "exit_code": self.exit_code,
            "report": self.report,
        }


@dataclass(frozen=True, slots=True)
class Owed:
    """Announcements that nsqd has not accepted yet: how many, and when the oldest was committed ("" = none)."""

    count: int
    oldest: str


def to_announcement(row: Row) -> Announcement:
    seq, mirror, path, event, size, sha256, *rest = row
    return Announcement(seq, mirror, RelPath(path), FileEvent(event), size, sha256.lower(), *rest)


def to_summary(row: Row) -> MirrorSummary:
    name, uid, target, source_id, files, size, listed_at, last_success = row
    return MirrorSummary(name, uid, target, source_id, Totals(files, size), listed_at, last_success)


def to_run(row: Row) -> RunRow:
    run_id, mirror, started_at, finished_at, state, exit_code, report = row
    return RunRow(run_id, mirror, started_at, finished_at, state, exit_code, json.loads(report))


def to_partial(row: Row) -> Partial:
    path, fingerprint, staged, offset, sha256 = row
    return Partial(RelPath(path), unpack_print(fingerprint), staged, offset, sha256.hex())


def to_unheld(row: Row) -> Unheld:
    path, reason, *rest = row
    return Unheld(RelPath(path), Reason(reason), *rest)


def made(make: Callable[[Row], T], rows: Iterable[Row]) -> list[T]:
    """Make values of rows. Raises CatalogueDamaged where a row is not what syncd writes."""
    try:
        return [make(row) for row in rows]
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(error) from error
