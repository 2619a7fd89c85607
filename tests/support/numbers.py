"""Samples for tests of what reads /metrics: at least one of every metric in the table."""

from __future__ import annotations

from itertools import product

from syncd.web.metrics import FILE_STATES, HOPS, MIRROR_STATES, NAMES, OUTCOMES, WATCH_SIDES, WATCH_STATES, Metric
from syncd.web.port import Sample

_VALUES: dict[str, tuple[str, ...]] = {
    "mirror": ("Bhushanji", "newsletters"),
    "reason": ("denied", "timeout"),
    "outcome": OUTCOMES,
    "event": ("ready", "updated", "removed"),
    "topic": ("file_sync_ready",),
    "hop": HOPS,
    "side": WATCH_SIDES,
    "call": ("resolve", "status"),
    "status": ("200", "503"),
    "version": ("0.1.0",),
    "python": ("3.11.7",),
    "host": ("tod-mac",),
    "rule": ("job", "worker"),
}


def one_of_each() -> list[Sample]:
    """Return samples of all metrics: two mirrors, every state (1), else values that differ (and are never 0)."""
    found: list[Sample] = []
    for metric in NAMES.values():
        for labels in _labellings(metric):
            value = 1.0 if metric.name.endswith("_state") else len(found) + 2.0
            found += [Sample(name, labels, value) for name in metric.samples]
    return found


def _labellings(metric: Metric) -> list[dict[str, str]]:
    choices = [_states(metric) if label == "state" else _VALUES[label] for label in metric.labels]
    return [dict(zip(metric.labels, chosen, strict=True)) for chosen in product(*choices)]


def _states(metric: Metric) -> tuple[str, ...]:
    of = {"syncd_mirror_state": MIRROR_STATES, "syncd_watch_state": WATCH_STATES}
    return of.get(metric.name, FILE_STATES)
