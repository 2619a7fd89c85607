"""The contract of ports.Delivery, on a real nsqd behind socat: nothing is lost, nothing given up, nothing slowed."""

from __future__ import annotations

import queue
import random
import re
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.consuming import DEADLINE_S, PATIENCE, QUICK, WORKERS, Taking, counts, settled, until
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.socat import start_socat
from worker_glue.nsq import Consumer, Where
from worker_glue.ports import Delivery

TIMEOUT_S = 1.5
HOLD_MAX_S = 3.5
MIB = 1 << 20

TOPICS = [f"tasks-{number}" for number in range(40)]
_topics = iter(TOPICS)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NsqdServer, Where]]:
    """An nsqd that takes messages back soon."""
    with start_nsqd(tmp_path_factory.mktemp("quick"), options=QUICK) as nsqd, start_socat(nsqd.tcp_port) as port:
        for name in TOPICS:
            nsqd.make_channel(name, WORKERS)
        nsqd.restart()
        yield nsqd, Where([("127.0.0.1", port)])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NsqdServer, Where]]:
    """An nsqd with its default times: what it takes back, it takes back long after the tests."""
    with start_nsqd(tmp_path_factory.mktemp("usual")) as nsqd, start_socat(nsqd.tcp_port) as port:
        yield nsqd, Where([("127.0.0.1", port)])


@pytest.fixture
def topic(quick: tuple[NsqdServer, Where], usual: tuple[NsqdServer, Where]) -> str:
    name = next(_topics)
    usual[0].make_channel(name, WORKERS)
    return name


# --- time


