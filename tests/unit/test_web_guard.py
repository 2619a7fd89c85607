"""Who may ask what: Host, Origin, token, and what TCP may not change."""

from __future__ import annotations

import pytest

from syncd.core.errors import ConfigError
from syncd.web.guard import Access, SocketDoor, TcpDoor, allowed_hosts

OPEN, TOKEN, LOCAL = Access(open=True), Access(), Access(socket_only=True)
HOSTS = allowed_hosts("127.0.0.1", 9470, ["host.docker.internal", "Gateway:8080", "fd00::1"])
GOOD = {"Host": "127.0.0.1:9470", "Authorization": "Bearer sesame"}


def status(headers: dict[str, str], access: Access = TOKEN, token: str = "sesame") -> int | None:
    refusal = TcpDoor(HOSTS, lambda: token).refuse(headers, access)
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9470",
        "localhost:9470",
        "LOCALHOST:9470",
        "[::1]:9470",
        "host.docker.internal:9470",
        "gateway:8080",
        "[fd00::1]:9470",
    ],
)
def test_hosts_that_are_answered(host: str) -> None:
    assert status({**GOOD, "Host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1",
        "localhost",
        "127.0.0.1:9471",
        "gateway",
        "gateway:9470",
        "evil.example",
        "evil.example:9470",
        "127.0.0.1:9470.evil.example",
        "evil.example@127.0.0.1:9470",
        "127.0.0.1:9470,evil.example",
        "127.0.0.1:09470",
        " 127.0.0.1:9470",
        "localhost.:9470",
        "[::1%lo]:9470",
        "0.0.0.0:9470",
    ],
)
def test_foreign_hosts_are_refused_for_open_calls_too(host: str) -> None:
    assert status({**GOOD, "Host": host}) == 421
    assert status({"Host": host}, OPEN) == 421


def test_a_request_without_a_host_is_refused() -> None:
    assert status({"Authorization": "Bearer sesame"}) == 421


def test_port_80_may_be_left_out() -> None:
    assert {"localhost", "localhost:80"} <= allowed_hosts("127.0.0.1", 80)
    assert "localhost" not in allowed_hosts("127.0.0.1", 9470)


def test_own_origin_is_answered() -> None:
    assert status({**GOOD, "Origin": "http://127.0.0.1:9470"}) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "https://127.0.0.1:9470",
        "http://127.0.0.1",
        "http://localhost:9470",
        "file://",
    ],
)
def test_other_origins_are_refused_for_open_calls_too(origin: str) -> None:
    assert status({**GOOD, "Origin": origin}) == 403
    assert status({**GOOD, "Origin": origin}, OPEN) == 403


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_lets_in(scheme: str) -> None:
    assert status({**GOOD, "Authorization": f"{scheme} sesame"}) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer sesam",
        "Bearer sesame2",
        "Basic sesame",
        "sesame",
        "Bearer s\xe9same",
        "Bearer \u20ac",
    ],
)
def test_anything_else_does_not(authorization: str) -> None:
    assert status({**GOOD, "Authorization": authorization}) == 401


def test_an_empty_or_absent_token_of_our_own_lets_nobody_in() -> None:
    assert status({**GOOD, "Authorization": "Bearer "}, token="") == 401
    assert status({**GOOD, "Authorization": ""}, token="") == 401
    refusal = TcpDoor(HOSTS, None).refuse({**GOOD, "Authorization": "Bearer "}, TOKEN)
    assert refusal is not None
    assert refusal.status == 401


def test_the_token_is_asked_for_at_each_request() -> None:
    tokens = iter(["old", "sesame"])
    door = TcpDoor(HOSTS, lambda: next(tokens))
    assert door.refuse(GOOD, TOKEN) is not None
    assert door.refuse(GOOD, TOKEN) is None


def test_open_calls_do_not_ask_for_it() -> None:
    def never() -> str:
        raise ConfigError("not to be read")

    assert TcpDoor(HOSTS, never).refuse({"Host": "localhost:9470"}, OPEN) is None


def test_changes_of_state_are_refused_over_tcp_and_only_after_the_token() -> None:
    assert status(GOOD, LOCAL) == 403
    assert status({"Host": "localhost:9470"}, LOCAL) == 401
    assert SocketDoor().refuse({}, LOCAL) is None


def test_the_socket_answers_anybody_but_web_pages() -> None:
    door = SocketDoor()
    assert door.refuse({"Host": "whatever"}, TOKEN) is None
    refusal = door.refuse({"Origin": "http://localhost"}, OPEN)
    assert refusal is not None
    assert refusal.status == 403
