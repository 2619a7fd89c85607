"""The registry in the daemon: where [mongo] names one, a thread tells it who holds what; without one, nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from syncd import __version__
from syncd.app.wiring import open_registry
from syncd.client import heartbeats
from syncd.config.settings import HostSettings
from syncd.core.errors import SyncdError
from syncd.daemon import statuses
from syncd.engine.enrolling import Enrolment

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon

JOIN_S = 5.0
DAY_MIN = 24 * 60


def _worker(seen: heartbeats.Seen, now: float) -> dict[str, Any]:
    """Return a worker's line. since: of its state and task; of one that is lost or gone, when it was last heard of."""
    state, beat = seen.state(now), seen.beat
    if beat is None:
        return {"id": seen.worker_id, "state": state, "since": None, "task": ""}
    since = beat.at if state in ("lost", "gone") else beat.since
    return {
        "id": seen.worker_id,
        "state": state,
        "since": _iso(since),
        "task": beat.task,
        "pages_done": beat.pages_done,
        "pages": beat.pages,
        "done": beat.done,
        "failed": beat.failed,
        "waiting": beat.waiting,
        "owed": beat.owed,
        "engine": beat.engine,
        "nsq": beat.nsq,
        "mongo": beat.mongo,
        "last_heartbeat": _iso(beat.at),
    }


def away_utc(host: HostSettings) -> list[tuple[int, int]]:
    """Return when a host sleeps by plan, in minutes of the day, UTC (as its clock stands to UTC now)."""
    offset = datetime.now(host.zone()).astimezone(host.zone()).utcoffset() or timedelta()
    shift = int(offset.total_seconds() // 60)
    return [((hours.start - shift) % DAY_MIN, (hours.end - shift) % DAY_MIN) for hours in host.away]


def _iso(seconds: float) -> str | None:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # a file that somebody else wrote
        return None


class Enrolling:
    """Starts and ends the loop that keeps the registry current."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._enrolment: Enrolment | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if there is a registry."""
        mongo = self._daemon.settings.mongo
        registry = open_registry(mongo, self._daemon.warn_registry)
        if registry is None:
            return
        self._enrolment = Enrolment(
            registry,
            self._daemon.catalogue,
            host_id=self._daemon.host.id,
            host=self._host,
            files=mongo.registry_files,
        )
        self._thread = threading.Thread(target=self._run, args=(self._enrolment,), name="registry", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        if self._enrolment is not None:
            self._enrolment.wake()

    def close(self) -> None:
        """End; safe to repeat."""
        enrolment, thread = self._enrolment, self._thread
        self._enrolment = self._thread = None
        if enrolment is not None:
            enrolment.stop()
        if thread is not None:
            thread.join(JOIN_S)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know: another host of the same name, for example."""
        return () if self._enrolment is None else self._enrolment.state.warnings

    def hop(self) -> dict[str, Any]:
        """Return how MongoDB can be reached."""
        if self._enrolment is None:
            return statuses.hop("mongodb", "off")
        state = self._enrolment.state
        if not state.since:
            return statuses.hop("mongodb", "unknown")
        return statuses.hop("mongodb", "ok" if state.connected else "down", state.since, state.error, state.latency_s)

    def workers(self) -> list[dict[str, Any]]:
        """Return the OCR workers that run on this state directory, as their heartbeat files say (docs/api.md)."""
        found = heartbeats.read_all(self._daemon.settings.host.state_dir / heartbeats.FOLDER)
        now = time.time()
        return [_worker(seen, now) for seen in found]

    def _run(self, enrolment: Enrolment) -> None:
        try:
            enrolment.run()
        except SyncdError as error:
            self._daemon.warn_registry(f"the registry is not kept any more: {error.message}")
        except Exception as error:  # noqa: BLE001 - the registry is never worth the daemon
            self._daemon.bug(error, "registry")

    def _host(self) -> Mapping[str, Any]:
        daemon = self._daemon
        mirrors = []
        for kept in list(daemon.kept.values()):
            line = statuses.line_of(daemon, kept)
            mirrors.append(
                {
                    "name": line.name,
                    "state": line.state,
                    "files": line.files,
                    "bytes": line.bytes,
                    "last_success": line.last_success or None,
                    "source": str(kept.settings.source),
                    "target": str(kept.settings.target),
                }
            )
        return {
            "id": daemon.host.id,
            "name": daemon.host.name,
            "version": __version__,
            "started_at": daemon.since,
            "files": daemon.settings.mongo.registry_files,
            "workers": daemon.settings.worker.workers,
            "away": away_utc(daemon.settings.host),
            "mirrors": mirrors,
        }
