"""The loop: looks, judges, remembers, and has each channel told. One thread; no channel can hold it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from syncd.alerts.delivery import PACE, Delivery, Pace, Tell
from syncd.alerts.kept import Kept
from syncd.alerts.leasing import Sharing
from syncd.alerts.memory import Watched, alerts_of, step
from syncd.alerts.model import ON_DUTY, Alert, Channel, Notice
from syncd.alerts.rules import Condition, Facts, HostFact, JobFact, Queue, Thresholds, judge
from syncd.core.errors import SyncdError

SLEPT_S = 120.0
"""No look for so long (and ten intervals): the machine slept, or no daemon ran."""
JOBS_EVERY_S = 120.0
"""The jobs are asked for so often: MongoDB reads whole documents for it, and there is no index."""
JOIN_S = 1.0


class Host(Protocol):
    """Who is watched."""

    @property
    def name(self) -> str: ...

    def facts(self) -> Facts:
        """Return what is known now, without jobs and queue."""
        ...

    def queue(self) -> Queue | None:
        """Return how the workers' queue is; None when that is not known."""
        ...


class Ears(NamedTuple):
    """Who is told. log: (event, alert) of each beginning and end. tell: see delivery.Tell. bug: what nobody foresaw."""

    channels: Sequence[Channel]
    log: Callable[[str, Alert], None]
    tell: Tell
    bug: Callable[[BaseException], None]
    pace: Pace = PACE


class Watch:
    """Watches a host until close(). start() once."""

    def __init__(
        self,
        host: Host,
        kept: Kept,
        sharing: Sharing,
        ears: Ears,
        limits: Thresholds,
        every_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._kept = kept
        self._sharing = sharing
        self._ears = ears
        self._limits = limits
        self._every_s = every_s
        self._now = now
        self._jobs: list[JobFact] | None = None
        self._hosts: list[HostFact] | None = None
        self._queue: Queue | None = None
        self._jobs_at = float("-inf")
        self._problem = ""
        self._reported = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._deliveries = [
            Delivery(channel, kept, self._notice, tell=ears.tell, bug=ears.bug, pace=ears.pace)
            for channel in ears.channels
        ]

    def start(self) -> None:
        """Begin."""
        for delivery in self._deliveries:
            delivery.start()
        self._thread.start()

    def close(self) -> None:
        """End within some seconds; what is not told is told after the next start. Safe to repeat."""
        self._ending.set()
        self._sharing.close()
        until = time.monotonic() + JOIN_S
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        for delivery in self._deliveries:
            delivery.close(max(until - time.monotonic(), 0.0))

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self.look()
            except SyncdError as error:
                self._say(f"alerts cannot be looked for: {error.message}")
            except Exception as error:  # noqa: BLE001 (alerts are never worth the daemon)
                if not self._ending.is_set() and not self._reported:
                    self._reported = True  # one report; the next look may well be right
                    self._ears.bug(error)
            else:
                self._say(self._kept.problem)
            self._ending.wait(self._every_s)

    def _say(self, problem: str) -> None:
        """Tell of a problem of our own, once."""
        if problem and problem != self._problem and not self._ending.is_set():
            self._ears.tell("watch", problem)
        self._problem = problem

    def look(self) -> None:
        """Look once, and have everybody told what there is to tell."""
        now = self._now()
        before = alerts_of(self._kept.watched)
        ours = self._share(before)  # first: it says who looks at the jobs
        adopted = self._sharing.adopted
        slept = now - self._kept.looked > max(SLEPT_S, 10 * self._every_s)
        begun = {key: _adopted(alert, self._limits, now) for key, alert in adopted.items() if key not in before}
        known = {**self._kept.watched, **begun}
        watched = step(known, judge(self._gather(), self._limits), now, self._limits.hold_s, slept=slept)
        current = alerts_of(watched)
        if any(alert.shared and key not in before for key, alert in current.items()):
            ours = self._share(current)
            adopted |= self._sharing.adopted
        if self._ending.is_set():  # what could not be asked any more is not to be acted on
            return
        with self._kept.changing():
            self._kept.watched, self._kept.looked = watched, now
            self._correct_told(current, ours, adopted)
        self._log_changes(before, current)
        for delivery in self._deliveries:
            delivery.want({key: alert for key, alert in current.items() if not alert.shared or key in ours})
        self._sharing.release_all_but(current)

    def _gather(self) -> Facts:
        """Return the facts; the jobs and their queue are looked at less often than the rest."""
        on_duty = self._sharing.on_duty
        every_s = min(JOBS_EVERY_S, max(self._limits.stuck_s / 4, 1.0))
        if on_duty and time.monotonic() - self._jobs_at >= every_s:
            self._jobs, self._hosts = self._sharing.jobs(), self._sharing.hosts()
            self._queue = self._host.queue() if self._jobs else None
            self._jobs_at = time.monotonic()
        jobs, hosts = (self._jobs, self._hosts) if on_duty else (None, None)
        return self._host.facts()._replace(jobs=jobs, hosts=hosts, queue=self._queue, on_duty=on_duty)

    def _share(self, current: Mapping[str, Alert]) -> set[str]:
        """Return which of the shared alerts are this host's to tell."""
        shared = {key: alert for key, alert in current.items() if alert.shared}
        told = [set(self._kept.told_to(delivery.name)) for delivery in self._deliveries]
        return self._sharing.sync(shared, set(shared).intersection(*told), set().union(*told))

    def _correct_told(self, current: Mapping[str, Alert], ours: set[str], adopted: Mapping[str, Alert]) -> None:
        """What another host tells from now on is not ours to end; what was taken over has been begun by another."""
        channels = {delivery.name for delivery in self._deliveries}
        self._kept.told = {name: told for name, told in self._kept.told.items() if name in channels}
        for name in channels:
            told = self._kept.told.setdefault(name, {})
            for key in [key for key, alert in told.items() if self._is_theirs(alert, current, ours)]:
                del told[key]
            told.update({key: alert for key, alert in adopted.items() if key in current})

    def _is_theirs(self, alert: Alert, current: Mapping[str, Alert], ours: set[str]) -> bool:
        if alert.key in current:
            return alert.shared and alert.key not in ours
        return alert.rule in ON_DUTY and not self._sharing.on_duty  # vanished here: another host looks at it

    def _log_changes(self, before: Mapping[str, Alert], after: Mapping[str, Alert]) -> None:
        for key in after.keys() - before.keys():
            self._ears.log("alert.begun", after[key])
        for key in before.keys() - after.keys():
            self._ears.log("alert.over", before[key])

    def _notice(self, begun: tuple[Alert, ...], ended: tuple[Alert, ...]) -> Notice:
        return Notice(self._host.name, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), begun, ended)


def _adopted(alert: Alert, limits: Thresholds, now: float) -> Watched:
    """Return what another host began, as if it had begun here."""
    condition = Condition(alert.key, alert.rule, alert.about, alert.text, alert.remedy, limits.hold_s)
    try:
        since = datetime.fromisoformat(alert.since).timestamp()
    except ValueError:
        since = now
    return Watched(condition, min(since, now), begun=True)
