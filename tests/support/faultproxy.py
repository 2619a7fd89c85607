"""A TCP proxy on loopback that misbehaves on request: latency, bandwidth, cuts, stalls, resets, changed bytes.

    with FaultProxy(("127.0.0.1", server.port)) as proxy:
        client = connect("127.0.0.1", proxy.port)
        proxy.set_latency(0.001)                        # each way: 2 ms more round-trip time
        proxy.cut_after(100_000)                        # the next connection to get there ends, once
        proxy.stall(); proxy.resume()                   # a black hole, and out of it again

One thread serves all connections. Latency is pipelined: every piece is due at its own time, so it costs no throughput.
Benchmarks run the proxy as a process of its own (`proxy_process`), so that it does not share the client's interpreter.
"""

from __future__ import annotations

import collections
import contextlib
import select
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Self

READ_BYTES = 1 << 18
QUEUED_BYTES_MAX = 8 << 20
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"


class Ending(Enum):
    """What happens to a connection at its cut."""

    CLOSE = "close"  # both sides see an orderly end, after the bytes before the cut
    RESET = "reset"  # both sides see a reset; bytes on their way may be lost
    SWALLOW = "swallow"  # later bytes of this direction vanish; the connection stays open


Mutate = Callable[[int, Direction, bytes], bytes]
"""Called with the connection's number (from 0), the direction and the bytes as they came; returns what goes on."""


@dataclass
class _Rules:
    """What holds for one direction of all connections."""

    latency_s: float = 0.0
    bandwidth: float = 0.0
    link_free_at: float = 0.0
    stalled: bool = False
    passed: int = 0


@dataclass
class _Cut:
    """One armed cut: connections end once `count` bytes went `direction`; `left` = how many more of them (-1: all)."""

    count: int
    direction: Direction
    ending: Ending
    left: int


@dataclass(eq=False)
class _Pipe:
    """One direction of one connection. queue: (due, bytes), b"" is the end of the stream."""

    direction: Direction
    source: socket.socket
    drain: socket.socket
    rules: _Rules
    queue: collections.deque[tuple[float, bytes]] = field(default_factory=collections.deque)
    queued: int = 0
    counted: int = 0
    ended: bool = False
    swallowing: bool = False
    blocked: bool = False
    finished: bool = False


