"""Where hosts agree on who tells what all of them see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from syncd.core.named import NamedTuple


class AlertLease(NamedTuple):
    """A lease that this host holds. told: its beginning has been delivered. alert: the fields of the alert.

    taken: it was another host's, which has fallen silent.
    """

    key: str
    told: bool
    alert: Mapping[str, Any]
    taken: bool = False


class AlertLeases(Protocol):
    """Leases that several hosts share. Used by one thread (close() by any).

    Every call ends by its deadline and may raise SyncdError; then it was done in full, in part, or not at all.
    """

    def sync(
        self, wanted: Mapping[str, Mapping[str, Any]], told: Collection[str], duty: str
    ) -> Mapping[str, AlertLease]:
        """Renew what this host holds, take what is wanted and free; return all that it holds, by key.

        wanted: key -> the alert's fields. told: keys whose beginning has been delivered. duty: the lease whose holder
        also takes what hosts that fell silent have left, wanted or not.
        """
        ...

    def release(self, keys: Collection[str]) -> None:
        """Give back: the alert is over. Other hosts leave it alone for some minutes: they may see the end later."""
        ...

    def jobs(self) -> Collection[tuple[str, int, int]]:
        """Return (id, published, consumed) of the jobs in state `processing`."""
        ...

    def hosts(self) -> Collection[tuple[str, str, float, bool]]:
        """Return (id, name, silent_s, away) of all other hosts: since when not heard of, whether asleep by plan now."""
        ...

    def close(self) -> None:
        """End the connection for good; safe to repeat, and from another thread to make a call that waits end."""
        ...
