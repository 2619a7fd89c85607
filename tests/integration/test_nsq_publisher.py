"""Announcements against an nsqd that is wrong in every way, and a real one behind a network that is."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import PublishFailed
from syncd.publish.nsq import NsqPublisher, Patience
from tests.support.fake_nsqd import FakeNsqd
from tests.support.faultproxy import Direction, Ending, FaultProxy
from tests.support.nsqd import NsqdServer, start_nsqd

PATIENCE = Patience(connect_s=1.2, reply_s=1.2, silence_s=1.2)
BOUND_S = 10.0
WRONG = [
    "error",
    "error-then-ok",
    "other-text",
    "message",
    "garbage",
    "huge-frame",
    "negative-frame",
    "short-frame",
    "unknown-frame",
    "truncated",
    "truncated-length",
    "close",
    "reset",
    "silence",
]


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server:
        yield server


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing below the command line logs: a connection's end is told by the error alone."""
    caplog.set_level(logging.WARNING)
    yield
    assert caplog.records == []


def fails(publisher: NsqPublisher, topic: str = "t", bodies: tuple[bytes, ...] = (b"1", b"2")) -> PublishFailed:
    """Publish, and return the failure, which must come in bounded time."""
    began = time.monotonic()
    with pytest.raises(PublishFailed) as failed:
        publisher.publish(topic, bodies)
    assert time.monotonic() - began < BOUND_S
    return failed.value


def named(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


@pytest.mark.parametrize("answer", WRONG)
def test_whatever_is_no_ok_fails_the_batch_and_ends_the_connection(answer: str) -> None:
    with FakeNsqd(answer) as server:
        publisher = NsqPublisher([server.address], PATIENCE)
        error = fails(publisher)
        assert named(server.address) in error.message
        assert server.accepted == []
        publisher.publish("t", [b"1", b"2"])
        assert server.accepted == [b"1", b"2"]
        assert server.connections == publisher.connections == 2
        publisher.close()


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_answer_to_identify_is_no_connection(answer: str) -> None:
    with FakeNsqd(identify=answer) as server:
        publisher = NsqPublisher([server.address], PATIENCE)
        assert named(server.address) in fails(publisher).message
        assert publisher.connections == 0
        assert server.received == []
        publisher.close()


def test_an_ok_that_follows_an_error_is_credited_to_nothing() -> None:
    with FakeNsqd("ok", "error-then-ok", "error-then-ok", "ok") as server:
        publisher = NsqPublisher([server.address], PATIENCE)
        publisher.publish("t", [b"1"])
        for _ in range(2):
            assert "E_MPUB_FAILED" in fails(publisher, bodies=(b"2",)).message
        publisher.publish("t", [b"2"])
        assert server.accepted == [b"1", b"2"]
        publisher.close()


def test_an_ok_too_many_ends_the_connection() -> None:
    with FakeNsqd("two-oks", "ok") as server:
        publisher = NsqPublisher([server.address], PATIENCE)
        publisher.publish("t", [b"1"])
        publisher.publish("t", [b"2"])
        assert server.accepted == [b"1", b"2"]
        assert publisher.connections == 2
        publisher.close()


def test_what_a_server_says_is_shown_harmlessly() -> None:
    with FakeNsqd("error") as server:
        publisher = NsqPublisher([server.address], PATIENCE)
        message = fails(publisher).message
        assert "E_BAD_TOPIC" in message
        assert message.isprintable()
        publisher.close()


def test_refused_and_unknown_names_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    publisher = NsqPublisher([("127.0.0.1", port), ("localhost", port), ("no-such-host.invalid", 4150)], PATIENCE)
    message = fails(publisher).message
    assert f"127.0.0.1:{port}: connection refused" in message
    assert f"localhost:{port}: connection refused" in message
    assert "no-such-host.invalid:4150: its name" in message
    publisher.close()


def test_several_addresses_are_tried_in_order_and_one_that_fails_is_passed_over(nsqd: NsqdServer) -> None:
    nsqd.make_channel("several", "c")
    with FakeNsqd("ok", "error", "error") as first:
        publisher = NsqPublisher([first.address, nsqd.address], PATIENCE)
        publisher.publish("several", [b"1"])
        assert first.accepted == [b"1"]
        fails(publisher, "several", (b"2",))
        publisher.publish("several", [b"2"])
        assert nsqd.take("several", "c", 1) == [b"2"]
        publisher.close()


def test_a_proxy_that_takes_connections_for_a_server_that_is_gone(nsqd: NsqdServer) -> None:
    with FaultProxy(("127.0.0.1", 1)) as proxy:
        publisher = NsqPublisher([("127.0.0.1", proxy.port)], PATIENCE)
        assert f"127.0.0.1:{proxy.port}" in fails(publisher).message
        publisher.close()


@pytest.mark.parametrize("direction", list(Direction))
def test_a_black_hole_in_either_direction(nsqd: NsqdServer, direction: Direction) -> None:
    topic = f"hole-{direction.value}"
    nsqd.make_channel(topic, "c")
    with FaultProxy(nsqd.address) as proxy:
        publisher = NsqPublisher([("127.0.0.1", proxy.port)], PATIENCE)
        publisher.publish(topic, [b"1"])
        proxy.stall(direction)
        assert "no answer within" in fails(publisher, topic, (b"2",)).message
        assert "no answer within" in fails(publisher, topic, (b"2",)).message
        proxy.resume()
        publisher.publish(topic, [b"2"])
        assert publisher.connections == 2
        arrived = nsqd.take_all(topic, "c")
        assert sorted(set(arrived)) == [b"1", b"2"]
        publisher.close()


@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.RESET, Ending.SWALLOW])
@pytest.mark.parametrize("direction", list(Direction))
def test_cut_at_any_byte_nothing_is_lost(nsqd: NsqdServer, direction: Direction, ending: Ending) -> None:
    """IDENTIFY, the batch or its OK is torn somewhere; sent again until it is taken, all of it is there, in order."""
    topic = f"cut-{direction.value}-{ending.value}"
    nsqd.make_channel(topic, "c")
    batch = [b"%03d" % n for n in range(50)]
    spots = (3, 40, 250, 400) if direction is Direction.TO_SERVER else (3, 9, 230, 330)
    with FaultProxy(nsqd.address) as proxy:
        for spot in spots if ending is not Ending.SWALLOW else spots[1::2]:
            publisher = NsqPublisher([("127.0.0.1", proxy.port)], PATIENCE)
            proxy.cut_after(spot, direction, ending)
            for _ in range(3):
                try:
                    publisher.publish(topic, batch)
                    break
                except PublishFailed:
                    continue
            proxy.clear_cuts()
            publisher.close()
            arrived = nsqd.take_all(topic, "c", quiet_s=0.15)
            assert arrived[-50:] == batch
            assert len(arrived) % 50 == 0


