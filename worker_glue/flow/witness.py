"""Who is told what a worker does: log, metrics, heartbeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Witness(Protocol):
    """Any thread; never raises, never blocks for long."""

    def event(self, name: str, **fields: Any) -> None:
        """Something worth a line in the log."""

    def count(self, what: str, number: int = 1) -> None:
        """Something was done: recorded, recorded_error, done_before, passed_on, requeued, retries, pages, buried,
        malformed, cancelled."""

    def observe(self, what: str, seconds: float) -> None:
        """Something took time: wait_file, ocr, save."""

    def beat(self, state: Mapping[str, Any]) -> None:
        """The worker is alive, and how it is (Worker.describe())."""


class Silence:
    """Tells nobody."""

    def event(self, name: str, **fields: Any) -> None:
        """Nothing."""

    def count(self, what: str, number: int = 1) -> None:
        """Nothing."""

    def observe(self, what: str, seconds: float) -> None:
        """Nothing."""

    def beat(self, state: Mapping[str, Any]) -> None:
        """Nothing."""
