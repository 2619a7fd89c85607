"""The hops that every server over TCP has: its name resolves, its port takes connections, and how long that takes."""

from __future__ import annotations

import socket
import time
from typing import Any, NamedTuple

from syncd.doctor.checks import Check, Pace, TimedOut, fail, ok, within

_SHORTEST_S = 0.1


class Stopped(Exception):
    """A hop failed; `check` says how."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.seen)
        self.check = check


class Peer(NamedTuple):
    """Whom to dial. setting: where the address is from, as a next step names it ("nsqd_tcp_address in [nsq]")."""

    host: str
    port: int
    setting: str

    @property
    def where(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Line(NamedTuple):
    """An open connection, and how long TCP took to make it: one round trip to whoever took it, which may be a proxy."""

    socket: socket.socket
    address: str
    connect_s: float


def reach(peer: Peer, pace: Pace, checks: list[Check]) -> Line:
    """Resolve and connect, adding a check for each; the caller closes the socket. Raises Stopped."""
    addresses = resolve(peer, pace)
    checks.append(ok("name", ", ".join(dict.fromkeys(str(each[4][0]) for each in addresses))))
    line = dial(peer, addresses, pace)
    checks.append(ok("port", f"connected to {line.address}, port {peer.port}, in {millis(line.connect_s)}"))
    return line


def resolve(peer: Peer, pace: Pace) -> list[Any]:
    """Return what getaddrinfo() knows of the peer. Raises Stopped."""
    hint = f"check the host in {peer.setting}, and the DNS of this machine"
    try:
        return within(pace.resolve_s, lambda: socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM))
    except TimedOut:
        raise Stopped(fail("name", f'"{peer.host}": the name service does not answer', hint)) from None
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise Stopped(fail("name", f'"{peer.host}" cannot be resolved: {said}', hint)) from error


def dial(peer: Peer, addresses: list[Any], pace: Pace) -> Line:
    """Connect to the first address that answers; each gets its share of the time that is left. Raises Stopped."""
    until = time.monotonic() + pace.connect_s
    last: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        end = socket.socket(family, kind, protocol)
        started = time.monotonic()
        try:
            end.settimeout(max((until - started) / (len(addresses) - number), _SHORTEST_S))
            end.connect(address)
        except OSError as error:
            end.close()
            last = error
        else:
            return Line(end, str(address[0]), time.monotonic() - started)
    raise Stopped(_unreachable(peer, last))


def connect_time(host: str, port: int, pace: Pace) -> float | None:
    """Return how long TCP takes to connect, in seconds; None when nobody answers there. Nothing is sent."""
    peer = Peer(host, port, "")
    try:
        line = dial(peer, resolve(peer, pace), pace)
    except Stopped:
        return None
    line.socket.close()
    return line.connect_s


def millis(seconds: float) -> str:
    """Return a duration as people read it: "0.08 ms", "1.2 ms", "140 ms"."""
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 0.995 else f"{value:.1f} ms" if value < 99.95 else f"{value:.0f} ms"


def _unreachable(peer: Peer, error: OSError | None) -> Check:
    hint = f"check host and port in {peer.setting}, and that the server is up"
    if isinstance(error, ConnectionRefusedError):
        return fail("port", f"nothing listens at {peer.where} (connection refused)", hint)
    if isinstance(error, TimeoutError):
        return fail("port", f"{peer.where} does not answer (TCP connect timed out)", hint)
    said = (error.strerror or str(error)) if error is not None else "the host has no address"
    return fail("port", f"cannot connect to {peer.where}: {said}", hint)
