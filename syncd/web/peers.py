"""Connections to the server, bounded: how many, how long one may idle, ask or take its answer, how much it may send.

Plain requests are answered in a Lane (lane.py), Tornado parses all others. What it leaves open is decided here: its one
time-out for headers cannot tell a connection that waits for its next request from one that sends a request byte by
byte; it answers nothing to headers that are too long; and a peer that does not read its answer holds its connection for
ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import NamedTuple, Protocol

from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.iostream import IOStream, UnsatisfiableReadError

# A peer's broken requests are answered or cut off; Tornado's own log would let any peer fill ours.
logging.getLogger("tornado.general").setLevel(logging.CRITICAL + 1)

ACCEPTED_AT_ONCE = 64
SWEEP_S = 0.5
REST_S = 0.2
"""How long nobody is accepted when the process is out of descriptors."""
_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TOO_LONG = b'{"error":{"reason":null,"message":"the headers are longer than allowed","hint":""}}\n'
_TOO_LONG_HEAD = (
    "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(_TOO_LONG)}\r\n\r\n"
).encode()


class Limits(NamedTuple):
    """What one listener grants. idle_s: between requests; request_s: from a request's first byte to its last; write_s:
    to take an answer. bodies_bytes: of all requests together that have not been answered.
    """

    connections: int = 1024
    idle_s: float = 60.0
    request_s: float = 10.0
    write_s: float = 30.0
    header_bytes: int = 64 << 10
    bodies_bytes: int = 32 << 20


class Phase(Enum):
    """What is awaited of a peer."""

    IDLE = "idle"
    ASKING = "asking"
    SERVED = "served"
    TAKING = "taking"


class Closable(Protocol):
    """Who reads a connection."""

    def close(self) -> None:
        """Close it."""


class Requests(HTTPServerConnectionDelegate):
    """What becomes of the requests of one listener."""

    @abstractmethod
    def begin(self, peer: Peer, connection: socket.socket) -> Closable:
        """Read a new connection, until it is closed (then Crowd.gone() is told), or given to Crowd.read_on()."""


class Peer:
    """One connection: who reads it, and until when its present phase may last."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.reader: Closable | None = None
        self.phase = Phase.IDLE
        self.headers_done = False
        self.until: float | None = None
        self._heard = False
        self.rest()

    def rest(self) -> None:
        """A request may come; bytes that came early count as its beginning."""
        self.headers_done = False
        if self._heard:
            self._enter(Phase.ASKING, self.crowd.limits.request_s)
        else:
            self._enter(Phase.IDLE, self.crowd.limits.idle_s)

    def heard(self) -> None:
        """Bytes came."""
        self._heard = True
        if self.phase is Phase.IDLE:
            self._enter(Phase.ASKING, self.crowd.limits.request_s)

    def serve(self) -> None:
        """The request is complete; what it asks for has its own bounds."""
        self._heard = False
        self._enter(Phase.SERVED, None)

    def hand_over(self) -> None:
        """The answer goes out."""
        self._enter(Phase.TAKING, self.crowd.limits.write_s)

    def close(self) -> None:
        """Close the connection."""
        if self.reader is not None:
            self.reader.close()

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        self.phase = phase
        self.until = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self.crowd.moved(self)


class PeerStream(IOStream):
    """A stream that tells its peer when bytes come, and says why when headers are too long.

    early: what was read of it before, and comes first.
    """

    peer: Peer | None = None
    early = b""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        if self.early:
            count: int | None = min(len(self.early), len(buf))
            buf[:count], self.early = self.early[:count], self.early[count:]
        else:
            count = super().read_from_fd(buf)
        if count and self.peer is not None:
            self.peer.heard()
        return count

    def close(
        self,
        exc_info: bool
        | BaseException
        | tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
        | None = False,
    ) -> None:
        reads_headers = self.peer is not None and not self.peer.headers_done
        if isinstance(exc_info, UnsatisfiableReadError) and reads_headers and not self.closed() and not self.writing():
            with contextlib.suppress(OSError):
                self.socket.send(_TOO_LONG_HEAD + _TOO_LONG)
        super().close(exc_info)


class Crowd:
    """All connections of one listening socket. When it is full, who has idled longest makes room."""

    def __init__(self, listener: socket.socket, limits: Limits, requests: Callable[[Crowd], Requests]) -> None:
        self.limits = limits
        self.bodies = 0
        self._listener = listener
        self._delegate = requests(self)
        self._peers: set[Peer] = set()
        self._idle: dict[Peer, None] = {}
        self._parameters = HTTP1ConnectionParameters(max_header_size=limits.header_bytes, chunk_size=64 << 10)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def open(self) -> None:
        """Begin to accept. The listener stays the caller's."""
        self._listener.setblocking(False)
        self._accept_on()
        self._sweep()

    def stop_accepting(self) -> None:
        """Accept nobody new; safe to repeat."""
        asyncio.get_running_loop().remove_reader(self._listener)
        for timer in self._timers.values():
            timer.cancel()

    def close(self) -> None:
        """Close every connection."""
        for peer in list(self._peers):
            peer.close()

    def moved(self, peer: Peer) -> None:
        """Note whether a peer idles; those that began earliest stand first."""
        self._idle.pop(peer, None)
        if peer.phase is Phase.IDLE:
            self._idle[peer] = None

    def gone(self, peer: Peer) -> None:
        """A connection has ended."""
        self._peers.discard(peer)
        self._idle.pop(peer, None)

    # --- accepting -----------------------------------------------------------------------------------------------

    def _accept_on(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF:
                    raise
                self._catch_breath()
                return
            self._take(connection)

    def _catch_breath(self) -> None:
        """Out of descriptors: give one back, and leave the queue alone for a moment instead of spinning on it."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._make_room()
        self._timers["accept"] = loop.call_later(REST_S, self._accept_on)

    def _take(self, connection: socket.socket) -> None:
        if len(self._peers) >= self.limits.connections and not self._make_room():
            connection.close()
            return
        connection.setblocking(False)
        peer = Peer(self)
        self._peers.add(peer)
        peer.reader = self._delegate.begin(peer, connection)

    def read_on(self, peer: Peer, connection: socket.socket, early: bytes, unsent: bytes) -> None:
        """Have Tornado read a connection from now on. early: what was read already; unsent: of the last answer."""
        stream = PeerStream(connection, max_buffer_size=4 * self.limits.header_bytes, read_chunk_size=16 << 10)
        stream.peer, stream.early, peer.reader = peer, early, stream

        def serve(written: asyncio.Future[None] | None = None) -> None:
            if written is None or written.exception() is None:
                HTTP1ServerConnection(stream, self._parameters, peer).start_serving(self._delegate)

        if not unsent:
            serve()
            return
        peer.hand_over()
        stream.set_close_callback(lambda: self.gone(peer))
        asyncio.ensure_future(stream.write(unsent)).add_done_callback(serve)

    def _make_room(self) -> bool:
        """Close the connection that has idled longest; False when all are at work."""
        longest = next(iter(self._idle), None)
        if longest is None:
            return False
        self.gone(longest)
        longest.close()
        return True

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for peer in [each for each in self._peers if each.until is not None and each.until <= now]:
            peer.close()
        self._timers["sweep"] = loop.call_later(SWEEP_S, self._sweep)
