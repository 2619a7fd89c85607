"""worker_glue's producer: believed only when nsqd said OK to this very message."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator

import pytest

from syncd.core.errors import ConfigError, PublishFailed
from tests.support.consuming import WORKERS, counts, until
from tests.support.fake_nsqd import FakeNsqd
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.socat import start_socat
from worker_glue.nsq import Producer, Waits

WAITS = Waits(connect_s=1.0, reply_s=1.0)
MIB = 1 << 20
DELAYED = "delayed"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NsqdServer, int]]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as nsqd, start_socat(nsqd.tcp_port) as port:
        nsqd.make_channel(DELAYED, WORKERS)
        nsqd.restart()  # it looks at once after the channels that it knows, else every 5 s
        yield nsqd, port


@pytest.fixture
def nsqd(proxied: tuple[NsqdServer, int]) -> NsqdServer:
    return proxied[0]


@pytest.fixture
def topic(nsqd: NsqdServer) -> str:
    name = f"out-{next(_numbers)}"
    nsqd.make_channel(name, WORKERS)
    return name


@pytest.fixture
def producer(proxied: tuple[NsqdServer, int]) -> Iterator[Producer]:
    with Producer([("127.0.0.1", proxied[1])], name="tod-mac-1", waits=WAITS) as made:
        yield made


def test_what_was_published_is_there_at_once(nsqd: NsqdServer, topic: str, producer: Producer) -> None:
    bodies = [b"x", b"\x00\n FIN", random.Random(1).randbytes(MIB)]
    for number, body in enumerate(bodies):
        producer.publish(topic, body)
        assert counts(nsqd, topic)["depth"] == number + 1
    assert nsqd.take(topic, WORKERS, 3) == bodies


def test_a_delay_is_kept(nsqd: NsqdServer, producer: Producer) -> None:
    topic = DELAYED
    producer.publish(topic, b"late", 1.0)
    began = time.monotonic()
    producer.publish(topic, b"now", 0)
    producer.publish(topic, b"much later", 1e9)
    assert counts(nsqd, topic)["deferred_count"] == 2
    assert nsqd.take(topic, WORKERS, 1) == [b"now"]
    assert nsqd.take(topic, WORKERS, 1) == [b"late"]
    assert time.monotonic() - began >= 0.9
    assert counts(nsqd, topic)["deferred_count"] == 1


def test_an_nsqd_that_allows_less_delay_gets_less(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = {"max-req-timeout": "500ms"}
    with (
        start_nsqd(tmp_path_factory.mktemp("strict"), options=options) as strict,
        Producer([strict.address], waits=WAITS) as producer,
    ):
        strict.make_channel("out", WORKERS)
        strict.restart()
        producer.publish("out", b"1", 3_600)
        producer.publish("out", b"2", 0.1)
        producer.publish("out", b"3")
        assert sorted(strict.take("out", WORKERS, 3)) == [b"1", b"2", b"3"]


def test_many_at_once(nsqd: NsqdServer, topic: str, producer: Producer) -> None:
    bodies = [b"%d" % n for n in range(2_500)] + [random.Random(n).randbytes(MIB) for n in range(3)]
    producer.publish_many(topic, bodies)
    assert counts(nsqd, topic)["depth"] == len(bodies)
    producer.publish_many(topic, [])
    nsqd.http(f"/topic/empty?topic={topic}", b"")


def test_many_threads(nsqd: NsqdServer, topic: str, producer: Producer) -> None:
    def work(thread: int) -> None:
        for n in range(100):
            producer.publish(topic, b"%d-%d" % (thread, n))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    found = nsqd.take(topic, WORKERS, 800)
    assert sorted(found) == sorted(b"%d-%d" % each for each in itertools.product(range(8), range(100)))


@pytest.mark.parametrize("body", [b"", bytes(MIB + 1)])
def test_what_nsqd_would_refuse_is_refused_here(body: bytes, topic: str, producer: Producer) -> None:
    with pytest.raises(PublishFailed, match="cannot be sent"):
        producer.publish(topic, body)
    with pytest.raises(ConfigError):
        producer.publish("no good\nFIN", b"x")
    with pytest.raises(ConfigError):
        Producer([])


def test_no_connection_before_it_is_needed_and_the_next_after_a_restart(
    nsqd: NsqdServer, topic: str, producer: Producer
) -> None:
    assert not nsqd.http("/stats?format=json")["producers"]
    producer.publish(topic, b"1")
    (client,) = nsqd.http("/stats?format=json")["producers"]
    assert client["client_id"] == "tod-mac-1"
    nsqd.restart()
    producer.publish(topic, b"2")
    nsqd.stop()
    with pytest.raises(PublishFailed) as failed:
        producer.publish(topic, b"3")
    assert failed.value.transient
    nsqd.start()
    producer.publish(topic, b"4")
    assert sorted(nsqd.take(topic, WORKERS, 3)) == [b"1", b"2", b"4"]


def test_an_nsqd_that_hangs_is_given_up_in_bounds_by_all(nsqd: NsqdServer, topic: str, producer: Producer) -> None:
    producer.publish(topic, b"1")
    failed: list[str] = []

    def work() -> None:
        try:
            producer.publish(topic, b"lost")
        except PublishFailed as error:
            failed.append(error.message)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(10)]
    nsqd.suspend()
    try:
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert time.monotonic() - began < 4 * (WAITS.connect_s + WAITS.reply_s)
    finally:
        nsqd.resume()
    assert len(failed) == 10
    until(lambda: counts(nsqd, topic)["depth"] >= 1)
    producer.publish(topic, b"2")
    assert {b"1", b"2"} <= set(nsqd.take_all(topic, WORKERS))


@pytest.mark.parametrize(
    "answer",
    ["error", "other-text", "message", "garbage", "huge-frame", "negative-frame", "unknown-frame", "short-frame",
     "truncated", "truncated-length", "close", "reset", "silence"],
)  # fmt: skip
def test_only_ok_is_ok(answer: str) -> None:
    """The fake answers MPUB; what it answers to PUB differs in nothing."""
    waits = Waits(connect_s=0.5, reply_s=0.3)
    with FakeNsqd(answer, identify="ok") as wrong, Producer([wrong.address], waits=waits) as producer:
        with pytest.raises(PublishFailed):
            producer.publish_many("t", [b"1"])
        producer.publish_many("t", [b"2"])
        assert wrong.accepted == [b"2"]
        assert wrong.connections == 2


@pytest.mark.parametrize("answer", ["error-then-ok", "two-oks"])
def test_an_ok_to_nothing_is_credited_to_nobody(answer: str) -> None:
    with FakeNsqd(answer, "silence", identify="ok") as wrong:
        with Producer([wrong.address], waits=Waits(0.5, 0.3)) as producer:
            if answer == "error-then-ok":
                with pytest.raises(PublishFailed):
                    producer.publish_many("t", [b"1"])
            else:
                producer.publish_many("t", [b"1"])
                time.sleep(0.05)
            with pytest.raises(PublishFailed):
                producer.publish_many("t", [b"2"])
            producer.publish_many("t", [b"3"])
        assert b"2" not in wrong.accepted


@pytest.mark.parametrize("answer", ["garbage", "error", "silence", "close"])
def test_who_does_not_introduce_itself_as_nsqd_gets_nothing(answer: str) -> None:
    with (
        FakeNsqd(identify=answer) as wrong,
        Producer([wrong.address], waits=Waits(0.3, 0.3)) as producer,
        pytest.raises(PublishFailed),
    ):
        producer.publish("t", b"1")


def test_each_address_is_tried_and_the_one_that_works_is_kept(nsqd: NsqdServer, topic: str) -> None:
    with Producer([("127.0.0.1", 1), ("no-such-host.invalid", 4150), nsqd.address], waits=WAITS) as producer:
        producer.publish(topic, b"1")
        assert producer._last == nsqd.address
        nsqd.stop()
        with pytest.raises(PublishFailed) as failed:
            producer.publish(topic, b"2")
        assert all(part in failed.value.message for part in ("127.0.0.1:1:", "no-such-host", str(nsqd.tcp_port)))
        nsqd.start()
        producer.publish(topic, b"3")
    assert sorted(nsqd.take(topic, WORKERS, 2)) == [b"1", b"3"]


def test_closing_ends_a_publish_that_waits(nsqd: NsqdServer, topic: str) -> None:
    producer = Producer([nsqd.address])
    producer.publish(topic, b"1")
    nsqd.suspend()
    try:
        threading.Timer(0.2, producer.close).start()
        with pytest.raises(PublishFailed):
            producer.publish(topic, b"2")
    finally:
        nsqd.resume()
    with pytest.raises(PublishFailed, match="closed"):
        producer.publish(topic, b"3")
    producer.close()
    nsqd.take_all(topic, WORKERS)
