"""Two nsqds for announcements: whatever the first does, the second gets them; and the first again once it is back."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.engine.relay import Pace, Relay
from syncd.publish.nsq import NsqPublisher, Patience
from syncd.store.catalogue import Catalogue
from tests.support.catalogues import held, hold, open_catalogue
from tests.support.nsqd import start_nsqd
from tests.support.ways import FAULTS, Way

TOPIC = "file_sync_ready"
PATIENCE = Patience(connect_s=0.5, reply_s=0.5)
PACE = Pace(idle_s=0.05, pause_s=0.05, pause_max_s=0.2, least_s=0.02, again_s=0.02)
DEADLINE_S = 30.0


class World:
    """A catalogue that owes announcements, two nsqds with a way to each, and a relay."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self.nsqds = [stack.enter_context(start_nsqd(folder)) for _ in range(2)]
        for nsqd in self.nsqds:
            nsqd.make_channel(TOPIC, "c")
        self.ways = [Way(stack, nsqd.address) for nsqd in self.nsqds]
        self.catalogue: Catalogue = stack.enter_context(open_catalogue(folder))
        publisher = NsqPublisher([way.address for way in self.ways], PATIENCE)
        self.relay = Relay(self.catalogue, publisher, host="here", topic=TOPIC, pace=PACE)
        self._thread = threading.Thread(target=self.relay.run, name="relay")
        stack.callback(self._stop)

    def start(self) -> None:
        self._thread.start()

    def owe(self, count: int, prefix: str) -> None:
        files = [held(f"{prefix}{n:04}", content=f"{n}") for n in range(count)]
        hold(self.catalogue.mirror("M"), *files, now_ms=time.time_ns() // 1_000_000)
        self.relay.wake()

    def until_told(self) -> None:
        until(lambda: self.catalogue.count_owed() == 0)

    def arrived(self, number: int) -> set[str]:
        """Return the paths that one nsqd has been told of since this was asked last."""
        found: list[dict[str, Any]] = [
            json.loads(body) for body in self.nsqds[number].take_all(TOPIC, "c", quiet_s=0.2)
        ]
        return {each["path"] for each in found}

    def _stop(self) -> None:
        self.relay.stop()
        if self._thread.ident is not None:
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def paths(count: int, prefix: str) -> set[str]:
    return {f"{prefix}{n:04}" for n in range(count)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(stack, tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_fails_from_the_start_and_comes_back_when_the_second_fails(world: World, fault: str) -> None:
    first, second = world.ways
    first.break_(fault)
    world.owe(600, "a")
    world.start()
    world.until_told()
    assert world.arrived(1) == paths(600, "a")
    assert world.relay.state.failures == 0, "it was a matter of one call"
    first.mend()
    second.break_(fault)
    world.owe(100, "b")
    world.until_told()
    until(lambda: world.relay.state.connected and world.relay.state.again_left == 0)
    assert world.arrived(0) >= paths(600, "a") | paths(100, "b"), "what was told lately is told again"


@pytest.mark.parametrize("fault", ["dead", "stalls"])
def test_the_one_in_use_fails_under_way_and_each_announcement_arrives(world: World, fault: str) -> None:
    world.start()
    until(lambda: world.relay.state.connected)
    world.owe(1_500, "a")
    until(lambda: world.relay.state.accepted)
    world.ways[0].break_(fault)
    world.owe(500, "b")
    world.until_told()
    until(lambda: world.relay.state.connected and world.relay.state.again_left == 0)
    assert world.arrived(1) == paths(1_500, "a") | paths(500, "b"), "all that the other can no longer tell, too"


def test_each_in_turn(world: World) -> None:
    """One of the two is away at any time, and later both are for a while."""
    world.start()
    told = [set[str](), set[str]()]
    for turn in range(6):
        world.ways[turn % 2].break_(FAULTS[turn % 4])
        world.owe(200, f"{turn}-")
        world.until_told()
        world.ways[turn % 2].mend()
    for way in world.ways:
        way.break_("dead")
    world.owe(50, "late-")
    until(lambda: world.relay.state.failures >= 2)
    shown = world.relay.state.error
    assert all(f"127.0.0.1:{way.address[1]}: connection refused" in shown for way in world.ways)
    world.ways[1].mend()
    world.until_told()
    for number in range(2):
        told[number] |= world.arrived(number)
    assert told[0] | told[1] >= set[str]().union(*(paths(200, f"{turn}-") for turn in range(6)), paths(50, "late-"))
    assert told[1] >= paths(50, "late-")
