"""Hop by hop to an nsqlookupd; what it announces against what can be dialled; a topic that nobody reads.

Source: nsqlookupd's HTTP API (/info, /nodes, /lookup).
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import quote

from syncd.client.nsqd import NotNsqd, greet
from syncd.config.settings import NsqSettings
from syncd.config.values import Address
from syncd.core.dialling import dialled, map_line, nearest
from syncd.core.errors import SourceUnavailable
from syncd.core.paths import printable
from syncd.core.shown import counted
from syncd.doctor import clock
from syncd.doctor.checks import Check, Pace, fail, ok, skipped, warn, within
from syncd.doctor.dial import Peer, Stopped, connect_time, dial, millis, reach, resolve
from syncd.doctor.nsq import NAME
from syncd.doctor.strangers import Kind, identify

HOPS = ("name", "port", "protocol", "announced")
NODES = 16
AT_ONCE = 8

_LARGEST_BYTES = 4 << 20
_MADE_BY = "a program that reads it makes one: syncd events --nsq NAME"


class Node(NamedTuple):
    """One nsqd, as nsqlookupd announces it."""

    address: Address
    hostname: str


class _Page(NamedTuple):
    status: int
    content: Any
    clock_offset_s: float | None
    took_s: float


def hops(address: Address, setting: str, nsq: NsqSettings, topics: Sequence[str], pace: Pace) -> list[Check]:
    """Try each hop to one nsqlookupd, then look at what it announces. topics: those that syncd announces on."""
    checks: list[Check] = []
    peer = Peer(address.host, address.port, setting)
    try:
        reach(peer, pace, checks).socket.close()
        nodes = _answers(peer, pace, checks)
        checks += check_nodes(nodes, nsq, pace)
        checks += [_topic(peer, topic, pace) for topic in topics]
    except Stopped as stopped:
        checks.append(stopped.check)
    told = [check.name for check in checks]
    return checks + skipped([name for name in HOPS if name not in told], f"{told[-1]} failed")


def _answers(peer: Peer, pace: Pace, checks: list[Check]) -> list[Node]:
    """Ask who it is and whom it knows. Raises Stopped."""
    who = _get(peer, "/info", pace)
    version = who.content.get("version") if isinstance(who.content, dict) else None
    page = _get(peer, "/nodes", pace) if version else who
    if not version or not isinstance(page.content, dict) or not isinstance(page.content.get("producers"), list):
        raise Stopped(_wrong(peer, f"answers with HTTP status {page.status}, and not as nsqlookupd does"))
    seen = f"nsqlookupd {printable(str(version)[:20])} answers, round trip {millis(page.took_s)}"
    checks.append(ok("protocol", seen))
    if page.clock_offset_s is not None:
        checks.append(clock.compare(page.clock_offset_s, "nsqlookupd's"))
    return nodes_of(page.content["producers"])


def nodes_of(producers: Sequence[Any]) -> list[Node]:
    """Return the nsqds that nsqlookupd announces, each address once; what is no address is left out."""
    found: dict[Address, Node] = {}
    for told in producers:
        host, port = (told.get("broadcast_address"), told.get("tcp_port")) if isinstance(told, dict) else (None, None)
        if isinstance(host, str) and host and isinstance(port, int) and 0 < port < 1 << 16:
            address = Address(printable(host[:253]), port)
            found.setdefault(address, Node(address, printable(str(told.get("hostname", ""))[:64])))
    return list(found.values())


# -- what is announced, against what can be dialled


def route(said: Address, nsq: NsqSettings) -> Address | None:
    """Return what is dialled for an address that nsqlookupd announces, None when nothing is: the readers' own rule.

    An nsqd that nsqd_tcp_address names itself is dialled as it is, whether it is announced or not.
    """
    found = dialled(said, nsq.address_map, proxied=bool(nsq.nsqd), allow_direct=nsq.allow_direct)
    return Address(*found) if found is not None else said if said in nsq.nsqd else None


def check_nodes(nodes: Sequence[Node], nsq: NsqSettings, pace: Pace) -> list[Check]:
    """Look at every announced nsqd: which are dialled, as what, and do they answer there."""
    if not nodes:
        return [warn("announced", "nsqlookupd knows of no nsqd", "set -lookupd-tcp-address where nsqd is started")]
    lost = [node for node in nodes if route(node.address, nsq) is None]
    known = [node for node in nodes if node not in lost]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="doctor nsqd") as pool:
        checks = list(pool.map(lambda node: _announced(node, nsq, pace), known[:NODES]))
    if len(known) > NODES:
        checks.append(ok("announced", f"{counted(len(known) - NODES, 'more nsqd')}, not looked at"))
    return checks + ([_unmapped(lost, nsq)] if lost else [])


def _unmapped(lost: Sequence[Node], nsq: NsqSettings) -> Check:
    """Show the line that fixes it: what is mapped already stays in it."""
    said = ", ".join(f"{node.address}{f' ({node.hostname})' if node.hostname else ''}" for node in lost)
    seen = (
        f"nsqlookupd announces {said}, which address_map does not map: it is never dialled, "
        "and readers use nsqd_tcp_address alone"
    )
    added = {str(node.address): nearest(node.address, nsq.nsqd) for node in lost}
    which = "; see which of your proxies leads to which nsqd" if len(nsq.nsqd) > 1 or len(lost) > 1 else ""
    return warn("announced", seen, f"in [nsq]: {map_line({**nsq.address_map, **added})}{which}")


def _announced(node: Node, nsq: NsqSettings, pace: Pace) -> Check:
    """Dial one as a reader of ours would, and compare with the direct way where there is another."""
    to = route(node.address, nsq)
    assert to is not None  # noqa: S101 (the caller left those out)
    way = f"{node.address} -> {to}" if to != node.address else f"{node.address} (as it is)"
    peer = Peer(to.host, to.port, "address_map in [nsq]" if to != node.address else "[nsq]")
    try:
        line = dial(peer, resolve(peer, pace), pace)
        with line.socket:
            greeting = greet(line.socket, NAME, pace.answer_s)
    except (Stopped, NotNsqd) as error:
        return fail("announced", f"{way}: {error}", _remedy(node, to))
    direct = connect_time(*node.address, pace) if to != node.address else None
    compared = f", direct {millis(direct)}" if direct is not None else ""
    return ok("announced", f"{way}: nsqd {greeting.version}, round trip {millis(greeting.round_trip_s)}{compared}")


def _remedy(node: Node, to: Address) -> str:
    if to != node.address:
        return "correct what address_map in [nsq] dials for it, and see that the proxy is up"
    line = map_line({str(node.address): Address("127.0.0.1", node.address.port)})
    return f"name a proxy to it that can be dialled from here; in [nsq]: {line}"


# -- topics


def _topic(peer: Peer, topic: str, pace: Pace) -> Check:
    """Say who reads a topic: without a channel, nsqd keeps every message of it for ever."""
    page = _get(peer, f"/lookup?topic={quote(topic)}", pace)
    if page.status == http.client.NOT_FOUND:
        return ok("topic", f"{topic} is not there yet; the first announcement makes it")
    channels = page.content.get("channels") if isinstance(page.content, dict) else None
    if not isinstance(channels, list):
        return warn("topic", f"{topic}: nsqlookupd does not tell its channels (HTTP status {page.status})")
    return check_channels(topic, [printable(str(name)[:64]) for name in channels])


def check_channels(topic: str, channels: Sequence[str]) -> Check:
    """Judge a topic that exists by its channels."""
    if not channels:
        seen = f"{topic} has no channel: nsqd keeps everything that is announced, for ever"
        return warn("topic", seen, f'{_MADE_BY}; or, if nobody is to read it, set announce = "local" in [nsq]')
    seen = f"{topic} is read by {', '.join(sorted(channels))}"
    if all(name.endswith("#ephemeral") for name in channels):
        seen += "; once these readers are gone, nsqd keeps everything"
    return ok("topic", seen)


# -- HTTP


def _get(peer: Peer, path: str, pace: Pace) -> _Page:
    """Return a page. Raises Stopped when what answers does not speak HTTP, or not in time."""
    link = http.client.HTTPConnection(peer.host, peer.port, timeout=pace.answer_s)
    try:
        return within(pace.answer_s, lambda: _read(link, path), link.close)
    except TimeoutError as error:
        said = f"does not answer a request for {path} (no answer within {pace.answer_s:.0f} s)"
        raise Stopped(_wrong(peer, said)) from error
    except (OSError, http.client.HTTPException, SourceUnavailable) as error:
        raise Stopped(_wrong(peer, f"does not answer a request for {path} ({error})")) from error
    finally:
        link.close()


def _read(link: http.client.HTTPConnection, path: str) -> _Page:
    asked, started = clock.now(), time.monotonic()
    link.request("GET", path)
    answer = link.getresponse()
    body = answer.read(_LARGEST_BYTES)
    took_s = time.monotonic() - started
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    offset = clock.offset_of_date(answer.headers.get("Date", ""), asked, clock.now())
    return _Page(answer.status, content, offset, took_s)


def _wrong(peer: Peer, seen: str) -> Check:
    found = identify(peer.host, peer.port)
    told = f"{peer.where} {printable(seen)}"
    match found.kind:
        case Kind.NSQD | Kind.NSQD_HTTP | Kind.LOOKUPD:
            todo = f"say nsqlookupd's HTTP address (port 4161) in {peer.setting}"
            return fail("protocol", f"{peer.where} is {found}, not nsqlookupd's HTTP port", todo)
        case Kind.CLOSES | Kind.SILENT | Kind.LOOKUPD_HTTP:
            todo = f"if this is a proxy, see whether the nsqlookupd behind it is up; else check {peer.setting}"
            return fail("protocol", told, todo)
        case _:
            todo = f"check the port in {peer.setting}: nsqlookupd's HTTP port is 4161 by default"
            return fail("protocol", f"{peer.where} is not nsqlookupd but {found}", todo)
