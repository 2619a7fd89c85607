"""Messages to nsqd, believed only when it said OK to each.

Blocking, without pynsq's Writer, which credits replies to the wrong publish once there was an error. Source: NSQ's TCP
protocol spec.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Self

import nsq

from syncd.core.dialling import HostPort, host_port
from syncd.core.errors import ConfigError, PublishFailed

DELAY_MAX_S = 3_600.0
"""nsqd's limit by default; one that allows less is asked for less."""
MESSAGE_BYTES_MAX = 1 << 20
BATCH_BYTES_MAX = 1 << 20
BATCH_MESSAGES_MAX = 1_000
IDLE_MAX_S = 30.0
"""A connection that was idle for longer is made anew: what lies between may have forgotten it without a word."""
_RANGE = re.compile(rb"E_INVALID DPUB timeout \d+ out of range 0-(\d+)")


class Waits(NamedTuple):
    """How long is waited: for a connection, and for nsqd's answer, its turn among other threads included."""

    connect_s: float = 5.0
    reply_s: float = 10.0


WAITS = Waits()


class Producer:
    """ports.Publisher on nsqd: one message in flight, and no connection before it is needed.

    addresses: each is tried once, from the one that worked last; or what returns them, where only nsqlookupd knows. A
    publish waits reply_s for each address until it is its turn, then for each at most twice as long as a connection,
    its greeting and a reply may take. name: what nsqd's statistics show. Thread-safe.
    """

    def __init__(
        self, addresses: Sequence[HostPort] | Callable[[], Sequence[HostPort]], *, name: str = "", waits: Waits = WAITS
    ) -> None:
        if not addresses:
            raise ConfigError("no nsqd to publish to", hint="set NSQD_ADDRESS, or nsq.nsqd_tcp_address")
        self._find: Callable[[], Sequence[HostPort]] = addresses if callable(addresses) else lambda: addresses
        self._last: HostPort | None = None
        self._name = name
        self._waits = waits
        self._link: _Link | None = None
        self._closed = False
        self._turn = threading.Lock()

    def publish(self, topic: str, body: bytes, delay_s: float = 0) -> None:
        """See ports.Publisher. Raises PublishFailed."""
        _check(topic, body)
        if delay_s <= 0:
            self._send(lambda _: nsq.protocol.pub(topic, body))
            return
        wanted_ms = int(1000 * min(delay_s, DELAY_MAX_S))
        self._send(lambda most_ms: nsq.protocol.dpub(topic, min(wanted_ms, most_ms), body))

    def publish_many(self, topic: str, bodies: Iterable[bytes]) -> None:
        """Publish in batches. Raises PublishFailed, when some may have been taken all the same."""
        for batch in _batches(topic, bodies):
            self._send(partial(_same, nsq.protocol.mpub(topic, batch)))

    def close(self) -> None:
        """End the connection, and a publish that is under way; safe to repeat."""
        self._closed = True
        link = self._link
        if link is not None:
            link.interrupt()
        if self._turn.acquire(timeout=self._waits.connect_s + self._waits.reply_s):
            self._drop()
            self._turn.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, command: Callable[[int], bytes]) -> None:
        """Send what `command` makes of the longest delay that nsqd takes, in ms."""
        addresses = self._find()
        wait_s = self._waits.reply_s * max(1, len(addresses))  # whose turn it is may have to leave one that hangs
        if not self._turn.acquire(timeout=wait_s):
            raise _not_taken(f"no turn within {wait_s:g} s")
        try:
            troubles = []
            for address in sorted(addresses, key=lambda each: each != self._last):
                try:
                    self._ask(address, command)
                except _Failed as error:
                    troubles.append(f"{host_port(address)}: {error}")
                else:
                    self._last = address
                    return
            raise _not_taken("; ".join(troubles) or "no nsqd is known yet")
        finally:
            self._turn.release()

    def _ask(self, address: HostPort, command: Callable[[int], bytes]) -> None:
        """Ask one nsqd, and believe its OK only. Raises _Failed; the connection is gone then."""
        try:
            if not self._asked(address, command):
                self._link = self._linked(address)
                self._asked(address, command)
        except _Failed:
            self._drop()
            raise

    def _asked(self, address: HostPort, command: Callable[[int], bytes]) -> bool:
        """False: the connection there was had ended meanwhile, as after a restart. Raises _Failed."""
        kept = self._link is not None and self._link.address == address and self._link.fresh()
        link = self._link if kept and self._link is not None else self._linked(address)
        most_ms = int(1000 * DELAY_MAX_S)
        try:
            reply = link.ask(command(most_ms), self._waits.reply_s)
            range_ = _RANGE.match(reply)
            if range_ is not None:  # a fatal error: nsqd ends the connection
                link = self._linked(address)
                reply = link.ask(command(int(range_[1])), self._waits.reply_s)
        except _Gone:
            if kept:
                return False
            raise
        if reply != b"OK":
            raise _Failed(f"it answered {reply[:100].decode('ascii', 'backslashreplace')!a}")
        return True

    def _linked(self, address: HostPort) -> _Link:
        self._drop()
        if self._closed:
            raise _Failed("the producer was closed")
        self._link = _Link(address, self._name, self._waits)
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


