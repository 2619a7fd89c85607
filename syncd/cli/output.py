"""What people see: sizes, durations, tables and progress. Results go to stdout, progress and logs to stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from syncd.core.shown import (
    counted,
    human_ago,
    human_bytes,
    human_count,
    human_duration,
    is_or_are,
    printable,
    table,
    width,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = [
    "Progress",
    "counted",
    "human_ago",
    "human_bytes",
    "human_count",
    "human_duration",
    "is_or_are",
    "printable",
    "table",
    "width",
]

_LOG_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1


class _Display(Protocol):
    """Where progress is shown."""

    def show(self, counts: Counts) -> None: ...

    def close(self) -> None: ...


class Counts:
    """How far a run is: files and bytes, done and known so far."""

    __slots__ = ("bytes_done", "bytes_known", "files_done", "files_known", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.files_done = self.files_known = self.bytes_done = self.bytes_known = 0

    def rate(self, now: float) -> float:
        """Return bytes a second since the start."""
        return self.bytes_done / max(now - self.started, 0.001)

    def left_s(self, now: float) -> float | None:
        """Return the seconds left at this rate for what is known; None when nothing can be said."""
        rate = self.rate(now)
        return max(self.bytes_known - self.bytes_done, 0) / rate if rate > 0 else None


class Progress:
    """Shows how far long work is: a bar on a terminal, a log line every 10 s elsewhere. For one thread.

    update() is cheap: most calls only store four numbers. What is known may grow while work goes on.
    """

    def __init__(self, label: str, stream: TextIO | None = None, *, every_s: float = _LOG_EVERY_S) -> None:
        """label: the mirror's name. stream: stderr. every_s: seconds between two log lines."""
        now = time.monotonic()
        self.counts = Counts(now)
        self._stream = sys.stderr if stream is None else stream
        on_terminal = self._stream.isatty()
        self._display: _Display = _Bar(label, self._stream) if on_terminal else _Lines(label)
        self._interval_s = _DRAW_EVERY_S if on_terminal else every_s
        self._next = now + self._interval_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def update(self, files_done: int, files_known: int, bytes_done: int, bytes_known: int) -> None:
        """Say how far the work is."""
        counts = self.counts
        counts.files_done, counts.files_known = files_done, files_known
        counts.bytes_done, counts.bytes_known = bytes_done, bytes_known
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._interval_s
            self._display.show(counts)

    def close(self) -> None:
        """Take the bar off the terminal; safe to repeat."""
        self._display.close()


class _Lines:
    """Progress as log lines, for service managers and files."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._log: FilteringBoundLogger | None = None

    def show(self, counts: Counts) -> None:
        if self._log is None:
            from syncd.log import logger

            self._log = logger()
        now = time.monotonic()
        left_s = counts.left_s(now)
        self._log.info(
            "run.progress",
            mirror=self._label,
            files_done=counts.files_done,
            files_known=counts.files_known,
            bytes_done=counts.bytes_done,
            bytes_known=counts.bytes_known,
            bytes_per_s=round(counts.rate(now)),
            left_s=None if left_s is None else round(left_s),
        )

    def close(self) -> None:
        """Nothing is open."""


class _Bar:
    """Progress as one line that redraws itself."""

    def __init__(self, label: str, stream: TextIO) -> None:
        # rich costs 100 ms to import: only a terminal pays for it
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[said]}"),
        )
        self._bar = Progress(*columns, console=Console(file=stream), transient=True, auto_refresh=False)
        self._task = self._bar.add_task(printable(label), total=None, said="")
        self._bar.start()

    def show(self, counts: Counts) -> None:
        now = time.monotonic()
        left_s = counts.left_s(now)
        said = (
            f"{human_count(counts.files_done)}/{human_count(counts.files_known)} files  "
            f"{human_bytes(counts.bytes_done)}/{human_bytes(counts.bytes_known)}  {human_bytes(counts.rate(now))}/s"
        )
        if left_s is not None:
            said += f"  {human_duration(max(left_s, 1))} left"
        total = counts.bytes_known or None
        self._bar.update(self._task, completed=counts.bytes_done, total=total, said=said, refresh=True)

    def close(self) -> None:
        self._bar.stop()
