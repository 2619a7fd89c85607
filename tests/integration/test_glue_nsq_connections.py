"""Where worker_glue's consumer connects, and how it comes back: address_map, restarts, cuts, black holes."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import ConfigError
from tests.support.consuming import PATIENCE, WORKERS, Taking, counts, settled, until
from tests.support.fake_nsqd import FakeNsqd
from tests.support.nsqd import LookupdServer, NsqdServer, start_lookupd, start_nsqd
from tests.support.ports import free_port
from tests.support.socat import start_socat
from worker_glue.nsq import Consumer, Control, Where, drain
from worker_glue.nsq.control import channel_of

ELSEWHERE = "127.0.0.9"
"""Nothing listens there; nsqd says it is its address."""

_numbers = itertools.count()


@pytest.fixture(scope="module")
def lookupd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LookupdServer]:
    with start_lookupd(tmp_path_factory.mktemp("lookupd")) as server:
        yield server


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, lookupd: LookupdServer) -> Iterator[tuple[NsqdServer, NsqdServer]]:
    """Two nsqds behind one nsqlookupd, both of which say that they are elsewhere."""
    base = tmp_path_factory.mktemp("nsqd")
    with (
        start_nsqd(base, lookupd=lookupd, broadcast=ELSEWHERE) as one,
        start_nsqd(base, lookupd=lookupd, broadcast=ELSEWHERE) as other,
    ):
        yield one, other


@pytest.fixture
def nsqd(two: tuple[NsqdServer, NsqdServer]) -> NsqdServer:
    return two[0]


@pytest.fixture
def topic(two: tuple[NsqdServer, NsqdServer]) -> str:
    name = f"tasks-{next(_numbers)}"
    for nsqd in two:
        nsqd.make_channel(name, WORKERS)
    return name


# --- by nsqlookupd


def test_two_nsqds_behind_nsqlookupd_are_read_where_the_map_says(
    two: tuple[NsqdServer, NsqdServer], lookupd: LookupdServer, topic: str
) -> None:
    for number, nsqd in enumerate(two):
        nsqd.publish(topic, *(b"%d-%d" % (number, n) for n in range(30)))
    with start_socat(two[0].tcp_port) as first, start_socat(two[1].tcp_port) as second:
        mapped = {
            f"{ELSEWHERE}:{two[0].tcp_port}": ("127.0.0.1", first),
            f"*:{two[1].tcp_port}": ("127.0.0.1", second),
        }
        where = Where([("127.0.0.1", first)], [("127.0.0.1", lookupd.http_port)], mapped)
        with Taking(where, topic, in_flight=9) as consumer:
            until(lambda: consumer.connected == sorted([f"127.0.0.1:{first}", f"127.0.0.1:{second}"]))
            until(lambda: consumer.in_hand >= 9)
            until(lambda: sorted(counts(nsqd, topic)["clients"][0]["ready_count"] for nsqd in two) == [4, 5])
            bodies = set()
            for _ in range(60):
                delivery = consumer.next()
                bodies.add(delivery.body)
                delivery.finish()
            assert len(bodies) == 60
            until(lambda: settled(two[0], topic) and settled(two[1], topic))
            consumer.set_in_flight(1)
            until(lambda: [counts(nsqd, topic)["clients"][0]["ready_count"] for nsqd in two] == [1, 1])
        assert consumer.said == []


def test_what_is_not_mapped_is_never_dialled_and_the_line_to_add_is_told(
    two: tuple[NsqdServer, NsqdServer], lookupd: LookupdServer, topic: str
) -> None:
    two[0].publish(topic, b"task")
    with start_socat(two[0].tcp_port) as port:
        where = Where([("127.0.0.1", port)], [("127.0.0.1", lookupd.http_port)], lookup_every_s=0.1)
        with Taking(where, topic) as consumer:
            delivery = consumer.next()
            delivery.finish()
            until(lambda: len(consumer.said) == 2)
            time.sleep(0.3)
            assert [each.address for each in consumer.state] == [f"127.0.0.1:{port}"]
            until(lambda: settled(two[0], topic))
    for nsqd in two:
        line = f'address_map = {{ "{ELSEWHERE}:{nsqd.tcp_port}" = "127.0.0.1:{port}" }}'
        assert [line in said for said in consumer.said].count(True) == 1


def test_a_hanging_nsqlookupd_delays_nothing(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, b"task")
    with FakeNsqd() as nothing, Taking(Where([nsqd.address], [nothing.address]), topic) as consumer:
        consumer.next(within_s=2.5).finish()
        until(lambda: settled(nsqd, topic))


# --- ends, and what comes after


def test_nsqd_restarted(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, b"task")
    with Taking(Where([nsqd.address]), topic) as consumer:
        first = consumer.next()
        nsqd.stop()
        until(lambda: first.lost)
        assert consumer.in_hand == 0
        first.touch()
        first.finish()
        until(lambda: "connection refused" in consumer.state[0].trouble)
        assert not consumer.state[0].connected
        nsqd.start()
        again = consumer.next()
        assert again.body == b"task"
        again.finish()
        until(lambda: settled(nsqd, topic))
        until(lambda: consumer.said[-1] == f"nsqd at 127.0.0.1:{nsqd.tcp_port}: connected again")
        assert consumer.state[0].trouble == ""


def test_the_proxy_cut_and_restored(nsqd: NsqdServer, topic: str) -> None:
    port = free_port()
    nsqd.publish(topic, b"1", b"2")
    with Taking(Where([("127.0.0.1", port)]), topic) as consumer:
        for _ in range(3):
            with start_socat(nsqd.tcp_port, port):
                until(lambda: consumer.connected)
                time.sleep(0.1)
            until(lambda: not consumer.connected)
        with start_socat(nsqd.tcp_port, port):
            until(lambda: consumer.connected)
            nsqd.publish(topic, b"3")
            while (delivery := consumer.next()).body != b"3":
                assert delivery.lost, "of a connection before"
            delivery.finish()


def test_a_black_hole_is_noticed_by_its_silence(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, b"task")
    with Taking(Where([nsqd.address]), topic) as consumer:
        delivery = consumer.next()
        nsqd.suspend()
        began = time.monotonic()
        try:
            until(lambda: delivery.lost)
            assert time.monotonic() - began < 3 * PATIENCE.silence_s
            delivery.finish()
            until(lambda: consumer.said)
        finally:
            nsqd.resume()
        assert "not even a heartbeat" in consumer.said[0]
        until(lambda: consumer.connected)
        nsqd.publish(topic, b"more")
        while (more := consumer.next()).body != b"more":
            more.finish()
        more.finish()


def test_an_error_of_the_connection_ends_it_and_it_is_made_anew(nsqd: NsqdServer, topic: str) -> None:
    with Taking(Where([nsqd.address]), topic) as consumer:
        until(lambda: consumer.connected)
        (connection,) = consumer._readers.connections
        consumer._readers.tell(connection, b"NONSENSE\n")
        until(lambda: consumer.said)
        assert "E_INVALID" in consumer.said[0]
        nsqd.publish(topic, b"task")
        consumer.next().finish()
        until(lambda: settled(nsqd, topic))


@pytest.mark.parametrize("answer", ["garbage", "huge-frame", "negative-frame", "short-frame", "unknown-frame", "close",
                                    "reset", "silence", "error", "message"])  # fmt: skip
def test_what_is_no_nsqd_is_tried_again_in_bounds(answer: str) -> None:
    patience = PATIENCE._replace(connect_s=0.3)
    with FakeNsqd(identify=answer) as wrong, Taking(Where([wrong.address]), "tasks", patience=patience) as consumer:
        until(lambda: wrong.connections >= 2)
        assert consumer.connected == []
        assert consumer.said
        assert consumer.arrived.empty()


def test_closing_while_nothing_answers_ends_soon(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, b"task")
    consumer = Taking(Where([nsqd.address, ("127.0.0.1", 1)]), topic)
    consumer.next()
    nsqd.suspend()
    try:
        began = time.monotonic()
        consumer.close(timeout_s=0.5)
        assert time.monotonic() - began < 5
    finally:
        nsqd.resume()
    until(lambda: counts(nsqd, topic)["depth"] == 1)


def test_nothing_is_left_of_a_closed_consumer(nsqd: NsqdServer, topic: str) -> None:
    before = set(threading.enumerate())
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Taking(Where([nsqd.address]), topic) as consumer:
            nsqd.publish(topic, b"task")
            consumer.next().finish()
    assert set(threading.enumerate()) <= before
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


def test_names_and_places_that_cannot_be_are_told_at_once(nsqd: NsqdServer) -> None:
    with pytest.raises(ConfigError):
        Consumer("no good", "c", Where([nsqd.address]), print, in_flight=1)
    with pytest.raises(ConfigError):
        Consumer("t", "c", Where([]), print, in_flight=1)


# --- commands


def command(job_id: Any = "j", action: Any = "pause") -> bytes:
    return json.dumps({"job_id": job_id, "action": action, "timestamp": "2025-01-01T00:00:00"}).encode()


def test_every_worker_gets_every_command_and_junk_hinders_nothing(nsqd: NsqdServer) -> None:
    topic = f"control-{next(_numbers)}"
    heard: dict[str, list[tuple[str, str]]] = {"mac 1/ü": [], "mac 1/ü ": []}
    said: list[str] = []

    def told(worker: str, job_id: str, action: str) -> None:
        heard[worker].append((job_id, action))
        if job_id == "bug":
            raise ValueError("no")

    controls = [
        Control(
            Where([nsqd.address]),
            worker,
            lambda job_id, action, worker=worker: told(worker, job_id, action),
            topic=topic,
            say=said.append,
            patience=PATIENCE,
        )
        for worker in heard
    ]
    until(lambda: len(nsqd.channels(topic)) == 2 if all(c.state[0].connected for c in controls) else False)
    junk = [b"x", b"[]", b"{}", b"\xff", b"[" * 100_000, command(7), command(""), command(action="stop"),
            command(action=["pause"]), command("y" * 100_000)]  # fmt: skip
    nsqd.publish(topic, *junk, command("a"), command("bug", "resume"), command("b", "cancel"))
    wanted = [("a", "pause"), ("bug", "resume"), ("b", "cancel")]
    until(lambda: all(len(each) == 3 for each in heard.values()))
    assert all(each == wanted for each in heard.values())
    assert said == ["resume of job bug: ValueError('no')"] * 2
    assert all(settled(nsqd, topic, channel) for channel in [each.channel for each in controls])
    for control in controls:
        control.close()
        control.close()
    until(lambda: nsqd.channels(topic) == {})


def test_a_command_that_takes_long_does_not_lose_the_connection(nsqd: NsqdServer) -> None:
    topic = f"control-{next(_numbers)}"
    go_on = threading.Event()
    heard: list[str] = []

    def told(job_id: str, _action: str) -> None:
        go_on.wait(20)
        heard.append(job_id)

    said: list[str] = []
    with Control(Where([nsqd.address]), "w", told, topic=topic, say=said.append, patience=PATIENCE) as control:
        until(lambda: control.state and control.state[0].connected)
        nsqd.publish(topic, command("a"), command("b"))
        time.sleep(1.2 * PATIENCE.silence_s)
        go_on.set()
        until(lambda: heard == ["a", "b"])
    assert said == []


def test_names_of_channels() -> None:
    names = [channel_of(each) for each in ("tod-mac-1", "tod-mac-1", "", "x" * 300, "a b#c/d:é", "${HOSTNAME}")]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 64
        assert name.endswith("#ephemeral")
        assert set(name.removesuffix("#ephemeral")) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
        )


# --- what a channel holds


def test_a_channel_is_listed_and_keeps_everything(two: tuple[NsqdServer, NsqdServer], topic: str) -> None:
    for number, nsqd in enumerate(two):
        nsqd.http(f"/mpub?topic={topic}", b"\n".join(b"%d-%d" % (number, n) for n in range(150 + 250 * number)))
    where = Where([each.address for each in two])
    found = []
    for letter in drain(where, topic, WORKERS, idle_s=4.0, patience=PATIENCE):
        letter.requeue(0)
        found.append(letter.body)
    assert len(found) == len(set(found)) == 550
    until(lambda: [counts(nsqd, topic)["depth"] for nsqd in two] == [150, 400])
    assert len(list(drain(where, topic, WORKERS, limit=7, patience=PATIENCE))) == 7


def test_what_is_finished_leaves_the_channel(nsqd: NsqdServer, topic: str) -> None:
    nsqd.publish(topic, *(b"%d" % n for n in range(20)))
    where = Where([nsqd.address])
    for letter in drain(where, topic, WORKERS, idle_s=0.5, patience=PATIENCE):
        if int(letter.body) % 2:
            letter.finish()
    left = {int(letter.body) for letter in drain(where, topic, WORKERS, idle_s=0.5, patience=PATIENCE)}
    assert left == set(range(0, 20, 2))
    with pytest.raises(ValueError, match="no"):
        for letter in drain(where, topic, WORKERS, idle_s=0.5, patience=PATIENCE):
            letter.finish()
            raise ValueError("no")
    until(lambda: counts(nsqd, topic)["depth"] == 9)
