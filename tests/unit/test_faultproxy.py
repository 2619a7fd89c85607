"""The proxy that other tests trust to misbehave: it does what it says, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.faultproxy import Direction, Ending, FaultProxy, proxy_process

DEADLINE_S = 20.0


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threads: list[threading.Thread] = []

    def serve(end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            while piece := end.recv(1 << 16):
                end.sendall(piece)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True)
                threads.append(thread)
                thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (acceptor, *threads):
        thread.join(DEADLINE_S)


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=DEADLINE_S)


def read_all(end: socket.socket) -> bytes:
    pieces = []
    while piece := end.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def round_trip(end: socket.socket, message: bytes) -> bytes:
    """Send while receiving, then close our half; return all that came back."""
    sender = threading.Thread(target=lambda: (end.sendall(message), end.shutdown(socket.SHUT_WR)))
    sender.start()
    answer = read_all(end)
    sender.join(DEADLINE_S)
    return answer


def test_bytes_arrive_unchanged_over_many_connections_at_once(echo: tuple[str, int]) -> None:
    messages = [os.urandom(300_000 + 977 * number) for number in range(60)]
    digests: dict[int, str] = {}
    with FaultProxy(echo, latency_s=0.002) as proxy:

        def run(number: int) -> None:
            with connect(proxy) as end:
                digests[number] = hashlib.sha256(round_trip(end, messages[number])).hexdigest()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(messages))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert digests == {n: hashlib.sha256(message).hexdigest() for n, message in enumerate(messages)}
        assert proxy.accepted == len(messages)
        assert proxy.passed(Direction.TO_SERVER) == proxy.passed(Direction.TO_CLIENT) == sum(map(len, messages))


def test_latency_delays_each_byte_and_costs_no_throughput(echo: tuple[str, int]) -> None:
    with FaultProxy(echo, latency_s=0.1) as proxy, connect(proxy) as end:
        started = time.monotonic()
        end.sendall(b"x")
        assert end.recv(1) == b"x"
        assert time.monotonic() - started >= 0.2
        started = time.monotonic()
        assert len(round_trip(end, bytes(20_000_000))) == 20_000_000
        assert time.monotonic() - started < 10, "served one piece at a time, this takes a minute or more"


def test_bandwidth_is_shared_and_kept(echo: tuple[str, int]) -> None:
    with FaultProxy(echo) as proxy, connect(proxy) as end:
        proxy.set_bandwidth(2_000_000, Direction.TO_CLIENT)
        started = time.monotonic()
        assert len(round_trip(end, bytes(1_000_000))) == 1_000_000
        assert time.monotonic() - started >= 0.45


@pytest.mark.parametrize("count", [1, 7, 65_536, 999_999])
def test_cut_ends_the_connection_exactly_there_and_once(echo: tuple[str, int], count: int) -> None:
    message = os.urandom(1_000_000)
    with FaultProxy(echo) as proxy:
        proxy.cut_after(count)
        with connect(proxy) as end, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sender = threading.Thread(target=_send, args=(end, message))
            sender.start()
            assert read_all(end) == message[:count]
            sender.join(DEADLINE_S)
        with connect(proxy) as end:
            assert round_trip(end, message) == message


def _send(end: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):
        end.sendall(message)


def test_reset_is_seen_as_a_reset(echo: tuple[str, int]) -> None:
    with FaultProxy(echo) as proxy, connect(proxy) as end:
        end.sendall(b"hello")
        assert end.recv(5) == b"hello"
        proxy.cut_after(3, ending=Ending.RESET)
        end.sendall(b"abcdef")
        with pytest.raises(ConnectionResetError):
            read_all(end)
        assert proxy.open_connections == 0


def test_swallowed_bytes_never_come_and_the_connection_stays(echo: tuple[str, int]) -> None:
    with FaultProxy(echo) as proxy, connect(proxy) as end:
        proxy.cut_after(3, ending=Ending.SWALLOW)
        end.sendall(b"abcdef")
        assert end.recv(10) == b"abc"
        end.settimeout(0.3)
        with pytest.raises(TimeoutError):
            end.recv(10)
        assert proxy.open_connections == 1


def test_stall_holds_everything_back_until_resumed(echo: tuple[str, int]) -> None:
    with FaultProxy(echo) as proxy, connect(proxy) as end:
        proxy.stall(Direction.TO_CLIENT)
        end.sendall(b"abc")
        end.settimeout(0.3)
        with pytest.raises(TimeoutError):
            end.recv(3)
        proxy.resume()
        end.settimeout(DEADLINE_S)
        assert end.recv(3) == b"abc"


def test_down_refuses_and_up_serves_again_on_the_same_port(echo: tuple[str, int]) -> None:
    with FaultProxy(echo) as proxy:
        with connect(proxy) as end:
            assert round_trip(end, b"abc") == b"abc"
        proxy.down()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.up()
        with connect(proxy) as end:
            assert round_trip(end, b"abc") == b"abc"


def test_mutate_changes_what_goes_on(echo: tuple[str, int]) -> None:
    with FaultProxy(echo) as proxy:
        proxy.mutate = lambda number, direction, piece: piece.upper() if direction is Direction.TO_CLIENT else piece
        with connect(proxy) as end:
            assert round_trip(end, b"abc") == b"ABC"


def test_a_dead_target_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = listener.getsockname()
    with FaultProxy(target) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as end:
        read_all(end)


def test_as_a_process_of_its_own(echo: tuple[str, int]) -> None:
    with proxy_process(echo, latency_s=0.05) as port, socket.create_connection(("127.0.0.1", port)) as end:
        started = time.monotonic()
        assert round_trip(end, b"abc") == b"abc"
        assert time.monotonic() - started >= 0.1
