"""Who is told what a worker does: the log, the metrics, the heartbeat file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from worker_glue.health.beat import Beat
from worker_glue.health.meter import Meter

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

WARNINGS = frozenset(
    {"away", "bug", "dead", "failed", "failing", "halted", "hindered", "lost", "not_recorded", "refused", "too_large"}
    | {"stuck", "trouble", "warning"}
)
"""Last parts of the names of events that a person should read."""
SAID_S = 60.0
_STATES = {"looking": "working", "queued": "working", "ocr": "working", "saving": "working"}


class Witnesses:
    """flow.Witness.

    Asked at each beat: connected, whether an nsqd is read from; oldest, since when (Unix time) a result is owed; stuck,
    which task does not get on: while there is one, the worker counts as silent, and is started again.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        meter: Meter,
        beat: Beat,
        connected: Callable[[], bool],
        oldest: Callable[[], float | None] = lambda: None,
        stuck: Callable[[], str] = lambda: "",
    ) -> None:
        self._log = log
        self._meter = meter
        self._beat = beat
        self._connected = connected
        self._oldest = oldest
        self._stuck = stuck
        self._said_stuck = ""
        self._said: dict[str, float] = {}

    def event(self, name: str, **fields: Any) -> None:
        """Write a line to the log."""
        say = self._log.warning if name.rpartition(".")[2] in WARNINGS else self._log.info
        say(name, **fields)

    def count(self, what: str, number: int = 1) -> None:
        """Count for the metrics."""
        self._meter.count(what, number)

    def observe(self, what: str, seconds: float) -> None:
        """Time for the metrics."""
        self._meter.observe(what, seconds)

    def beat(self, state: Mapping[str, Any]) -> None:
        """Write the heartbeat, if it is time. Worker.describe() -> syncd.client.heartbeats.Heartbeat."""
        if self._silenced():
            return
        shown = str(state.get("state", "idle"))
        told = {**state, "state": _STATES.get(shown, shown), "nsq": self._connected()}
        told["mongo"] = not state.get("mongo_away_s")
        told["owed"] = max(0, int(state.get("owed", 0)))
        told["oldest_owed"] = self._oldest() if told["owed"] else None
        self._beat.take(told)

    def trouble(self, said: str) -> None:
        """Write what hinders at NSQ; what was said a moment ago, by another reader of the same nsqd, is left out."""
        now = time.monotonic()
        self._said = {text: at for text, at in self._said.items() if now - at < SAID_S}
        if said not in self._said:
            self._said[said] = now
            self.event("nsq.trouble", said=said)

    def _silenced(self) -> bool:
        stuck = self._stuck()
        if stuck and stuck != self._said_stuck:
            self.event("worker.stuck", path=stuck, hint="it is started again once it has been silent for long enough")
        self._said_stuck = stuck
        return bool(stuck)
