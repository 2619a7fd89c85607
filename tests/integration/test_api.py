"""The API's calls, through the client and by hand, over the Unix socket and over TCP."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncd.client import api as client_api
from syncd.client.address import SOCKET, SocketAddress
from syncd.client.api import ApiClient, connect, from_environment
from syncd.client.errors import ApiRefused, ApiUnreachable
from syncd.core.errors import AlreadyRunning, ConfigError, DiskFull, PlanRefused, SourceUnavailable, SyncdError
from syncd.core.lease import Lease
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.web import port
from syncd.web.server import ApiServer
from tests.support.api_server import Served, error_in, eventually, serving
from tests.support.fake_service import FakeService

PATH = "Bhushanji/there.pdf"
ODD_PATHS = [
    "Bhushanji/पत्र १९६२ .JPG",
    "Bhushanji/a\x00b",
    "Bhushanji/../../etc/passwd",
    "//\\",
    "",
    "💾",
    "a" * 32_000,
]


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture(params=["unix", "tcp"])
def api(served: Served, request: pytest.FixtureRequest) -> Iterator[ApiClient]:
    with served.client() if request.param == "unix" else served.tcp_client() as client:
        yield client


# --- looking ---------------------------------------------------------------------------------------------------------


def test_health(served: Served, api: ApiClient) -> None:
    assert api.health()["ok"] is True
    served.service.is_healthy = False
    assert api.health()["problems"] == ["the catalogue cannot be written"]
    assert served.ask("GET", "/healthz")[0] == 503


def test_status(api: ApiClient) -> None:
    assert api.status()["mirrors"][0]["name"] == "Bhushanji"


def test_metrics_are_prometheus_text(served: Served) -> None:
    status, headers, body = served.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b'syncd_mirror_files{mirror="Bhushanji",state="held"} 1.0' in body


def test_the_page_and_all_its_files_are_served_without_a_token(served: Served) -> None:
    status, headers, page = served.ask_tcp("GET", "/", Authorization="")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'self';")
    files = re.findall(rb'(?:src|href)="(/static/[^"]+)"', page)
    assert files
    for name in files:
        status, headers, body = served.ask_tcp("GET", name.decode(), Authorization="")
        assert (status, bool(body)) == (200, True)
        assert served.ask_tcp("GET", name.decode(), If_None_Match=headers["etag"])[::2] == (304, b"")


def test_folder(served: Served, api: ApiClient) -> None:
    served.service.hold("दैनिक & more/a b.jpg")
    found = api.folder("Bhushanji", "दैनिक & more")
    assert found is not None
    assert [each["name"] for each in found["files"]] == ["a b.jpg"]
    assert api.folder("nobody") is None


def test_head_is_get_without_a_body(served: Served) -> None:
    status, headers, body = served.ask("HEAD", "/healthz")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


# --- files -----------------------------------------------------------------------------------------------------------


def test_resolve(served: Served, api: ApiClient) -> None:
    assert api.resolve(PATH) == served.service.resolve(PATH)
    assert api.resolve("Bhushanji/nothing") == served.service.resolve("Bhushanji/nothing")


@pytest.mark.parametrize("path", ODD_PATHS)
def test_any_text_is_a_path(served: Served, path: str) -> None:
    with served.client() as api:
        assert api.resolve(path) == served.service.resolve(path)
        assert api.ensure(path, timeout_s=1) == served.service.resolve(path)


@pytest.mark.parametrize("path", ["\ud800", "Bhushanji/\udcff.pdf"])
def test_a_path_that_is_no_unicode_is_refused_without_asking(served: Served, path: str) -> None:
    with served.client() as api:
        for found in (api.resolve(path), api.ensure(path), api.lease(path, 60)):
            assert isinstance(found, Resolution)
            assert (found.state, found.reason) == (State.REFUSED, Reason.NAME_UNDECODABLE)
        for change in (lambda: api.announce(paths=[path]), lambda: api.start_run(only=[path])):
            with pytest.raises(ApiRefused, match="Unicode"):
                change()
    assert served.service.calls["resolve"] == 0


def test_ensure_fetches(served: Served, api: ApiClient) -> None:
    served.service.on_source["later.pdf"] = b"arrived"
    assert api.resolve("Bhushanji/later.pdf").state is State.FETCHING
    assert api.ensure("Bhushanji/later.pdf").state is State.READY


def test_ensure_waits_until_the_file_is_there(served: Served) -> None:
    served.service.fetching.clear()
    served.service.on_source["later.pdf"] = b"arrived"
    with served.client() as api, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(api.ensure, "Bhushanji/later.pdf", 60) for _ in range(4)]
        eventually(lambda: len(served.service.wishes) == 4, "nobody asked")
        assert not any(each.done() for each in waiting)
        served.service.fetch_wanted()
        assert {each.result(20).state for each in waiting} == {State.READY}


def test_ensure_says_how_it_is_when_time_is_up(served: Served, api: ApiClient) -> None:
    served.service.fetching.clear()
    served.service.on_source["later.pdf"] = b"arrived"
    assert api.ensure("Bhushanji/later.pdf", timeout_s=0.05).state is State.FETCHING
    assert api.ensure("Bhushanji/later.pdf", timeout_s=0).state is State.FETCHING
    eventually(lambda: all(wish.cancelled() for wish in served.service.wishes), "a wish outlived its caller")


def test_ensure_calls_nothing_missing_that_it_still_looks_for(served: Served, api: ApiClient) -> None:
    assert api.ensure("Bhushanji/nowhere.pdf").state is State.MISSING
    served.service.fetching.clear()
    found = api.ensure("Bhushanji/nowhere.pdf", timeout_s=0.05)
    assert (found.state, found.reason, found.retry_after_s) == (State.FETCHING, Reason.TIMEOUT, 5.0)


def test_a_caller_that_hangs_up_takes_its_wish_back(served: Served) -> None:
    served.service.fetching.clear()
    served.service.on_source["later.pdf"] = b"arrived"
    body = json.dumps({"path": "Bhushanji/later.pdf", "timeout_s": 3600}).encode()
    with served.connect() as raw, served.client() as api, ThreadPoolExecutor(1) as pool:
        raw.sendall(b"POST /api/v1/ensure HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        other = pool.submit(api.ensure, "Bhushanji/later.pdf")
        eventually(lambda: len(served.service.wishes) == 2, "nobody asked")
        raw.close()
        eventually(lambda: sum(wish.cancelled() for wish in served.service.wishes) == 1, "the wish stays")
        served.service.fetch_wanted()
        assert other.result(20).state is State.READY


def test_a_caller_that_hangs_up_before_its_wish_is_taken_leaves_none(served: Served) -> None:
    served.service.fetching.clear()
    served.service.slow_s["ensure"] = 0.3
    body = b'{"path": "x"}'
    with served.connect() as raw:
        raw.sendall(b"POST /api/v1/ensure HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: served.service.calls["ensure"] == 1, "nobody asked")
    eventually(lambda: bool(served.service.wishes) and served.service.wishes[0].cancelled(), "the wish stays")


def test_a_wish_that_the_daemon_drops_is_told(served: Served) -> None:
    served.service.fetching.clear()
    with served.client() as api, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.ensure, "Bhushanji/x", 60)
        eventually(lambda: bool(served.service.wishes), "nobody asked")
        served.service.wishes[0].cancel()
        with pytest.raises(ApiRefused) as caught:
            waiting.result(20)
    assert (caught.value.status, caught.value.transient, caught.value.reason) == (503, True, Reason.STOPPED)


def test_leases(served: Served, api: ApiClient) -> None:
    lease = api.lease(PATH, 60)
    assert isinstance(lease, Lease)
    assert lease.pinned_path.endswith(lease.pinned_rel)
    renewed = api.renew(lease.lease_id, 3600)
    assert renewed is not None
    assert renewed.expires_at > lease.expires_at
    assert api.release(lease.lease_id) is True
    assert api.release(lease.lease_id) is None
    assert api.renew(lease.lease_id, 60) is None
    assert served.service.leases == 0


def test_a_lease_on_what_is_not_ready_is_its_resolution(api: ApiClient) -> None:
    found = api.lease("Bhushanji/nothing", 60)
    assert isinstance(found, Resolution)
    assert found.state is State.MISSING


def test_a_lease_whose_caller_hung_up_is_released(served: Served) -> None:
    served.service.slow_s["lease"] = 0.3
    body = json.dumps({"path": PATH}).encode()
    with served.connect() as raw:
        raw.sendall(b"POST /api/v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: served.service.calls["lease"] == 1, "nobody asked")
    eventually(lambda: served.service.calls["release"] == 1, "the lease stays")
    assert served.service.leases == 0


def test_a_lease_whose_caller_hung_up_before_it_was_heard_is_released(served: Served) -> None:
    body = json.dumps({"path": PATH}).encode()
    with served.connect() as raw, served.client() as api, ThreadPoolExecutor(1) as pool:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(1 << 16)
        served.service.slow_s["health"] = 0.3
        busy = pool.submit(api.health, 20)
        eventually(lambda: served.service.calls["health"] == 2, "nobody asked")
        raw.sendall(b"POST /api/v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        raw.close()
        assert busy.result(20)["ok"] is True
        eventually(lambda: served.service.calls["release"] == 1, "the lease stays")
    assert served.service.calls["lease"] == 1
    assert served.service.leases == 0


def test_errands_of_server_and_client_have_the_same_fields() -> None:
    assert port.Errand._fields == client_api.Errand._fields


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_are_numbered_and_read_in_parts(served: Served, api: ApiClient) -> None:
    for number in range(5):
        served.service.hold(f"{number}.pdf")
    first = api.events(0, limit=4)
    assert [event["seq"] for event in first.events] == [1, 2, 3, 4]
    rest = api.events(first.next)
    assert [event["seq"] for event in rest.events] == [5, 6]
    assert api.events(rest.next).events == []


def test_where_the_feed_is(api: ApiClient) -> None:
    found = api.events(-1, timeout_s=60)
    assert (found.events, found.next) == ([], 1)


def test_a_gap_is_told_at_once(served: Served, api: ApiClient) -> None:
    served.service.kept_events = 2
    for number in range(5):
        served.service.hold(f"{number}.pdf")
    found = api.events(1, timeout_s=60)
    assert (found.gap, found.oldest) == (True, 5)
    assert [event["seq"] for event in found.events] == [5, 6]


def test_a_poll_ends_when_something_happens(served: Served, api: ApiClient) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.events, 1, 60)
        eventually(lambda: served.service.calls["events"] >= 1, "nobody asked")
        served.service.hold("new.pdf")
        assert [event["path"] for event in waiting.result(20).events] == ["new.pdf"]


def test_a_poll_ends_when_nothing_happens(api: ApiClient) -> None:
    assert api.events(1, timeout_s=0.1).events == []


def test_waiting_pollers_cost_no_thread_and_share_the_answer(served: Served) -> None:
    pollers = 200
    raws = [served.connect() for _ in range(pollers)]
    try:
        threads = threading.active_count()
        for raw in raws:
            raw.sendall(b"GET /api/v1/events?since=1&timeout=60 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        eventually(lambda: served.is_well(), "the server is busy")
        assert threading.active_count() <= threads + 8
        asked = served.service.calls["events"]
        served.service.hold("new.pdf")
        answers = [b"".join(iter(lambda raw=raw: raw.recv(65536), b"")) for raw in raws]  # type: ignore[misc]
        assert all(b'"new.pdf"' in answer for answer in answers)
        assert served.service.calls["events"] <= asked + pollers // 4
    finally:
        for raw in raws:
            raw.close()


def test_no_event_is_slept_through(served: Served) -> None:
    total = 300

    def write() -> None:
        for number in range(total):
            served.service.hold(f"n{number}.pdf")
            if number % 7 == 0:
                time.sleep(0.002)

    with served.client() as api:
        writer = threading.Thread(target=write)
        writer.start()
        seen: list[int] = []
        following = 1
        while len(seen) < total:
            found = api.events(following, timeout_s=20)
            assert found.events, "a poll ended empty while events were owed"
            seen += [event["seq"] for event in found.events]
            following = found.next
        writer.join()
    assert seen == list(range(2, total + 2))


# --- changes of state ------------------------------------------------------------------------------------------------


def test_runs_and_verifications_are_errands(served: Served) -> None:
    with served.client() as api:
        run = api.start_run(["Bhushanji"], ["hin-typed"], new_target=True)
        verify = api.start_verify(source=True, repair=True, fraction=0.5)
        found = api.errand("runs", run)
        assert found is not None
        assert (found.done, found.exit_code, found.result) == (True, 0, {"run_id": "r1", "mirrors": []})
        assert api.errand("verify", verify) is not None
        assert api.errand("runs", "nothing") is None
    assert served.service.started == [
        ("run", {"mirrors": ["Bhushanji"], "only": ["hin-typed"], "new_target": True, "take_over": False}),
        ("verify", {"mirrors": [], "source": True, "checksums": False, "repair": True, "fraction": 0.5}),
    ]


def test_other_changes(served: Served) -> None:
    with served.client() as api:
        assert api.approve("Bhushanji", ["a", "b"]) == {"approved": 2}
        api.pause(["Bhushanji"], for_s=7200)
        assert api.status()["mirrors"][0]["state"] == "paused"
        api.resume()
        assert api.announce(everything=True) == {"owed": 1}
    assert served.service.changes == [
        ("approve", {"mirror": "Bhushanji", "paths": ["a", "b"]}),
        ("pause", {"mirrors": ["Bhushanji"], "for_s": 7200}),
        ("resume", {"mirrors": []}),
        ("announce", {"since": None, "paths": [], "all": True}),
    ]


def test_a_large_approval_passes(served: Served) -> None:
    paths = [f"folder {number:07}/a file with a name of usual length.jpg" for number in range(60_000)]
    with served.client() as api:
        assert api.approve("Bhushanji", paths) == {"approved": len(paths)}


def test_changes_are_refused_over_tcp(served: Served) -> None:
    with served.tcp_client() as api:
        for change in (api.start_run, api.start_verify, api.pause, api.resume, api.announce):
            with pytest.raises(ApiRefused, match="Unix socket") as caught:
                change()
            assert caught.value.status == 403
        with pytest.raises(ApiRefused, match="Unix socket"):
            api.approve("Bhushanji", ["a"])
        assert api.errand("runs", "x") is None  # looking is allowed
    assert served.service.started == []
    assert served.service.changes == []


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AlreadyRunning("process 7 runs", pid=7, hint="kill 7"), 409),
        (PlanRefused("held back", hint="syncd approve"), 409),
        (SourceUnavailable("no route", hint="syncd doctor"), 503),
        (DiskFull("no space", hint="free some"), 507),
        (SyncdError("too many leases", reason=Reason.REFUSED), 500),
    ],
)
def test_what_the_daemon_cannot_do_reaches_the_caller_as_it_is(served: Served, error: SyncdError, status: int) -> None:
    served.service.fail |= {"status": error, "resolve": error}
    with served.client() as api:
        for call in (api.status, lambda: api.resolve(PATH)):
            with pytest.raises(ApiRefused) as caught:
                call()
            told = caught.value
            assert (told.status, told.message, told.hint) == (status, error.message, error.hint)
            assert (told.reason, told.exit_code, told.transient) == (error.reason, error.exit_code, error.transient)


def test_a_wrong_wish_is_a_configuration_error_with_its_problems(served: Served) -> None:
    with served.client() as api, pytest.raises(ConfigError) as caught:
        api.start_run(["nobody"])
    assert caught.value.problems == ("there is no mirror 'nobody'",)
    assert caught.value.hint == "syncd status"


def test_a_bug_is_told_to_the_daemon_and_not_to_the_caller(served: Served) -> None:
    bug = RuntimeError("secret detail")
    served.service.fail |= {"status": bug, "resolve": bug}
    for method, target, body in (("GET", "/api/v1/status", b""), ("POST", "/api/v1/resolve", b'{"path": "x"}')):
        status, _, answer = served.ask(method, target, body)
        assert status == 500
        assert error_in(answer)["reason"] == "bug"
        assert b"secret" not in answer
        assert b"Traceback" not in answer
    assert served.bugs == [bug, bug]
    served.bugs.clear()
    served.service.fail.clear()
    assert served.is_well()


# --- the socket ------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_owner_and_group(served: Served) -> None:
    found = served.socket_path.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert stat.S_IMODE(served.socket_path.parent.stat().st_mode) == 0o750
    assert [each.name for each in served.socket_path.parent.iterdir()] == ["syncd.sock"]


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / SOCKET
    path.parent.mkdir()
    (path.parent / ".new").mkdir()  # left by a start that was killed
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = ApiServer(FakeService(), path)
    server.start()
    try:
        assert connect_and_close(tmp_path)
    finally:
        server.close()
    assert not path.exists()
    assert not (path.parent / ".new").exists()


def test_a_later_daemons_socket_is_not_taken_away(tmp_path: Path) -> None:
    first, second = (ApiServer(FakeService(), tmp_path / SOCKET) for _ in range(2))
    first.start()
    (tmp_path / SOCKET).unlink()  # as whoever else cleared the folder
    second.start()
    try:
        first.close()
        assert connect_and_close(tmp_path)
    finally:
        second.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux reaches a socket through a folder's handle")
def test_a_path_that_no_address_can_hold(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    server = ApiServer(FakeService(), deep / SOCKET)
    server.start()
    try:
        assert connect_and_close(deep)
    finally:
        server.close()


def test_a_place_that_cannot_be_had_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ConfigError) as caught:
        ApiServer(FakeService(), tmp_path / SOCKET).start()
    assert "state_dir" in caught.value.hint


def test_a_port_that_is_taken_is_a_configuration_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = ApiServer(FakeService(), tmp_path / SOCKET, listen=other.getsockname(), token=lambda: "x")
        with pytest.raises(ConfigError, match="cannot listen"):
            server.start()
    assert not (tmp_path / SOCKET).exists()


def test_close_is_repeatable_and_start_not_needed(tmp_path: Path) -> None:
    server = ApiServer(FakeService(), tmp_path / SOCKET)
    server.close()
    server.start()
    server.close()
    server.close()


def test_close_while_many_wait_ends_soon_and_tells_them(served: Served) -> None:
    served.service.fetching.clear()
    served.service.slow_s["status"] = 1.0
    with served.client() as api, ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(api.events, 1, 60) for _ in range(4)]
        waiting += [pool.submit(api.ensure, "Bhushanji/x", 600) for _ in range(2)]  # type: ignore[arg-type, misc]
        waiting += [pool.submit(api.status)]  # type: ignore[list-item]
        eventually(lambda: served.service.calls["status"] == 1, "nobody asked")
        eventually(lambda: len(served.service.wishes) == 2, "nobody asked")
        eventually(lambda: served.service.calls["events"] >= 1, "nobody asked")
        time.sleep(0.1)
        began = time.monotonic()
        served.server.close()
        assert time.monotonic() - began < 2
        for each in waiting:
            with pytest.raises(ApiRefused, match="stopping"):
                each.result(20)
    assert all(wish.cancelled() for wish in served.service.wishes)


# --- finding the daemon ----------------------------------------------------------------------------------------------


def connect_and_close(state: Path) -> bool:
    api = connect(state)
    if api is None:
        return False
    with api:
        return bool(api.health()["ok"])


def test_connect(served: Served, tmp_path: Path) -> None:
    assert connect_and_close(served.folder)
    assert connect(tmp_path) is None


def test_connect_does_not_wait_for_a_daemon_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / SOCKET))
        hanging.listen()
        began = time.monotonic()
        assert connect(tmp_path) is None
        assert time.monotonic() - began < 10


def test_the_environment_names_the_daemon(served: Served) -> None:
    served.tcp_client().close()  # writes the token file
    for env in (
        {"SYNCD_API": f"unix://{served.socket_path}"},
        {"SYNCD_API": f"http://127.0.0.1:{served.port}", "SYNCD_API_TOKEN_FILE": str(served.folder / "token")},
        {"SYNCD_API": f"http://localhost:{served.port}/", "SYNCD_API_TOKEN_FILE": str(served.folder / "token")},
    ):
        found = from_environment(env)
        assert found is not None
        with found as api:
            assert api.resolve(PATH).state is State.READY


def test_nobody_there(tmp_path: Path) -> None:
    with ApiClient(SocketAddress(tmp_path / "syncd.sock")) as api, pytest.raises(ApiUnreachable) as caught:
        api.health()
    assert caught.value.transient
    assert caught.value.exit_code == 10


def test_a_socket_that_may_not_be_used(served: Served) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may use every socket")
    served.socket_path.chmod(0)
    with served.client() as api, pytest.raises(ApiUnreachable, match="may not be used"):
        api.health()