@dataclass(eq=False)
class _Connection:
    number: int
    client: socket.socket
    server: socket.socket
    pipes: tuple[_Pipe, _Pipe]
    closing: bool = False


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes connections on to `target`. Thread-safe.

    A call that sets a fault returns when the fault holds. Directions default to both.
    """

    def __init__(self, target: tuple[str, int], *, latency_s: float = 0.0, bandwidth: float = 0.0) -> None:
        self.host = "127.0.0.1"
        self.target = target
        self.accepted = 0
        self.mutate: Mutate | None = None
        self._rules = {direction: _Rules(latency_s, bandwidth) for direction in Direction}
        self._cuts: list[_Cut] = []
        self._connections: dict[int, _Connection] = {}
        self._commands: collections.deque[Callable[[], None]] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._precise = hasattr(select, "epoll")
        self._listener: socket.socket | None = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._wakee = socket.socketpair()
        self._selector.register(self._wakee, selectors.EVENT_READ, None)
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=f"faultproxy-{self.port}", daemon=True)

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Reset what is open and end the thread; safe to repeat."""
        if self._thread.is_alive():
            self._run(self._stop)
            self._thread.join(COMMAND_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # --- faults --------------------------------------------------------------------------------------------------

    def set_latency(self, seconds: float, direction: Direction | None = None) -> None:
        """Delay every byte that arrives from now on by `seconds`, one way."""
        self._set(direction, "latency_s", seconds)

    def set_bandwidth(self, bytes_per_s: float, direction: Direction | None = None) -> None:
        """Share one link of this speed among all connections; 0 is unlimited."""
        self._set(direction, "bandwidth", bytes_per_s)

    def stall(self, direction: Direction | None = None) -> None:
        """Pass nothing on, as a black hole; new connections are still accepted."""
        self._set(direction, "stalled", True)

    def resume(self, direction: Direction | None = None) -> None:
        """End a stall; what came meanwhile goes on."""
        self._set(direction, "stalled", False)

    def cut_after(
        self,
        count: int,
        direction: Direction = Direction.TO_CLIENT,
        ending: Ending = Ending.CLOSE,
        *,
        times: int = 1,
    ) -> None:
        """End the first connection over which `count` bytes went in `direction`, exactly there.

        Counted for each connection from this call on. times: how many connections are hit; -1 for every one.
        """

        def arm() -> None:
            for connection in self._connections.values():
                for pipe in connection.pipes:
                    pipe.counted = 0
            self._cuts.append(_Cut(count, direction, ending, times))

        self._run(arm)

    def clear_cuts(self) -> None:
        """Disarm all cuts."""
        self._run(self._cuts.clear)

    def reset_all(self) -> None:
        """Reset (RST) every open connection now; new ones are accepted."""
        self._run(lambda: self._drop_all(Ending.RESET))

    def close_all(self) -> None:
        """Close every open connection now; new ones are accepted."""
        self._run(lambda: self._drop_all(Ending.CLOSE))

    def down(self) -> None:
        """Reset all connections and refuse new ones, as a host where nothing listens."""

        def go() -> None:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None
            self._drop_all(Ending.RESET)

        self._run(go)

    def up(self) -> None:
        """Listen again, on the same port."""

        def go() -> None:
            if self._listener is None:
                self._listener = self._listen(self.port)

        self._run(go)

    # --- counters ------------------------------------------------------------------------------------------------

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def passed(self, direction: Direction) -> int:
        """Bytes passed on in one direction by all connections so far."""
        return self._rules[direction].passed

    # --- the loop's thread ---------------------------------------------------------------------------------------

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((self.host, port), backlog=512)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)
        return listener

    def _run(self, command: Callable[[], None]) -> None:
        """Run a command in the loop's thread and wait until it is done."""
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            command()
            return
        done = threading.Event()

        def run() -> None:
            command()
            done.set()

        self._commands.append(run)
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        if not done.wait(COMMAND_TIMEOUT_S) and self._thread.is_alive():
            raise TimeoutError("the proxy's thread does not answer")

    def _set(self, direction: Direction | None, name: str, value: object) -> None:
        def change() -> None:
            for each in Direction if direction is None else (direction,):
                setattr(self._rules[each], name, value)

        self._run(change)

    def _serve(self) -> None:
        while not self._stopped:
            for key in self._wait(self._flush_due()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wakee:
                    self._wakee.recv(4096)
                else:
                    self._read_or_write(key.data, key.fileobj)
            while self._commands:
                self._commands.popleft()()
        for closeable in (self._listener, self._waker, self._wakee, self._selector):
            if closeable is not None:
                closeable.close()

    def _wait(self, timeout_s: float | None) -> list[selectors.SelectorKey]:
        """Return what is ready. epoll counts whole milliseconds, too coarse for a delay of one: so select() on it."""
        if self._precise and timeout_s is not None:
            select.select([self._selector], [], [], timeout_s)
            timeout_s = 0
        return [key for key, _ in self._selector.select(timeout_s)]

    def _stop(self) -> None:
        self._drop_all(Ending.RESET)
        self._stopped = True

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        try:
            server = socket.create_connection(self.target, timeout=CONNECT_TIMEOUT_S)
        except OSError:
            _reset(client)
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pipes = (
            _Pipe(Direction.TO_SERVER, client, server, self._rules[Direction.TO_SERVER]),
            _Pipe(Direction.TO_CLIENT, server, client, self._rules[Direction.TO_CLIENT]),
        )
        connection = _Connection(self.accepted, client, server, pipes)
        self.accepted += 1
        self._connections[connection.number] = connection
        for end in (client, server):
            self._selector.register(end, selectors.EVENT_READ, connection)

    def _read_or_write(self, connection: _Connection, end: object) -> None:
        for pipe in connection.pipes:
            if pipe.drain is end and pipe.blocked:
                pipe.blocked = False
                self._flush(connection, pipe, time.monotonic())
        for pipe in connection.pipes:
            if pipe.source is end and connection.number in self._connections and _wants_input(pipe):
                self._read(connection, pipe)
        self._settle(connection)

    def _read(self, connection: _Connection, pipe: _Pipe) -> None:
        rules = pipe.rules
        size = READ_BYTES if not rules.bandwidth else max(1448, min(READ_BYTES, int(rules.bandwidth / 100)))
        try:
            piece = pipe.source.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection, Ending.RESET)
            return
        if piece and self.mutate is not None:
            piece = self.mutate(connection.number, pipe.direction, piece)
            if not piece:
                return
        if not piece:
            pipe.ended = True
        elif pipe.swallowing:
            return
        else:
            piece = self._apply_cuts(connection, pipe, piece)
        now = time.monotonic()
        due = now
        if rules.bandwidth:
            rules.link_free_at = due = max(now, rules.link_free_at) + len(piece) / rules.bandwidth
        if piece or pipe.ended:
            pipe.queue.append((due + rules.latency_s, piece))
            pipe.queued += len(piece)
        self._flush(connection, pipe, now)

    def _apply_cuts(self, connection: _Connection, pipe: _Pipe, piece: bytes) -> bytes:
        for cut in self._cuts:
            if cut.direction is pipe.direction and pipe.counted + len(piece) >= cut.count:
                piece = piece[: max(0, cut.count - pipe.counted)]
                cut.left -= 1
                if cut.left == 0:
                    self._cuts.remove(cut)
                if cut.ending is Ending.SWALLOW:
                    pipe.swallowing = True
                elif cut.ending is Ending.CLOSE:
                    connection.closing = True
                else:
                    self._force_out(pipe, piece)
                    self._drop(connection, Ending.RESET)
                    return b""
                break
        pipe.counted += len(piece)
        return piece

    def _force_out(self, pipe: _Pipe, piece: bytes) -> None:
        """Hand what lies before a reset to the kernel, as far as it takes it now."""
        with contextlib.suppress(OSError):
            waiting = b"".join(queued for _, queued in pipe.queue) + piece
            pipe.rules.passed += pipe.drain.send(waiting) if waiting else 0

    def _flush_due(self) -> float | None:
        """Send what is due everywhere; return the seconds until something else will be (None: nothing waits)."""
        now = time.monotonic()
        earliest: float | None = None
        for connection in list(self._connections.values()):
            for pipe in connection.pipes:
                if not pipe.queue or pipe.blocked or pipe.rules.stalled:
                    continue
                if pipe.queue[0][0] <= now:
                    self._flush(connection, pipe, now)
                    if connection.number not in self._connections:
                        break
                if pipe.queue and not pipe.blocked and (earliest is None or pipe.queue[0][0] < earliest):
                    earliest = pipe.queue[0][0]
            self._settle(connection)
        return None if earliest is None else max(0.0, earliest - time.monotonic())

    def _flush(self, connection: _Connection, pipe: _Pipe, now: float) -> None:
        queue = pipe.queue
        while queue and queue[0][0] <= now and not pipe.rules.stalled:
            due, piece = queue.popleft()
            try:
                if not piece:
                    pipe.finished = True
                    pipe.drain.shutdown(socket.SHUT_WR)
                    return
                sent = pipe.drain.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(connection, Ending.RESET)
                return
            pipe.queued -= sent
            pipe.rules.passed += sent
            if sent < len(piece):
                queue.appendleft((due, piece[sent:]))
                pipe.blocked = True
                return

    def _settle(self, connection: _Connection) -> None:
        """Ask for the events this connection needs next; close it when it is done."""
        if connection.number not in self._connections:
            return
        first, second = connection.pipes
        if (first.finished and second.finished) or (connection.closing and not (first.queue or second.queue)):
            self._drop(connection, Ending.CLOSE)
            return
        for end, incoming, outgoing in ((connection.client, first, second), (connection.server, second, first)):
            wanted = selectors.EVENT_WRITE if outgoing.blocked else 0
            if _wants_input(incoming) and not connection.closing:
                wanted |= selectors.EVENT_READ
            key = self._selector.get_map().get(end.fileno())
            if key is None and wanted:
                self._selector.register(end, wanted, connection)
            elif key is not None and not wanted:
                self._selector.unregister(end)
            elif key is not None and key.events != wanted:
                self._selector.modify(end, wanted, connection)

    def _drop(self, connection: _Connection, ending: Ending) -> None:
        if self._connections.pop(connection.number, None) is None:
            return
        for end in (connection.client, connection.server):
            if self._selector.get_map().get(end.fileno()) is not None:
                self._selector.unregister(end)
            _reset(end) if ending is Ending.RESET else _close(end)
        for pipe in connection.pipes:
            pipe.queue.clear()

    def _drop_all(self, ending: Ending) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection, ending)


def _wants_input(pipe: _Pipe) -> bool:
    return not pipe.ended and pipe.queued < QUEUED_BYTES_MAX


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _close(end: socket.socket) -> None:
    """Close in order: unread input would turn a plain close into a reset, which may overtake the last bytes."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while end.recv(READ_BYTES):
            pass
    end.close()


@contextlib.contextmanager
def proxy_process(target: tuple[str, int], *, latency_s: float = 0.0, bandwidth: float = 0.0) -> Iterator[int]:
    """Run a proxy with fixed faults as a process of its own; give its port. For benchmarks."""
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, (*target, latency_s, bandwidth))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.communicate()


def main(host: str, port: str, latency_s: str, bandwidth: str) -> None:
    """Serve until standard input closes; print the port first."""
    with FaultProxy((host, int(port)), latency_s=float(latency_s), bandwidth=float(bandwidth)) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
