"""Who an nsqd is: its greeting, over a connection that somebody else has made. Source: NSQ's TCP protocol spec."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from syncd import __version__
from syncd.core.paths import printable

_MAGIC = b"  V2"
_RESPONSE, _ERROR = 0, 1
_LARGEST_BYTES = 64 * 1024


class Greeting(NamedTuple):
    """What nsqd answered to IDENTIFY. round_trip_s: through every proxy in between, on a connection that stands."""

    version: str
    auth_required: bool
    round_trip_s: float


class NotNsqd(Exception):
    """The other end does not speak NSQ's protocol. silent: it says nothing at all; closed: it ends the connection."""

    def __init__(self, seen: str, *, silent: bool = False, closed: bool = False) -> None:
        super().__init__(seen)
        self.silent = silent
        self.closed = closed


def greet(end: socket.socket, name: str, limit_s: float) -> Greeting:
    """Introduce ourselves twice: the second answer comes over a connection that stands all the way, and is timed.

    name: ours, as nsqd's statistics and log show it. Raises: NotNsqd.
    """
    until = time.monotonic() + limit_s
    try:
        end.sendall(_MAGIC)
        told = _identified(end, name, until)
        started = time.monotonic()
        _identified(end, name, until)
    except TimeoutError:
        raise NotNsqd(f"no answer within {limit_s:.0f} s", silent=True) from None
    except OSError as error:
        raise NotNsqd(f"the connection breaks ({error.strerror or error})") from error
    return Greeting(
        version=printable(str(told.get("version", "of unknown version"))[:20]),
        auth_required=told.get("auth_required") is True,
        round_trip_s=time.monotonic() - started,
    )


def _identified(end: socket.socket, name: str, until: float) -> Mapping[str, Any]:
    """Send IDENTIFY and return the answer. Raises NotNsqd, OSError."""
    ours = {
        "client_id": name,
        "hostname": socket.gethostname(),
        "user_agent": f"{name}/{__version__}",
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
            raise NotNsqd("the connection is closed", closed=True)
        found += piece
    return found
