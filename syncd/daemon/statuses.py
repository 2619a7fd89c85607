"""What the daemon says of itself: `status --json` (DESIGN 4.4) and what only a daemon knows (docs/api.md)."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from syncd import __version__
from syncd.app.telling import mirror_status
from syncd.config.settings import MirrorSettings, Settings
from syncd.core.reasons import Reason
from syncd.daemon.errands import progress_of
from syncd.daemon.kept import KeptMirror
from syncd.daemon.numbers import Disk
from syncd.daemon.schedule import utc_now
from syncd.engine.status import MirrorStatus, Status

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon

FOREIGN_SHOWN = 100
SOURCE_DOWN = frozenset({10, 12})


def status_json(daemon: Daemon) -> dict[str, Any]:
    """Return the whole answer."""
    settings = daemon.settings
    lines = [_configured(daemon, settings, each) for each in settings.mirrors]
    status = Status(__version__, daemon.host.name, lines, os.getpid(), daemon.since)
    answer = status.as_json()
    answer["at"] = daemon.now()
    answer["daemon"]["awake"] = daemon.awake.holding.as_json() if settings.host.keep_awake else None
    kept = [each for mirror in settings.mirrors if (each := daemon.find(mirror.name)) is not None]
    for line in answer["mirrors"]:
        mirror = settings.mirror(line["name"])
        if mirror is not None:
            line |= {"every_s": mirror.every_s, "target": str(mirror.target), "source": str(mirror.source)}
        found = daemon.find(line["name"])
        if found is not None:
            line |= _extras(daemon, found)
    answer["hops"] = hops(daemon, kept)
    answer["announcing"] = announcing(daemon)
    answer["leases"] = daemon.answers.lease_counts()
    answer["workers"] = daemon.enrolment.workers()
    answer["problems"] = [*daemon.problems(), *daemon.enrolment.warnings]
    return answer


def line_of(daemon: Daemon, kept: KeptMirror) -> MirrorStatus:
    """Return one mirror's line."""
    line = mirror_status(daemon.settings, kept.settings, kept.keeping.facts, utc_now(), daemon=True)
    return line._replace(next_run="" if kept.keeper.paused else daemon.schedule.next_run(kept.name))


def _configured(daemon: Daemon, settings: Settings, mirror: MirrorSettings) -> MirrorStatus:
    """Return the line of a configured mirror, also of one that is being started or replaced just now."""
    kept = daemon.find(mirror.name)
    if kept is not None:
        return line_of(daemon, kept)
    return mirror_status(settings, mirror, daemon.catalogue.mirror(mirror.name), utc_now(), daemon=True)


def _extras(daemon: Daemon, kept: KeptMirror) -> dict[str, Any]:
    """Return what only the daemon knows of a mirror."""
    facts = kept.keeping.facts
    foreign = [*kept.keeper.care.foreign]
    return {
        "lag_s": age_s(facts.listed_at),
        "watching": kept.watching,
        "paused_until": kept.keeper.paused_until or None,
        "current": current(kept),
        "foreign": len(foreign),
        "foreign_files": foreign[:FOREIGN_SHOWN],
        "disk": disk_json(daemon.numbers.disks.get(kept.name)),
        "verification": verification(kept),
        "queued": kept.demand.queued,
    }


def age_s(at: str) -> float | None:
    """Return how long ago a time (ISO 8601 UTC, "" = never) was, in seconds."""
    if not at:
        return None
    return max(round((utc_now() - datetime.fromisoformat(at)).total_seconds(), 1), 0.0)


def current(kept: KeptMirror) -> dict[str, Any] | None:
    """Return what a mirror's keeper does now."""
    now = kept.keeper.current
    if now is None:
        return None
    elapsed_s = max(time.monotonic() - now.started, 0.001)
    progress = progress_of(now.report)
    return {
        "run_id": now.report.run_id,
        "kind": now.kind,
        "started_at": now.started_at,
        **{name: progress[name] for name in ("files_done", "files_known", "bytes_done", "bytes_known")},
        "bytes_per_s": round(now.report.bytes / elapsed_s),
    }


def disk_json(disk: Disk | None) -> dict[str, int] | None:
    """Return a mirror's disk as last looked at."""
    return None if disk is None else disk._asdict()


def verification(kept: KeptMirror) -> dict[str, Any]:
    """Return how far the verification in the background is."""
    cycle = kept.keeper.care.patrol.cycle
    found = cycle.as_json(kept.keeping.facts.totals().files)
    started_ns = found.pop("cycle_started_ns")
    started = datetime.fromtimestamp(started_ns / 1e9, utc_now().tzinfo) if started_ns else None
    return {**found, "cycle_started_at": None if started is None else started.strftime("%Y-%m-%dT%H:%M:%SZ")}


def announcing(daemon: Daemon) -> dict[str, Any]:
    """Return how announcements are getting on."""
    mode = daemon.settings.nsq.announce
    state = daemon.relay.state
    owed = daemon.catalogue.owed() if mode == "nsq" else None
    return {
        "mode": mode,
        "owed": owed.count if owed is not None else 0,
        "oldest": (owed.oldest or None) if owed is not None else None,
        "state": "off" if mode != "nsq" else "failing" if state.error else "ok" if state.connected else "unknown",
        "error": state.error,
        "failing_since": state.failing_since or None,
        "warning": daemon.answers.topic_warning,
    }


def hops(daemon: Daemon, kept: list[KeptMirror]) -> list[dict[str, Any]]:
    """Return who can be reached: each mirror's source by its last run, nsqd, MongoDB."""
    found = [_source_hop(each) for each in kept]
    mode, relay = daemon.settings.nsq.announce, daemon.relay.state
    state = "off" if mode != "nsq" else "down" if relay.error else "ok" if relay.connected else "unknown"
    latency_s = relay.latency_s if mode == "nsq" else None
    found.append(hop("nsqd", state, relay.failing_since, relay.error, latency_s))
    found.append(daemon.enrolment.hop())
    return found


def hop(name: str, state: str, since: str = "", detail: str = "", latency_s: float | None = None) -> dict[str, Any]:
    """Return one hop as status has it. state: ok, down, unknown or off."""
    latency_ms = None if latency_s is None else round(latency_s * 1000, 2)
    return {"name": name, "state": state, "since": since or None, "detail": detail, "latency_ms": latency_ms}


def _source_hop(kept: KeptMirror) -> dict[str, Any]:
    name = f"source {kept.name}"
    last = kept.keeping.facts.last_run()
    if last is None:
        return hop(name, "unknown")
    stand_by = last.report.get("stand_by")
    if stand_by and last.exit_code not in SOURCE_DOWN:
        said = str(stand_by["why"])
        if last.exit_code in (0, 3):
            said += f"; what is missing comes from the stand-by {stand_by['server']}"
        return hop(name, "down", kept.keeping.facts.listed_at, said)
    if last.exit_code not in SOURCE_DOWN:
        return hop(name, "ok", last.finished_at, latency_s=kept.keeper.check_s)
    error = last.report.get("error") or {}
    return hop(name, "down", last.started_at, str(error.get("message", "")))


def failures_by_reason(kept: KeptMirror) -> dict[Reason, int]:
    """Return how many paths are not held, by reason."""
    return kept.keeping.facts.count_unheld()
