"""How the workers of one `worker-glue run` are, as text for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from syncd import __version__
from syncd.client.heartbeats import STATES, Heartbeat
from worker_glue.health.staff import Staff

SHOWN_STATES = (*STATES, "lost", "gone")


class Metrics(Collector):
    """What Prometheus is shown: the sums over the workers' files, and how each worker is now."""

    def __init__(self, folder: Path, staff: Callable[[], Staff]) -> None:
        self._staff = staff
        self._registry = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(self._registry, path=str(folder))  # type: ignore[no-untyped-call]
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the text of all metrics."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Name nothing in advance: what is shown depends on who is there."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return how each worker is now."""
        staff, now = self._staff(), time.time()
        beats = {seen.worker_id: seen.beat for seen in staff.seen if seen.beat is not None and seen.alive}
        yield _one("build_info", "Always 1: which worker_glue runs", {(__version__,): 1}, "version")
        states = [seen.state(now) for seen in staff.seen]
        counts: Values = {(state,): float(states.count(state)) for state in SHOWN_STATES}
        yield _one("workers", "Workers by state; lost: silent for 90 s, gone: ended and not yet back", counts, "state")
        ages: Values = {(name,): beat.age_s(now) for name, beat in beats.items()}
        yield _one("heartbeat_age_seconds", "Since a worker was heard of", ages, "worker")
        for name, about, read in _GAUGES:
            told: Values = {(each,): value for each, beat in beats.items() if (value := read(beat)) is not None}
            yield _one(name, about, told, "worker")
        owed = max((beat.owed for beat in beats.values()), default=0)
        yield _one("results_owed", "Results that MongoDB has not taken, of this host", {(): float(max(owed, 0))})
        oldest = min((beat.oldest_owed for beat in beats.values() if beat.oldest_owed is not None), default=now)
        yield _one("results_owed_oldest_age_seconds", "Of the oldest one", {(): max(0.0, now - oldest)})
        yield _restarts(staff.restarts)


def _answers(told: bool | None) -> float | None:
    return None if told is None else float(told)


_GAUGES: tuple[tuple[str, str, Callable[[Heartbeat], float | None]], ...] = (
    ("messages_in_hand", "Messages that a worker has", lambda beat: beat.in_hand),
    ("tasks_waiting_for_files", "Tasks in hand whose file is on its way", lambda beat: beat.waiting),
    ("nsqd_connected", "1 while a worker reads from an nsqd", lambda beat: _answers(beat.nsq)),
    ("mongodb_reachable", "1 while MongoDB answers a worker", lambda beat: _answers(beat.mongo)),
)


Values = dict[tuple[str, ...], float]


def _one(name: str, about: str, values: Values, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"worker_glue_{name}", about, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family


def _restarts(restarts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily("worker_glue_restarts", "How often a worker was started again", labels=["worker"])
    for name, count in restarts.items():
        family.add_metric([name], count)
    return family
