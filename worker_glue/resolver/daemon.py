"""The first way: the daemon, over its socket or TCP; with its answers placed where this process sees the files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from syncd.client.address import Address
from syncd.client.api import ApiClient
from syncd.client.below import open_below
from syncd.client.errors import ApiRefused
from syncd.core.errors import SyncdError
from syncd.core.lease import Lease
from syncd.core.reasons import Reason
from syncd.core.resolution import UNAVAILABLE_S, UNVERIFIED_S, Resolution, State
from worker_glue.resolver.holds import DaemonHold
from worker_glue.resolver.mounts import Mounts, elsewhere

TIMEOUT_S = 5.0
QUIET_S = 1.0
HANGS_S = 10.0
"""How long others are asked after it did not answer in time: each attempt costs TIMEOUT_S."""
TTL_MIN_S, TTL_MAX_S = 1.0, 3600.0
SLICE_S = 60.0
"""How long one request to ensure a file lasts: a daemon that was started anew is asked again soon."""
OPEN_TTL_S = 60.0
_OWN_TROUBLE = frozenset({Reason.TOO_MANY_LEASES, Reason.DISK_FULL})
"""Why the daemon gives no lease, where nobody else should give one instead."""


class DaemonFiles:
    """Files as the daemon has them. Thread-safe. Raises SyncdError where it does not answer, or cannot."""

    def __init__(self, address: Address, mounts: Mounts) -> None:
        self.api = ApiClient(address, TIMEOUT_S)
        self._mounts = mounts
        self._quiet_until = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether it did not answer a moment ago, so that others had better be asked."""
        return time.monotonic() < self._quiet_until

    def failed(self, error: SyncdError) -> SyncdError:
        """Note that it did not answer, or could not; returns why."""
        hangs = isinstance(error.__cause__, TimeoutError)
        self._quiet_until = time.monotonic() + (HANGS_S if hangs else QUIET_S)
        return error

    def resolve(self, spelled: str) -> Resolution:
        """Say how a path is, now."""
        return self._placed(lambda: self.api.resolve(spelled))

    def ensure(self, spelled: str, timeout_s: float) -> Resolution:
        """Have it fetched ahead of everything else, for SLICE_S at most."""
        return self._placed(lambda: self.api.ensure(spelled, min(timeout_s, SLICE_S)))

    def _placed(self, ask: Callable[[], Resolution]) -> Resolution:
        """Place an answer; where it does not fit, ask once more: the file may just have been replaced."""
        found = ask()
        placed = self._mounts.placed(found)
        return placed if placed.state is found.state else self._mounts.placed(ask())

    def hold(self, spelled: str, ttl_s: float) -> DaemonHold | Resolution:
        """Take a lease; the resolution where the path is not ready, or its pin is not to be seen here."""
        ttl_s = max(TTL_MIN_S, min(ttl_s, TTL_MAX_S))
        try:
            lease = self.api.lease(spelled, ttl_s)
        except ApiRefused as error:
            if error.reason not in _OWN_TROUBLE:
                raise
            return unavailable(error)
        if isinstance(lease, Resolution):
            return self._mounts.placed(lease)
        return self._held(lease, ttl_s)

    def _held(self, lease: Lease, ttl_s: float) -> DaemonHold | Resolution:
        seen = self._mounts.see_pin(lease)
        if isinstance(seen, str):
            self.api.release(lease.lease_id)
            return elsewhere(lease, seen)
        number = lease.lease_id
        return DaemonHold(lease, seen, lambda: self.api.renew(number, ttl_s), lambda: self.api.release(number))

    def open(self, spelled: str) -> int | Resolution:
        """Open a leased version: its descriptor keeps these bytes when the lease is over."""
        hold = self.hold(spelled, OPEN_TTL_S)
        if isinstance(hold, Resolution):
            return hold
        descriptor = -1
        try:
            descriptor = open_below(*hold.place).descriptor
        except OSError:
            hold.release()
        else:
            if hold.release():
                return descriptor
            os.close(descriptor)
        return _in_flux(hold.server_path)

    def close(self) -> None:
        """Close what is connected; safe to repeat."""
        self.api.close()


def _in_flux(server_path: str) -> Resolution:
    mirror, _, path = server_path.partition("/")
    changed = Reason.LOCAL_CHANGED
    return Resolution(
        State.FETCHING, mirror, path, server_path, reason=changed, hint="try again", retry_after_s=UNVERIFIED_S
    )


def unavailable(error: SyncdError) -> Resolution:
    """Return the answer where nobody could be asked."""
    return Resolution(
        State.UNAVAILABLE, reason=error.reason, hint=error.hint or error.message, retry_after_s=UNAVAILABLE_S
    )
