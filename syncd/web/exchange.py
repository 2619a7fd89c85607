"""One request and its answer: what may not pass is refused before its body is read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from syncd.core.errors import SyncdError
from syncd.web.answers import BUSY, STATUS_TEXT, STOPPING, Answer, bug, refused
from syncd.web.api import Api, Call, Endpoint
from syncd.web.guard import Door, Refusal
from syncd.web.lane import Lane
from syncd.web.peers import Closable, Crowd, Peer, Requests

DISCARDED_MAX = 64 << 10
"""A refused request's body is read up to here, so that the connection can go on; a longer one ends it."""
TARGET_MAX = 16 << 10
_UNBOUNDED = 1 << 62

_BIG = Refusal(413, "the body is longer than this call takes", "docs/api.md has the bounds")
_NO_TOKEN = Refusal(503, "the API's token cannot be read on the daemon's side", "syncd doctor")


OTHER = "other"
"""What a request that leads nowhere counts as."""


class Exchanges(Requests):
    """Gives each connection of one listener a Lane, and makes an Exchange of each request that is not plain."""

    def __init__(
        self,
        api: Api,
        door: Door,
        crowd: Crowd,
        tasks: set[asyncio.Task[None]],
        on_bug: Callable[[BaseException], None],
        on_answer: Callable[[str, int], None],
    ) -> None:
        self.api = api
        self.door = door
        self.crowd = crowd
        self.tasks = tasks
        self.on_bug = on_bug
        self.on_answer = on_answer

    def begin(self, peer: Peer, connection: socket.socket) -> Closable:
        return Lane(self, peer, connection)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        peer = cast("Peer", cast("HTTP1ServerConnection", server_conn).context)
        peer.rest()
        return Exchange(self, peer, cast("HTTP1Connection", request_conn))

    def on_close(self, server_conn: object) -> None:
        self.crowd.gone(cast("Peer", cast("HTTP1ServerConnection", server_conn).context))


class Exchange(HTTPMessageDelegate):
    """One request. Nothing raised here may reach Tornado, which would log it."""

    def __init__(self, all_of_them: Exchanges, peer: Peer, connection: HTTP1Connection) -> None:
        self._all = all_of_them
        self._peer = peer
        self._connection = connection
        self._endpoint: Endpoint | None = None
        self._refusal: Refusal | None = None
        self._call = Call("", "", {}, b"")
        self._body = bytearray()
        self._reserved = 0
        self._answered = False
        self._is_head = False
        self._route = OTHER

    # --- asking --------------------------------------------------------------------------------------------------

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        self._peer.headers_done = True
        self._connection.set_max_body_size(_UNBOUNDED)  # bounded here, with an answer that says so
        try:
            self._refusal = self._look(cast("RequestStartLine", start_line), headers)
        except SyncdError as error:
            self._all.on_bug(error)
            self._refusal = _NO_TOKEN
        except Exception as error:  # noqa: BLE001 (a bug in one request must not end the server)
            self._all.on_bug(error)
            self._send(bug(), close=True)
            return
        if self._refusal is not None and _length(headers) > DISCARDED_MAX:
            self._send(refused(self._refusal), close=True)

    def _look(self, start: RequestStartLine, headers: HTTPHeaders) -> Refusal | None:
        """Find the endpoint, and say why the request is refused, if it is."""
        self._is_head = start.method == "HEAD"
        path, _, query = start.path.partition("?")
        found = self._all.api.find(start.method, path)
        self._route = found.route or OTHER
        refusal = self._all.door.refuse(headers, found.access) or found.refusal
        if refusal is None and len(start.path) > TARGET_MAX:
            refusal = Refusal(400, "the path is too long")
        if refusal is not None or found.endpoint is None:
            return refusal
        self._endpoint = found.endpoint
        self._call = Call(found.name, query, headers, b"")
        return _BIG if _length(headers) > found.endpoint.body_max else None

    def data_received(self, chunk: bytes) -> None:
        if self._answered:
            return
        self._reserved += len(chunk)
        self._all.crowd.bodies += len(chunk)
        if self._refusal is None:
            self._refusal = self._too_much()
            if self._refusal is None:
                self._body += chunk
        if self._refusal is not None:
            self._body.clear()
            if self._reserved > DISCARDED_MAX:
                self._send(refused(self._refusal), close=True)

    def _too_much(self) -> Refusal | None:
        if self._endpoint is not None and self._reserved > self._endpoint.body_max:
            return _BIG  # chunked: its length was not known before
        return BUSY if self._all.crowd.bodies > self._all.crowd.limits.bodies_bytes else None

    def finish(self) -> None:
        if self._answered:
            return
        self._peer.serve()
        if self._refusal is not None or self._endpoint is None:
            self._send(refused(self._refusal or STOPPING))
            return
        given = self._all.api.answer(self._endpoint, self._call._replace(body=bytes(self._body)))
        self._body.clear()
        if isinstance(given, Answer):
            self._send(given)
            return
        task = asyncio.create_task(self._send_later(given))
        self._all.tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, given))

        def hang_up() -> None:
            task.cancel()

        self._connection.set_close_callback(hang_up)

    def on_connection_close(self) -> None:
        self._release()

    # --- answering -----------------------------------------------------------------------------------------------

    async def _send_later(self, given: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await given
        except asyncio.CancelledError:
            answer = refused(STOPPING)  # of the server, or of the wish; where the caller hung up, this goes nowhere
        self._send(answer)

    def _ended(self, task: asyncio.Task[None], given: Coroutine[Any, Any, Answer]) -> None:
        given.close()  # it never began where the task was cancelled before its first step
        self._release()
        self._all.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._all.on_bug(error)

    def _send(self, answer: Answer, *, close: bool = False) -> None:
        """Write an answer; Tornado closes the connection after it where the request was not read to its end."""
        self._release()
        self._answered = True
        self._all.on_answer(self._route, answer.status)
        if self._connection.stream is None or self._connection.stream.closed():
            answer.goes_nowhere()
            return
        self._peer.hand_over()
        headers = HTTPHeaders()
        for name, value in answer.headers:
            headers.add(name, value)
        if answer.status != 304:
            headers.add("Content-Type", answer.content_type)
            headers.add("Content-Length", str(len(answer.body)))
        if close:
            headers.add("Connection", "close")
        start = ResponseStartLine("HTTP/1.1", answer.status, STATUS_TEXT[answer.status])
        self._connection.set_close_callback(None)
        self._connection.write_headers(start, headers, None if self._is_head else answer.body)
        self._connection.finish()

    def _release(self) -> None:
        self._all.crowd.bodies -= self._reserved
        self._reserved = 0


def _length(headers: HTTPHeaders) -> int:
    """Return the body's announced length; Tornado refuses what is no number, after us."""
    text = headers.get("Content-Length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
