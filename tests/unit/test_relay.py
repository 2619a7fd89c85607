"""The relay, over a real catalogue and a publisher in memory that fails on request."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import CatalogueError
from syncd.core.model import Dropped, RelPath
from syncd.core.wire import RUNS_TOPIC
from syncd.engine import relay as relay_module
from syncd.engine.relay import Pace, Relay, trim_feed
from syncd.publish.memory import MemoryPublisher
from syncd.publish.spool import SpoolPublisher
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from tests.support.catalogues import NOW_MS, finish, held, hold, open_catalogue

TOPIC = "file_sync_ready"
QUICK = Pace(idle_s=0.02, pause_s=0.02, pause_max_s=0.1, least_s=0.01, again_s=0.01)
DEADLINE_S = 20.0
SECOND_NS = 1_000_000_000


class Wall:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now_ns = NOW_MS * 1_000_000

    def __call__(self) -> int:
        return self.now_ns

    @property
    def ms(self) -> int:
        return self.now_ns // 1_000_000

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


@pytest.fixture
def mirror(catalogue: Catalogue) -> SqliteMirrorCatalogue:
    return catalogue.mirror("M")


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def nsqd() -> MemoryPublisher:
    return MemoryPublisher()


@pytest.fixture
def relay(catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall) -> Relay:
    return make(catalogue, nsqd, wall)


def make(catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall, pace: Pace = QUICK) -> Relay:
    return Relay(catalogue, nsqd, host="here", topic=TOPIC, pace=pace, now_ns=wall)


@pytest.fixture
def running(relay: Relay) -> Iterator[Relay]:
    yield from started(relay)


def started(relay: Relay) -> Iterator[Relay]:
    thread = threading.Thread(target=relay.run, name="relay")
    thread.start()
    yield relay
    relay.stop()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def messages(nsqd: MemoryPublisher) -> list[dict[str, Any]]:
    return [json.loads(body) for body in nsqd.bodies(TOPIC)]


def told(nsqd: MemoryPublisher) -> list[tuple[str, str, int]]:
    return [(each["event"], each["path"], each["generation"]) for each in messages(nsqd)]


def paths(nsqd: MemoryPublisher) -> list[str]:
    return [each["path"] for each in messages(nsqd)]


# --- what is owed


def test_everything_is_sent_in_the_order_of_commit_as_file_ready(
    relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    hold(mirror, held("b"), held("a"), now_ms=5)
    hold(mirror, held("b", content="new"), now_ms=6)
    mirror.commit([Dropped(RelPath("a"))], [], run_id="r9", now_ms=7)
    assert relay.drain(DEADLINE_S) == 0
    assert told(nsqd) == [("ready", "b", 5), ("ready", "a", 5), ("updated", "b", 6), ("removed", "a", 7)]
    message = messages(nsqd)[-1]
    assert message["host"] == "here"
    assert message["server_path"] == "M/a"
    assert message["id"] == f"here|M|a|{message['sha256']}|7"
    assert (message["v"], message["run_id"]) == (1, "r9")
    assert catalogue.unpublished(10) == []
    assert relay.state.accepted == 4
    assert relay.state.connected


def test_batches_are_cut_by_number_and_by_size(
    relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "BATCH_MESSAGES", 10)
    hold(mirror, *(held(f"{n:03}") for n in range(35)))
    relay.drain(DEADLINE_S)
    assert len(paths(nsqd)) == 35
    by_number = nsqd.calls
    monkeypatch.setattr(relay_module, "BATCH_BYTES", 1)
    hold(mirror, *(held(f"{n:03}", content="x") for n in range(35)))
    relay.drain(DEADLINE_S)
    assert paths(nsqd) == [f"{n:03}" for n in range(35)] * 2
    assert by_number <= 5
    assert nsqd.calls - by_number >= 35


@pytest.mark.parametrize("fault", ["L", "H", "D"])
def test_a_row_is_marked_only_once_it_was_taken(
    fault: str, relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    hold(mirror, *(held(str(n)) for n in range(6)))
    nsqd.script(fault)
    assert relay.drain(0) == 6
    assert len(catalogue.unpublished(10)) == 6
    assert "script" in relay.state.error
    assert not relay.state.connected
    assert relay.drain(DEADLINE_S) == 0
    assert paths(nsqd)[-6:] == [str(n) for n in range(6)]


def test_what_was_sent_and_not_marked_is_sent_twice(
    relay: Relay,
    nsqd: MemoryPublisher,
    wall: Wall,
    mirror: SqliteMirrorCatalogue,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a kill between nsqd's OK and the note of it."""
    hold(mirror, held("1"), held("2"))

    def killed(*_: object, **__: object) -> None:
        raise CatalogueError("killed")

    with monkeypatch.context() as patched, pytest.raises(CatalogueError):
        patched.setattr(catalogue, "mark_published", killed)
        relay.drain(DEADLINE_S)
    assert make(catalogue, nsqd, wall).drain(DEADLINE_S) == 0
    assert paths(nsqd) == ["1", "2", "1", "2"]


