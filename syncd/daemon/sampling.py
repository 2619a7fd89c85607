"""All numbers for /metrics, taken from what the daemon counts and from the catalogue (names: web/metrics.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from syncd import __version__
from syncd.core.reasons import Reason
from syncd.daemon import statuses
from syncd.daemon.kept import KeptMirror
from syncd.engine.status import REFUSALS, WAITS
from syncd.web.metrics import MIRROR_STATES, WATCH_STATES, one_hot
from syncd.web.port import Sample

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon

UP = {"ok": 1.0, "down": 0.0}


def samples(daemon: Daemon, python: str) -> list[Sample]:
    """Return everything."""
    daemon.numbers.count_events(daemon.catalogue)
    found = list(_of_daemon(daemon, python))
    for kept in list(daemon.kept.values()):
        found += _of_mirror(daemon, kept)
    return found + daemon.numbers.samples()


def _of_daemon(daemon: Daemon, python: str) -> Iterator[Sample]:
    labels = {"version": __version__, "python": python, "host": daemon.host.name}
    yield Sample("syncd_build_info", labels, 1)
    yield Sample("syncd_start_time_seconds", {}, datetime.fromisoformat(daemon.since).timestamp())
    yield Sample("syncd_health_problems", {}, len(daemon.problems()))
    for rule, count in daemon.alarming.counts().items():
        yield Sample("syncd_alerts", {"rule": rule}, count)
    owed = daemon.catalogue.owed()
    announced = daemon.settings.nsq.announce == "nsq"
    age_s = statuses.age_s(owed.oldest) if announced else 0.0
    yield Sample("syncd_outbox_oldest_age_seconds", {}, age_s or 0.0)
    counts = daemon.answers.lease_counts()
    yield Sample("syncd_leases", {}, counts.get("count", 0))
    yield Sample("syncd_lease_pins", {}, counts.get("pins", 0))
    queued = sum(kept.demand.queued for kept in list(daemon.kept.values()))
    yield Sample("syncd_prefetch_queued_files", {}, queued)
    channels = daemon.answers.topic_channels
    if channels is not None:
        yield Sample("syncd_topic_channels", {"topic": daemon.settings.nsq.topic}, channels)
    for found in statuses.hops(daemon, list(daemon.kept.values())):
        name, _, mirror = found["name"].partition(" ")
        if found["state"] in UP:
            yield Sample("syncd_hop_up", {"hop": name, "mirror": mirror}, UP[found["state"]])
        if found["latency_ms"] is not None:
            yield Sample("syncd_hop_latency_seconds", {"hop": name, "mirror": mirror}, found["latency_ms"] / 1000)


def _of_mirror(daemon: Daemon, kept: KeptMirror) -> Iterator[Sample]:
    name = {"mirror": kept.name}
    line = statuses.line_of(daemon, kept)
    yield from one_hot("syncd_mirror_state", name, "state", MIRROR_STATES, line.state)
    yield from _files(kept)
    if kept.settings.every_s is not None:
        yield Sample("syncd_mirror_interval_seconds", name, kept.settings.every_s)
    lag_s = statuses.age_s(kept.keeping.facts.listed_at)
    if lag_s is not None:
        yield Sample("syncd_mirror_scan_lag_seconds", name, lag_s)
    current = statuses.current(kept)
    yield Sample("syncd_run_active", name, float(current is not None))
    yield Sample("syncd_transfer_rate_bytes_per_second", name, current["bytes_per_s"] if current else 0)
    if line.last_run is not None:
        yield Sample("syncd_run_last_duration_seconds", name, float(line.last_run.report.get("duration_s", 0)))
    yield Sample("syncd_outbox_announcements", name, line.owed)
    for side, state in kept.watching.items():
        yield from one_hot("syncd_watch_state", {**name, "side": side}, "state", WATCH_STATES, state.partition(":")[0])
    cycle = kept.keeper.care.patrol.cycle
    yield Sample("syncd_verify_cycle_ratio", name, statuses.verification(kept)["cursor_fraction"])
    if cycle.started_ns:
        yield Sample("syncd_verify_cycle_start_time_seconds", name, cycle.started_ns / 1e9)
    disk = daemon.numbers.disks.get(kept.name)
    if disk is not None:
        yield Sample("syncd_disk_free_bytes", name, disk.free_bytes)
        yield Sample("syncd_disk_floor_bytes", name, disk.floor_bytes)
        yield Sample("syncd_trash_bytes", name, disk.trash_bytes)


def _files(kept: KeptMirror) -> Iterator[Sample]:
    """Files and bytes by state; failures by reason; the age of the oldest change that is not held."""
    name = {"mirror": kept.name}
    files, sizes, failed = Counter[str](), Counter[str](), Counter[Reason]()
    oldest = ""
    for unheld in kept.keeping.facts.unheld():
        state = "refused" if unheld.reason in REFUSALS else "waiting" if unheld.reason in WAITS else "failed"
        files[state] += 1
        sizes[state] += unheld.size
        if state == "failed":
            failed[unheld.reason] += 1
        if state != "refused" and unheld.since and (not oldest or unheld.since < oldest):
            oldest = unheld.since
    totals = kept.keeping.facts.totals()
    files["held"], sizes["held"] = totals.files, totals.bytes
    for state in ("held", "failed", "refused", "waiting"):
        yield Sample("syncd_mirror_files", {**name, "state": state}, files[state])
        yield Sample("syncd_mirror_bytes", {**name, "state": state}, sizes[state])
    for reason, count in failed.items():
        yield Sample("syncd_mirror_failed_files", {**name, "reason": reason.value}, count)
    yield Sample("syncd_mirror_oldest_change_age_seconds", name, statuses.age_s(oldest) or 0.0)
