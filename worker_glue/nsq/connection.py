"""One connection to one nsqd that reads one channel.

pynsq's connections need a Tornado loop; it runs in a thread of its own that nobody else sees. Its Reader is not used:
it dials whatever nsqlookupd answers, waits 15 s before it connects again, and backs off as a whole after one requeue.
Source: NSQ's TCP protocol spec, and pynsq 0.9.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import nsq

CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_S = 10
SILENCE_S = 2.5 * HEARTBEAT_S
IN_FLIGHT = 100
OUTPUT_WAIT_MS = 25
"""How long nsqd may gather messages before it sends them; 250 ms by default."""
FRAME_BYTES_MAX = 2 << 20
READ_AHEAD_BYTES = 1 << 17
HARMLESS = (b"E_FIN_FAILED", b"E_REQ_FAILED", b"E_TOUCH_FAILED")
"""Errors of one message (its time was up, another has it now) after which a connection goes on."""
THREAD = "nsq-reader"


def _not_ours(record: logging.LogRecord) -> bool:
    return not (record.threadName or "").startswith(THREAD)


# What ends a connection is told by Broken: nothing of it goes to the log by way of the libraries.
logging.getLogger("nsq").addHandler(logging.NullHandler())
logging.getLogger("nsq").propagate = False
for _library in ("tornado.general", "tornado.application", "asyncio"):
    logging.getLogger(_library).addFilter(_not_ours)


class Broken(Exception):
    """A connection is not to be used any more; the text says why."""


class Connection(nsq.AsyncConn):  # type: ignore[misc]  # pynsq has no types
    """One connection to one nsqd that reads one channel. Used in the loop's thread only."""

    def __init__(self, host: str, port: int, take: Callable[[nsq.Message], None]) -> None:
        options = {"heartbeat_interval": HEARTBEAT_S, "output_buffer_timeout": OUTPUT_WAIT_MS}
        super().__init__(host, port, user_agent="worker_glue", **options)
        self._trouble = ""
        self._ended = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._command = b""
        self._heard_at = time.monotonic()
        self.on("data", self._look)  # before connect(), where pynsq adds its own: ours is asked first
        self.on("ready", lambda **_: self.send(self._command))
        self.on("response", self._answer)
        self.on("message", lambda message, **_: take(message))
        self.on("error", self._on_error)
        self.on("close", self._on_close)

    async def subscribe(self, command: bytes) -> None:
        """Connect, subscribe, and let messages come. Raises Broken."""
        self._command = command
        try:
            self.connect()
            self.stream.max_buffer_size = FRAME_BYTES_MAX + READ_AHEAD_BYTES  # Tornado's default is 100 MB
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._subscribed.wait()
        except TimeoutError:
            self.drop(f"no answer within {CONNECT_TIMEOUT_S:g} s")
        except OSError as error:
            self.drop(str(error.strerror or error).lower())
        self._check()
        self.send_rdy(IN_FLIGHT)

    async def until_broken(self) -> None:
        """Wait for the end of the connection, and raise it as Broken."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._ended.wait()
            if time.monotonic() - self._heard_at > SILENCE_S:
                self.drop(f"nothing came for {SILENCE_S:g} s, not even a heartbeat")
            self._check()

    def drop(self, why: str) -> None:
        """Close the connection, once."""
        if self._trouble:
            return
        self._trouble = why
        self._ended.set()
        self._subscribed.set()
        if self.stream is not None:
            self.close()

    def _check(self) -> None:
        if self._trouble:
            raise Broken(self._trouble)

    # --- what pynsq tells

    def _look(self, data: bytes, **_: object) -> None:
        """Look at each frame before pynsq does, which would only log what it cannot read, and wait on."""
        self._heard_at = time.monotonic()
        kinds = (nsq.FRAME_TYPE_RESPONSE, nsq.FRAME_TYPE_ERROR, nsq.FRAME_TYPE_MESSAGE)
        if len(data) < 4 or int.from_bytes(data[:4], "big") not in kinds:
            self.drop("it sent something that is not NSQ")

    def _answer(self, data: bytes, **_: object) -> None:
        if data == b"OK":
            self._subscribed.set()

    def _on_error(self, error: Exception, **_: object) -> None:
        said = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error).encode()
        if not self.stream.closed() and not said.startswith(HARMLESS):
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


async def resolved(host: str, port: int) -> str:
    """Return an IP address of a host. Raises Broken."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    try:
        asked = in_thread(lambda: socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM))
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            found = await asked
    except (OSError, UnicodeError) as error:
        raise Broken("its name is not known") from error
    return str(found[0][4][0])