def test_a_message_that_is_touched_stays_here(quick: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = quick
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as consumer:
        delivery = consumer.next()
        assert (delivery.body, delivery.attempts) == (b"task", 1)
        assert re.fullmatch("[0-9a-f]{16}", delivery.id)
        while delivery.held_s < 1.5 * TIMEOUT_S:
            time.sleep(TIMEOUT_S / 3)
            delivery.touch()
        assert not delivery.lost
        assert consumer.in_hand == 1
        delivery.finish()
        assert consumer.in_hand == 0
        until(lambda: settled(nsqd, topic))
        assert consumer.nothing_within(0.3)
    assert counts(nsqd, topic)["timeout_count"] == 0


def test_a_message_that_is_not_touched_comes_again(quick: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = quick
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as consumer:
        first = consumer.next()
        second = consumer.next()
        assert first.lost
        assert not second.lost
        assert (second.id, second.body, second.attempts) == (first.id, b"task", 2)
        assert consumer.in_hand == 1
        first.touch()
        first.requeue(0)
        first.finish()
        time.sleep(0.2)
        assert counts(nsqd, topic)["in_flight_count"] == 1, "the old delivery has no say any more"
        second.finish()
        until(lambda: settled(nsqd, topic))


def test_a_delivery_is_lost_once_its_time_is_up_also_if_another_gets_it(
    quick: tuple[NsqdServer, Where], topic: str
) -> None:
    nsqd, where = quick
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as one:
        first = one.next()
        one.rest()
        with Taking(where, topic) as other:
            second = other.next()
            assert second.attempts == 2
            until(lambda: first.lost)
            first.touch()
            first.finish()
            time.sleep(0.3)
            assert counts(nsqd, topic)["in_flight_count"] == 1
            assert one.said == [], "an error of one message ends no connection"
            second.finish()
            until(lambda: settled(nsqd, topic))


def test_nsqd_takes_it_back_at_its_limit_whatever_is_touched(quick: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = quick
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as consumer:
        first = consumer.next()
        assert first.hold_max_s == HOLD_MAX_S
        while not first.lost:
            first.touch()
            time.sleep(0.2)
        assert first.held_s >= HOLD_MAX_S - 0.5
        second = consumer.next()
        assert second.attempts == 2
        second.finish()
        until(lambda: settled(nsqd, topic))


def test_times_are_as_nsqd_answers(quick: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = quick
    with Taking(where, topic) as consumer:
        assert consumer.message_timeout_s == 60.0, "not known yet"
        until(lambda: consumer.connected)
        assert consumer.message_timeout_s == TIMEOUT_S
        (client,) = counts(nsqd, topic)["clients"]
        assert (client["client_id"], client["hostname"]) == ("tod-mac-1", "tod-mac-1")
    with Taking(where, topic, message_timeout_s=3.0) as consumer:
        assert consumer.message_timeout_s == 3.0
        until(lambda: consumer.connected)
        nsqd.publish(topic, b"task")
        delivery = consumer.next()
        time.sleep(2 * TIMEOUT_S - 0.5)
        assert not delivery.lost
        delivery.finish()
        until(lambda: settled(nsqd, topic))
    assert counts(nsqd, topic)["timeout_count"] == 0


# --- requeue


def test_what_is_requeued_comes_after_its_delay_and_slows_nothing(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.publish(topic, b"bad")
    with Taking(where, topic) as consumer:
        consumer.next().requeue(3.0)
        began = time.monotonic()
        nsqd.http(f"/mpub?topic={topic}", b"\n".join(b"%d" % n for n in range(500)))
        for _ in range(500):
            delivery = consumer.next()
            assert delivery.body != b"bad", "good ones do not wait for it"
            delivery.finish()
        again = consumer.next()
        assert time.monotonic() - began >= 2.9
        assert (again.body, again.attempts) == (b"bad", 2)
        again.finish()
        until(lambda: settled(nsqd, topic))


def test_nothing_is_ever_given_up(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as consumer:
        for attempt in range(1, 13):
            delivery = consumer.next()
            assert delivery.attempts == attempt
            delivery.requeue(0)
        consumer.next().finish()
        until(lambda: settled(nsqd, topic))
    assert counts(nsqd, topic)["requeue_count"] == 12


def test_the_longest_delay_is_cut_by_nsqd(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.publish(topic, b"1", b"2", b"3")
    with Taking(where, topic) as consumer:
        for delivery, delay_s in zip(consumer.take(3), (3_600.0, 1e9, -5.0), strict=True):
            delivery.requeue(delay_s)
        assert consumer.next().attempts == 2
        assert consumer.nothing_within(0.3)
        until(lambda: counts(nsqd, topic)["deferred_count"] == 2)
        assert consumer.said == []


def test_an_end_is_an_end(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as consumer:
        delivery = consumer.next()
        delivery.finish()
        assert not delivery.lost
        delivery.finish()
        delivery.touch()
        delivery.requeue(0)
        assert not delivery.lost
        until(lambda: settled(nsqd, topic))
        assert consumer.nothing_within(0.3)
    assert counts(nsqd, topic)["requeue_count"] == 0


# --- how many


def test_no_more_in_hand_than_may_be(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.publish(topic, *(b"%d" % n for n in range(10)))
    with Taking(where, topic, in_flight=3) as consumer:
        first, *others = consumer.take(3)
        assert consumer.nothing_within(0.3)
        assert consumer.in_hand == 3
        consumer.rest()
        first.finish()
        assert consumer.nothing_within(0.3), "it rests"
        others[0].touch()
        consumer.set_in_flight(5)
        assert consumer.nothing_within(0.3), "it rests still"
        consumer.go_on()
        others += consumer.take(3)
        assert consumer.nothing_within(0.3)
        consumer.set_in_flight(1)
        for delivery in others:
            delivery.finish()
        for _ in range(4):
            delivery = consumer.next()
            assert consumer.in_hand == 1
            delivery.finish()
        until(lambda: settled(nsqd, topic))


@pytest.mark.parametrize("size", [1, 1023, MIB - 1, MIB])
def test_bodies_of_any_size(size: int, usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    body = random.Random(size).randbytes(size)
    nsqd.publish(topic, body)
    with Taking(where, topic) as consumer:
        delivery = consumer.next()
        assert delivery.body == body
        delivery.finish()
        until(lambda: settled(nsqd, topic))


def test_many_threads_end_many_messages(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    bodies = [b"%d" % n for n in range(2_000)]
    nsqd.http(f"/mpub?topic={topic}", b"\n".join(bodies))
    done: list[bytes] = []
    with Taking(where, topic) as consumer:

        def work() -> None:
            while len(done) < len(bodies):
                if not consumer.arrived.empty():
                    delivery = consumer.next()
                    delivery.touch()
                    done.append(delivery.body)
                    delivery.finish()
                time.sleep(0)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(done) == len(bodies))
        until(lambda: settled(nsqd, topic))
        for thread in threads:
            thread.join(1)
    assert sorted(done) == sorted(bodies)


# --- long work, and the end


def test_work_that_takes_long_does_not_lose_the_connection(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.publish(topic, b"task")
    with Taking(where, topic) as consumer:
        delivery = consumer.next()
        (before,) = consumer.state
        time.sleep(1.2 * PATIENCE.silence_s)  # nsqd would have ended a connection that does not answer its heartbeats
        assert consumer.state == [before]
        assert before.connected
        assert not delivery.lost
        delivery.finish()
        until(lambda: settled(nsqd, topic))
    assert consumer.said == []


def test_what_is_in_hand_at_the_end_goes_back_at_once(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    nsqd.http(f"/mpub?topic={topic}", b"\n".join(b"%d" % n for n in range(200)))
    consumer = Taking(where, topic)
    taken = consumer.take(15)
    for delivery in taken[:5]:
        delivery.finish()
    consumer.close()
    consumer.close()
    assert all(delivery.lost for delivery in taken[5:])
    taken[5].finish()
    until(lambda: counts(nsqd, topic)["depth"] == 195)
    assert counts(nsqd, topic)["in_flight_count"] == 0
    assert consumer.in_hand == 0


def test_at_the_end_nothing_is_left_with_messages_streaming_in(usual: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = usual
    for turn in range(5):
        nsqd.http(f"/mpub?topic={topic}", b"\n".join(b"%d" % n for n in range(500)))
        consumer = Taking(where, topic, in_flight=200)
        for _ in range(20 * turn):
            consumer.next().finish()
        consumer.close()
        until(lambda: counts(nsqd, topic)["in_flight_count"] == 0, within_s=5)
    assert counts(nsqd, topic)["depth"] == 5 * 500 - 20 * (1 + 2 + 3 + 4)


def test_what_raises_while_taking_ends_nothing(quick: tuple[NsqdServer, Where], topic: str) -> None:
    nsqd, where = quick
    nsqd.publish(topic, b"task")
    arrived: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    said: list[str] = []

    def take(delivery: Delivery) -> None:
        if delivery.attempts == 1:
            raise ValueError("no")
        arrived.put(delivery)

    with Consumer(topic, WORKERS, where, take, in_flight=1, say=said.append):
        delivery = arrived.get(timeout=DEADLINE_S)
        assert delivery.body == b"task"
        delivery.finish()
        until(lambda: settled(nsqd, topic))
    assert said == [f"message {delivery.id} was not taken: ValueError('no')"]
