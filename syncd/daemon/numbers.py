"""What the daemon counts since it started, for /metrics (names and labels: web/metrics.py)."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from syncd.core.model import FileEvent
from syncd.engine.report import Report
from syncd.store.catalogue_reads import CatalogueReads
from syncd.web.port import Sample

if TYPE_CHECKING:
    from syncd.daemon.keeper import Keeper

Labels = tuple[tuple[str, str], ...]


class Disk(NamedTuple):
    """Space on a mirror's file system as last looked at, in bytes."""

    free_bytes: int
    floor_bytes: int
    trash_bytes: int


class Numbers:
    """Counters; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: Counter[tuple[str, Labels]] = Counter()
        self._counted_through = -1
        self.disks: dict[str, Disk] = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Let a counter rise."""
        with self._lock:
            self._counters[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def begin(self, mirror: str) -> None:
        """Start counters of a mirror at 0 that an alert watches for their first rise."""
        for name in ("syncd_verify_checked_files_total", "syncd_verify_damaged_files_total"):
            self.add(name, 0, mirror=mirror)
        for event in FileEvent:
            self.add("syncd_events_total", 0, mirror=mirror, event=event.value)

    def count_events(self, catalogue: CatalogueReads) -> None:
        """Count what was announced since the last time."""
        last = catalogue.last_announcement()
        with self._lock:
            since, self._counted_through = self._counted_through, last
        if since >= 0:
            for mirror, event, count in catalogue.count_events(since, last):
                self.add("syncd_events_total", count, mirror=mirror, event=event)

    def note_run(self, keeper: Keeper, report: Report) -> None:
        """Count a run that ended, and look at the disk."""
        mirror = report.name
        outcome = "stopped" if report.exit_code == 143 else report.state
        self.add("syncd_run_duration_seconds_count", mirror=mirror, outcome=outcome)
        self.add("syncd_run_duration_seconds_sum", report.duration_s, mirror=mirror, outcome=outcome)
        self.add("syncd_transfer_bytes_total", report.bytes, mirror=mirror)
        self.add("syncd_transfer_files_total", report.fetched, mirror=mirror)
        for reason, count in Counter(problem.reason.value for problem in report.failures).items():
            self.add("syncd_failures_total", count, mirror=mirror, reason=reason)
        disk = keeper.care.measure_disk()
        if disk is not None:
            self.disks[mirror] = disk

    def forget(self, mirror: str) -> None:
        """Drop what is known of a mirror that is no longer kept."""
        with self._lock:
            for key in [key for key in self._counters if ("mirror", mirror) in key[1]]:
                del self._counters[key]
        self.disks.pop(mirror, None)

    def samples(self) -> list[Sample]:
        """Return all counters."""
        with self._lock:
            return [Sample(name, dict(labels), float(value)) for (name, labels), value in self._counters.items()]
