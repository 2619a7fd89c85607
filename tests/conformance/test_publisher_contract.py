"""The contract of ports.Publisher: in memory, the embedded spool, and a real nsqd behind a real socat."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator

import pytest

from syncd.core.errors import PublishFailed
from syncd.ports import Publisher
from syncd.publish.memory import MemoryPublisher
from syncd.publish.nsq import NsqPublisher, Patience
from syncd.publish.spool import SpoolPublisher
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.socat import start_socat

PATIENCE = Patience(connect_s=1.5, reply_s=1.5)
BOUND_S = 10.0
MIB = 1 << 20

_numbers = itertools.count()


class Service:
    """What a publisher publishes to. remote: it can be away, and forget."""

    remote = True

    def __init__(self) -> None:
        self.topic = f"topic-{next(_numbers)}"

    def publisher(self) -> Publisher:
        raise NotImplementedError

    def arrived(self) -> list[bytes]:
        """Return what arrived on the topic since the last call, in order."""
        raise NotImplementedError

    def down(self) -> None: ...

    def up(self) -> None: ...

    def hang(self) -> None: ...

    def go_on(self) -> None: ...


class Memory(Service):
    def __init__(self) -> None:
        super().__init__()
        self._publisher = MemoryPublisher()

    def publisher(self) -> Publisher:
        return self._publisher

    def arrived(self) -> list[bytes]:
        found = self._publisher.bodies(self.topic)
        self._publisher.accepted.clear()
        return found

    def down(self) -> None:
        self._publisher.down = True
        self._publisher.restart()

    def up(self) -> None:
        self._publisher.down = False

    def hang(self) -> None:
        self._publisher.hold()

    def go_on(self) -> None:
        self._publisher.release()


class Spool(Service):
    remote = False

    def publisher(self) -> Publisher:
        return SpoolPublisher()


class Nsq(Service):
    def __init__(self, server: NsqdServer, port: int) -> None:
        super().__init__()
        self._server = server
        self._port = port
        server.make_channel(self.topic, "test")

    def publisher(self) -> Publisher:
        return NsqPublisher([("127.0.0.1", self._port)], PATIENCE)

    def arrived(self) -> list[bytes]:
        return self._server.take_all(self.topic, "test")

    def down(self) -> None:
        self._server.stop()

    def up(self) -> None:
        self._server.start()

    def hang(self) -> None:
        self._server.suspend()

    def go_on(self) -> None:
        self._server.resume()


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NsqdServer, int]]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server, start_socat(server.tcp_port) as port:
        yield server, port


@pytest.fixture(params=["memory", "spool", "nsq"])
def service(request: pytest.FixtureRequest) -> Service:
    match request.param:
        case "memory":
            return Memory()
        case "spool":
            return Spool()
        case _:
            return Nsq(*request.getfixturevalue("nsqd"))


@pytest.fixture
def publisher(service: Service) -> Iterator[Publisher]:
    made = service.publisher()
    yield made
    made.close()


REMOTE = pytest.mark.parametrize("service", ["memory", "nsq"], indirect=True)
"""Of what can be away."""


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def require_arrived(service: Service, expected: list[bytes]) -> None:
    """The spool keeps nothing itself: what it accepted is in the outbox."""
    if service.remote:
        assert service.arrived() == expected


def test_bodies_arrive_in_their_order_and_as_they_are(service: Service, publisher: Publisher) -> None:
    batches = [[f"{batch}-{n}".encode() for n in range(200)] for batch in range(5)]
    batches.append([b"\x00", b"\n", "हिन्दी".encode(), bytes(range(256)), b"  V2"])
    for batch in batches:
        publisher.publish(service.topic, batch)
    require_arrived(service, [body for batch in batches for body in batch])


def test_more_than_one_command_can_hold_arrives_in_order(service: Service, publisher: Publisher) -> None:
    many = [b"%d" % n for n in range(7_000)]
    publisher.publish(service.topic, many)
    require_arrived(service, many)
    large = [noise(700_000 + n) for n in range(9)]
    publisher.publish(service.topic, large)
    require_arrived(service, large)


def test_sizes_at_the_limit(service: Service, publisher: Publisher) -> None:
    publisher.publish(service.topic, [b"x", noise(MIB), b"y"])
    require_arrived(service, [b"x", noise(MIB), b"y"])


@pytest.mark.parametrize("body", [b"", noise(MIB + 1)], ids=["nothing", "too large"])
@REMOTE
def test_a_size_beyond_the_limits_fails_whole(service: Service, publisher: Publisher, body: bytes) -> None:
    with pytest.raises(PublishFailed):
        publisher.publish(service.topic, [b"before", body, b"behind"])
    publisher.publish(service.topic, [b"later"])
    assert service.arrived() == [b"later"]


def test_no_bodies_only_connect(service: Service, publisher: Publisher) -> None:
    publisher.publish(service.topic, [])
    assert publisher.connections == (1 if service.remote else 0)
    publisher.publish(service.topic, [b"x"])
    assert publisher.connections == (1 if service.remote else 0)


@REMOTE
def test_away_is_a_failure_in_bounded_time_and_a_new_connection_is_counted(
    service: Service, publisher: Publisher
) -> None:
    publisher.publish(service.topic, [b"1"])
    service.down()
    try:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(PublishFailed) as failed:
                publisher.publish(service.topic, [b"2"])
            assert time.monotonic() - began < BOUND_S
            assert failed.value.transient
    finally:
        service.up()
    publisher.publish(service.topic, [b"2", b"3"])
    assert publisher.connections == 2
    assert sorted(service.arrived()) == [b"1", b"2", b"3"]  # nsqd mixes what it has on disk with what is new


@REMOTE
def test_a_restart_between_two_calls_is_counted(service: Service, publisher: Publisher) -> None:
    publisher.publish(service.topic, [b"1"])
    service.down()
    service.up()
    with contextlib.suppress(PublishFailed):  # whether the end of the old connection has been seen already
        publisher.publish(service.topic, [])
    publisher.publish(service.topic, [])
    assert publisher.connections == 2


@REMOTE
def test_sent_again_after_a_failure_all_arrives_at_least_once_and_in_order(
    service: Service, publisher: Publisher
) -> None:
    publisher.publish(service.topic, [b"0"])
    service.hang()
    if isinstance(publisher, MemoryPublisher):
        publisher.script("H")
        service.go_on()
    batch = [b"%d" % n for n in range(1, 100)]
    try:
        with pytest.raises(PublishFailed):
            publisher.publish(service.topic, batch)
    finally:
        service.go_on()
    publisher.publish(service.topic, batch)
    arrived = service.arrived()
    assert set(arrived) == {b"0", *batch}
    assert arrived[-len(batch) :] == batch


@REMOTE
def test_close_ends_a_call_that_waits(service: Service, publisher: Publisher) -> None:
    publisher.publish(service.topic, [b"1"])
    service.hang()
    failures: list[Exception] = []

    def publish() -> None:
        try:
            publisher.publish(service.topic, [b"2"])
        except PublishFailed as error:
            failures.append(error)

    thread = threading.Thread(target=publish, name="publish")
    try:
        thread.start()
        time.sleep(0.1)
        began = time.monotonic()
        publisher.close()
        thread.join(BOUND_S)
        assert not thread.is_alive()
        assert time.monotonic() - began < PATIENCE.reply_s - 0.2
        assert len(failures) == 1
    finally:
        service.go_on()
        thread.join(BOUND_S)


@REMOTE
def test_close_can_be_repeated_and_nothing_is_published_afterwards(service: Service, publisher: Publisher) -> None:
    publisher.publish(service.topic, [b"1"])
    publisher.close()
    publisher.close()
    with pytest.raises(PublishFailed):
        publisher.publish(service.topic, [b"2"])
    assert service.arrived() == [b"1"]


def test_closed_before_it_was_used(service: Service) -> None:
    publisher = service.publisher()
    publisher.close()
    publisher.close()