def test_away_it_waits_and_comes_back_by_itself(
    running: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    nsqd.down = True
    hold(mirror, *(held(f"{n:04}") for n in range(1_200)))
    running.wake()
    until(lambda: running.state.failures >= 3)
    assert "refused" in running.state.error
    assert running.state.failing_since.startswith("2023-11-14T22:13:20")
    nsqd.down = False
    until(lambda: catalogue.count_owed() == 0)
    until(lambda: running.state.connected)
    assert (running.state.failing_since, running.state.failures, running.state.error) == ("", 0, "")
    assert paths(nsqd) == [f"{n:04}" for n in range(1_200)]


class SlowPublisher(MemoryPublisher):
    """Takes 50 ms to connect and 100 ms for a batch; a look at the connection costs nothing."""

    def publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        before = self.connections
        super().publish(topic, bodies)
        time.sleep(0.05 * (self.connections - before) + (0.1 if bodies else 0))


def test_latency_is_how_long_nsqd_took_not_a_look_at_the_connection(
    catalogue: Catalogue, wall: Wall, mirror: SqliteMirrorCatalogue
) -> None:
    nsqd = SlowPublisher()
    running = started(make(catalogue, nsqd, wall))
    relay = next(running)
    until(lambda: relay.state.connected and nsqd.calls > 3)
    latency_s = relay.state.latency_s
    assert latency_s is not None
    assert latency_s >= 0.05
    hold(mirror, held("a"))
    relay.wake()
    until(lambda: (relay.state.latency_s or 0) >= 0.1)
    nsqd.down = True
    until(lambda: relay.state.failures > 0)
    assert relay.state.latency_s is None
    next(running, None)


def test_woken_it_sends_at_once(
    catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall, mirror: SqliteMirrorCatalogue
) -> None:
    for relay in started(make(catalogue, nsqd, wall, QUICK._replace(idle_s=60))):
        until(lambda: nsqd.calls)
        hold(mirror, held("1"))
        relay.wake()
        until(lambda: paths(nsqd) == ["1"])


def test_what_nobody_told_is_found_anyway(running: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("1"))
    until(lambda: paths(nsqd) == ["1"])


def test_pauses_grow_to_a_cap_and_are_jittered(relay: Relay, nsqd: MemoryPublisher) -> None:
    nsqd.down = True
    pauses = []
    for _ in range(30):
        try:
            relay._step()
        except Exception as error:
            pauses.append(relay._failed(error))  # type: ignore[arg-type]
    limits = [min(QUICK.pause_s * 2**n, QUICK.pause_max_s) for n in range(30)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))
    assert len({pause / limit for pause, limit in zip(pauses, limits, strict=True)}) > 20


def test_woken_while_it_fails_it_tries_sooner_but_not_all_the_time(
    catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall
) -> None:
    nsqd.down = True
    pace = QUICK._replace(pause_s=30, pause_max_s=60, least_s=0.1)
    began = time.monotonic()
    for relay in started(make(catalogue, nsqd, wall, pace)):
        while nsqd.calls < 4:
            relay.wake()
            time.sleep(0.001)
            assert time.monotonic() - began < DEADLINE_S
        assert time.monotonic() - began >= 0.3


