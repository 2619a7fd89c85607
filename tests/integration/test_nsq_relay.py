"""The relay, a real nsqd behind a real socat, and everything that happens to nsqd."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.model import Dropped, RelPath
from syncd.core.wire import RUNS_TOPIC
from syncd.engine.relay import Pace, Relay
from syncd.publish.nsq import NsqPublisher, Patience
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from tests.support.catalogues import finish, held, hold, open_catalogue
from tests.support.fake_nsqd import FakeNsqd
from tests.support.faultproxy import FaultProxy
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.socat import start_socat

TOPIC = "file_sync_ready"
PATIENCE = Patience(connect_s=0.5, reply_s=0.5)
PACE = Pace(idle_s=0.05, pause_s=0.05, pause_max_s=0.2, least_s=0.02, again_s=0.02)
DEADLINE_S = 30.0


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


@pytest.fixture
def mirror(catalogue: Catalogue) -> SqliteMirrorCatalogue:
    return catalogue.mirror("M")


@pytest.fixture
def nsqd(tmp_path: Path) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path) as server:
        server.make_channel(TOPIC, "c")
        yield server


class Running:
    """A relay in its thread, as the daemon has it."""

    def __init__(self, catalogue: Catalogue, port: int) -> None:
        publisher = NsqPublisher([("127.0.0.1", port)], PATIENCE)
        self.relay = Relay(catalogue, publisher, host="here", topic=TOPIC, pace=PACE)
        self._thread = threading.Thread(target=self.relay.run, name="relay")

    def __enter__(self) -> Relay:
        self._thread.start()
        return self.relay

    def __exit__(self, *_: object) -> None:
        self.relay.stop()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def commit(mirror: SqliteMirrorCatalogue, count: int, content: str = "", prefix: str = "f") -> None:
    hold(mirror, *(held(f"{prefix}{n:04}", content=f"{content}{n}") for n in range(count)), now_ms=now_ms())


def arrived(nsqd: NsqdServer) -> list[dict[str, Any]]:
    return [json.loads(body) for body in nsqd.take_all(TOPIC, "c", quiet_s=0.3)]


def require_all(messages: list[dict[str, Any]], catalogue: Catalogue) -> None:
    """Everything committed arrived at least once, and of each path nothing older came first after something newer."""
    rows = catalogue.announcements(0, 100_000)
    assert {each["id"] for each in messages} == {
        f"here|{row.mirror}|{row.path}|{row.sha256}|{row.generation}" for row in rows
    }
    seen: set[str] = set()
    newest: dict[str, int] = {}
    for each in messages:
        if each["id"] not in seen:
            seen.add(each["id"])
            assert each["generation"] > newest.get(each["path"], 0)
            newest[each["path"]] = each["generation"]


def test_down_at_start(tmp_path: Path, catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer) -> None:
    nsqd.stop()
    commit(mirror, 700)
    with start_socat(nsqd.tcp_port) as port, Running(catalogue, port) as relay:
        until(lambda: relay.state.failures >= 2)
        assert f"127.0.0.1:{port}" in relay.state.error
        commit(mirror, 100, "new")
        nsqd.start()
        until(lambda: catalogue.count_owed() == 0)
        require_all(arrived(nsqd), catalogue)


def test_killed_in_the_middle_of_it(catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer) -> None:
    """nsqd is killed again and again while 10,000 go out; what it forgot comes again since it was sent lately."""
    with start_socat(nsqd.tcp_port) as port, Running(catalogue, port) as relay:
        for turn in range(4):
            commit(mirror, 1_500, f"{turn}-")
            relay.wake()
            time.sleep(0.02 * turn)
            nsqd.restart(forget=True)
            nsqd.make_channel(TOPIC, "c")
        until(lambda: catalogue.count_owed() == 0)
        until(lambda: relay.state.again_left == 0)
        messages = arrived(nsqd)
    newest = {row.path: row.generation for row in catalogue.announcements(0, 100_000)}
    assert {each["path"]: each["generation"] for each in messages} == newest


def test_restarted_and_forgetful_while_nothing_new_happens(
    catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer
) -> None:
    with start_socat(nsqd.tcp_port) as port, Running(catalogue, port) as relay:
        commit(mirror, 50)
        mirror.commit([Dropped(RelPath("f0000"))], [], run_id="r", now_ms=now_ms())
        until(lambda: catalogue.count_owed() == 0)
        nsqd.restart(forget=True)
        nsqd.make_channel(TOPIC, "c")
        until(lambda: nsqd.channels(TOPIC)["c"]["depth"] >= 50)
        until(lambda: relay.state.again_left == 0)
        messages = arrived(nsqd)
    assert [each["event"] for each in messages if each["path"] == "f0000"] == ["removed"]
    assert len(messages) == 50


def test_suspended_and_resumed(catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer) -> None:
    """A black hole whose kernel still takes connections, and whose server wakes up with old batches to read."""
    with start_socat(nsqd.tcp_port) as port, Running(catalogue, port) as relay:
        commit(mirror, 300)
        until(lambda: catalogue.count_owed() == 0)
        nsqd.suspend()
        commit(mirror, 300, "new")
        relay.wake()
        until(lambda: relay.state.failures >= 2)
        assert "no answer" in relay.state.error
        nsqd.resume()
        commit(mirror, 300, "newer")
        until(lambda: catalogue.count_owed() == 0)
        until(lambda: relay.state.again_left == 0)
        messages = arrived(nsqd)
    require_all(messages, catalogue)


@pytest.mark.parametrize("fault", ["stall", "reset", "down", "garbage"])
def test_a_network_that_breaks(
    fault: str, catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer
) -> None:
    with FaultProxy(nsqd.address) as proxy, Running(catalogue, proxy.port) as relay:
        for turn in range(3):
            commit(mirror, 400, f"{turn}-")
            relay.wake()
            match fault:
                case "stall":
                    proxy.stall()
                case "reset":
                    proxy.reset_all()
                case "down":
                    proxy.down()
                case _:
                    proxy.mutate = lambda _number, _direction, piece: b"\xff" * len(piece)
            commit(mirror, 10, f"{turn}+", prefix="g")
            relay.wake()
            until(lambda: fault == "reset" or relay.state.failures)
            proxy.mutate = None
            proxy.resume()
            proxy.up()
            until(lambda: catalogue.count_owed() == 0)
        until(lambda: relay.state.again_left == 0)
        messages = arrived(nsqd)
    require_all(messages, catalogue)


def test_an_error_and_then_an_ok(catalogue: Catalogue, mirror: SqliteMirrorCatalogue) -> None:
    with FakeNsqd("error-then-ok", "garbage", "reset", "truncated", "silence") as server:
        commit(mirror, 20)
        with Running(catalogue, server.address[1]):
            until(lambda: catalogue.count_owed() == 0)
        assert [json.loads(body)["path"] for body in server.accepted] == [f"f{n:04}" for n in range(20)]
        assert len(server.received) == 6


def test_a_run_is_closed_after_its_files(catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer) -> None:
    nsqd.make_channel(RUNS_TOPIC, "c")
    nsqd.stop()
    hold(mirror, held("1"), run_id="r1", now_ms=now_ms())
    finish(mirror, "r1", None, report={"name": "M", "fetched": 1})
    with Running(catalogue, nsqd.tcp_port) as relay:
        until(lambda: relay.state.failures)
        nsqd.start()
        (message,) = nsqd.take(RUNS_TOPIC, "c", 1)
        assert len(nsqd.take(TOPIC, "c", 1)) == 1
        assert json.loads(message)["run_id"] == "r1"
        until(lambda: not catalogue.runs_to_announce(1))


def test_drained_by_a_command_without_a_daemon(
    catalogue: Catalogue, mirror: SqliteMirrorCatalogue, nsqd: NsqdServer
) -> None:
    commit(mirror, 1_200)
    publisher = NsqPublisher([nsqd.address], PATIENCE)
    relay = Relay(catalogue, publisher, host="here", topic=TOPIC)
    assert relay.drain(10.0) == 0
    publisher.close()
    require_all(arrived(nsqd), catalogue)
