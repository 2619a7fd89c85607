"""What is plain enough for the lane; all else is Tornado's."""

from __future__ import annotations

import pytest

from syncd.web.answers import API_HEADERS, Answer, in_json
from syncd.web.lane import PLAIN_MAX, _head, plain

HEAD = (
    b"POST /api/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"
)
BODY = b'{"path":"x"}'


def test_what_our_client_sends_is_plain() -> None:
    found = plain(HEAD + BODY)
    assert found is not None
    assert (found.method, found.target, found.body) == ("POST", "/api/v1/resolve", BODY)
    assert found.headers == {"Host": "localhost", "Content-Type": "application/json", "Content-Length": "12"}


def test_a_request_without_a_body_is_plain() -> None:
    found = plain(b"DELETE /api/v1/leases/0a1b HTTP/1.1\r\nHost: 127.0.0.1:9470\r\nAuthorization: Bearer a b\r\n\r\n")
    assert found is not None
    assert found.body == b""
    assert found.headers["Authorization"] == "Bearer a b"


@pytest.mark.parametrize("cut", range(len(HEAD + BODY)))
def test_a_part_is_not(cut: int) -> None:
    assert plain((HEAD + BODY)[:cut]) is None


@pytest.mark.parametrize(
    "got",
    [
        HEAD + BODY + b"G",
        HEAD + BODY + HEAD + BODY,
        b"\r\n" + HEAD + BODY,
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + BODY,
        HEAD.replace(b"POST", b"HEAD") + BODY,
        HEAD.replace(b"POST", b"post") + BODY,
        HEAD.replace(b"/api", b"http://x/api") + BODY,
        HEAD.replace(b"/resolve", b"/re solve") + BODY,
        HEAD.replace(b"/resolve", b"/res\xc3\xb6lve") + BODY,
        HEAD.replace(b"/resolve", b"/" + b"x" * 2000) + BODY,
        HEAD.replace(b"Host: localhost\r\n", b"") + BODY,
        HEAD.replace(b"Host: localhost", b"host: localhost") + BODY,
        HEAD.replace(b"Host: localhost", b"Host : localhost") + BODY,
        HEAD.replace(b"Host: localhost", b"Host:localhost") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: local\thost") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: local\0host") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\r\nHost: other") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\r\n folded") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\nX: y") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\r\nOrigin: http://localhost") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\r\nExpect: 100-continue") + BODY,
        HEAD.replace(b"Host: localhost", b"Host: localhost\r\nTransfer-Encoding: chunked") + BODY,
        HEAD.replace(b"Length: 12", b"Length: +12") + BODY,
        HEAD.replace(b"Length: 12", b"Length: 12 ") + BODY,
        HEAD.replace(b"Length: 12", b"Length: 12, 12") + BODY,
        HEAD.replace(b"Length: 12", b"Length: 000000000012") + BODY,
        HEAD.replace(b"Length: 12", b"Length: 12\r\nContent-Length: 12") + BODY,
        HEAD.replace(b"Content-Length: 12\r\n", b"") + BODY,
    ],
)
def test_what_is_odd_is_not(got: bytes) -> None:
    assert plain(got) is None


def test_nothing_of_any_length_takes_long_to_tell() -> None:
    for got in (
        b"GET /" + b"x" * PLAIN_MAX,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000,
        b"GET / HTTP/1.1\r\nA: " + b" " * PLAIN_MAX,
    ):
        assert plain(got) is None


def test_an_answers_head() -> None:
    head = _head(in_json({"a": 1}, 201, (("Location", "/x"),))).decode().split("\r\n")
    assert head[0] == "HTTP/1.1 201 Created"
    assert head[-5:] == ["Location: /x", "Content-Type: application/json", "Content-Length: 8", "", ""]
    assert [line.partition(": ")[0] for line in head[1:-5]] == [name for name, _ in API_HEADERS]
    assert b"Content-" not in _head(Answer(304, headers=(("Etag", '"x"'),)))
