"""worker-glue doctor: nsqd as KEDA's scaler sees it, and the clocks behind what is asked."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from syncd.config.settings import NsqSettings
from syncd.config.values import Address
from syncd.core.clocks import Apart
from tests.support.backend import CHANNEL, TOPIC
from tests.support.nsqd import LookupdServer, NsqdServer, start_lookupd, start_nsqd
from tests.support.ocr_site import NOWHERE
from tests.support.ports import free_port
from worker_glue.doctor import clocks
from worker_glue.doctor.checks import Check, Level
from worker_glue.doctor.scaler import IN_CLUSTER, Node, checks, nodes_of, waiting
from worker_glue.running.settings import load

CLUSTER = {IN_CLUSTER: "10.96.0.1"}


@pytest.fixture(scope="module")
def lookupd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LookupdServer]:
    with start_lookupd(tmp_path_factory.mktemp("lookupd")) as server:
        yield server


@pytest.fixture
def nsqd(lookupd: LookupdServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path, lookupd=lookupd, broadcast=getattr(request, "param", "127.0.0.1")) as server:
        deadline = time.monotonic() + 20
        while [each["tcp_port"] for each in lookupd.http("/nodes")["producers"]] != [server.tcp_port]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield server


def settings(lookupd_port: int, **more: Any) -> NsqSettings:
    found = load(None, {"HOME": "/nowhere", "NSQD_ADDRESS": "127.0.0.1:4150"}).nsq
    return (
        found._replace(lookupd=(Address("127.0.0.1", lookupd_port),), **more) if hasattr(found, "_replace") else found
    )


def look(nsq: NsqSettings, env: dict[str, str]) -> tuple[list[Check], list[Apart]]:
    apart: list[Apart] = []
    return list(checks(nsq, env, apart)), apart


def test_in_a_cluster_each_nsqd_is_asked_as_keda_asks(lookupd: LookupdServer, nsqd: NsqdServer) -> None:
    nsqd.make_channel(TOPIC, CHANNEL)
    nsqd.publish(TOPIC, b"1", b"2", b"3")
    (check,), apart = look(settings(lookupd.http_port), CLUSTER)
    assert (check.name, check.status) == ("scaler", Level.OK)
    assert check.seen == (
        f"nsqd broadcasts 127.0.0.1:{nsqd.tcp_port}, HTTP {nsqd.http_port}: /stats answers from here, 3 wait on {TOPIC}"
    )
    assert sorted(each.whose for each in apart) == ["nsqd's (127.0.0.1)", "nsqlookupd's"]
    assert all(abs(each.offset_s) < 2 for each in apart), "the same machine's"


@pytest.mark.parametrize("nsqd", [NOWHERE], indirect=True)
def test_a_broadcast_address_that_a_cluster_does_not_reach_fails(lookupd: LookupdServer, nsqd: NsqdServer) -> None:
    (check,), _ = look(settings(lookupd.http_port), CLUSTER)
    assert check.status is Level.FAIL
    assert (
        f"nsqd broadcasts {NOWHERE}:{nsqd.tcp_port}, HTTP {nsqd.http_port}: HTTP does not answer from here"
        in check.seen
    )
    assert "KEDA's scaler asks there" in check.seen
    assert "-broadcast-address" in check.todo


@pytest.mark.parametrize("nsqd", [NOWHERE], indirect=True)
def test_behind_proxies_it_is_told_and_not_dialled(lookupd: LookupdServer, nsqd: NsqdServer) -> None:
    (check,), apart = look(settings(lookupd.http_port), {})
    assert check.status is Level.OK
    assert f"{NOWHERE}:{nsqd.tcp_port}" in check.seen
    assert "not dialled from here" in check.seen
    assert [each.whose for each in apart] == ["nsqlookupd's"]


def test_where_readers_go_direct_it_is_dialled_too(lookupd: LookupdServer, nsqd: NsqdServer) -> None:
    (check,), _ = look(settings(lookupd.http_port, allow_direct=True), {})
    assert check.status is Level.OK
    assert f"{TOPIC} is not there yet" in check.seen


def test_an_nsqlookupd_that_is_away_is_said_elsewhere() -> None:
    assert look(settings(free_port()), CLUSTER) == ([], [])


@contextlib.contextmanager
def serving(body: bytes) -> Iterator[int]:
    """Answer every page with the same, and the time with one of long ago."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", "Tue, 01 Jan 2019 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"producers": 5}', b'{"producers": [5, {}]}'])
def test_a_hostile_nsqlookupd_names_nobody(body: bytes) -> None:
    with serving(body) as port:
        assert look(settings(port), CLUSTER)[0] == []


def test_another_program_in_the_place_of_nsqd_is_not_taken_for_it() -> None:
    with serving(b'{"hello": 1}') as other:
        told = b'{"producers": [{"broadcast_address": "127.0.0.1", "tcp_port": 4150, "http_port": %d}]}' % other
        with serving(told) as port:
            (check,), _ = look(settings(port), CLUSTER)
    assert check.status is Level.FAIL
    assert "what answers there is not nsqd" in check.seen


def test_a_clock_that_is_years_off_fails_in_one_line() -> None:
    with serving(b'{"producers": []}') as port:
        _, apart = look(settings(port), {})
    (check,) = clocks.checks([*apart, Apart("MongoDB's", 1.0)])
    assert check.status is Level.FAIL
    assert check.seen.startswith("nsqlookupd's clock is ")
    assert "behind ours, the farthest of 2 compared" in check.seen
    assert "NTP" in check.todo


def test_clocks_are_judged_by_the_farthest() -> None:
    assert list(clocks.checks([])) == []
    assert [check.status for check in clocks.checks([Apart("a's", 1.9)])] == [Level.OK]
    assert [check.status for check in clocks.checks([Apart("a's", 0.1), Apart("b's", -2.1)])] == [Level.WARN]
    assert [check.status for check in clocks.checks([Apart("a's", -301)])] == [Level.FAIL]
    assert clocks.compared(Apart("a's", 1e9)).status is Level.WARN


def test_what_waits_is_counted_as_keda_does() -> None:
    channel = {"channel_name": CHANNEL, "depth": 7}
    assert waiting({"topics": [{"depth": 9, "channels": [{"channel_name": "x", "depth": 1}, channel]}]}) == 7
    assert waiting({"topics": [{"depth": 9, "channels": []}]}) == 9
    assert waiting({"topics": []}) is None
    for nonsense in (None, [], {"topics": 5}, {"topics": [5]}, {"topics": [{"depth": "x", "channels": [5]}]}):
        assert waiting(nonsense) is None
    told = {"broadcast_address": "a", "tcp_port": 1, "http_port": 2}
    assert list(nodes_of([told, {**told, "http_port": 0}, {**told, "broadcast_address": ""}])) == [Node("a", 1, 2)]