class _Failed(Exception):
    """nsqd did not take it; the text says why."""


class _Gone(_Failed):
    """The connection has ended."""


class _Link:
    """One connection to one nsqd; a command, a reply. Raises _Failed."""

    def __init__(self, address: HostPort, name: str, waits: Waits) -> None:
        self.address = address
        self._used_at = time.monotonic()
        self._buffer = b""
        wishes: dict[str, object] = {"user_agent": "worker_glue", "heartbeat_interval": -1}
        if name:
            wishes |= {"client_id": name, "hostname": name}
        try:
            self._socket = socket.create_connection(address, timeout=waits.connect_s)
        except (OSError, UnicodeError) as error:
            raise _Gone(_why(error, waits.connect_s)) from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reply = self.ask(nsq.protocol.MAGIC_V2 + nsq.protocol.identify(wishes), waits.connect_s)
        except BaseException:
            self.close()
            raise
        if reply != b"OK":
            self.close()
            raise _Failed("its answer is not nsqd's")

    def fresh(self) -> bool:
        """Whether it may be used: not idle for long, and nothing has come meanwhile, such as its end."""
        if time.monotonic() - self._used_at > IDLE_MAX_S or self._buffer:
            return False
        try:
            return not select.select([self._socket], [], [], 0)[0]
        except (OSError, ValueError):  # closed, or too many descriptors for select()
            return False

    def ask(self, command: bytes, timeout_s: float) -> bytes:
        """Send a command and return its reply; an error's text is one too."""
        deadline = time.monotonic() + timeout_s
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(command)
            reply = self._reply(deadline)
        except OSError as error:
            kind = _Failed if isinstance(error, TimeoutError) else _Gone
            raise kind(_why(error, timeout_s)) from error
        self._used_at = time.monotonic()
        return reply

    def interrupt(self) -> None:
        """Have whoever waits for a reply go on; from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _reply(self, deadline: float) -> bytes:
        while True:
            size, kind = struct.unpack(">iI", self._take(8, deadline))
            if not 4 <= size <= MESSAGE_BYTES_MAX or kind not in (nsq.FRAME_TYPE_RESPONSE, nsq.FRAME_TYPE_ERROR):
                raise _Failed("it sent something that is not NSQ")
            reply = self._take(size - 4, deadline)
            if reply != b"_heartbeat_":
                return reply
            self._socket.sendall(nsq.protocol.nop())

    def _take(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise _Gone("it closed the connection")
            self._buffer += piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def _same(command: bytes, _most_ms: int) -> bytes:
    return command


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return str(getattr(error, "strerror", None) or error).lower()


def _not_taken(why: str) -> PublishFailed:
    return PublishFailed(f"nsqd did not take a message: {why}", hint="worker-glue doctor")


def _check(topic: str, body: bytes) -> None:
    if not nsq.valid_topic_name(topic):
        raise ConfigError(f'"{topic}" is no topic as NSQ takes them')
    if not 0 < len(body) <= MESSAGE_BYTES_MAX:
        raise PublishFailed(f"a message of {len(body):,} bytes cannot be sent: nsqd takes 1 to 1,048,576")


def _batches(topic: str, bodies: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for body in bodies:
        _check(topic, body)
        if batch and (len(batch) == BATCH_MESSAGES_MAX or size + len(body) > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += len(body)
    if batch:
        yield batch
