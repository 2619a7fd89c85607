"""A worker with several nsqds and nsqlookupds: whatever one of them does, work goes on with the others."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import PublishFailed
from tests.support.consuming import PATIENCE, WORKERS, Taking, counts, settled, until
from tests.support.fake_nsqd import FakeNsqd
from tests.support.nsqd import NsqdServer, start_lookupd, start_nsqd
from tests.support.ways import FAULTS, Way
from worker_glue.nsq import Producer, Waits, Where, drain
from worker_glue.tasks.dead import DEAD_TOPIC

WAITS = Waits(connect_s=0.5, reply_s=0.5)
Nsqds = tuple[NsqdServer, NsqdServer]


@pytest.fixture(scope="module")
def nsqds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsqds]:
    base = tmp_path_factory.mktemp("nsqds")
    with start_nsqd(base) as one, start_nsqd(base) as other:
        for nsqd in (one, other):
            for name in ("in", "out"):
                nsqd.make_channel(name, WORKERS)
            nsqd.restart()  # it looks at once after the channels that it knows, else every 5 s
        yield one, other


@pytest.fixture
def topic(nsqds: Nsqds, request: pytest.FixtureRequest) -> str:
    name = f"t{abs(hash(request.node.name))}"
    for nsqd in nsqds:
        nsqd.make_channel(name, WORKERS)
        nsqd.make_channel(DEAD_TOPIC, WORKERS)
    return name


@pytest.fixture
def ways(nsqds: Nsqds) -> Iterator[tuple[Way, Way]]:
    with contextlib.ExitStack() as stack:
        yield Way(stack, nsqds[0].address), Way(stack, nsqds[1].address)


# --- publishing


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_published_goes_to_the_second_and_to_the_first_once_it_is_back(
    nsqds: Nsqds, ways: tuple[Way, Way], topic: str, fault: str
) -> None:
    first, second = ways
    with Producer([way.address for way in ways], waits=WAITS) as producer:
        for broken, number in ((first, 1), (second, 0)):
            broken.break_(fault)
            producer.publish(DEAD_TOPIC, b"dead letter")
            producer.publish(topic, b"later", delay_s=600)
            producer.publish_many(topic, [b"1", b"2"])
            now = counts(nsqds[number], topic)
            assert (now["depth"], now["deferred_count"]) == (2, 1)
            assert nsqds[number].take(DEAD_TOPIC, WORKERS, 1) == [b"dead letter"]
            broken.mend()
        for way in ways:
            way.break_(fault)
        with pytest.raises(PublishFailed) as failed:
            producer.publish(topic, b"3")
    assert all(f"127.0.0.1:{way.address[1]}: " in failed.value.message for way in ways)


def test_one_that_hangs_under_way_costs_no_thread_its_message(nsqds: Nsqds, ways: tuple[Way, Way], topic: str) -> None:
    bodies = [b"%d" % number for number in range(8)]
    failed: list[str] = []
    with Producer([way.address for way in ways], waits=WAITS) as producer:
        producer.publish(topic, b"first")
        ways[0].break_("stalls")

        def work(body: bytes) -> None:
            try:
                producer.publish(topic, body)
            except PublishFailed as error:
                failed.append(error.message)

        threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert failed == []
    assert sorted(nsqds[1].take(topic, WORKERS, len(bodies))) == bodies


def test_tasks_are_passed_on_while_one_nsqd_after_the_other_goes(nsqds: Nsqds, ways: tuple[Way, Way]) -> None:
    """Published first, then finished: each that waits at either nsqd is passed on at least once, delayed or not."""
    bodies = {b"%d" % n for n in range(400)}
    for number, nsqd in enumerate(nsqds):
        nsqd.http("/mpub?topic=in", b"\n".join(b"%d" % n for n in range(number, 400, 2)))
    where = Where([way.address for way in ways])
    ended = threading.Event()

    def pass_on() -> None:
        number = 0
        while not ended.is_set():
            with contextlib.suppress(queue.Empty):
                delivery = consumer.next(within_s=0.1)
                number += 1
                try:
                    producer.publish("out", delivery.body, delay_s=0.01 * (number % 2))
                except PublishFailed:
                    delivery.requeue(0.1)
                else:
                    delivery.finish()
                time.sleep(0.004)

    reading = Taking(where, "in", in_flight=10, message_timeout_s=2.0)  # nsqd keeps what a client had that is gone
    with Producer(where.nsqd, waits=WAITS) as producer, reading as consumer:
        thread = threading.Thread(target=pass_on)
        thread.start()
        try:
            for number, fault in enumerate(("dead", "stalls", "closes")):
                time.sleep(0.2)
                ways[number % 2].break_(fault)
                time.sleep(0.7)
                ways[number % 2].mend()
            until(lambda: all(settled(nsqd, "in") for nsqd in nsqds))
        finally:
            ended.set()
            thread.join(10)
    assert {body for nsqd in nsqds for body in nsqd.take_all("out", WORKERS)} == bodies


# --- reading


@pytest.mark.parametrize("fault", FAULTS)
def test_the_other_nsqd_is_read_meanwhile_and_the_first_again_afterwards(
    nsqds: Nsqds, ways: tuple[Way, Way], topic: str, fault: str
) -> None:
    first, second = ways
    first.break_(fault)
    patience = PATIENCE._replace(connect_s=0.5)
    with Taking(Where([way.address for way in ways]), topic, patience=patience) as consumer:
        nsqds[1].publish(topic, b"b")
        assert consumer.next().body == b"b"
        first.mend()
        nsqds[0].publish(topic, b"a")
        while (delivery := consumer.next()).body != b"a":
            assert delivery.body == b"b"
        until(lambda: len(consumer.connected) == 2)
        second.break_(fault)
        nsqds[0].publish(topic, b"c")
        assert consumer.next().body == b"c"
        until(lambda: consumer.connected == [f"127.0.0.1:{first.address[1]}"])


def test_each_nsqlookupd_is_asked_for_itself(tmp_path: Path, topic: str) -> None:
    """Of three one is dead and one hangs: what the third tells is read before the second has been given up."""
    with contextlib.ExitStack() as stack:
        lookupds = [stack.enter_context(start_lookupd(tmp_path)) for _ in range(2)]
        nsqd, other = (stack.enter_context(start_nsqd(tmp_path, lookupd=each)) for each in lookupds)
        late = Way(stack, ("127.0.0.1", lookupds[1].http_port))
        late.break_("dead")
        hanging = stack.enter_context(FakeNsqd())
        for each in (nsqd, other):
            each.make_channel(topic, WORKERS)
            each.publish(topic, b"of %d" % each.tcp_port)
        where = Where((), [late.address, hanging.address, ("127.0.0.1", lookupds[0].http_port)], lookup_every_s=0.2)
        with Taking(where, topic) as consumer:
            assert consumer.next().body == b"of %d" % nsqd.tcp_port
            assert not [said for said in consumer.said if f":{hanging.address[1]} " in said]
            assert [each.address for each in consumer.state] == [f"127.0.0.1:{nsqd.tcp_port}"]
            late.mend()
            assert consumer.next().body == b"of %d" % other.tcp_port
            late.break_("dead")
            nsqd.stop()  # which takes itself off the list
            until(lambda: [each.address for each in consumer.state] == [f"127.0.0.1:{other.tcp_port}"])


def test_messages_of_two_nsqds_that_have_the_same_id_are_two_letters(nsqds: Nsqds, topic: str) -> None:
    """An id is made of the time, in steps of a millisecond, and of what nsqd takes for its host's number."""
    bodies = {b"%d-%d" % (number, n) for number in range(2) for n in range(300)}

    def publish(number: int) -> None:
        with Producer([nsqds[number].address]) as producer:
            for n in range(300):
                producer.publish(topic, b"%d-%d" % (number, n))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    found = list(drain(Where([nsqd.address for nsqd in nsqds]), topic, WORKERS, idle_s=1.0, patience=PATIENCE))
    assert {letter.body for letter in found} == bodies
    assert len({letter.id for letter in found}) < len(found) == len(bodies), "no id came twice: nothing was tried"
