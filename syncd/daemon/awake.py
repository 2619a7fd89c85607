"""What the daemon has in hand, and would not be slept through (core/wakefulness.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from syncd.core.wakefulness import Work

if TYPE_CHECKING:
    from syncd.daemon.kept import KeptMirror
    from syncd.daemon.living import Daemon

RUNS = {"run": "a run of {}", "hint": "a run of {}", "verify": "a verification of {}"}


def work_of(daemon: Daemon) -> Work:
    """Return what is in hand: runs, verifications that somebody asked for, files that are waited for or owed, leases.

    Verification in the background is not, nor are announcements that nsqd does not take.
    """
    doing: list[str] = []
    done = {"leases": float(daemon.answers.leases_given)}
    for kept in list(daemon.kept.values()):
        doing += _doing(kept)
        done |= _done(kept)
    leases = daemon.answers.lease_counts()["count"]
    if leases:
        doing.append(f"{leases} lease{'' if leases == 1 else 's'}")
    return Work(doing, done)


def _doing(kept: KeptMirror) -> Iterator[str]:
    keeper, current = kept.keeper, kept.keeper.current
    if current is not None and not current.report.duration_s:  # one that has ended: the verification that follows it
        yield RUNS.get(current.kind, "work on {}").format(kept.name)
    elif keeper.owed and not keeper.paused:
        yield f"{_files(keeper.owed)} of {kept.name} for the next try"
    if kept.demand.queued:
        yield f"{_files(kept.demand.queued)} of {kept.name} on demand"


def _done(kept: KeptMirror) -> dict[str, float]:
    """Return figures that rise as work on a mirror gets on. Listings are none: a scan that fails again would count."""
    current, name = kept.keeper.current, kept.name
    report = None if current is None else current.report
    return {
        f"{name}: files": 0.0 if report is None else report.fetched + report.adopted + report.renamed + report.retired,
        f"{name}: bytes": 0.0 if report is None else report.bytes,
        f"{name}: verified": kept.keeper.progress.noted,
        f"{name}: on demand": kept.demand.fetched_bytes,
    }


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