def test_an_idle_connection_without_heartbeats_is_replaced(nsqd: NsqdServer) -> None:
    with FaultProxy(nsqd.address) as proxy:
        publisher = NsqPublisher([("127.0.0.1", proxy.port)], PATIENCE)
        publisher.publish("idle", [])
        proxy.stall()
        time.sleep(PATIENCE.silence_s + 0.1)
        proxy.resume()
        publisher.publish("idle", [])
        assert publisher.connections == 2
        publisher.close()


def test_the_end_of_an_idle_connection_is_seen_at_once(nsqd: NsqdServer) -> None:
    with FaultProxy(nsqd.address) as proxy:
        publisher = NsqPublisher([("127.0.0.1", proxy.port)], PATIENCE)
        publisher.publish("idle", [])
        proxy.reset_all()
        deadline = time.monotonic() + BOUND_S
        while publisher.connections == 1 and time.monotonic() < deadline:
            publisher.publish("idle", [])
            time.sleep(0.01)
        assert publisher.connections == 2
        publisher.close()


def test_close_ends_a_wait_for_a_connection() -> None:
    with FakeNsqd(identify="silence") as server:
        publisher = NsqPublisher([server.address])
        threading.Timer(0.2, publisher.close).start()
        began = time.monotonic()
        assert "closed" in fails(publisher).message
        assert time.monotonic() - began < 3.0


def test_nothing_is_left_of_a_closed_publisher(nsqd: NsqdServer) -> None:
    before = set(threading.enumerate())
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        publisher = NsqPublisher([nsqd.address], PATIENCE)
        publisher.publish("left", [b"1"])
        publisher.close()
    assert set(threading.enumerate()) <= before
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