def test_stop_ends_a_wait_for_nsqd(
    relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    nsqd.hold()
    hold(mirror, held("1"))
    for each in started(relay):
        until(lambda: nsqd.calls)
        each.stop()
    assert catalogue.count_owed() == 1


# --- what closes a run


def close_run(mirror: SqliteMirrorCatalogue, run_id: str, **report: Any) -> None:
    finish(mirror, run_id, None, report={"name": "M", "fetched": 1, **report})


def test_a_runs_message_follows_its_files(relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("1"), held("2"), run_id="r1")
    close_run(mirror, "r1", bytes=20, duration_s=1.5, failures=[{"path": "x", "reason": "gone", "hint": ""}])
    relay.drain(DEADLINE_S)
    assert [topic for topic, _ in nsqd.accepted] == [TOPIC, TOPIC, RUNS_TOPIC]
    message = json.loads(nsqd.bodies(RUNS_TOPIC)[0])
    assert message["run_id"] == "r1"
    assert (message["mirror"], message["host"], message["state"]) == ("M", "here", "ok")
    assert (message["fetched"], message["bytes"], message["duration_s"]) == (1, 20, 1.5)
    assert message["failures"] == [{"path": "x", "reason": "gone", "hint": ""}]
    relay.drain(DEADLINE_S)
    assert len(nsqd.bodies(RUNS_TOPIC)) == 1


def test_a_runs_message_is_as_durable_as_its_files(
    relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, catalogue: Catalogue, wall: Wall
) -> None:
    close_run(mirror, "r1")
    nsqd.script("D")
    assert relay.drain(0) == 1
    assert make(catalogue, nsqd, wall).drain(DEADLINE_S) == 0
    assert len(nsqd.bodies(RUNS_TOPIC)) == 2


def test_a_runs_message_fits_whatever_failed(
    relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue
) -> None:
    failures = [{"path": "\x01" * 4_000, "reason": "gone", "hint": "h"} for _ in range(200)]
    close_run(mirror, "r1", failures=failures, failed=200)
    assert relay.drain(DEADLINE_S) == 0
    (body,) = nsqd.bodies(RUNS_TOPIC)
    assert len(body) <= 512 << 10
    assert 10 < len(json.loads(body)["failures"]) < 100
    assert json.loads(body)["failed"] == 200


# --- what nsqd may have forgotten


def test_over_a_new_connection_the_current_state_of_the_last_minutes_is_sent_again(
    running: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue, wall: Wall
) -> None:
    hold(mirror, held("old"), now_ms=1)
    running.wake()
    until(lambda: len(messages(nsqd)) == 1)
    wall.advance(16 * 60)
    hold(mirror, held("1"), held("2"), held("3"), now_ms=2)
    hold(mirror, held("1", content="new"), now_ms=3)
    mirror.commit([Dropped(RelPath("2"))], [], run_id="r", now_ms=4)
    until(lambda: len(messages(nsqd)) == 6)
    wall.advance(14 * 60)
    nsqd.restart(forget=True)
    until(lambda: len(messages(nsqd)) == 3)
    assert sorted(told(nsqd)) == [("ready", "3", 2), ("removed", "2", 4), ("updated", "1", 3)]
    assert running.state.again_left == 0
    time.sleep(3 * QUICK.idle_s)
    assert len(messages(nsqd)) == 3


def test_a_new_daemon_sends_again_what_the_last_one_sent(
    catalogue: Catalogue, mirror: SqliteMirrorCatalogue, wall: Wall
) -> None:
    hold(mirror, held("1"), held("2"))
    make(catalogue, MemoryPublisher(), wall).drain(DEADLINE_S)
    for nsqd in (MemoryPublisher(), MemoryPublisher()):
        for _ in started(make(catalogue, nsqd, wall)):
            until(lambda nsqd=nsqd: paths(nsqd) == ["1", "2"])
        wall.advance(14 * 60)
    nsqd = MemoryPublisher()
    for _ in started(make(catalogue, nsqd, wall)):
        until(lambda: nsqd.calls >= 3)
    assert paths(nsqd) == []


def test_what_was_just_taken_over_the_new_connection_is_not_sent_again(
    relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue
) -> None:
    hold(mirror, held("1"), held("2"))
    relay.drain(DEADLINE_S)
    nsqd.restart()
    hold(mirror, held("2", content="new"), held("3"))
    relay.drain(DEADLINE_S)
    assert paths(nsqd) == ["1", "2", "2", "3", "1"]


def test_what_is_sent_again_waits_for_what_is_new_and_never_overtakes_it(
    catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall, mirror: SqliteMirrorCatalogue
) -> None:
    """A thousand are to be sent again, slowly; meanwhile half of them change."""
    many = [f"{n:04}" for n in range(1_000)]
    hold(mirror, *map(held, many), now_ms=1)
    make(catalogue, nsqd, wall).drain(DEADLINE_S)
    nsqd.restart(forget=True)
    for relay in started(make(catalogue, nsqd, wall, QUICK._replace(again_s=0.05))):
        until(lambda: 100 <= len(messages(nsqd)) < 700)
        began = time.monotonic()
        hold(mirror, *(held(path, content="new") for path in many[::2]), now_ms=2)
        relay.wake()
        until(lambda: catalogue.count_owed() == 0)
        assert relay.state.again_left > 0
        assert time.monotonic() - began < 5.0
        until(lambda relay=relay: relay.state.again_left == 0)
    newest = {path: generation for _, path, generation in told(nsqd)}
    assert newest == {path: 2 if n % 2 == 0 else 1 for n, path in enumerate(many)}
    first_new = next(n for n, each in enumerate(told(nsqd)) if each[2] == 2)
    assert all(int(path) % 2 for _, path, generation in told(nsqd)[first_new:] if generation == 1)


def test_sending_again_goes_at_a_bounded_rate(
    catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall, mirror: SqliteMirrorCatalogue
) -> None:
    hold(mirror, *(held(f"{n}") for n in range(500)))
    make(catalogue, nsqd, wall).drain(DEADLINE_S)
    nsqd.restart(forget=True)
    began = time.monotonic()
    for _ in started(make(catalogue, nsqd, wall, QUICK._replace(again_s=0.1))):
        until(lambda: len(messages(nsqd)) == 500)
        assert time.monotonic() - began >= 0.4


# --- drain


def test_drain_with_nothing_owed_does_not_even_connect(relay: Relay, nsqd: MemoryPublisher) -> None:
    assert relay.drain(DEADLINE_S) == 0
    assert nsqd.calls == 0


def test_drain_sends_again_what_another_command_sent_lately(
    catalogue: Catalogue, nsqd: MemoryPublisher, wall: Wall, mirror: SqliteMirrorCatalogue, relay: Relay
) -> None:
    hold(mirror, *(held(f"{n}") for n in range(2_500)))
    relay.drain(DEADLINE_S)
    nsqd.restart(forget=True)
    assert make(catalogue, nsqd, wall).drain(DEADLINE_S) == 0
    assert paths(nsqd) == [f"{n}" for n in range(500, 2_500)]
    nsqd.down = True
    began = time.monotonic()
    assert make(catalogue, nsqd, wall, QUICK._replace(pause_s=5)).drain(DEADLINE_S) == 0
    assert time.monotonic() - began < 4.0


def test_drain_gives_up_at_its_deadline(relay: Relay, nsqd: MemoryPublisher, mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("1"))
    nsqd.down = True
    began = time.monotonic()
    assert relay.drain(0.3) == 1
    assert time.monotonic() - began < 3.0
    assert nsqd.calls >= 2
    nsqd.down = False
    assert relay.drain(DEADLINE_S) == 0


# --- the spool, and the end of the feed


def test_the_spool_takes_all_at_once_and_never_anything_again(
    catalogue: Catalogue, mirror: SqliteMirrorCatalogue, wall: Wall
) -> None:
    hold(mirror, held("1"), held("2"))
    close_run(mirror, "r1")
    relay = Relay(catalogue, SpoolPublisher(), host="here", topic=TOPIC, pace=QUICK, now_ns=wall)
    assert relay.drain(DEADLINE_S) == 0
    assert len(catalogue.announcements(0, 10)) == 2
    assert relay.state.accepted == 3
    relay.drain(DEADLINE_S)
    assert relay.state.accepted == 3


def test_the_feed_keeps_seven_days_and_what_is_owed(
    nsqd: MemoryPublisher, catalogue: Catalogue, mirror: SqliteMirrorCatalogue, wall: Wall
) -> None:
    hold(mirror, held("1"), now_ms=wall.ms)
    make(catalogue, nsqd, wall).drain(DEADLINE_S)
    hold(mirror, held("2"), now_ms=wall.ms)
    wall.advance(6.9 * 86_400)
    trim_feed(catalogue, wall)
    assert len(catalogue.announcements(0, 10)) == 2
    wall.advance(0.2 * 86_400)
    nsqd.down = True
    make(catalogue, nsqd, wall).drain(0)
    assert len(catalogue.announcements(0, 10)) == 2, "nothing is tidied up while nothing gets through"
    nsqd.down = False
    relay = make(catalogue, nsqd, wall)
    relay.drain(DEADLINE_S)
    assert paths(nsqd) == ["1", "2"]
    assert [row.path for row in catalogue.announcements(0, 10)] == ["2"]
    hold(mirror, held("3"), now_ms=wall.ms)
    wall.advance(8 * 86_400)
    trim_feed(catalogue, wall)
    assert [row.path for row in catalogue.announcements(0, 10)] == ["3"]
    trim_feed(catalogue, wall, owed_too=True)
    assert catalogue.announcements(0, 10) == []
    assert catalogue.count_owed() == 0


# --- anything in any order


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_nothing_is_lost_and_the_newest_comes_last(
    seed: int, catalogue: Catalogue, mirror: SqliteMirrorCatalogue, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits, lost batches, batches that arrive and say they failed, restarts that forget, new daemons."""
    dice = random.Random(seed)
    monkeypatch.setattr(relay_module, "BATCH_MESSAGES", 3)
    monkeypatch.setattr(relay_module, "AGAIN_AT_ONCE", 2)
    nsqd = MemoryPublisher()
    relay = make(catalogue, nsqd, wall, QUICK._replace(again_s=0, pause_s=0, least_s=0))
    ever: set[tuple[str, str, int]] = set()
    for _ in range(60):
        wall.advance(dice.choice([0.1, 1, 10]))
        match dice.randrange(6):
            case 0 | 1 | 2:
                facts = [held(f"p{dice.randrange(6)}", content=str(dice.random())) for _ in range(dice.randrange(1, 5))]
                hold(mirror, *facts, now_ms=wall.ms)
            case 3:
                mirror.commit([Dropped(RelPath(f"p{dice.randrange(6)}"))], [], run_id="r", now_ms=wall.ms)
            case 4:
                ever |= set(told(nsqd))
                nsqd.restart(forget=True)
            case _:
                relay = make(catalogue, nsqd, wall, QUICK._replace(again_s=0, pause_s=0, least_s=0))
        nsqd.script("".join(dice.choice("rrLHD") for _ in range(dice.randrange(4))))
        for _ in range(dice.randrange(4)):
            try:
                relay._step()
            except Exception as error:
                relay._failed(error)  # type: ignore[arg-type]
    nsqd.script("")
    assert relay.drain(DEADLINE_S) == 0
    ever |= set(told(nsqd))
    rows = catalogue.announcements(0, 10_000)
    assert ever == {(row.event.value, row.path, row.generation) for row in rows}, "everything went out at least once"
    newest = {row.path: row.generation for row in rows}
    last = {path: generation for _, path, generation in told(nsqd)}
    assert last == newest, "what nsqd has last of each path is its newest state, though it forgot"


# --- mirrors whose disk is away


def test_what_a_mirror_owes_whose_disk_is_away_waits_and_holds_nobody_up(
    catalogue: Catalogue,
    mirror: SqliteMirrorCatalogue,
    nsqd: MemoryPublisher,
    wall: Wall,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncd.engine.relay.BATCH_MESSAGES", 2)
    monkeypatch.setattr("syncd.engine.relay.AGAIN_AT_ONCE", 2)
    away: set[str] = set()
    hold(mirror, held("1"), held("2"), held("3"))
    relay = Relay(catalogue, nsqd, host="here", topic=TOPIC, pace=QUICK, now_ns=wall, held_back=lambda: away)
    with contextmanager(started)(relay) as running:
        until(lambda: len(paths(nsqd)) == 3 and not catalogue.unpublished(10))
        away.add("M")
        nsqd.connections += 1  # a new connection: what was sent lately is to be sent again
        hold(mirror, held("4"), held("5"), held("6"))
        hold(catalogue.mirror("N"), held("n"))
        running.wake()
        until(lambda: "n" in paths(nsqd))
        assert paths(nsqd)[3:] == ["n"]
        assert len(catalogue.unpublished(10)) == 3
        away.clear()
        running.wake()
        until(lambda: set(paths(nsqd)[4:]) >= {"1", "2", "3", "4", "5", "6"})
