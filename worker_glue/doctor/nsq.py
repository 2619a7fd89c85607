"""NSQ as a worker uses it: nsqd (or the proxy to it) speaks its protocol, nsqlookupd answers, and what it tells can be
dialled. Source: NSQ's TCP protocol spec, nsqlookupd's HTTP API.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from syncd.client.lookupd import LookupFailed, look_up, nodes
from syncd.client.nsqd import NotNsqd, greet
from syncd.config.settings import NsqSettings
from syncd.core.dialling import HostPort, dialled, host_port, map_line, nearest
from worker_glue.doctor.checks import Check, fail, ok, warn

CHANNEL = "bulk_ocr_workers"
NAME = "worker-glue-doctor"
CONNECT_S, ANSWER_S = 5.0, 5.0
AT_ONCE = 8
NODES = 16
"""Of the nsqds that nsqlookupd tells of, so many are looked at."""
_CLOSES = "it closes the connection without a word: so does a proxy that cannot go on"
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
    where = host_port(address)
    try:
        with socket.create_connection(address, timeout=CONNECT_S) as line:
            greeting = greet(line, NAME, ANSWER_S)
    except TimeoutError:
        return fail("nsqd", f"{where} does not answer within {CONNECT_S:g} s", todo)
    except (OSError, UnicodeError) as error:
        return fail("nsqd", f"{where}: {str(getattr(error, 'strerror', None) or error).lower()}", todo)
    except NotNsqd as error:
        if error.silent:
            return fail("nsqd", f"{where} does not answer within {ANSWER_S:g} s", todo)
        return fail("nsqd", f"{where} is not nsqd: {_CLOSES if error.closed else error}", todo)
    if greeting.auth_required:
        return fail("nsqd", f"{where} asks for AUTH, which workers do not do", todo)
    return ok("nsqd", f"{where} is nsqd {greeting.version}, answers in {1000 * greeting.round_trip_s:.1f} ms")


def _ms(began: float) -> str:
    return f"{1000 * (time.monotonic() - began):.1f} ms"
