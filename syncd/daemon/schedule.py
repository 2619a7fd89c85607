"""When a mirror is due: APScheduler for intervals and cron, and a wall clock of our own that notices sleep and jumps.

APScheduler alone would skip late jobs silently, wake late after sleep, and stop when the clock is set back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from syncd.config.settings import MirrorSettings

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

JITTER = 0.1
JITTER_MAX_S = 30.0
TICK_S = 1.0
JUMP_S = 10.0
"""A tick that is so much later by the wall clock than by the monotonic one: the machine slept, or its clock was set."""


class Schedule:
    """Calls a function of each mirror when it is due. Thread-safe."""

    def __init__(self, zone: tzinfo | None) -> None:
        from apscheduler.schedulers.background import BackgroundScheduler

        self._zone = zone
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[MirrorSettings, Callable[[], None]]] = {}
        more: dict[str, Any] = {} if zone is None else {"timezone": zone}
        self._scheduler = BackgroundScheduler(
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}, daemon=True, **more
        )
        self._scheduler.start()

    def add(self, settings: MirrorSettings, due: Callable[[], None]) -> None:
        """Have `due` called at this mirror's times, from now on."""
        with self._lock:
            self._jobs[settings.name] = settings, due
            self._scheduler.add_job(due, self._trigger(settings), id=settings.name, replace_existing=True)

    def remove(self, name: str) -> None:
        """Forget a mirror."""
        with self._lock:
            if self._jobs.pop(name, None) is not None and self._scheduler.get_job(name) is not None:
                self._scheduler.remove_job(name)

    def next_run(self, name: str) -> str:
        """Return when a mirror is due next (ISO 8601 UTC), "" when it is not known."""
        job = self._scheduler.get_job(name)
        at = None if job is None else job.next_run_time
        return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin_anew(self) -> None:
        """Compute all times again: the clock has jumped."""
        with self._lock:
            for name, (settings, due) in self._jobs.items():
                self._scheduler.add_job(due, self._trigger(settings), id=name, replace_existing=True)

    def close(self) -> None:
        """Call nothing any more; safe to repeat."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _trigger(self, settings: MirrorSettings) -> BaseTrigger:
        if settings.cron is not None:
            return settings.cron.trigger(self._zone)
        from apscheduler.triggers.interval import IntervalTrigger

        every_s = settings.every_s or 600.0
        # jitter only delays: on average an interval is a twentieth longer, and many hosts do not come at once
        return IntervalTrigger(seconds=round(every_s), jitter=min(every_s * JITTER, JITTER_MAX_S), timezone=UTC)


class WallClock:
    """Notices that the machine slept, or that somebody set its clock: both show as a jump against monotonic time."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._last = wall() - steady()

    def jumped_s(self) -> float:
        """Return by how much wall time has jumped since the last call (0.0: it has not)."""
        offset = self._wall() - self._steady()
        jump, self._last = offset - self._last, offset
        return jump if abs(jump) >= JUMP_S else 0.0


def utc_now() -> datetime:
    """Return the time, aware, UTC."""
    return datetime.now(UTC)
