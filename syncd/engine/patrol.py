"""Verification in the background: a little after each run, all of the mirror within its `verify_days`.

A cycle goes through the records by directory and name. How far it should be follows from how long ago it began, so that
sleep, restarts and a growing mirror only shift work. A slice is bounded in time and bytes and gives way to fetches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from syncd.core import paths
from syncd.core.model import Record, RelPath
from syncd.ports import MirrorCatalogue

DAY_NS = 86_400 * 10**9
HASTE = 0.8
"""A cycle is planned to end after this part of `verify_days`, so that machines that sleep keep the promise too."""
SLICE_S = 20.0
SLICE_BYTES = 256 << 20
BYTES_PER_S = 32 << 20


@dataclass(slots=True)
class Cycle:
    """How far the present cycle is. started_ns: wall clock; after: the last record that was verified."""

    started_ns: int = 0
    after: str = ""
    checked: int = 0
    bytes: int = 0
    damaged: int = 0
    last_found: str = ""

    @classmethod
    def parse(cls, text: str) -> Cycle:
        """Read what as_text() wrote; anything else begins anew."""
        try:
            kept = json.loads(text)
            return cls(**{name: kept[name] for name in cls.__slots__})
        except (ValueError, KeyError, TypeError):
            return cls()

    def as_text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    def due(self, files: int, verify_days: float, now_ns: int) -> int:
        """Return how many files should be verified now, of `files` in all; at the end of a cycle all that are left."""
        if not files or verify_days <= 0:
            return 0
        elapsed = max(now_ns - self.started_ns, 0) / (verify_days * HASTE * DAY_NS)
        return max(int(elapsed * files) - self.checked, 0) if elapsed < 1 else files + 1

    def as_json(self, files: int) -> dict[str, Any]:
        """Return it for status: how far (0 to 1), since when (ns), and what it found."""
        return {
            "cursor_fraction": round(min(self.checked / files, 1.0), 4) if files else 1.0,
            "cycle_started_ns": self.started_ns,
            "checked": self.checked,
            "damaged": self.damaged,
            "last_found": self.last_found or None,
        }


class Patrol:
    """Walks one mirror's records, a slice at a time; used by one thread."""

    def __init__(self, catalogue: MirrorCatalogue, cycle: Cycle, verify_days: float) -> None:
        self.cycle = cycle
        self._catalogue = catalogue
        self._days = verify_days
        self._walk: Iterator[tuple[RelPath, Record]] | None = None

    def slice(self, now_ns: int, gives_way: Callable[[], bool]) -> Iterator[tuple[RelPath, Record]]:
        """Yield the records that are due now, paced below BYTES_PER_S; ends early when somebody else has to go first.

        The cycle moves on with each record that the consumer comes back from.
        """
        files = self._catalogue.totals().files
        if self.cycle.started_ns <= 0 or self.cycle.started_ns > now_ns:
            self._begin(now_ns)
        started, size = time.monotonic(), 0
        for _ in range(self.cycle.due(files, self._days, now_ns)):
            if gives_way() or time.monotonic() - started > SLICE_S or size > SLICE_BYTES:
                return
            found = self._next()
            if found is None:
                self._begin(now_ns)
                return
            yield found
            size += found[1].size
            self.cycle.after, self.cycle.checked = found[0], self.cycle.checked + 1
            self.cycle.bytes += found[1].size
            self._pace(size, started)

    def _begin(self, now_ns: int) -> None:
        self._walk = None
        self.cycle = Cycle(started_ns=now_ns, damaged=self.cycle.damaged, last_found=self.cycle.last_found)

    def _next(self) -> tuple[RelPath, Record] | None:
        if self._walk is None:
            after = paths.split(RelPath(self.cycle.after))
            self._walk = (item for item in self._catalogue.records() if paths.split(item[0]) > after)
            if not self.cycle.after:
                self._walk = self._catalogue.records()
        return next(self._walk, None)

    @staticmethod
    def _pace(size: int, started: float) -> None:
        ahead_s = size / BYTES_PER_S - (time.monotonic() - started)
        if ahead_s > 0:
            time.sleep(min(ahead_s, 1.0))
