"""The lane of plain requests: one connection as long as each of its requests comes whole, in the plainest form.

So our own client asks, thousands of times: one read, one answer in one write. Whatever else comes (a part of a request,
two at once, a header that is not expected, what is to be refused), Tornado reads from its first byte, and the
connection stays with it: what is odd or hostile has one reader. It takes five times as long (measured).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Coroutine
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.web.answers import API_HEADERS, STATUS_TEXT, STOPPING, Answer, Headers, refused
from syncd.web.api import Call, Endpoint

if TYPE_CHECKING:
    from syncd.web.exchange import Exchanges
    from syncd.web.peers import Peer

PLAIN_MAX = 16 << 10
"""Bytes of a plain request. What all connections together can hold like this stays below Limits.bodies_bytes."""
TARGET_MAX = 1 << 10
_PLAIN = re.compile(
    rb"(GET|POST|PUT|DELETE) (/[!-~]{0,%d}) HTTP/1\.1\r\n((?:[A-Za-z-]+: [!-~ ]+\r\n)+)\r\n" % TARGET_MAX
)
_HEADERS = frozenset({"Host", "Content-Type", "Content-Length", "Authorization", "User-Agent", "Accept"})
_DIGITS = 5
_BODILESS = 304


class Plain(NamedTuple):
    """A plain request, taken apart."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def plain(got: bytes) -> Plain | None:
    """Return the one request that was read, None where it is not plain, not whole, or not alone (RFC 9112)."""
    head = _PLAIN.match(got)
    if head is None:
        return None
    headers: dict[str, str] = {}
    for line in head[3][:-2].decode("ascii").split("\r\n"):
        name, _, value = line.partition(": ")
        if name not in _HEADERS or name in headers:
            return None
        headers[name] = value
    body = got[head.end() :]
    length = headers.get("Content-Length", "0")
    if "Host" not in headers or not length.isdigit() or len(length) > _DIGITS or int(length) != len(body):
        return None
    return Plain(head[1].decode("ascii"), head[2].decode("ascii"), headers, body)


class Lane:
    """One connection. In the loop's thread; until it is closed, or handed on to Tornado."""

    def __init__(self, all_of_them: Exchanges, peer: Peer, connection: socket.socket) -> None:
        self._all = all_of_them
        self._peer = peer
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._early = b""
        self._ours = True
        self._loop.add_reader(connection, self._readable)

    def close(self) -> None:
        """Close the connection; who waits for an answer has hung up. Safe to repeat."""
        if not self._ours:
            return
        self._ours = False
        self._loop.remove_reader(self._connection)
        self._connection.close()
        self._all.crowd.gone(self._peer)
        if self._task is not None:
            self._task.cancel()

    def _readable(self) -> None:
        try:
            got = self._connection.recv(PLAIN_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            got = b""
        if not got:
            self.close()
        elif self._task is not None:  # the next request came early: it waits, and nothing more is read
            self._early = got
            self._loop.remove_reader(self._connection)
        else:
            self._take(got)

    def _take(self, got: bytes) -> None:
        try:
            found = self._find(got)
        except Exception:  # noqa: BLE001 (the token cannot be read, or a bug: who reads it on tells, and answers)
            found = None
        if found is None:
            self._hand_on(got)
            return
        route, endpoint, call = found
        given = self._all.api.answer(endpoint, call)
        if isinstance(given, Answer):
            self._send(given, route)
            return
        self._peer.serve()
        self._task = task = asyncio.create_task(self._send_later(given, route))
        self._all.tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, given))

    def _find(self, got: bytes) -> tuple[str, Endpoint, Call] | None:
        """Return what is to be called; None for what is not plain, or may not pass."""
        asked = plain(got)
        if asked is None:
            return None
        crowd = self._all.crowd
        path, _, query = asked.target.partition("?")
        found = self._all.api.find(asked.method, path)
        endpoint = found.endpoint
        if endpoint is None or self._all.door.refuse(asked.headers, found.access) is not None:
            return None
        if len(asked.body) > endpoint.body_max or crowd.bodies + len(asked.body) > crowd.limits.bodies_bytes:
            return None
        return found.route, endpoint, Call(found.name, query, asked.headers, asked.body)

    # --- answering -----------------------------------------------------------------------------------------------

    async def _send_later(self, given: Coroutine[Any, Any, Answer], route: str) -> None:
        try:
            answer = await given
        except asyncio.CancelledError:
            answer = refused(STOPPING)  # of the server, or of the wish; where the caller hung up, this goes nowhere
        self._send(answer, route)

    def _ended(self, task: asyncio.Task[None], given: Coroutine[Any, Any, Answer]) -> None:
        given.close()  # it never began where the task was cancelled before its first step
        self._all.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._all.on_bug(error)

    def _send(self, answer: Answer, route: str) -> None:
        self._task = None
        self._all.on_answer(route, answer.status)
        if not self._ours:
            answer.goes_nowhere()
            return
        told = _head(answer) + answer.body
        try:
            sent = self._connection.send(told)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            answer.goes_nowhere()
            return
        self._peer.rest()
        if self._early or sent < len(told):
            self._hand_on(self._early, told[sent:])

    def _hand_on(self, early: bytes, unsent: bytes = b"") -> None:
        self._ours = False
        self._loop.remove_reader(self._connection)
        self._all.crowd.read_on(self._peer, self._connection, early, unsent)


def _head(answer: Answer) -> bytes:
    """Return an answer's status line and headers, as Tornado writes them."""
    if answer.headers is API_HEADERS:
        begin = _usual(answer.status, answer.content_type)
    else:
        begin = _begin(answer.status, answer.headers, answer.content_type)
    return begin if answer.status == _BODILESS else b"%b%d\r\n\r\n" % (begin, len(answer.body))


@lru_cache(64)
def _usual(status: int, content_type: str) -> bytes:
    return _begin(status, API_HEADERS, content_type)


def _begin(status: int, headers: Headers, content_type: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {STATUS_TEXT[status]}", *(f"{name}: {value}" for name, value in headers)]
    if status == _BODILESS:
        return "\r\n".join([*lines, "", ""]).encode("latin-1")
    return "\r\n".join([*lines, f"Content-Type: {content_type}", "Content-Length: "]).encode("latin-1")
