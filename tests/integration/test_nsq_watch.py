"""Readers of the announcements: worker_glue.watch() on real nsqd and nsqlookupd."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import worker_glue
from syncd.client.lookupd import LookupFailed, Topic, look_up, nodes
from syncd.core.errors import ConfigError
from tests.support.nsqd import LookupdServer, NsqdServer, start_lookupd, start_nsqd
from tests.support.socat import start_socat
from worker_glue.novelty import Novelty
from worker_glue.nsq import Watch, Where, addresses_in_environment

DEADLINE_S = 20.0
ELSEWHERE = "127.0.0.9"
"""Nothing listens there; nsqd says it is its address."""

_numbers = itertools.count()


@pytest.fixture(scope="module")
def lookupd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LookupdServer]:
    with start_lookupd(tmp_path_factory.mktemp("lookupd")) as server:
        yield server


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory, lookupd: LookupdServer) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd"), lookupd=lookupd, broadcast=ELSEWHERE) as server:
        yield server


@pytest.fixture
def topic(nsqd: NsqdServer) -> str:
    name = f"ready-{next(_numbers)}"
    nsqd.make_channel(name, "mine")
    return name


def event(path: str = "a", generation: int = 1, **more: Any) -> dict[str, Any]:
    sha256 = f"{generation:064x}"
    known = {"v": 1, "event": "ready", "host": "h", "mirror": "M", "path": path, "server_path": f"M/{path}"}
    ident = f"h|M|{path}|{sha256}|{generation}"
    return {**known, "id": ident, "sha256": sha256, "generation": generation, "size": 1, **more}


def body(path: str = "a", generation: int = 1, **more: Any) -> bytes:
    return json.dumps(event(path, generation, **more)).encode()


def watching(topic: str, where: Where, said: list[str] | None = None, channel: str = "mine") -> Watch:
    return Watch(channel, topic, where, [].append if said is None else said.append)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def take(watch: Watch, count: int) -> list[tuple[str, int]]:
    found = []
    for _ in range(count):
        each = watch.next_within(DEADLINE_S)
        assert each is not None
        found.append((each["path"], each["generation"]))
    return found


# --- what is new


def test_each_announcement_once_and_never_an_older_state() -> None:
    novelty = Novelty()
    told = [("a", 2), ("a", 2), ("a", 1), ("b", 1), ("a", 3), ("a", 2), ("b", 1), ("a", 3)]
    assert [novelty.is_new(event(*each)) for each in told] == [True, False, False, True, True, False, False, False]
    assert novelty.is_new(event("a", 1, host="other"))
    assert novelty.is_new(event("a", 1, mirror="other"))


def test_what_is_remembered_is_bounded() -> None:
    novelty = Novelty(remembered=3)
    assert all(novelty.is_new(event(f"{n}")) for n in range(10))
    assert len(novelty._newest) == 3
    assert not novelty.is_new(event("9"))
    assert novelty.is_new(event("0")), "long forgotten"


# --- reading


def test_events_come_in_order_without_duplicates_or_rubbish(nsqd: NsqdServer, topic: str) -> None:
    rubbish = [
        b"",
        b"\xff",
        b"[]",
        b'"x"',
        b"{}",
        b"[" * 100_000,
        b'{"v": 2}',
        json.dumps(event() | {"path": 1}).encode(),
    ]
    wanted = [body("a"), body("a"), body("b", 5), *rubbish[1:], body("b", 4), body("a", 2, more="kept")]
    nsqd.publish(topic, *wanted)
    with watching(topic, Where([nsqd.address])) as watch:
        assert take(watch, 3) == [("a", 1), ("b", 5), ("a", 2)]
        assert watch.next_within(0.3) is None
        assert watch.ignored == len(rubbish) - 1
    until(lambda: nsqd.channels(topic)["mine"]["depth"] == 0)
    assert nsqd.channels(topic)["mine"]["in_flight_count"] == 0


def test_an_event_counts_as_read_when_the_next_is_asked_for(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, body("a"), body("b"))
    watch = watching(topic, Where([nsqd.address]))
    assert take(watch, 2) == [("a", 1), ("b", 1)]
    watch.stop()
    until(lambda: nsqd.channels(topic)["mine"]["depth"] == 1)
    with watching(topic, Where([nsqd.address])) as again:
        assert take(again, 1) == [("b", 1)]
    until(lambda: nsqd.channels(topic)["mine"]["depth"] == 0)
    assert nsqd.channels(topic)["mine"]["in_flight_count"] == 0


def test_iterated_and_stopped_by_another_thread(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, body("a"))
    seen = []
    with worker_glue.watch("mine", topic=topic, nsqd=[nsqd.address]) as events:
        threading.Timer(0.5, events.stop).start()
        seen += [each["path"] for each in events]
    assert seen == ["a"]
    events.stop()
    assert events.next_within(1.0) is None


def test_it_reads_on_after_nsqd_was_restarted(nsqd: NsqdServer, topic: str) -> None:
    said: list[str] = []
    with watching(topic, Where([nsqd.address]), said) as watch:
        nsqd.publish(topic, body("a"))
        assert take(watch, 1) == [("a", 1)]
        nsqd.restart()
        nsqd.publish(topic, body("b"))
        assert take(watch, 1) == [("b", 1)]
    assert len(said) == len(set(said)) >= 1
    assert f"127.0.0.1:{nsqd.tcp_port}" in said[0]


def test_many_events_with_a_slow_reader_stay_bounded(nsqd: NsqdServer, topic: str) -> None:
    for n in range(0, 1_500, 500):
        messages = b"\n".join(body(f"{m}") for m in range(n, n + 500))
        nsqd.http(f"/mpub?topic={topic}", messages)
    with watching(topic, Where([nsqd.address])) as watch:
        assert take(watch, 1) == [("0", 1)]
        until(lambda: nsqd.channels(topic)["mine"]["in_flight_count"] == 100)
        assert watch._arrived.qsize() <= 100
        assert len(take(watch, 1_499)) == 1_499


def test_names_that_nsq_would_refuse_are_told_at_once(nsqd: NsqdServer) -> None:
    with pytest.raises(ConfigError):
        worker_glue.watch("no good", nsqd=[nsqd.address])
    with pytest.raises(ConfigError):
        worker_glue.watch("mine", nsqd=[])


# --- by nsqlookupd


def test_what_nsqlookupd_tells_is_never_dialled_past_the_proxy(
    nsqd: NsqdServer, lookupd: LookupdServer, topic: str
) -> None:
    said: list[str] = []
    nsqd.publish(topic, body("a"))
    with (
        start_socat(nsqd.tcp_port) as port,
        watching(topic, Where([("127.0.0.1", port)], [("127.0.0.1", lookupd.http_port)]), said) as watch,
    ):
        assert take(watch, 1) == [("a", 1)]
        until(lambda: said)
        time.sleep(0.2)
        assert [each.address for each in watch.state] == [f"127.0.0.1:{port}"]
    (line,) = said
    assert f'address_map = {{ "{ELSEWHERE}:{nsqd.tcp_port}" = "127.0.0.1:{port}" }}' in line


@pytest.mark.parametrize("exact", [True, False])
def test_what_the_map_maps_is_dialled_there(exact: bool, nsqd: NsqdServer, lookupd: LookupdServer, topic: str) -> None:
    nsqd.publish(topic, body("a"))
    key = f"{ELSEWHERE}:{nsqd.tcp_port}" if exact else f"*:{nsqd.tcp_port}"
    said: list[str] = []
    with start_socat(nsqd.tcp_port) as port:
        where = Where((), [("127.0.0.1", lookupd.http_port)], {key: ("127.0.0.1", port)})
        with watching(topic, where, said) as watch:
            assert take(watch, 1) == [("a", 1)]
            assert [each.address for each in watch.state] == [f"127.0.0.1:{port}"]
    assert said == []


def test_allow_direct_dials_what_it_is_told(nsqd: NsqdServer, lookupd: LookupdServer, topic: str) -> None:
    said: list[str] = []
    where = Where([nsqd.address], [("127.0.0.1", lookupd.http_port)], allow_direct=True)
    with watching(topic, where, said) as watch:
        until(lambda: f"{ELSEWHERE}:{nsqd.tcp_port}" in [each.address for each in watch.state])
        until(lambda: said)
    assert said[0].startswith(f"nsqd at {ELSEWHERE}:{nsqd.tcp_port}: connection refused")


def test_a_topic_that_comes_later_is_found(nsqd: NsqdServer, lookupd: LookupdServer) -> None:
    topic = f"later-{next(_numbers)}"
    where = Where((), [("127.0.0.1", lookupd.http_port)], {f"*:{nsqd.tcp_port}": nsqd.address}, lookup_every_s=0.1)
    with watching(topic, where) as watch:
        assert watch.next_within(0.3) is None
        nsqd.make_channel(topic, "mine")
        nsqd.publish(topic, body("a"))
        assert take(watch, 1) == [("a", 1)]


def test_nsqlookupd_away_is_said_once_and_waited_for(nsqd: NsqdServer, topic: str) -> None:
    said: list[str] = []
    nsqd.publish(topic, body("a"))
    with watching(topic, Where([nsqd.address], [("127.0.0.1", 1)], lookup_every_s=0.05), said) as watch:
        assert take(watch, 1) == [("a", 1)]
        time.sleep(0.3)
    assert said == ["nsqlookupd at 127.0.0.1:1 cannot be asked: connection refused"]


def test_channels_and_addresses_of_a_topic(nsqd: NsqdServer, lookupd: LookupdServer, topic: str) -> None:
    address = ("127.0.0.1", lookupd.http_port)
    until(lambda: look_up(address, topic).channels)
    assert look_up(address, topic) == Topic(True, ("mine",), ((ELSEWHERE, nsqd.tcp_port),))
    assert look_up(address, "never-heard-of") == Topic(False)
    assert nodes(address) == ((ELSEWHERE, nsqd.tcp_port),)
    nsqd.http(f"/topic/create?topic={topic}-bare", b"")
    until(lambda: look_up(address, f"{topic}-bare").known)
    assert look_up(address, f"{topic}-bare").channels == ()


def test_what_is_no_nsqlookupd_is_an_error_in_bounds(nsqd: NsqdServer) -> None:
    with pytest.raises(LookupFailed, match="HTTP status"):
        look_up(("127.0.0.1", nsqd.http_port), "x")
    with pytest.raises(LookupFailed, match=r"no HTTP|within|closed|reset"):
        look_up(("127.0.0.1", nsqd.tcp_port), "x", timeout_s=1.0)
    with pytest.raises(LookupFailed, match="refused"):
        look_up(("127.0.0.1", 1), "x")


# --- without anything


def test_addresses_from_the_environment_of_the_deployment() -> None:
    env = {"NSQD_ADDRESS": "nsqd-proxy:4150", "NSQLOOKUPD_ADDRESSES": "http://nsqlookupd-proxy:4161, other"}
    nsqd, lookupd = addresses_in_environment(env)
    assert list(nsqd) == [("nsqd-proxy", 4150)]
    assert list(lookupd) == [("nsqlookupd-proxy", 4161), ("other", 4161)]
    for wrong in ({}, {"NSQD_ADDRESS": " "}, {"NSQD_ADDRESS": "a b"}):
        with pytest.raises(ConfigError):
            addresses_in_environment(wrong)


def test_importing_worker_glue_loads_nothing_heavy() -> None:
    program = "import sys, worker_glue; print(sorted(sys.modules.keys() & {'nsq', 'tornado', 'pymongo', 'asyncio'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_nothing_is_left_of_a_stopped_watch(nsqd: NsqdServer, topic: str) -> None:
    before = set(threading.enumerate())
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with watching(topic, Where([nsqd.address])) as watch:
            nsqd.publish(topic, body(f"{next(_numbers)}"))
            take(watch, 1)
    assert set(threading.enumerate()) <= before
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
