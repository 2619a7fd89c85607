"""Every nsqd as a scaler sees it: at the address that it broadcasts, on its HTTP port.

KEDA's asks nsqlookupd, and then each nsqd at its broadcast address for /stats; where that does not answer in the
cluster, the number of workers stays what it is. Source: KEDA's scaler "nsq", nsqlookupd's and nsqd's HTTP API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import quote

from syncd.config.settings import NsqSettings
from syncd.core.clocks import Apart
from syncd.core.dialling import HostPort, dialled, host_port
from syncd.core.paths import printable
from worker_glue.doctor.checks import Check, fail, ok, warn
from worker_glue.doctor.nsq import CHANNEL
from worker_glue.doctor.pages import Page, PageFailed, page

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""
ANSWER_S = 3.0
NODES, AT_ONCE = 16, 8
_PORTS = 1 << 16
_TODO = (
    "start nsqd with a -broadcast-address that means it in the cluster too, and let KEDA's operator and this pod reach "
    "its ports (network.yaml, firewall)"
)


class Node(NamedTuple):
    """One nsqd: the address that it broadcasts, and its ports."""

    host: str
    tcp_port: int
    http_port: int


def checks(nsq: NsqSettings, env: Mapping[str, str], clocks: list[Apart]) -> Iterator[Check]:
    """Say what each nsqlookupd tells, and in a cluster whether it answers there. clocks: gets those that were told."""
    found: dict[Node, None] = {}
    for lookupd in nsq.lookupd:
        found |= dict.fromkeys(_nodes(lookupd, clocks))
    in_cluster = bool(env.get(IN_CLUSTER))
    known = sorted(found)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="doctor scaler") as pool:
        yield from pool.map(lambda node: _seen(node, nsq, clocks, in_cluster=in_cluster), known[:NODES])
    if len(known) > NODES:
        yield ok("scaler", f"{len(known) - NODES} more nsqd, not looked at")


def nodes_of(producers: object) -> Iterator[Node]:
    """Yield the nsqds of nsqlookupd's answer; what is no address is left out."""
    for each in producers if isinstance(producers, list) else ():
        told = each if isinstance(each, dict) else {}
        host, tcp, http = (told.get(key) for key in ("broadcast_address", "tcp_port", "http_port"))
        if not isinstance(host, str) or not isinstance(tcp, int) or not isinstance(http, int):
            continue
        if 0 < len(host) <= 253 and 0 < tcp < _PORTS and 0 < http < _PORTS:
            yield Node(printable(host), tcp, http)


def waiting(stats: object, channel: str = CHANNEL) -> int | None:
    """Return how much waits in nsqd's /stats of one topic, as KEDA counts it; None where it has no such topic."""
    topics = stats.get("topics") if isinstance(stats, dict) else None
    for topic in topics if isinstance(topics, list) else ():
        told = topic if isinstance(topic, dict) else {}
        channels = [each for each in told.get("channels") or () if isinstance(each, dict)]
        depths = [each.get("depth") for each in channels if each.get("channel_name") == channel]
        depth = (depths or [told.get("depth")])[0]
        return depth if isinstance(depth, int) else None
    return None


def _nodes(lookupd: HostPort, clocks: list[Apart]) -> list[Node]:
    """Ask an nsqlookupd; that it does not answer is said elsewhere (nsq.py)."""
    try:
        told = page(lookupd, "/nodes", ANSWER_S)
    except PageFailed:
        return []
    _note(clocks, "nsqlookupd's", told)
    return list(nodes_of(told.content.get("producers") if isinstance(told.content, dict) else None))


def _seen(node: Node, nsq: NsqSettings, clocks: list[Apart], *, in_cluster: bool) -> Check:
    """Look at one nsqd where it says that it is, if that is where a scaler or a reader of ours goes."""
    said = (node.host, node.tcp_port)
    direct = dialled(said, nsq.address_map, proxied=bool(nsq.nsqd), allow_direct=nsq.allow_direct) == said
    where = f"nsqd broadcasts {host_port(said)}, HTTP {node.http_port}"
    if not in_cluster and not direct:
        return ok("scaler", f"{where}; not dialled from here. A scaler (KEDA) has to reach both in its cluster")
    try:
        told = page((node.host, node.http_port), f"/stats?format=json&topic={quote(nsq.task_topic, safe='')}", ANSWER_S)
    except PageFailed as error:
        return _unreached(f"{where}: HTTP does not answer from here ({error})", in_cluster=in_cluster)
    if told.status != 200 or not isinstance(told.content, dict) or "topics" not in told.content:
        return _unreached(f"{where}: what answers there is not nsqd (HTTP status {told.status})", in_cluster=in_cluster)
    _note(clocks, f"nsqd's ({node.host})", told)
    depth = waiting(told.content)
    count = f"{depth} wait on {nsq.task_topic}" if depth is not None else f"{nsq.task_topic} is not there yet"
    return ok("scaler", f"{where}: /stats answers from here, {count}")


def _unreached(seen: str, *, in_cluster: bool) -> Check:
    if in_cluster:
        return fail("scaler", f"{seen}; KEDA's scaler asks there, and without it no worker is started", _TODO)
    return warn("scaler", f"{seen}; a scaler (KEDA) would ask there", _TODO)


def _note(clocks: list[Apart], whose: str, told: Page) -> None:
    if told.offset_s is not None:
        clocks.append(Apart(whose, told.offset_s))
