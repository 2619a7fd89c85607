"""One connection to one nsqd that reads one channel.

pynsq's connections need a Tornado loop; it runs in a thread of its own that nobody else sees. Its Reader is not used:
it dials whatever nsqlookupd answers, waits 15 s before it connects again, backs off as a whole after one requeue, and
finishes a message silently after some attempts. Source: NSQ's TCP protocol spec, and pynsq 0.9.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import nsq

OUTPUT_WAIT_MS = 25
"""How long nsqd may gather messages before it sends them; 250 ms by default."""
FRAME_BYTES_MAX = 2 << 20
READ_AHEAD_BYTES = 1 << 17
HARMLESS = (b"E_FIN_FAILED", b"E_REQ_FAILED", b"E_TOUCH_FAILED")
"""Errors of one message (its time was up, another has it now) after which a connection goes on."""
THREAD = "nsq-reader"
MESSAGE_TIMEOUT_S = 60.0
HOLD_MAX_S = 900.0
"""nsqd's defaults, should it not tell."""
_HEADER = struct.Struct(">iqH16s")
_ID = re.compile(rb"[0-9a-f]{16}")


def _not_ours(record: logging.LogRecord) -> bool:
    return not (record.threadName or "").startswith(THREAD)


# What ends a connection is told by Broken: nothing of it goes to the log by way of the libraries.
logging.getLogger("nsq").addHandler(logging.NullHandler())
logging.getLogger("nsq").propagate = False
for _library in ("tornado.general", "tornado.application", "asyncio"):
    logging.getLogger(_library).addFilter(_not_ours)


class Broken(Exception):
    """A connection is not to be used any more; the text says why."""


class Patience(NamedTuple):
    """How long is waited. connect_s: for a name, and for a connection; heartbeat_s: nsqd sends one that often, at least
    every second; pause_s, pause_max_s: between two connections, doubled each time.
    """

    connect_s: float = 5.0
    heartbeat_s: int = 10
    pause_s: float = 0.5
    pause_max_s: float = 15.0

    @property
    def silence_s(self) -> float:
        """After which a connection without a heartbeat leads nowhere."""
        return 2.5 * self.heartbeat_s


PATIENCE = Patience()


class Introduction(NamedTuple):
    """What nsqd is told. name: shown in its statistics, "" = this host's. message_timeout_s: None = nsqd's own."""

    name: str = ""
    user_agent: str = "worker_glue"
    message_timeout_s: float | None = None


class Receiver(Protocol):
    """Gets what connections bring, in the loop's thread; returns at once."""

    def arrived(self, connection: Connection, id_: bytes, attempts: int, body: bytes) -> None:
        """A message has come."""

    def refused(self, connection: Connection, id_: bytes) -> None:
        """nsqd does not have this message in flight for us (any more)."""

    def gone(self, connection: Connection) -> None:
        """The connection has ended, and all its messages with it."""


