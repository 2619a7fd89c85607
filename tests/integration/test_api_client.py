"""The API's client against servers that close, stall, trickle or talk nonsense: it ends in time, and says why."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncd.client.address import SocketAddress
from syncd.client.api import ApiClient
from syncd.client.channel import ANSWER_MAX, HEAD_MAX
from syncd.client.errors import ApiRefused, ApiUnreachable
from syncd.core.errors import ConfigError
from syncd.core.lease import Lease
from syncd.core.reasons import Reason
from tests.support.api_server import eventually, serving
from tests.support.fake_service import FakeService

PATH = "Bhushanji/there.pdf"
Script = Callable[[socket.socket, bytes], None]


class Scripted:
    """A server on a Unix socket that answers each request by the next script; it counts connections and requests."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._scripts = list(scripts)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                self._threads.append(threading.Thread(target=self._talk, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.fileno() >= 0:
                request = bytearray()
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    request += piece
                self.requests.append(bytes(request))
                self._scripts.pop(0)(connection, bytes(request))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)


def answers(raw: bytes, *, close: bool = False) -> Script:
    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(raw)
        if close:
            connection.close()

    return script


def closes(connection: socket.socket, _: bytes) -> None:
    connection.close()


def json_answer(body: bytes, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status.encode(), len(body), headers, body)


GOOD = json_answer(b'{"ok": true}')
_LEASE = Lease(
    "b1946ac9", "B", "x.JPG", "B/x.JPG", "/m/.syncd/pins/1/x.JPG", ".syncd/pins/1/x.JPG", 1, "ab" * 32, 7, ""
)
LEASED = json_answer(json.dumps(_LEASE.as_json()).encode(), "201 Created")


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., tuple[Scripted, ApiClient]]]:
    with contextlib.ExitStack() as stack:

        def make(*scripts: Script, timeout_s: float = 20.0) -> tuple[Scripted, ApiClient]:
            path = tmp_path / "s"
            server = Scripted(path, *scripts)
            stack.callback(server.close)
            return server, stack.enter_context(ApiClient(SocketAddress(path), timeout_s))

        yield make


Make = Callable[..., tuple[Scripted, ApiClient]]


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_connection_is_kept(scripted: Make) -> None:
    server, api = scripted(answers(GOOD), answers(GOOD), answers(GOOD))
    for _ in range(3):
        assert api.health() == {"ok": True}
    assert server.connections == 1


def test_a_kept_connection_that_was_closed_is_replaced(scripted: Make) -> None:
    server, api = scripted(answers(GOOD, close=True), answers(GOOD, close=True), answers(GOOD))
    for _ in range(3):
        assert api.health() == {"ok": True}
    assert server.connections == 3


def test_what_the_server_says_unasked_is_nobodys_answer(scripted: Make) -> None:
    late = threading.Event()

    def talkative(connection: socket.socket, _: bytes) -> None:
        connection.sendall(GOOD)
        late.wait(10)
        connection.sendall(json_answer(b'{"ok": false}'))

    server, api = scripted(talkative, answers(GOOD))
    api.health()
    late.set()
    assert api._channel is not None
    (kept,) = api._channel._kept
    eventually(lambda: not kept.is_open(), "nothing comes")
    assert api.health() == {"ok": True}
    assert server.connections == 2


def test_a_request_that_meets_the_close_is_sent_again_once(scripted: Make) -> None:
    server, api = scripted(answers(GOOD), closes, answers(GOOD))
    assert api.health() == api.health() == {"ok": True}
    assert (server.connections, len(server.requests)) == (2, 3)


def test_but_only_once(scripted: Make) -> None:
    server, api = scripted(answers(GOOD), closes, closes, answers(GOOD))
    api.health()
    with pytest.raises(ApiUnreachable, match="closed before"):
        api.health()
    assert len(server.requests) == 3


def test_a_change_of_state_is_never_sent_again(scripted: Make) -> None:
    server, api = scripted(answers(GOOD), closes, closes)
    api.health()
    for number, change in enumerate((api.pause, api.resume)):
        with pytest.raises(ApiUnreachable):
            change()
        assert len(server.requests) == number + 2
    assert server.connections == 3  # none over a connection that may have been closed


def test_a_lease_is_asked_for_again_but_not_ended_again(scripted: Make) -> None:
    ended = answers(json_answer(b'{"intact": true}'))
    server, api = scripted(answers(GOOD), ended, closes, closes, closes)
    api.health()
    assert api.release("x") is True
    assert server.connections == 1
    with pytest.raises(ApiUnreachable):
        api.release("x")
    assert len(server.requests) == 3
    with pytest.raises(ApiUnreachable):
        api.lease(PATH, 60)
    assert (server.connections, len(server.requests)) == (2, 4)


def test_a_lease_survives_the_close_of_a_kept_connection(scripted: Make) -> None:
    server, api = scripted(answers(GOOD), closes, answers(LEASED))
    api.health()
    assert api.lease(PATH, 60).lease_id == "b1946ac9"
    assert (server.connections, len(server.requests)) == (2, 3)


