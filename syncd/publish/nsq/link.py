"""One connection to one nsqd, and the thread it lives in.

pynsq's connections need a Tornado loop; it runs in a thread of its own that nobody else sees. pynsq's Writer and Reader
are not used: a Writer credits replies to the wrong publish once there was an error, both wait 15 s before they connect
again, and neither says why a connection ended. Source: NSQ's TCP protocol spec, and pynsq 0.9.1.
Waiting is bounded by asyncio.timeout(): in Python 3.11 wait_for() may swallow a cancellation (close() then hangs).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import nsq

CLOSE_TIMEOUT_S = 5.0
ADDRESSES_TRIED = 2
"""Of those that a name has."""
HEARTBEAT_S = 10
MESSAGE_BYTES_MAX = 1 << 20
FRAME_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""Of a frame from nsqd: a message and its header at most."""
READ_AHEAD_BYTES = 1 << 17

T = TypeVar("T")
Take = Callable[[nsq.Message], None]


class Nsqd(NamedTuple):
    """Where an nsqd is dialled."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Patience(NamedTuple):
    """How long is waited. connect_s: for one address, its name, the TCP connection and IDENTIFY, each; reply_s: for the
    answer to a command; silence_s: nsqd sends heartbeats, so a connection without any leads nowhere.
    """

    connect_s: float = 5.0
    reply_s: float = 10.0
    silence_s: float = 2.5 * HEARTBEAT_S


PATIENCE = Patience()


class Broken(Exception):
    """A connection is not to be used any more; the text says why."""


# --- the loop's thread -----------------------------------------------------------------------------------------------


class LoopThread:
    """An event loop in a thread of its own; start() and close() from any thread. at_end: called by the loop's."""

    def __init__(self, name: str, at_end: Callable[[], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._at_end = at_end
        self._thread = threading.Thread(target=self._run, name=f"{_THREADS}{name}", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have the loop work; the result is for the caller's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what is under way and end the thread; safe to repeat."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._wind_up())
            self._loop.close()

    async def _wind_up(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._at_end()
        await asyncio.sleep(0)  # what the connections' closing has still to do


_THREADS = "nsqd-"


def _not_ours(record: logging.LogRecord) -> bool:
    return not (record.threadName or "").startswith(_THREADS)


# What ends a connection is told by Broken: nothing of it goes to the log by way of the libraries.
logging.getLogger("nsq").addHandler(logging.NullHandler())
logging.getLogger("nsq").propagate = False
for _library in ("tornado.general", "tornado.application", "asyncio"):
    logging.getLogger(_library).addFilter(_not_ours)


# --- one connection --------------------------------------------------------------------------------------------------


class Link(nsq.AsyncConn):  # type: ignore[misc]  # pynsq has no types
    """One connection to one nsqd, with at most one command waiting for its reply. Used in the loop's thread only.

    Once `trouble` is set the connection is closed and stays so: an OK that follows an error could be anything's.
    """

    def __init__(self, host: str, port: int, patience: Patience, take: Take | None) -> None:
        super().__init__(host, port, heartbeat_interval=HEARTBEAT_S, user_agent="syncd")
        self._patience = patience
        self.trouble = ""
        self.ended = asyncio.Event()
        self._ready = asyncio.Event()
        self._take = take
        self._reply: asyncio.Future[bytes] | None = None
        self._heard_at = time.monotonic()
        self.on("data", self._look)  # before connect(), where pynsq adds its own: ours is asked first
        self.on("ready", lambda **_: self._ready.set())
        self.on("response", self._answer)
        self.on("message", self._receive)
        self.on("error", self._on_error)
        self.on("close", self._on_close)

    async def open(self) -> None:
        """Connect and introduce ourselves. Raises Broken."""
        try:
            self.connect()
        except OSError as error:  # no descriptor left, no such address family
            self.drop(str(error.strerror or error).lower())
            self.check()
        self.stream.max_buffer_size = FRAME_BYTES_MAX + READ_AHEAD_BYTES  # Tornado's default is 100 MB
        await self._until_ready()

    async def ask(self, command: bytes) -> None:
        """Send a command and wait for its OK. Raises Broken."""
        self.check()
        self._reply = asyncio.get_running_loop().create_future()
        try:
            self.send(command)
            async with asyncio.timeout(self._patience.reply_s):
                reply = await self._reply
        except TimeoutError:
            self.drop(f"no answer within {self._patience.reply_s:g} s")
        except OSError as error:
            self.drop(str(error) or "the connection ended")
        except asyncio.CancelledError:
            self.drop("the wait for its answer was given up")
            raise
        else:
            if reply != b"OK":
                self.drop(f"it answered {_shown(reply)}")
        finally:
            self._reply = None
        self.check()

    def check(self) -> None:
        """Raise Broken unless the connection can be used."""
        if not self.trouble and time.monotonic() - self._heard_at > self._patience.silence_s:
            self.drop(f"nothing came for {self._patience.silence_s:g} s, not even a heartbeat")
        if self.trouble:
            raise Broken(self.trouble)

    def drop(self, why: str) -> None:
        """Close the connection, once; whoever waits for it goes on."""
        if self.trouble:
            return
        self.trouble = why
        self.ended.set()
        self._ready.set()
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(b"")
        if self.stream is not None:
            self.close()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(self._patience.connect_s):
                await self._ready.wait()
        except TimeoutError:
            self.drop(f"no answer within {self._patience.connect_s:g} s")
        except asyncio.CancelledError:
            self.drop("the wait for it was given up")
            raise
        self.check()

    # --- what pynsq tells

    def _look(self, data: bytes, **_: object) -> None:
        """Look at each frame before pynsq does, which would only log what it cannot read, and wait on."""
        self._heard_at = time.monotonic()
        kinds = (nsq.FRAME_TYPE_RESPONSE, nsq.FRAME_TYPE_ERROR, nsq.FRAME_TYPE_MESSAGE)
        if len(data) < 4 or int.from_bytes(data[:4], "big") not in kinds:
            self.drop("it sent something that is not NSQ")

    def _answer(self, data: bytes, **_: object) -> None:
        if not self._ready.is_set():
            return  # the answer to IDENTIFY, which pynsq reads itself
        if self._reply is None or self._reply.done():
            self.drop(f"it answered {_shown(data)} to nothing")
        else:
            self._reply.set_result(data)

    def _receive(self, message: nsq.Message, **_: object) -> None:
        if self._take is None:
            self.drop("it sent a message that nobody asked for")
        elif not self.trouble:
            self._take(message)

    def _on_error(self, error: Exception, **_: object) -> None:
        said = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error).encode()
        if not self.stream.closed():
            self.drop(f"it answered {_shown(said)}")

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


def _shown(reply: bytes) -> str:
    """Return a reply as it can be printed, shortened."""
    text = reply[:100].decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) or "nothing"


async def connected(address: Nsqd, patience: Patience, take: Take | None = None) -> Link:
    """Return an open connection; a name's addresses are tried in their order. Raises Broken."""
    trouble = Broken("its name has no address")
    for host in await _resolved(address, patience.connect_s):
        link = Link(host, address.port, patience, take)
        try:
            await link.open()
        except Broken as error:
            trouble = error
        else:
            return link
    raise trouble


async def _resolved(address: Nsqd, timeout_s: float) -> list[str]:
    """Return the IP addresses of a host, looked up in a thread that nobody has to wait for. Raises Broken."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(address.host))]
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def tell(hosts: list[str]) -> None:
        if not found.done():
            found.set_result(hosts)

    def look_up() -> None:
        hosts: list[str] = []
        with contextlib.suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            hosts = list(dict.fromkeys(str(info[4][0]) for info in infos))[:ADDRESSES_TRIED]
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, hosts)

    threading.Thread(target=look_up, name=f"{_THREADS}name", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            hosts = await found
    except TimeoutError:
        raise Broken(f"its name was not found within {timeout_s:g} s") from None
    if not hosts:
        raise Broken("its name is not known")
    return hosts
