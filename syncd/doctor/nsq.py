"""Hop by hop to an nsqd, over TCP as behind the proxy: name, port, greeting. Source: NSQ's TCP protocol spec."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from syncd.client.nsqd import NotNsqd, greet
from syncd.config.values import Address
from syncd.doctor.checks import Check, Pace, fail, ok, skipped
from syncd.doctor.dial import Peer, Stopped, millis, reach
from syncd.doctor.strangers import Kind, identify

HOPS = ("name", "port", "protocol")
NAME = "syncd-doctor"

_BEHIND = "if this is a proxy, see whether the nsqd behind it is up; else check {setting}"


def setting_of(variable: str, key: str, env: Mapping[str, str]) -> str:
    """Return where addresses are from, as a next step names it: the variable wins over the file."""
    return f"the environment's {variable}" if env.get(variable, "").strip() else f"{key} in [nsq]"


def hops(address: Address, setting: str, pace: Pace) -> list[Check]:
    """Try each hop to one nsqd."""
    checks: list[Check] = []
    peer = Peer(address.host, address.port, setting)
    try:
        line = reach(peer, pace, checks)
        with line.socket:
            checks.append(_protocol(peer, line.socket, pace))
    except Stopped as stopped:
        checks.append(stopped.check)
    told = [check.name for check in checks]
    return checks + skipped([name for name in HOPS if name not in told], f"{told[-1]} failed")


def _protocol(peer: Peer, end: socket.socket, pace: Pace) -> Check:
    try:
        greeting = greet(end, NAME, pace.answer_s)
    except NotNsqd as error:
        return _wrong(peer, error)
    seen = f"nsqd {greeting.version} answers, round trip {millis(greeting.round_trip_s)}"
    if greeting.auth_required:
        return fail("protocol", f"{seen}; it asks for AUTH, which syncd does not do", "take -auth-http-address off it")
    return ok("protocol", seen)


def _wrong(peer: Peer, error: NotNsqd) -> Check:
    """Say who answers instead of nsqd, and which address is meant."""
    found = identify(peer.host, peer.port)
    match found.kind:
        case Kind.NSQD_HTTP:
            meant = Peer(peer.host, found.tcp_port, "").where
            seen = f"{peer.where} is {found}; announcements go over its TCP port, {found.tcp_port}"
            return fail("protocol", seen, f'say "{meant}" in {peer.setting}')
        case Kind.LOOKUPD | Kind.LOOKUPD_HTTP:
            todo = f"say nsqd's address (port 4150) in {peer.setting}; nsqlookupd belongs into lookupd_http_addresses"
            return fail("protocol", f"{peer.where} is {found}, not nsqd", todo)
        case Kind.CLOSES:
            seen = f"{peer.where} takes the connection and closes it without a word: so does a proxy that cannot go on"
            return fail("protocol", seen, _BEHIND.format(setting=peer.setting))
        case Kind.SILENT:
            seen = f"{peer.where} takes the connection and says nothing: so does a proxy to a host that is away"
            return fail("protocol", seen, _BEHIND.format(setting=peer.setting))
        case Kind.NSQD:
            return fail("protocol", f"nsqd at {peer.where} does not greet: {error}", "see nsqd's own log")
        case _:
            todo = f"check the port in {peer.setting}: nsqd's TCP port is 4150 by default"
            return fail("protocol", f"{peer.where} is not nsqd but {found}", todo)