def test_a_last_answer_is_followed_by_a_new_connection(scripted: Make) -> None:
    last = json_answer(b'{"ok": true}', headers=b"Connection: close\r\n")
    server, api = scripted(answers(last, close=True), answers(GOOD))
    assert api.health() == api.health()
    assert server.connections == 2


def test_a_fork_does_not_share_its_parents_connection(scripted: Make) -> None:
    server, api = scripted(answers(GOOD), answers(GOOD))
    api.health()
    assert api._channel is not None
    api._channel._pid = -1  # as a child of ours would find it
    api.health()
    assert server.connections == 2


def test_many_threads_share_a_client() -> None:
    with serving() as served, served.client() as api, ThreadPoolExecutor(16) as pool:
        for number in range(40):
            served.service.hold(f"{number}.pdf", str(number).encode())
        wanted = [f"Bhushanji/{number % 40}.pdf" for number in range(800)]
        for path, found in zip(wanted, pool.map(api.resolve, wanted), strict=True):
            assert found.server_path == path


def test_a_closed_client_connects_anew() -> None:
    with serving() as served, served.client() as api:
        api.health()
        api.close()
        assert api.health()["ok"]


# --- nonsense --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/3 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * (2 * HEAD_MAX),
        json_answer(b"<html>"),
        json_answer(b"[]"),
        json_answer(b"[" * 100_000),
        json_answer(b"\xff"),
        json_answer(b'{"ok": true}') + b"more",
        b"\x00" * 4096 + b"\r\n\r\n",
    ],
)
def test_what_is_not_our_server_is_said_so(scripted: Make, raw: bytes) -> None:
    _, api = scripted(answers(raw))
    with pytest.raises(ApiUnreachable, match="not syncd's API"):
        api.health()


@pytest.mark.parametrize(
    "body", [b"{}", b'{"state": "ready"}', b'{"state": "odd"}', b'{"lease_id": 1}', b'{"events": []}', b'{"id": "x"}']
)
def test_answers_of_another_shape(scripted: Make, body: bytes) -> None:
    _, api = scripted(*[answers(json_answer(body))] * 3)
    for ask in (lambda: api.resolve(PATH), lambda: api.events(0), lambda: api.errand("runs", "x")):
        with pytest.raises(ApiUnreachable, match="expects"):
            ask()


def test_fields_and_reasons_of_a_newer_daemon_are_passed_over(scripted: Make) -> None:
    found = FakeService().resolve("x").as_json() | {"reason": "invented_later", "more": 1}
    _, api = scripted(answers(json_answer(json.dumps(found).encode())))
    assert api.resolve("x").reason is None


@pytest.mark.parametrize(
    ("status", "body", "exit_code", "transient"),
    [
        ("401 Unauthorized", b'{"error": {"message": "no"}}', 12, False),
        ("403 Forbidden", b'{"error": {"message": "no"}}', 12, False),
        ("404 Not Found", b'{"error": {"message": "no"}}', 2, False),
        ("503 Busy", b'{"error": {"message": "no", "reason": "invented_later"}}', 10, True),
        ("500 Bug", b'{"error": "no"}', 1, False),
        ("502 Bad Gateway", b"{}", 1, False),
    ],
)
def test_errors_without_an_exit_code_get_one(
    scripted: Make, status: str, body: bytes, exit_code: int, transient: bool
) -> None:
    _, api = scripted(answers(json_answer(body, status)))
    with pytest.raises(ApiRefused) as caught:
        api.status()
    assert (caught.value.exit_code, caught.value.transient) == (exit_code, transient)
    assert caught.value.message


def test_a_configuration_error_stays_one(scripted: Make) -> None:
    body = b'{"error": {"reason": "config", "message": "no such mirror", "problems": ["a", "b"]}}'
    _, api = scripted(answers(json_answer(body, "400 Bad Request")))
    with pytest.raises(ConfigError) as caught:
        api.status()
    assert caught.value.problems == ("a", "b")
    assert caught.value.reason is Reason.CONFIG


# --- time ------------------------------------------------------------------------------------------------------------


def trickles(connection: socket.socket, _: bytes) -> None:
    """Send a byte now and then: each receive is quick, the whole never ends."""
    with contextlib.suppress(OSError):
        for byte in GOOD[:-1] + b" " * 400:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)


@pytest.mark.parametrize("script", [lambda *_: None, trickles, answers(GOOD[:10]), answers(GOOD[:-1])])
def test_every_call_ends_by_its_deadline(scripted: Make, script: Script) -> None:
    _, api = scripted(script, timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(ApiUnreachable, match="did not answer within"):
        api.status()
    assert time.monotonic() - began < 10


def test_an_early_answer_to_a_body_that_nobody_reads(scripted: Make) -> None:
    early = json_answer(b'{"error": {"message": "too long"}}', "413 Content Too Large", b"Connection: close\r\n")
    _, api = scripted(answers(early, close=True))
    with pytest.raises(ApiRefused, match="too long"):
        api.approve("Bhushanji", ["x" * 30_000] * 500)
