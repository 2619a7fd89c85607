"""NSQ as a worker uses it: nsqd (or the proxy to it) speaks its protocol, nsqlookupd answers, and what it tells can be
dialled. Source: NSQ's TCP protocol spec, nsqlookupd's HTTP API.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from syncd.client.lookupd import LookupFailed, look_up, nodes
from syncd.config.settings import NsqSettings
from syncd.core.dialling import HostPort, dialled, host_port, map_line, nearest
from worker_glue.doctor.checks import Check, fail, ok, warn

CHANNEL = "bulk_ocr_workers"
CONNECT_S, ANSWER_S = 5.0, 5.0
AT_ONCE = 8
NODES = 16
"""Of the nsqds that nsqlookupd tells of, so many are looked at."""
_ANSWER_BYTES_MAX = 64 << 10
_PROXY = "if this is a proxy, see whether the nsqd behind it is up; else check NSQD_ADDRESS or nsq.nsqd_tcp_address"


def nsqd_checks(nsq: NsqSettings) -> Iterator[Check]:
    """Greet every nsqd that is configured."""
    if not nsq.nsqd and not nsq.lookupd:
        yield fail("nsqd", "no nsqd is configured", "set NSQD_ADDRESS, or nsq.nsqd_tcp_address")
    yield from _together(lambda address: [_greeted(address, _PROXY)], nsq.nsqd)


def lookupd_checks(nsq: NsqSettings) -> Iterator[Check]:
    """Ask every nsqlookupd, and look at every nsqd that it tells of."""
    if not nsq.lookupd:
        yield ok("nsqlookupd", "none is configured: tasks come from the configured nsqd alone")
    told: dict[HostPort, None] = {}
    yield from _together(lambda lookupd: _asked(lookupd, nsq.task_topic, told), nsq.lookupd)
    yield from _together(lambda address: [_mapped(address, nsq)], sorted(told)[:NODES])
    if len(told) > NODES:
        yield ok("mapping", f"{len(told) - NODES} more nsqd, not looked at")


def _together(work: Callable[[HostPort], list[Check]], addresses: Sequence[HostPort]) -> Iterator[Check]:
    """Look at several at a time: one that hangs keeps no other from being looked at within the group's time."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="doctor nsq") as pool:
        for checks in pool.map(work, addresses):
            yield from checks


def _asked(lookupd: HostPort, topic: str, told: dict[HostPort, None]) -> list[Check]:
    """Ask one nsqlookupd; the nsqds that it tells of are added to `told`."""
    checks = []
    try:
        began = time.monotonic()
        found = nodes(lookupd)
        checks.append(ok("nsqlookupd", f"{host_port(lookupd)} answers in {_ms(began)}, knows {len(found)} nsqd"))
        told |= dict.fromkeys(found)
        checks.append(ok("tasks", f"{host_port(lookupd)}: {_topic(lookupd, topic)}"))
    except LookupFailed as error:
        todo = "see whether the proxy and nsqlookupd are up; else check NSQLOOKUPD_ADDRESSES"
        checks.append(fail("nsqlookupd", error.message, todo))
    return checks


def _topic(lookupd: HostPort, topic: str) -> str:
    """Say what it knows of the tasks' topic. Raises LookupFailed."""
    found = look_up(lookupd, topic)
    if not found.known:
        return f"nobody has published to {topic} yet"
    if CHANNEL not in found.channels:
        return f"{topic} has no channel {CHANNEL} yet: the first worker makes it"
    return f"{topic} with channel {CHANNEL}, on {len(found.nsqds)} nsqd"


def _mapped(told: HostPort, nsq: NsqSettings) -> Check:
    """Dial an announced nsqd as a worker would."""
    to = dialled(told, nsq.address_map, proxied=bool(nsq.nsqd), allow_direct=nsq.allow_direct)
    if to is None and told not in nsq.nsqd:
        seen = f"nsqlookupd tells of {host_port(told)}, which address_map does not map: workers never dial it"
        line = map_line({host_port(told): nearest(told, nsq.nsqd)})
        # the configured nsqd is read anyway; where it is the same one behind a proxy, nothing is missed
        return warn("mapping", seen, f"where another nsqd is behind it than the configured one: {line}")
    if told in nsq.nsqd and to in (None, told):
        return ok("mapping", f"{host_port(told)} is dialled as it is")
    if to is None or to == told:
        line = map_line({host_port(told): ("127.0.0.1", told[1])})
        check = _greeted(told, f"see that it is up, or name a proxy to it that can be dialled from here: {line}")
        return check._replace(name="mapping", seen=f"as it is: {check.seen}")
    check = _greeted(to, f"correct what address_map says for {host_port(told)}, and see that its proxy is up")
    return check._replace(name="mapping", seen=f"{host_port(told)} -> {check.seen}")


def _greeted(address: HostPort, todo: str) -> Check:
    where, began = host_port(address), time.monotonic()
    try:
        with socket.create_connection(address, timeout=CONNECT_S) as line:
            version = _greeting(line, time.monotonic() + ANSWER_S)
    except TimeoutError:
        return fail("nsqd", f"{where} does not answer within {CONNECT_S:g} s", todo)
    except (OSError, UnicodeError) as error:
        return fail("nsqd", f"{where}: {str(getattr(error, 'strerror', None) or error).lower()}", todo)
    except ValueError as error:
        return fail("nsqd", f"{where} is not nsqd: {error}", todo)
    return ok("nsqd", f"{where} is nsqd {version}, answers in {_ms(began)}")


def _greeting(line: socket.socket, until: float) -> str:
    """Introduce ourselves; return nsqd's version. Raises ValueError for whoever is not nsqd, OSError."""
    body = json.dumps(
        {"client_id": "worker-glue-doctor", "feature_negotiation": True, "heartbeat_interval": -1}
    ).encode()
    line.sendall(b"  V2IDENTIFY\n" + struct.pack(">i", len(body)) + body)
    size, kind = struct.unpack(">ii", _read(line, 8, until))
    if not 4 <= size <= _ANSWER_BYTES_MAX or kind not in (0, 1):
        raise ValueError("it answers with something else than NSQ's protocol")
    said = _read(line, size - 4, until)
    if kind == 1:
        raise ValueError(f"it answers {said[:80]!r}")
    told = json.loads(said)
    version = told.get("version") if isinstance(told, dict) else None
    if isinstance(told, dict) and told.get("auth_required") is True:
        raise ValueError("it asks for AUTH, which workers do not do")
    return str(version or "of unknown version")[:40]


def _read(line: socket.socket, count: int, until: float) -> bytes:
    found = b""
    while len(found) < count:
        line.settimeout(max(0.01, until - time.monotonic()))
        piece = line.recv(count - len(found))
        if not piece:
            raise ValueError("it closes the connection without a word: so does a proxy that cannot go on")
        found += piece
    return found


def _ms(began: float) -> str:
    return f"{1000 * (time.monotonic() - began):.1f} ms"
