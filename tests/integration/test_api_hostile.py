"""Callers that are wrong, rude or hostile: refused within bounds, and the daemon unharmed afterwards.

`serving` checks at the end of each test that no thread or descriptor is left, and that no bug was met.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import socket
import struct
from collections.abc import Iterator

import pytest

from syncd.core.errors import ConfigError
from syncd.web.peers import Crowd, Limits
from tests.support.api_server import TOKEN, Served, descriptors, error_in, eventually, parse, read_all, serving

EXHAUSTIVE = os.environ.get("SYNCD_EXHAUSTIVE") == "1"
RESOLVE = b'{"path": "Bhushanji/there.pdf"}'
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found
        assert found.is_well()


@contextlib.contextmanager
def well_served(limits: Limits) -> Iterator[Served]:
    with serving(limits=limits) as found:
        yield found
        assert found.is_well()


# --- wrong requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/", 404),
        ("GET", "/api/v1/status/", 404),
        ("GET", "/api/v1//status", 404),
        ("GET", "/API/v1/status", 404),
        ("GET", "/static/../server.py", 404),
        ("GET", "/static/..%2fserver.py", 404),
        ("GET", "/static/%2e%2e/server.py", 404),
        ("GET", "/static/.hidden", 404),
        ("GET", "/static/", 404),
        ("GET", "/../../../etc/passwd", 404),
        ("GET", "//etc/passwd", 404),
        ("GET", "http://localhost/healthz", 404),
        ("GET", "/api/v1/runs/" + "x" * 200, 404),
        ("GET", "/api/v1/runs/..", 404),
        ("GET", "/api/v1/runs/a%00b", 404),
        ("GET", "/?" + "q" * 20_000, 400),
        ("OPTIONS", "*", 404),
        ("CONNECT", "localhost:443", 404),
        ("POST", "/api/v1/status", 405),
        ("DELETE", "/api/v1/status", 405),
        ("GET", "/api/v1/resolve", 405),
        ("PUT", "/api/v1/resolve", 405),
        ("OPTIONS", "/api/v1/resolve", 405),
        ("GET", "/api/v1/leases/x", 405),
        ("POST", "/", 405),
        ("TRACE", "/healthz", 405),
        ("BREW", "/healthz", 405),
        ("GET", "/api/v1/events?since=x", 400),
        ("GET", "/api/v1/events?since=-2", 400),
        ("GET", "/api/v1/events?limit=0", 400),
        ("GET", "/api/v1/events?limit=1001", 400),
        ("GET", "/api/v1/events?since=0&timeout=61", 400),
        ("GET", "/api/v1/events?sinse=0", 400),
        ("GET", "/api/v1/events?since=0&since=1", 400),
        ("GET", "/api/v1/folder", 400),
        ("GET", "/api/v1/folder?mirror=%ff", 400),
        ("GET", "/api/v1/folder?mirror=Bhushanji&path=" + "x" * 40_000, 400),
        ("GET", "/api/v1/folder?mirror=..", 404),
        ("DELETE", "/api/v1/leases/nobody", 404),
        ("GET", "/api/v1/runs/nobody", 404),
    ],
)
def test_wrong_targets_and_methods(served: Served, method: str, target: str, status: int) -> None:
    for given, headers, body in (served.ask(method, target), served.ask_tcp(method, target)):
        assert given == status
        assert error_in(body)["message"]
        assert ("allow" in headers) == (status == 405)


def test_405_names_what_is_allowed(served: Served) -> None:
    assert served.ask("POST", "/api/v1/status")[1]["allow"] == "GET, HEAD"
    assert served.ask("GET", "/api/v1/leases/x")[1]["allow"] == "DELETE, PUT"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("resolve", b""),
        ("resolve", b"{"),
        ("resolve", b"[]"),
        ("resolve", b'"x"'),
        ("resolve", b"{}"),
        ("resolve", b'{"path": null}'),
        ("resolve", b'{"path": ["x"]}'),
        ("resolve", b'{"path": 1}'),
        ("resolve", b'{"path": "x", "paht": "y"}'),
        ("resolve", b'{"path": NaN}'),
        ("resolve", b'{"path": "\xff"}'),
        ("resolve", b"\x1f\x8b\x08\x00binary"),
        ("resolve", b"[" * 100_000),
        ("resolve", b'{"path": ' * 20_000),
        ("resolve", b'{"path": "' + b"a" * 40_000 + b'"}'),
        ("ensure", b'{"path": "x", "timeout_s": -1}'),
        ("ensure", b'{"path": "x", "timeout_s": 3601}'),
        ("ensure", b'{"path": "x", "timeout_s": "60"}'),
        ("ensure", b'{"path": "x", "timeout_s": 1e999}'),
        ("ensure", b'{"path": "x", "timeout_s": ' + b"9" * 5000 + b"}"),
        ("leases", b'{"path": "x", "ttl_s": 0}'),
        ("leases", b'{"path": "x", "ttl_s": 3601}'),
        ("runs", b'{"mirrors": "Bhushanji"}'),
        ("runs", b'{"mirrors": [1]}'),
        ("runs", b'{"mirror": "Bhushanji"}'),
        ("runs", b'{"new_target": 1}'),
        ("verify", b'{"fraction": 2}'),
        ("approve", b"{}"),
        ("approve", b'{"mirror": "Bhushanji", "paths": "all"}'),
        ("approve", b'{"mirror": "Bhushanji", "paths": [' + b"[" * 200_000),
        ("pause", b'{"for_s": 0}'),
        ("resume", b'{"mirrors": {}}'),
        ("announce", b'{"all": "yes"}'),
        ("announce", b'{"since": 5}'),
    ],
)
def test_wrong_bodies(served: Served, target: str, body: bytes) -> None:
    status, _, answer = served.ask("POST", f"/api/v1/{target}", body)
    assert status == 400
    assert 0 < len(error_in(answer)["message"]) < 400
    assert served.service.started == []
    assert served.service.changes == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHo\x00st: x\r\n\r\n",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n12345",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 500,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(served: Served, request_bytes: bytes) -> None:
    for kind in ("unix", "tcp"):
        answer = served.say(request_bytes, kind)
        assert parse(answer)[0] in (0, 400, 421, 505)
        assert answer.count(b"HTTP/1.1 ") <= 1


# --- Host, Origin, token ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/healthz", "/metrics", "/static/page.js", "/api/v1/status", "/nothing"])
def test_foreign_hosts_and_origins_over_tcp(served: Served, target: str) -> None:
    assert served.ask_tcp("GET", target, Host="evil.example")[0] == 421
    assert served.ask_tcp("GET", target, Host=f"evil.example:{served.port}")[0] == 421
    for origin in ("http://evil.example", "null", f"http://localhost:{served.port}"):
        status, headers, _ = served.ask_tcp("GET", target, Origin=origin)
        assert status == 403
        assert not any(name.startswith("access-control") for name in headers)


def test_no_page_may_use_the_socket(served: Served) -> None:
    assert served.ask("POST", "/api/v1/runs", b"{}", {"Origin": "http://localhost"})[0] == 403
    assert served.service.started == []


def test_a_preflight_is_not_granted(served: Served) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Origin": "http://evil.example"}
    for kind in ("unix", "tcp"):
        status, headers, _ = served.ask(
            "OPTIONS", "/api/v1/resolve", headers={**asked, "Authorization": f"Bearer {TOKEN}"}, kind=kind
        )
        assert status == 403
        assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize("header", ["", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"])
def test_without_the_token_nothing_is_told(served: Served, header: str) -> None:
    for method, target in (("GET", "/api/v1/status"), ("POST", "/api/v1/runs"), ("GET", "/nothing"), ("PUT", "/x")):
        status, headers, body = served.ask_tcp(method, target, b"{}", Authorization=header)
        assert status == 401
        assert headers["www-authenticate"].startswith("Bearer")
        assert TOKEN.encode() not in body
    assert served.ask_tcp("GET", "/healthz", Authorization=header)[0] == 200
    assert served.ask_tcp("GET", "/metrics", Authorization=header)[0] == 200


def test_a_changed_token_counts_at_once(served: Served) -> None:
    assert served.ask_tcp("GET", "/api/v1/status")[0] == 200
    served.token = "another"
    assert served.ask_tcp("GET", "/api/v1/status")[0] == 401
    assert served.ask_tcp("GET", "/api/v1/status", Authorization="Bearer another")[0] == 200


def test_a_token_that_cannot_be_read_lets_nobody_in() -> None:
    error = ConfigError("/etc/secret/place is gone")

    def unreadable() -> str:
        raise error

    with serving() as served:
        served.server.close()
        served.server._token = unreadable
        served.server.start()
        status, _, body = served.ask_tcp("GET", "/api/v1/status")
        assert status == 503
        assert b"secret/place" not in body
        assert served.bugs == [error]
        assert served.ask("GET", "/api/v1/status")[0] == 200  # the socket asks for none
        served.bugs.clear()


def test_more_allowed_hosts() -> None:
    with serving(hosts=("host.docker.internal",)) as served:
        host = f"host.docker.internal:{served.port}"
        assert served.ask_tcp("GET", "/api/v1/status", Host=host)[0] == 200
        assert served.ask_tcp("GET", "/api/v1/status", Host=host, Origin=f"http://{host}")[0] == 200
        assert served.ask_tcp("GET", "/api/v1/status", Host="host.docker.internal")[0] == 421


def test_no_answer_is_kept_framed_or_guessed_at(served: Served) -> None:
    for target in ("/healthz", "/api/v1/status", "/api/v1/nothing", "/metrics"):
        headers = served.ask_tcp("GET", target)[1]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


# --- too much --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * (1 << 20),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Many: a\r\n" * 100_000,
        b"GET /" + b"a" * (1 << 20),
        b"a" * (1 << 20),
    ],
)
def test_a_megabyte_of_headers_ends_the_connection(served: Served, kind: str, request_bytes: bytes) -> None:
    answer = served.say(request_bytes + b"\r\n\r\n", kind)
    assert parse(answer)[0] in ((431,) if kind == "unix" else (431, 0))  # 0: a reset overtook it


def test_headers_that_just_fit_pass(served: Served) -> None:
    assert served.ask("GET", "/healthz", headers={"X-Large": "a" * 60_000})[0] == 200


@pytest.mark.parametrize(("target", "size"), [("resolve", 300 << 10), ("runs", 2 << 20), ("approve", 20 << 20)])
def test_a_body_that_is_too_long_is_refused_before_it_is_read(served: Served, target: str, size: int) -> None:
    head = f"POST /api/v1/{target} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    status, headers, body = parse(served.say(head))
    assert status == 413
    assert headers["connection"] == "close"
    assert "longer" in error_in(body)["message"]


def test_a_body_that_is_too_long_in_chunks(served: Served) -> None:
    head = b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = served.say(
        head + b"10000\r\n" + b" " * 0x10000 + b"\r\n" * 1 + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 9
    )
    assert parse(answer)[0] in (413, 0)


def test_chunks_that_fit_pass(served: Served) -> None:
    head = b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"1\r\n" + RESOLVE[n : n + 1] + b"\r\n" for n in range(len(RESOLVE)))
    assert parse(served.say(head + body + b"0\r\n\r\n"))[0] == 200


def test_a_refused_body_of_usual_size_leaves_the_connection_usable(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + b"a" * 30_000)
        raw.sendall(LAST_HEALTH)
        answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"HTTP/1.1 200 " in answer


def test_bodies_of_all_callers_together_are_bounded() -> None:
    with well_served(Limits(bodies_bytes=300 << 10)) as served, contextlib.ExitStack() as stack:
        head = b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
        for _ in range(2):
            stack.enter_context(served.connect()).sendall(head + b" " * 140_000)
        eventually(lambda: served.ask("POST", "/api/v1/resolve", b" " * 60_000)[0] == 503, "nobody is refused")
        stack.close()
        eventually(lambda: served.ask("POST", "/api/v1/resolve", RESOLVE)[0] == 200, "the room is not given back")


def test_a_thousand_idle_sockets() -> None:
    enough_descriptors(2600)
    with well_served(Limits(connections=1024)) as served, contextlib.ExitStack() as stack:
        raws = [stack.enter_context(served.connect("unix" if n % 2 else "tcp")) for n in range(1000)]
        for raw in raws[::3]:
            raw.sendall(HEALTH[:20])  # some begin a request
        for _ in range(50):
            assert served.is_well()
        assert served.ask_tcp("GET", "/api/v1/status")[0] == 200
        raws[1].sendall(HEALTH)
        assert raws[1].recv(4096).startswith(b"HTTP/1.1 200 ")


def test_beyond_the_bound_the_longest_idle_make_room() -> None:
    with well_served(Limits(connections=10)) as served, contextlib.ExitStack() as stack:
        raws = [stack.enter_context(served.connect()) for _ in range(10)]
        for raw in raws[1:]:
            raw.sendall(HEALTH)
            assert raw.recv(4096)
        raws.append(stack.enter_context(served.connect()))
        assert raws[0].recv(1) == b""  # never asked anything
        for raw in raws[1:]:
            raw.sendall(HEALTH)
            assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_beyond_the_bound_of_those_at_work_new_ones_are_closed() -> None:
    poll = b"GET /api/v1/events?since=1&limit=%d&timeout=60 HTTP/1.1\r\nHost: x\r\n\r\n"
    with well_served(Limits(connections=5)) as served, contextlib.ExitStack() as stack:
        raws = [stack.enter_context(served.connect()) for _ in range(5)]
        for number, raw in enumerate(raws):
            raw.sendall(poll % (number + 1))
        eventually(lambda: served.service.calls["events"] == 5, "nobody asked")
        for _ in range(3):
            assert served.say(LAST_HEALTH) == b""
        assert served.ask_tcp("GET", "/api/v1/status")[0] == 200  # TCP and the socket have bounds of their own
        served.service.hold("news.pdf")
        for raw in raws:
            assert b"news.pdf" in raw.recv(65536)
        stack.close()
        eventually(served.is_well, "nobody gets in any more")


# --- too slow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part", [HEALTH[:-2], b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"]
)
def test_a_request_that_comes_byte_by_byte_is_cut_off(part: bytes) -> None:
    with well_served(Limits(request_s=0.3)) as served, served.connect() as slow, served.connect() as idle:
        slow.sendall(part)
        slow.settimeout(0.05)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(400):
                slow.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    assert slow.recv(100) == b""
                    break
            else:
                pytest.fail("it may go on for ever")
        idle.sendall(HEALTH)  # who only idles may still
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_bytes_after_a_request_count_as_the_beginning_of_the_next() -> None:
    with well_served(Limits(request_s=0.3)) as served, served.connect() as raw:
        raw.sendall(HEALTH)
        assert raw.recv(4096)
        raw.sendall(b"G")
        assert raw.recv(1) == b""


def test_bytes_that_come_during_a_long_poll_do_too() -> None:
    poll = b"GET /api/v1/events?since=1&timeout=60 HTTP/1.1\r\nHost: x\r\n\r\n"
    with well_served(Limits(request_s=0.3)) as served, served.connect() as raw:
        raw.sendall(poll)
        eventually(lambda: served.service.calls["events"] == 1, "nobody asked")
        raw.sendall(b"G")
        served.service.hold("news.pdf")
        assert b"news.pdf" in raw.recv(65536)
        assert raw.recv(1) == b""


def test_who_idles_too_long_is_closed() -> None:
    with well_served(Limits(idle_s=0.3)) as served, served.connect() as fresh, served.connect() as used:
        used.sendall(HEALTH)
        assert used.recv(4096)
        assert fresh.recv(1) == used.recv(1) == b""


def test_a_long_poll_outlives_every_bound_of_a_request() -> None:
    poll = b"GET /api/v1/events?since=1&timeout=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    with well_served(Limits(idle_s=0.2, request_s=0.2, write_s=0.2)) as served, served.connect() as raw:
        raw.sendall(poll)
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_who_does_not_read_the_answer_is_closed() -> None:
    with well_served(Limits(write_s=0.3)) as served:
        for number in range(1000):
            served.service.hold("x" * 400 + f"{number}.pdf")
        request = b"GET /api/v1/events?since=0 HTTP/1.1\r\nHost: x\r\n\r\n"
        whole = len(served.say(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
        before = descriptors()
        with served.connect() as raw:
            raw.sendall(request * 50)
            eventually(lambda: descriptors() == before + 2, "nobody is let in")
            eventually(lambda: descriptors() == before + 1, "the connection stays")  # ours alone
            assert len(read_all(raw)) < 50 * whole


# --- too rude --------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    body = [json.dumps({"path": f"Bhushanji/{number}"}).encode() for number in range(60)]
    head = b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    last = LAST_HEALTH
    answer = served.say(b"".join(head % len(each) + each for each in body) + last)
    found = [int(piece.split(b'"')[0]) for piece in answer.split(b'"server_path":"Bhushanji/')[1:]]
    assert found == list(range(60))


def test_requests_behind_a_long_poll_wait(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(b"GET /api/v1/events?since=1&timeout=60 HTTP/1.1\r\nHost: x\r\n\r\n" + HEALTH)
        eventually(lambda: served.service.calls["events"] == 1, "nobody asked")
        assert served.service.calls["health"] == 0
        served.service.hold("news.pdf")
        eventually(lambda: served.service.calls["health"] == 1, "the second is not answered")


def test_a_flood_behind_a_long_poll_is_not_read(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(b"GET /api/v1/events?since=1&timeout=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: served.service.calls["events"] == 1, "nobody asked")
        raw.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < 64 << 20:
                sent += raw.send(b"a" * 65536)
        assert sent < 8 << 20


def test_connections_that_are_reset_at_any_moment(served: Served) -> None:
    chance = random.Random(4)
    requests = [
        HEALTH,
        b"POST /api/v1/resolve HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(RESOLVE) + RESOLVE,
        b"GET /api/v1/events?since=1&timeout=60 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
        b'POST /api/v1/ensure HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"path": "x"}',
    ]
    for _ in range(2000 if EXHAUSTIVE else 150):
        with served.connect(chance.choice(["unix", "tcp"])) as raw:
            request = chance.choice(requests)
            raw.sendall(request[: chance.randint(0, len(request))])
            if chance.random() < 0.5:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif chance.random() < 0.5:
                raw.shutdown(socket.SHUT_WR)
    assert served.is_well()


def test_nobody_spins_when_descriptors_run_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    breaths: list[Crowd] = []
    catch_breath = Crowd._catch_breath
    monkeypatch.setattr(Crowd, "_catch_breath", lambda crowd: (breaths.append(crowd), catch_breath(crowd)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(200)]  # fill all gaps
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(raw.fileno() for raw in raws) + 1, hard))
        try:
            for raw in raws[:5]:
                raw.settimeout(20)
                raw.connect(str(served.socket_path))
                raw.sendall(HEALTH)
            eventually(lambda: len(breaths) >= 3, "descriptors do not run out")
            assert len(breaths) < 50
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for raw in raws[:5]:
            assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_any_bytes(served: Served) -> None:
    """Broken requests of all kinds: none is answered with 500, none ends the server."""
    seed = int(os.environ.get("SYNCD_SEED", "20260704"))
    chance = random.Random(seed)
    for number in range(20_000 if EXHAUSTIVE else 400):
        request = damaged(chance)
        kind = "tcp" if number % 4 == 0 else "unix"
        with served.connect(kind) as raw, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
            answer = read_all(raw)
            assert b"HTTP/1.1 500" not in answer, (seed, number, request)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 ", b"{")), (seed, number, request)
    assert served.bugs == [], seed


SOUND = [
    HEALTH,
    b"GET /api/v1/events?since=0&limit=5&timeout=0 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    b"GET /api/v1/folder?mirror=Bhushanji&path=a%20b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /api/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(RESOLVE) + RESOLVE,
    b'POST /api/v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n{"path": "there.pdf", "ttl_s": 3.5 }',
    b'POST /api/v1/pause HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"mirrors": [], \r\n0\r\n\r\n',
    b"PUT /api/v1/leases/lease-1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"DELETE /api/v1/leases/lease-1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]
ODD = [
    *(b"\x00", b"\r\n", b"\n", b"\r\n\r\n", b":", b"%", b"%zz", b"\xff\xfe", b"\\ud800", b'"', b"{", b"-", b" "),
    *(b"[" * 500, b"9" * 30, b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: evil\r\n"),
]


def damaged(chance: random.Random) -> bytes:
    """Return one or two requests with a few changes anywhere, or bytes without any sense."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randint(0, 3000))
    request = bytearray(b"".join(chance.choices(SOUND, k=chance.randint(1, 2))))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(request) + 1)
        match chance.randrange(4):
            case 0:
                request[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                request[at:at] = chance.choice(ODD)
            case 2:
                del request[at : at + chance.randint(1, 30)]
            case _:
                request[at:at] = request[at : at + chance.randint(1, 200)]
    return bytes(request)


def enough_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this process may open only {hard} descriptors")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
