"""Whether what a keeper does gets on, and what it leaves to be done."""

from __future__ import annotations

import time
from typing import NamedTuple

from syncd.core.errors import RunStopped
from syncd.engine.report import Report

STUCK_S = 900.0
RUN_DEADLINE_S = 86_400.0


class Current(NamedTuple):
    """What a keeper does now."""

    kind: str
    report: Report
    started_at: str
    started: float


class Progress:
    """Watches one keeper. note() by its thread; look() by the thread that looks after it.

    noted: how often note() was called, for whoever compares.
    """

    def __init__(self) -> None:
        self.noted = 0
        self._counts: tuple[int, ...] = ()
        self._at = time.monotonic()

    def note(self) -> None:
        """Something got on that no report counts."""
        self.noted += 1
        self._at = time.monotonic()

    def look(self, current: Current | None) -> bool:
        """Look at it, every few seconds; say whether it is to be ended, since it is stuck or takes too long."""
        now = time.monotonic()
        counts = () if current is None else _counts(current.report)
        if current is None or counts != self._counts:
            self._counts, self._at = counts, now
        return current is not None and (now - self._at > STUCK_S or now - current.started > RUN_DEADLINE_S)

    @property
    def hopeless(self) -> bool:
        """Whether it has been stuck for so long that ending it has not helped."""
        return time.monotonic() - self._at >= 2 * STUCK_S


def owed_after(report: Report, before: int) -> int:
    """Return how many files the run after this one is to bring. before: what was owed until now.

    One that was stopped, or did not come to its files, changes nothing; what only a person can mend is not waited for.
    """
    error = report.error
    if isinstance(error, RunStopped):
        return before
    if error is None or not error.transient:
        return 0
    left = report.wanted - report.fetched - report.adopted - report.failed
    return left if left > 0 else before


def _counts(report: Report) -> tuple[int, ...]:
    return (
        report.scanned, report.fetched, report.adopted, report.unchanged, report.renamed, report.retired,
        report.failed, report.bytes, report.wanted, report.duration_s > 0,
    )  # fmt: skip
