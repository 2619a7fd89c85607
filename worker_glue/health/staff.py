"""How the workers of one `worker-glue run` are, and the answer of /healthz."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from syncd import __version__
from syncd.client.heartbeats import Heartbeat, Seen
from syncd.core.shown import counted_are


class Staff(NamedTuple):
    """The workers. seen: each one; restarts: how often each was started again; down: why those are that are not up."""

    seen: Sequence[Seen]
    restarts: Mapping[str, int] = {}
    down: Mapping[str, str] = {}


def health(staff: Staff, now: float | None = None) -> dict[str, Any]:
    """Return {ok, version, pid, problems, warnings, workers}.

    problems: what starting again may help against, the workers' own life; warnings: what others have to put right.
    """
    at = time.time() if now is None else now
    problems = [f"{worker_id}: {why}" for worker_id, why in sorted(staff.down.items())]
    for seen in staff.seen:
        if seen.worker_id not in staff.down and seen.state(at) in ("lost", "gone"):
            heard = f"silent for {seen.beat.age_s(at):.0f} s" if seen.beat else "not heard of"
            problems.append(f"{seen.worker_id}: {seen.state(at)}, {heard}")
    if not staff.seen:
        problems.append("no worker is up")
    workers = [{"id": seen.worker_id, "state": seen.state(at)} for seen in staff.seen]
    warnings = _warnings([seen.beat for seen in staff.seen if seen.beat is not None and seen.alive])
    return {
        "ok": not problems,
        "version": __version__,
        "pid": os.getpid(),
        "problems": problems,
        "warnings": warnings,
        "workers": workers,
    }


def _warnings(beats: Sequence[Heartbeat]) -> list[str]:
    found = []
    if any(beat.nsq is False for beat in beats):
        found.append("NSQ is not connected: no tasks come (worker-glue doctor)")
    if any(beat.mongo is False for beat in beats):
        found.append("MongoDB does not answer: results are kept here (worker-glue doctor)")
    owed = max((beat.owed for beat in beats), default=0)
    if owed > 0:
        found.append(f"{counted_are(owed, 'result')} owed to MongoDB")
    return found