class Connection(nsq.AsyncConn):  # type: ignore[misc]  # pynsq has no types
    """One connection to one nsqd that reads one channel. Used in the loop's thread only.

    message_timeout_s, hold_max_s: as nsqd answered, how long it waits after a message or a touch, and at most.
    """

    def __init__(
        self, host: str, port: int, receiver: Receiver, introduction: Introduction, patience: Patience
    ) -> None:
        super().__init__(
            host,
            port,
            heartbeat_interval=patience.heartbeat_s,
            output_buffer_timeout=OUTPUT_WAIT_MS,
            user_agent=introduction.user_agent,
            msg_timeout=introduction.message_timeout_s,
            hostname=introduction.name or None,
        )
        self.message_timeout_s = introduction.message_timeout_s or MESSAGE_TIMEOUT_S
        self.hold_max_s = HOLD_MAX_S
        self._name = introduction.name
        self._receiver = receiver
        self._patience = patience
        self._trouble = ""
        self._ended = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._left = asyncio.Event()
        self._command = b""
        self._heard_at = time.monotonic()
        self.on("identify", self._introduce)
        self.on("identify_response", self._learn)
        self.on("ready", lambda **_: self.send(self._command))
        self.on("response", self._answer)
        self.on("error", self._on_error)
        self.on("close", self._on_close)

    async def subscribe(self, command: bytes) -> None:
        """Connect and subscribe; messages come once ready() has asked for some. Raises Broken."""
        self._command = command
        try:
            self.connect()
            self.stream.max_buffer_size = FRAME_BYTES_MAX + READ_AHEAD_BYTES  # Tornado's default is 100 MB
            async with asyncio.timeout(self._patience.connect_s):
                await self._subscribed.wait()
        except TimeoutError:
            self.drop(f"no answer within {self._patience.connect_s:g} s")
        except OSError as error:
            self.drop(str(error.strerror or error).lower())
        self._check()

    async def until_broken(self) -> None:
        """Wait for the end of the connection, and raise it as Broken."""
        while True:
            left_s = self._heard_at + self._patience.silence_s - time.monotonic()
            if left_s <= 0:
                self.drop(f"nothing came for {self._patience.silence_s:g} s, not even a heartbeat")
            self._check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._ended.wait()

    def ready(self, count: int) -> None:
        """Have nsqd send as long as less than `count` messages are in flight."""
        if not self._trouble:
            self.send_rdy(min(count, self.max_rdy_count))

    def tell(self, commands: bytes) -> None:
        """Send commands that nsqd answers only if they fail; nothing once the connection has ended."""
        if not self._trouble:
            with contextlib.suppress(OSError):  # the close is told by _on_close
                self.send(commands)

    async def leave(self) -> None:
        """Have no more messages sent; returns once nsqd has done all that it was told before, or the end has come."""
        self.tell(b"CLS\n")
        while not (self._left.is_set() or self._trouble):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._left.wait()

    def drop(self, why: str) -> None:
        """Close the connection, once."""
        if self._trouble:
            return
        self._trouble = why
        self._ended.set()
        self._subscribed.set()
        self._receiver.gone(self)
        if self.stream is not None:
            self.close()

    def _check(self) -> None:
        if self._trouble:
            raise Broken(self._trouble)

    # --- what pynsq tells

    def _introduce(self, data: dict[str, Any], **_: object) -> None:
        if self._name:
            data["client_id"] = self._name  # pynsq cuts it at a dot

    def _learn(self, data: object, **_: object) -> None:
        """Take what nsqd answers to our introduction; times come in ms."""
        if not isinstance(data, dict):
            self.drop("it sent something that is not NSQ")
            return
        self.message_timeout_s = _seconds(data.get("msg_timeout"), self.message_timeout_s)
        self.hold_max_s = _seconds(data.get("max_msg_timeout"), HOLD_MAX_S)

    def _on_data(self, data: bytes, **more: object) -> None:
        """Take messages here; pynsq makes an object of many parts of each, and only logs what it cannot read."""
        self._heard_at = time.monotonic()
        kind = int.from_bytes(data[:4], "big") if len(data) >= 4 else -1
        if kind == nsq.FRAME_TYPE_MESSAGE and len(data) >= _HEADER.size:
            _, _, attempts, id_ = _HEADER.unpack_from(data)
            if not self._subscribed.is_set():
                self.drop("it sent a message that nobody asked for")
            elif not self._trouble:
                self._receiver.arrived(self, id_, attempts, data[_HEADER.size :])
        elif kind in (nsq.FRAME_TYPE_RESPONSE, nsq.FRAME_TYPE_ERROR):
            super()._on_data(data, **more)
        else:
            self.drop("it sent something that is not NSQ")

    def _answer(self, data: bytes, **_: object) -> None:
        if data == b"OK":
            self._subscribed.set()
        elif data == b"CLOSE_WAIT":
            self._left.set()

    def _on_error(self, error: Exception, **_: object) -> None:
        said = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error).encode()
        if said.startswith(HARMLESS):
            found = _ID.search(said)
            if found is not None:
                self._receiver.refused(self, found[0])
        elif not self.stream.closed():
            self.drop(f"it answered {said[:100].decode('ascii', 'backslashreplace')!a}")

    def _on_close(self, **_: object) -> None:
        error = self.stream.error if self.stream is not None else None
        reason = getattr(error, "strerror", None) or (str(error) if error is not None else "")
        self.drop(reason.lower() or "it closed the connection")

    # --- what pynsq leaves open

    def _connect_callback(self, fut: asyncio.Future[object]) -> None:
        """A connection that is refused ends in an exception that nobody catches; _on_close has told it already."""
        if fut.exception() is None:
            super()._connect_callback(fut)

    def _read_bytes(self, size: int, callback: Callable[[asyncio.Future[bytes]], None]) -> None:
        """pynsq believes any length that a frame claims, negative ones too."""
        if 0 <= size <= FRAME_BYTES_MAX:
            super()._read_bytes(size, callback)
        else:
            self.drop("it sent something that is not NSQ")


def _seconds(told_ms: object, otherwise: float) -> float:
    return told_ms / 1000 if isinstance(told_ms, (int, float)) and told_ms > 0 else otherwise


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work in a thread that nobody has to wait for at the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001  (handed to whoever waits)
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name=f"{THREAD}-lookup", daemon=True).start()
    return await done


async def resolved(host: str, port: int, timeout_s: float) -> str:
    """Return an IP address of a host, of version 4 if it has one. Raises Broken."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    try:
        asked = in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        async with asyncio.timeout(timeout_s):
            found = await asked
    except (OSError, UnicodeError) as error:
        raise Broken("its name is not known") from error
    return str(min(found, key=lambda each: each[0] != socket.AF_INET)[4][0])
