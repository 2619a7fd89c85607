"""Which address to dial for one that nsqlookupd tells. Pure.

nsqlookupd hands out nsqd's broadcast address, which leads past a proxy: behind one, only what `address_map` maps is
dialled, unless `allow_direct` says otherwise (RULES section 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HostPort = tuple[str, int]


def host_port(address: HostPort) -> str:
    """Return an address as people and address_map write it; an IPv6 host stands in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dialled(
    told: HostPort, address_map: Mapping[str, HostPort], *, proxied: bool, allow_direct: bool
) -> HostPort | None:
    """Return what to dial for an address that nsqlookupd told; None when it must not be dialled.

    address_map: "HOST:PORT", or "*:PORT" for any host, -> address. proxied: nsqd_tcp_address is set.
    """
    mapped = address_map.get(host_port(told)) or address_map.get(f"*:{told[1]}")
    if mapped is not None:
        return mapped
    return None if proxied and not allow_direct else told


def nearest(told: HostPort, proxies: Sequence[HostPort]) -> HostPort:
    """Return which proxy probably leads to an address that nsqlookupd told: one with its port, else the first."""
    return next((each for each in proxies if each[1] == told[1]), proxies[0])


def map_line(pairs: Mapping[str, HostPort]) -> str:
    """Return the configuration line that maps addresses."""
    return "address_map = { " + ", ".join(f'"{told}" = "{host_port(to)}"' for told, to in pairs.items()) + " }"
