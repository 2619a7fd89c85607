"""Where messages are read from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from syncd.config.values import addresses
from syncd.core.dialling import HostPort, dialled
from syncd.core.errors import ConfigError

LOOKUP_EVERY_S = 60.0


class Where(NamedTuple):
    """Where messages are read from. nsqd: always; lookupd: asked for more, every lookup_every_s.

    address_map, allow_direct: what to dial for an address that nsqlookupd tells (core.dialling).
    """

    nsqd: Sequence[HostPort]
    lookupd: Sequence[HostPort] = ()
    address_map: Mapping[str, HostPort] = {}
    allow_direct: bool = False
    lookup_every_s: float = LOOKUP_EVERY_S

    def dial(self, told: HostPort) -> HostPort | None:
        """Return what to dial for an address that nsqlookupd told; None: it is not to be dialled."""
        return dialled(told, self.address_map, proxied=bool(self.nsqd), allow_direct=self.allow_direct)


def addresses_in_environment(env: Mapping[str, str] = os.environ) -> tuple[Sequence[HostPort], Sequence[HostPort]]:
    """Return what NSQD_ADDRESS and NSQLOOKUPD_ADDRESSES name. Raises ConfigError when they name nothing usable."""
    nsqd, lookupd = env.get("NSQD_ADDRESS", ""), env.get("NSQLOOKUPD_ADDRESSES", "")
    if not nsqd.strip() and not lookupd.strip():
        problem = "no nsqd to read from: neither NSQD_ADDRESS nor NSQLOOKUPD_ADDRESSES is set"
        raise ConfigError(problem, hint="NSQD_ADDRESS=127.0.0.1:4150")
    try:
        return _listed(nsqd, 4150), _listed(lookupd, 4161)
    except ValueError as error:
        raise ConfigError(f"the address of NSQ in the environment cannot be used: {error}") from error


def _listed(text: str, port: int) -> Sequence[HostPort]:
    return addresses([each.strip() for each in text.split(",") if each.strip()], port)
