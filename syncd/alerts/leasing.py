"""Who tells what all hosts see: the one that holds its lease."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from syncd.alerts.model import Alert, alert_of
from syncd.alerts.rules import HostFact, JobFact
from syncd.core.errors import SyncdError
from syncd.ports.alerting import AlertLease, AlertLeases

DUTY = "duty: jobs"
"""The lease of the host that looks at the jobs and the other hosts, for all."""
ALONE_AFTER_S = 120.0
"""MongoDB away for so long: each host tells for itself."""


class Sharing:
    """What of the shared alerts is this host's to tell. One thread; close() by any.

    leases None: there is no MongoDB, so all is its own, and there are no jobs to look after.
    """

    def __init__(self, leases: AlertLeases | None, steady: Callable[[], float]) -> None:
        self._leases = leases
        self._steady = steady
        self._held: Mapping[str, AlertLease] = {}
        self._asked_at = steady()
        self._away = False
        self.adopted: dict[str, Alert] = {}
        """What another host began, and this one took over in the last sync(): told already, its end is not."""

    @property
    def on_duty(self) -> bool:
        """Whether this host looks at jobs and hosts; also where nobody can be asked: then nothing is known of them."""
        return DUTY in self._held or self._away

    def sync(self, current: Mapping[str, Alert], told: Collection[str], known: Collection[str]) -> set[str]:
        """Return the keys that are this host's to tell. Never raises.

        current: the shared alerts that are on. told: what all channels, known: what any channel knows of.
        """
        self.adopted = {}
        if self._leases is None:
            return set(current)
        try:
            wanted = {key: alert.as_json() for key, alert in current.items()}
            self._held = self._leases.sync({**wanted, DUTY: {}}, told, DUTY)
        except SyncdError:
            return self._alone(current, known)
        self._away, self._asked_at = False, self._steady()
        taken = [lease for lease in self._held.values() if lease.taken]
        self.adopted = {lease.key: alert for lease in taken if (alert := _told(lease)) is not None}
        return set(self._held) - {DUTY}

    def release_all_but(self, current: Collection[str]) -> None:
        """Give back what is over; what cannot be given back runs out."""
        over = set(self._held) - set(current) - {DUTY}
        if self._leases is None or not over or self._away:
            return
        try:
            self._leases.release(over)
        except SyncdError:
            return
        self._held = {key: lease for key, lease in self._held.items() if key not in over}

    def jobs(self) -> list[JobFact] | None:
        """Return the jobs; None when they cannot be asked for, or are another host's to look after."""
        if self._leases is None or DUTY not in self._held or self._away:
            return None
        try:
            return [JobFact(*job) for job in self._leases.jobs()]
        except SyncdError:
            return None

    def hosts(self) -> list[HostFact] | None:
        """Return the other hosts; None as jobs()."""
        if self._leases is None or DUTY not in self._held or self._away:
            return None
        try:
            return [HostFact(*host) for host in self._leases.hosts()]
        except SyncdError:
            return None

    def close(self) -> None:
        """End; a call that waits ends now."""
        if self._leases is not None:
            self._leases.close()

    def _alone(self, current: Mapping[str, Alert], known: Collection[str]) -> set[str]:
        """MongoDB cannot be asked: for a while all stays as it is, then each host tells for itself."""
        self._away = True
        if self._steady() - self._asked_at < ALONE_AFTER_S:
            return set(current) & set(known)
        return set(current)


def _told(lease: AlertLease) -> Alert | None:
    try:
        alert = alert_of(lease.alert) if lease.told else None
    except (KeyError, TypeError, ValueError):
        return None
    return alert if alert is not None and alert.key == lease.key else None
