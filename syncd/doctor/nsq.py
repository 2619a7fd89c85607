"""Hop by hop to an nsqd, over TCP as behind the proxy: name, port, greeting. Source: NSQ's TCP protocol spec."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from syncd import __version__
from syncd.config.values import Address
from syncd.core.paths import printable
from syncd.doctor.checks import Check, Pace, fail, ok, skipped
from syncd.doctor.dial import Peer, Stopped, millis, reach
from syncd.doctor.strangers import Kind, identify

HOPS = ("name", "port", "protocol")

_MAGIC = b"  V2"
_RESPONSE, _ERROR = 0, 1
_LARGEST_BYTES = 64 * 1024
_BEHIND = "if this is a proxy, see whether the nsqd behind it is up; else check {setting}"


class Greeting(NamedTuple):
    """What nsqd answered to IDENTIFY. round_trip_s: through every proxy in between, on a connection that stands."""

    version: str
    auth_required: bool
    round_trip_s: float


class NotNsqd(Exception):
    """The other end does not speak NSQ's protocol. silent: it says nothing at all (else it answers or closes)."""

    def __init__(self, seen: str, *, silent: bool = False) -> None:
        super().__init__(seen)
        self.silent = silent


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


def greet(end: socket.socket, limit_s: float) -> Greeting:
    """Introduce ourselves twice: the second answer comes over a connection that stands all the way, and is timed.

    Raises: NotNsqd.
    """
    until = time.monotonic() + limit_s
    try:
        end.sendall(_MAGIC)
        told = _identified(end, until)
        started = time.monotonic()
        _identified(end, until)
    except TimeoutError:
        raise NotNsqd(f"no answer within {limit_s:.0f} s", silent=True) from None
    except OSError as error:
        raise NotNsqd(f"the connection breaks ({error.strerror or error})") from error
    return Greeting(
        version=printable(str(told.get("version", "of unknown version"))[:20]),
        auth_required=told.get("auth_required") is True,
        round_trip_s=time.monotonic() - started,
    )


def _protocol(peer: Peer, end: socket.socket, pace: Pace) -> Check:
    try:
        greeting = greet(end, pace.answer_s)
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


def _identified(end: socket.socket, until: float) -> Mapping[str, Any]:
    """Send IDENTIFY and return the answer. Raises NotNsqd, OSError."""
    ours = {
        "client_id": "syncd-doctor",
        "hostname": socket.gethostname(),
        "user_agent": f"syncd-doctor/{__version__}",
        "feature_negotiation": True,
        "heartbeat_interval": -1,
    }
    body = json.dumps(ours).encode()
    end.sendall(b"IDENTIFY\n" + struct.pack(">i", len(body)) + body)
    size, kind = struct.unpack(">ii", _read(end, 8, until))
    if kind not in (_RESPONSE, _ERROR) or not 4 <= size <= _LARGEST_BYTES:
        raise NotNsqd("the answer is no frame of NSQ's protocol")
    said = _read(end, size - 4, until)
    if kind == _ERROR:
        raise NotNsqd(f"it says {printable(said[:100].decode('ascii', 'replace'))}")
    try:
        told = json.loads(said)
    except (ValueError, RecursionError):
        raise NotNsqd("the answer to IDENTIFY is not JSON") from None
    if not isinstance(told, dict):
        raise NotNsqd("the answer to IDENTIFY is no table")
    return told


def _read(end: socket.socket, count: int, until: float) -> bytes:
    found = b""
    while len(found) < count:
        end.settimeout(max(until - time.monotonic(), 0.01))
        piece = end.recv(count - len(found))
        if not piece:
            raise NotNsqd("the connection is closed")
        found += piece
    return found
