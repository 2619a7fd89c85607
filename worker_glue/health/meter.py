"""What a worker counts and times, for Prometheus. Each worker keeps its numbers in files of one folder, by its id.

The files are prometheus_client's (multiprocess mode), so `worker-glue run` can serve the sum over its workers, and a
worker that was started again goes on with the numbers of the one before. docs/worker.md lists the metrics.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client looks for it when it is imported."""

OUTCOMES = ("result", "error", "done_before", "passed_on", "requeued", "malformed", "cancelled", "buried")
_OUTCOME_OF = {"recorded": "result", "recorded_error": "error"}
_WAITS_S = (0.05, 0.2, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
_OCR_S = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1800)
_SAVE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Meter(Protocol):
    """Takes what flow.Witness is told. Any thread; never raises."""

    def count(self, what: str, number: int = 1) -> None:
        """Something was done."""

    def observe(self, what: str, seconds: float) -> None:
        """Something took time."""


class NoMeter:
    """Nobody asks."""

    def count(self, what: str, number: int = 1) -> None:
        """Nothing."""

    def observe(self, what: str, seconds: float) -> None:
        """Nothing."""


class FileMeter:
    """Counts into `worker_glue_*` metrics in files of FOLDER_VARIABLE's folder. One in a process."""

    def __init__(self, worker_id: str) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram, values

        # by the worker's id instead of its pid: files do not pile up when one is started again and again
        name = quote(worker_id, safe="").replace("_", "%5F")
        values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]
        # what is served is read from the files: no registry of this process's own
        aside: dict[str, Any] = {"registry": CollectorRegistry()}
        tasks = Counter("worker_glue_tasks", "How the work on messages ended", ["outcome"], **aside)
        self._tasks = {outcome: tasks.labels(outcome) for outcome in OUTCOMES}
        self._pages = Counter("worker_glue_pages", "Pages that OCR read", **aside)
        self._retries = Counter("worker_glue_retries", "Starts of OCR after one that came to no end", **aside)
        self._times = {
            "wait_file": Histogram(
                "worker_glue_file_wait_seconds", "Waiting for a file that was not there", buckets=_WAITS_S, **aside
            ),
            "ocr": Histogram("worker_glue_ocr_seconds", "OCR of one file", buckets=_OCR_S, **aside),
            "save": Histogram(
                "worker_glue_save_seconds", "Until MongoDB acknowledged an entry", buckets=_SAVE_S, **aside
            ),
        }

    def count(self, what: str, number: int = 1) -> None:
        """Count what is known; the rest is passed over."""
        if what == "pages":
            self._pages.inc(number)
        elif what == "retries":
            self._retries.inc(number)
        else:
            task = self._tasks.get(_OUTCOME_OF.get(what, what))
            if task is not None:
                task.inc(number)

    def observe(self, what: str, seconds: float) -> None:
        """Time what is known; the rest is passed over."""
        histogram = self._times.get(what)
        if histogram is not None:
            histogram.observe(max(0.0, seconds))


def meter(worker_id: str, env: Mapping[str, str] = os.environ) -> Meter:
    """Return this worker's meter: one that counts where somebody asks."""
    return FileMeter(worker_id) if env.get(FOLDER_VARIABLE) else NoMeter()
