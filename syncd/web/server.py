"""The server of the local API: one thread with a loop of its own, on the Unix socket and, where configured, on TCP.

    service -> Api -> Lane (plain requests), Exchange (any other) -> Crowd (all connections of a listener) -> this

resolve, health and most leases are answered in the loop's thread: they are bound to take less than handing them to
another thread and back. Everything else is called in a few threads (calls.py); waiting for events or for a file costs
none.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from syncd.core.errors import SyncdError
from syncd.web.api import Api
from syncd.web.assets import load
from syncd.web.calls import Calls
from syncd.web.exchange import Exchanges
from syncd.web.feed import Feed
from syncd.web.guard import Door, SocketDoor, TcpDoor, allowed_hosts
from syncd.web.peers import Crowd, Limits
from syncd.web.port import Service
from syncd.web.sockets import UnixListener, listen_tcp

THREAD = "api"
START_S = 10.0
LAST_ANSWERS_S = 0.5
"""How long those who wait may take to read that the daemon stops."""
CLOSE_S = 2.0


class ApiServer:
    """Serves a Service until close(). start() and close() from one thread.

    socket_path: STATE/run/syncd.sock; its folder is made. listen: (host, port) for TCP, port 0 takes a free one; then
    token is needed: read at each request, so that a changed one counts. on_bug: gets what nobody foresaw, and a token
    that cannot be read; from the server's thread. on_answer: told of each answer: its call, like
    "POST /api/v1/leases/*" ("other": there is no such call), and its status; in the server's thread, so quickly.
    """

    def __init__(
        self,
        service: Service,
        socket_path: Path,
        *,
        listen: tuple[str, int] | None = None,
        token: Callable[[], str] | None = None,
        allowed_hosts: Sequence[str] = (),
        on_bug: Callable[[BaseException], None] = lambda _: None,
        on_answer: Callable[[str, int], None] = lambda _route, _status: None,
        limits: Limits | None = None,
    ) -> None:
        self._service = service
        self._socket_path = socket_path
        self._listen = listen
        self._token = token
        self._allowed_hosts = tuple(allowed_hosts)
        self._on_bug = on_bug
        self._on_answer = on_answer
        self._limits = limits or _fitting(Limits())
        self._unix: UnixListener | None = None
        self._doors: list[tuple[socket.socket, Door]] = []
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] | None = None
        self.port: int | None = None

    def start(self) -> None:
        """Listen, and answer from now on. Raises: ConfigError (an address or the socket's place cannot be had)."""
        self._unix = UnixListener(self._socket_path)
        self._doors = [(self._unix.socket, SocketDoor())]
        try:
            if self._listen is not None:
                self._open_tcp(*self._listen)
            self._begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop within 2 s: who waits is told so, connections are closed, the socket's name goes. Safe to repeat."""
        if self._unix is not None:
            self._unix.unlink()  # first, so that nobody new comes
        if self._thread is not None:
            if self._stop is not None:
                self._stop()
            self._thread.join(CLOSE_S)
        for listener, _door in self._doors:
            listener.close()

    def _open_tcp(self, host: str, port: int) -> None:
        listener = listen_tcp(host, port)
        self.port = int(listener.getsockname()[1])
        self._doors.append((listener, TcpDoor(allowed_hosts(host, self.port, self._allowed_hosts), self._token)))

    def _begin(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name=THREAD, daemon=True)
        self._thread.start()
        if not started.wait(START_S) or self._stop is None:
            raise SyncdError("the API server did not start")

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:  # noqa: BLE001 (the thread's end: nobody else would hear of it)
            self._on_bug(error)
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, context: self._on_bug(_error_of(context)))
        calls = Calls()
        feed = Feed(self._service, calls)
        api = Api(self._service, calls, feed, load(), self._on_bug)
        tasks: set[asyncio.Task[None]] = set()
        crowds = [self._crowd(listener, door, api, tasks) for listener, door in self._doors]
        try:
            feed.open()
            for crowd in crowds:
                crowd.open()
            self._stop = _from_outside(loop, stop)
            started.set()
            await stop.wait()
        finally:
            feed.close()
            for crowd in crowds:
                crowd.stop_accepting()
            await _end(tasks)
            for crowd in crowds:
                crowd.close()
            calls.close()

    def _crowd(self, listener: socket.socket, door: Door, api: Api, tasks: set[asyncio.Task[None]]) -> Crowd:
        return Crowd(
            listener, self._limits, lambda crowd: Exchanges(api, door, crowd, tasks, self._on_bug, self._on_answer)
        )


def _from_outside(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    """Return what sets the event from another thread; nothing happens when the loop has ended."""

    def set_it() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    return set_it


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Have everybody who waits answered, and give the answers a moment to be read."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting, timeout=LAST_ANSWERS_S)


def _fitting(limits: Limits) -> Limits:
    """Return limits that leave descriptors to the rest of the daemon: two listeners take at most half of them."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return limits._replace(connections=max(8, min(limits.connections, soft // 4)))


def _error_of(context: dict[str, object]) -> BaseException:
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))
