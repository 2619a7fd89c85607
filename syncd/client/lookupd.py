"""What nsqlookupd says of a topic: its channels, and the nsqds that have it. Over HTTP; bounded in time and size.

Source: nsqlookupd's HTTP API (`/lookup`, `/nodes`), as of 1.0.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from syncd.core.dialling import HostPort, host_port
from syncd.core.errors import Scope, SyncdError
from syncd.core.reasons import Reason

TIMEOUT_S = 3.0
ANSWER_BYTES_MAX = 4 << 20
PRODUCERS_MAX = 1_000


class LookupFailed(SyncdError):
    """nsqlookupd does not answer, or not as it should."""

    scope = Scope.RUN
    transient = True
    exit_code = 10
    reason = Reason.SOURCE_UNAVAILABLE


class Topic(NamedTuple):
    """A topic as nsqlookupd knows it: its channels, and the broadcast addresses of the nsqds that have it.

    known: False when no nsqd has told of it. No channel: nsqd keeps everything on the topic, for ever.
    """

    known: bool
    channels: tuple[str, ...] = ()
    nsqds: tuple[HostPort, ...] = ()


def look_up(lookupd: HostPort, topic: str, timeout_s: float = TIMEOUT_S) -> Topic:
    """Ask for a topic. Raises LookupFailed."""
    status, answer = _get(lookupd, f"/lookup?topic={quote(topic, safe='')}", timeout_s)
    if status == 404 and b"TOPIC_NOT_FOUND" in answer:  # nsqd's HTTP port says 404 too
        return Topic(known=False)
    found = _checked(lookupd, status, answer)
    channels = found.get("channels")
    names = channels if isinstance(channels, list) else []
    return Topic(True, tuple(name for name in names if isinstance(name, str)), _addresses(found.get("producers")))


def nodes(lookupd: HostPort, timeout_s: float = TIMEOUT_S) -> tuple[HostPort, ...]:
    """Return the broadcast addresses of all nsqds that it knows. Raises LookupFailed."""
    status, answer = _get(lookupd, "/nodes", timeout_s)
    return _addresses(_checked(lookupd, status, answer).get("producers"))


def _addresses(producers: object) -> tuple[HostPort, ...]:
    """Return each nsqd's address once; what is no address is left out."""
    found: dict[HostPort, None] = {}
    for producer in producers[:PRODUCERS_MAX] if isinstance(producers, list) else ():
        host = producer.get("broadcast_address") if isinstance(producer, Mapping) else None
        port = producer.get("tcp_port") if isinstance(producer, Mapping) else None
        if isinstance(host, str) and isinstance(port, int) and 0 < port < 65536 and _is_host(host):
            found[host, port] = None
    return tuple(found)


def _is_host(text: str) -> bool:
    return 0 < len(text) <= 253 and text.isascii() and not set(text) - _HOST


_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%")


def _checked(lookupd: HostPort, status: int, answer: bytes) -> Mapping[str, Any]:
    if status != 200:
        raise _failed(lookupd, f"HTTP status {status}")
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _failed(lookupd, "its answer is no JSON") from error
    if isinstance(found, Mapping) and isinstance(found.get("data"), Mapping):
        found = found["data"]  # before 1.0
    if not isinstance(found, Mapping):
        raise _failed(lookupd, "its answer is not nsqlookupd's")
    return found


def _get(lookupd: HostPort, target: str, timeout_s: float) -> tuple[int, bytes]:
    """Return status and body; HTTP/1.0, so that the end of the connection is the end of the body."""
    deadline = time.monotonic() + timeout_s
    request = (
        f"GET {target} HTTP/1.0\r\nHost: {host_port(lookupd)}\r\n"
        "Accept: application/vnd.nsq; version=1.0\r\nConnection: close\r\n\r\n"
    )
    try:
        with socket.create_connection(lookupd, timeout=timeout_s) as connection:
            connection.sendall(request.encode())
            head, _, body = b"".join(_pieces(connection, lookupd, deadline)).partition(b"\r\n\r\n")
    except TimeoutError as error:
        raise _failed(lookupd, f"no answer within {timeout_s:g} s") from error
    except (OSError, UnicodeError) as error:
        raise _failed(lookupd, str(getattr(error, "strerror", None) or error).lower()) from error
    word, _, rest = head.partition(b" ")
    if not word.startswith(b"HTTP/") or not rest[:3].isdigit():
        raise _failed(lookupd, "its answer is no HTTP")
    return int(rest[:3]), body


def _pieces(connection: socket.socket, lookupd: HostPort, deadline: float) -> Iterable[bytes]:
    """Read to the end of the connection."""
    size = 0
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        piece = connection.recv(1 << 16)
        if not piece:
            return
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise _failed(lookupd, f"its answer is longer than {ANSWER_BYTES_MAX >> 20} MiB")
        yield piece


def _failed(lookupd: HostPort, why: str) -> LookupFailed:
    return LookupFailed(f"nsqlookupd at {host_port(lookupd)} cannot be asked: {why}", hint="syncd doctor")
