"""What /metrics shows: the table of all metrics, and samples as Prometheus text. docs/monitoring.md says the same.

Names follow https://prometheus.io/docs/practices/naming/: base units in the name, `_total` for what only grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from syncd.web.port import Sample

MIRROR_STATES = ("ok", "behind", "failing", "halted", "paused")
FILE_STATES = ("held", "failed", "refused", "waiting")
OUTCOMES = ("ok", "failing", "halted", "stopped")
HOPS = ("source", "nsqd", "mongodb")
WATCH_SIDES = ("source", "mirror")
WATCH_STATES = ("on", "partly", "off")


class Type(StrEnum):
    """How Prometheus reads a metric. A summary is two samples: NAME_count and NAME_sum."""

    GAUGE = "gauge"
    COUNTER = "counter"
    SUMMARY = "summary"


class Metric(NamedTuple):
    """One metric: every sample of it carries exactly `labels`. about: what the number says, and when there is none."""

    name: str
    type: Type
    about: str
    labels: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[str, ...]:
        """The names that samples of it have."""
        return (f"{self.name}_count", f"{self.name}_sum") if self.type is Type.SUMMARY else (self.name,)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"syncd_{name}", Type.GAUGE, about, labels)


def _counter(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"syncd_{name}_total", Type.COUNTER, about, labels)


_METRICS = (
    # the daemon
    _gauge("build_info", "Always 1: which syncd runs, on which Python, under which name", "version", "python", "host"),
    _gauge("start_time_seconds", "When the daemon started (Unix time)"),
    _gauge("health_problems", "How many problems /healthz names; 0 when healthy"),
    _gauge("alerts", "Alerts that are on, by rule; none where [alerts] names nobody to tell", "rule"),
    # mirrors
    _gauge("mirror_state", "1 for the state that the mirror is in, 0 for the others", "mirror", "state"),
    _gauge("mirror_files", "Files by state: held, failed, refused (their names), waiting", "mirror", "state"),
    _gauge("mirror_bytes", "Bytes of the files by state, as `syncd_mirror_files`", "mirror", "state"),
    _gauge("mirror_failed_files", "Files and folders that fail now, by reason", "mirror", "reason"),
    _gauge("mirror_interval_seconds", "How often the mirror is to be scanned; none with `cron`", "mirror"),
    _gauge("mirror_scan_lag_seconds", "Since the source was last fully scanned; none before the first time", "mirror"),
    _gauge(
        "mirror_oldest_change_age_seconds",
        "Since the oldest change not yet held was first seen; 0 when all is held",
        "mirror",
    ),
    # runs and transfers
    _gauge("run_active", "1 while a run is going on", "mirror"),
    _gauge("run_last_duration_seconds", "How long the last run took; none before the first", "mirror"),
    Metric(
        "syncd_run_duration_seconds",
        Type.SUMMARY,
        "Runs since the daemon started, by outcome: ok, failing, halted, stopped",
        ("mirror", "outcome"),
    ),
    _counter("transfer_bytes", "Bytes of content read from the source", "mirror"),
    _counter("transfer_files", "Files read from the source", "mirror"),
    _gauge("transfer_rate_bytes_per_second", "Rate of the run that is going on; 0 when none is", "mirror"),
    _counter("failures", "Files and folders that failed, each time they did, by reason", "mirror", "reason"),
    _gauge("prefetch_queued_files", "Files that the task queue is about to ask for and that are not held yet"),
    # announcements
    _gauge("outbox_announcements", "Announcements owed", "mirror"),
    _gauge("outbox_oldest_age_seconds", "Since the oldest owed announcement was committed; 0 when none is owed"),
    _counter("events", "Changes of what is held: ready, updated, removed", "mirror", "event"),
    _gauge("topic_channels", "Channels on the announcements' topic; none while that is not known", "topic"),
    # peers
    _gauge(
        "hop_up",
        "1 reachable, 0 down; hop: source (of a mirror), nsqd, mongodb; none when off or unknown",
        "hop",
        "mirror",
    ),
    _gauge("hop_latency_seconds", "How long a hop took to answer last; none while that is not known", "hop", "mirror"),
    _gauge(
        "watch_state",
        "1 for how changes are watched for: on, partly, off; side: source, mirror",
        "mirror",
        "side",
        "state",
    ),
    # verification
    _counter("verify_checked_files", "Held files that were hashed again; 0 when the daemon starts", "mirror"),
    _counter("verify_damaged_files", "Held files that were found damaged or gone; 0 when the daemon starts", "mirror"),
    _gauge("verify_cycle_ratio", "How far the verification of the whole mirror is, 0 to 1", "mirror"),
    _gauge("verify_cycle_start_time_seconds", "When this cycle of verification began (Unix time)", "mirror"),
    # leases, disk, API
    _gauge("leases", "Leases that workers hold"),
    _gauge("lease_pins", "Versions of files that are pinned for leases"),
    _gauge("disk_free_bytes", "Free space on the mirror's file system", "mirror"),
    _gauge("disk_floor_bytes", "Free space that is never used up (`min_free`)", "mirror"),
    _gauge("trash_bytes", "Bytes in the mirror's trash", "mirror"),
    _counter("api_requests", "Requests answered by the local API, by call and HTTP status", "call", "status"),
)

NAMES: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
"""Every metric by its name."""

_OF_SAMPLE = {name: metric for metric in _METRICS for name in metric.samples}


def one_hot(name: str, labels: Mapping[str, str], label: str, choices: Sequence[str], now: str) -> Iterator[Sample]:
    """Give one sample for each of `choices`: 1 where `label` says `now`, 0 elsewhere."""
    for choice in choices:
        yield Sample(name, {**labels, label: choice}, float(choice == now))


def render(samples: Iterable[Sample]) -> bytes:
    """Return the text that Prometheus reads (exposition format 0.0.4), metrics in the order of NAMES.

    Raises: ValueError for a name that is not in NAMES, other labels than its own, or a sample given twice: each is an
            error of the program, and Prometheus would refuse the whole answer for the last one.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(_by_metric(samples)))
    return generate_latest(registry)


class _Samples(Collector):
    """The samples of one scrape, as the client library wants them."""

    def __init__(self, by_metric: dict[str, list[Sample]]) -> None:
        self._by_metric = by_metric

    def collect(self) -> Iterator[Family]:
        for metric in _METRICS:
            samples = self._by_metric.get(metric.name)
            if samples:
                yield _family(metric, samples)


def _family(metric: Metric, samples: Sequence[Sample]) -> Family:
    family = Family(metric.name.removesuffix("_total"), metric.about, metric.type.value)
    for sample in samples:
        labels = {label: _text(sample.labels[label]) for label in metric.labels}
        family.add_sample(sample.name, labels, float(sample.value))
    return family


def _by_metric(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    seen: set[tuple[str, ...]] = set()
    for sample in samples:
        metric = _OF_SAMPLE.get(sample.name)
        if metric is None:
            raise ValueError(f'no metric has samples named "{sample.name}"')
        if set(sample.labels) != set(metric.labels):
            raise ValueError(f"{sample.name} has the labels {sorted(sample.labels)}, not {sorted(metric.labels)}")
        key = (sample.name, *(sample.labels[label] for label in metric.labels))
        if key in seen:
            raise ValueError(f"{sample.name} was given twice with the labels {dict(sample.labels)}")
        seen.add(key)
        found.setdefault(metric.name, []).append(sample)
    return found


def _text(value: str) -> str:
    """Return a label's value as UTF-8 can carry it: half a surrogate pair is shown as an escape."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
