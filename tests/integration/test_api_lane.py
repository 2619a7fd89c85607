"""Plain requests and all others: the same answers, over one connection too; and neither lets a bound be passed."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest

from syncd.web import lane
from syncd.web.peers import Limits
from tests.support.api_server import TOKEN, Served, eventually, read_all, serving

ODD = b"X-Odd: 1\r\n"
"""A header that makes a request one for Tornado."""


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found
        assert found.is_well()


def request(served: Served, kind: str, method: str, target: str, body: bytes = b"", more: bytes = b"") -> bytes:
    host = "localhost" if kind == "unix" else f"127.0.0.1:{served.port}"
    token = b"" if kind == "unix" else b"Authorization: Bearer %b\r\n" % TOKEN.encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + token + more + b"\r\n" + body


def answer(raw: socket.socket) -> bytes:
    """Read one answer."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += raw.recv(1 << 16) or pytest.fail("closed")
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: ([0-9]+)", head)
    while length is not None and len(body) < int(length[1]):
        body += raw.recv(1 << 16) or pytest.fail("closed")
    return head + b"\r\n\r\n" + body


CALLS = [
    ("POST", "/api/v1/resolve", b'{"path": "Bhushanji/there.pdf"}'),
    ("POST", "/api/v1/resolve", b'{"path": "Bhushanji/nothing.pdf"}'),
    ("POST", "/api/v1/resolve", b'{"paht": 1}'),
    ("POST", "/api/v1/resolve", b""),
    ("POST", "/api/v1/ensure", b'{"path": "Bhushanji/there.pdf"}'),
    ("POST", "/api/v1/leases", b'{"path": "Bhushanji/nothing.pdf"}'),
    ("DELETE", "/api/v1/leases/nobody", b""),
    ("PUT", "/api/v1/leases/nobody", b"{}"),
    ("GET", "/api/v1/status", b""),
    ("GET", "/api/v1/events?since=-1", b""),
    ("GET", "/api/v1/nothing", b""),
    ("GET", "/static/page.js", b""),
    ("PUT", "/api/v1/resolve", b"{}"),
    ("GET", "/healthz", b""),
]


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_both_readers_give_the_same_answers(served: Served, kind: str) -> None:
    with served.connect(kind) as one, served.connect(kind) as other:
        for method, target, body in CALLS:
            one.sendall(request(served, kind, method, target, body))
            other.sendall(request(served, kind, method, target, body, ODD))
            assert answer(one) == answer(other)


def test_most_calls_take_the_lane(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_on: list[bytes] = []
    hand_on = lane.Lane._hand_on

    def told(self: lane.Lane, early: bytes, unsent: bytes = b"") -> None:
        handed_on.append(early)
        hand_on(self, early, unsent)

    monkeypatch.setattr(lane.Lane, "_hand_on", told)
    for api in (served.client(), served.tcp_client()):
        with api:
            taken = api.lease("Bhushanji/there.pdf", 60)
            api.release(getattr(taken, "lease_id", ""))
            api.ensure("Bhushanji/there.pdf", 1)
            assert api.resolve("Bhushanji/there.pdf").sha256
            api.status()
    assert handed_on == []


def test_a_request_in_two_pieces(served: Served) -> None:
    whole = request(served, "unix", *CALLS[0])
    with served.connect() as raw:
        raw.sendall(whole)
        expected = answer(raw)
    for cut in range(1, len(whole), 7):
        with served.connect() as raw:
            raw.sendall(whole[:cut])
            raw.sendall(whole[cut:])
            assert answer(raw) == expected
            raw.sendall(whole)
            assert answer(raw) == expected


def test_what_comes_behind_a_plain_request_is_answered_after_it(served: Served) -> None:
    poll = request(served, "unix", "GET", "/api/v1/events?since=1&timeout=60")
    with served.connect() as raw:
        raw.sendall(poll)
        eventually(lambda: served.service.calls["events"] == 1, "nobody asked")
        raw.sendall(request(served, "unix", "GET", "/healthz"))
        raw.sendall(request(served, "unix", "DELETE", "/api/v1/leases/nobody"))
        served.service.hold("news.pdf")
        got = b""
        while got.count(b"HTTP/1.1 ") < 3:
            got += raw.recv(1 << 16) or pytest.fail("closed")
    assert re.findall(rb"HTTP/1\.1 ([0-9]+)", got) == [b"200", b"200", b"404"]


def test_who_does_not_read_plain_answers_is_closed() -> None:
    with serving(limits=Limits(write_s=0.2)) as served, served.connect() as raw:
        served.service.hold("big.pdf")
        raw.settimeout(0.02)
        page = request(served, "unix", "GET", "/static/page.js")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(5_000):
                with contextlib.suppress(TimeoutError):
                    raw.sendall(page)
            pytest.fail("never closed")
        raw.settimeout(5)
        assert len(read_all(raw)) > 0


def test_a_bug_before_a_plain_request_is_let_in_is_answered() -> None:
    error = RuntimeError("of the token's source")

    def broken() -> str:
        raise error

    with serving() as served:
        served.server.close()
        served.server._token = broken
        served.server.start()
        with served.connect("tcp") as raw:
            raw.sendall(request(served, "tcp", *CALLS[0]))
            assert answer(raw).startswith(b"HTTP/1.1 500 ")
        assert served.bugs == [error]
        served.bugs.clear()


def test_the_token_is_asked_for_at_each_plain_request(served: Served) -> None:
    with served.connect("tcp") as raw:
        asked = request(served, "tcp", *CALLS[0])
        raw.sendall(asked)
        assert answer(raw).startswith(b"HTTP/1.1 200 ")
        served.token = "another"
        raw.sendall(asked)
        assert answer(raw).startswith(b"HTTP/1.1 401 ")
