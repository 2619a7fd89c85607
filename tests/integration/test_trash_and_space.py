"""Trash ages by days on which syncd ran; before a fetch is refused for space, trash older than 24 h goes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from syncd.engine.clock import Clock
from syncd.ports import Room
from syncd.store.mirror import DiskMirror
from tests.support.world import World

DAY_NS = 24 * 3600 * 10**9


def at_day(world: World, day: int) -> None:
    now_ns = time.time_ns() + day * DAY_NS
    world.clock = Clock(now_ns=lambda: now_ns)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"}, extra="trash_days = 3")
    world.run()
    world.source.put("a.jpg", b"a, corrected")
    world.run()
    assert world.trashed() == {"a.jpg": b"a"}
    return world


def test_trash_goes_after_as_many_days_of_running(world: World) -> None:
    for day in (1, 2):
        at_day(world, day)
        world.run()
        assert world.trashed()
    at_day(world, 3)
    world.run()
    assert not world.trashed()


def test_a_clock_jump_expires_nothing(world: World) -> None:
    at_day(world, 4000)
    world.run()
    assert world.trashed() == {"a.jpg": b"a"}


def with_room(monkeypatch: pytest.MonkeyPatch, world: World, free_with_trash: int, free_without: int) -> None:
    def room(self: DiskMirror) -> Room:
        free = free_with_trash if any(True for _ in self.trash()) else free_without
        return Room(free, 10**9, 10**6, 10**6)

    monkeypatch.setattr(DiskMirror, "room", room)


def test_old_trash_goes_before_a_fetch_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with_room(monkeypatch, world, 0, 10**8)
    world.source.put("new.jpg", b"new" * 1000)
    assert world.run().exit_code == 14
    assert world.trashed()
    at_day(world, 2)
    assert world.run().exit_code == 0
    assert not world.trashed()
    assert world.converged()


def test_the_floor_is_kept_and_the_halt_lifts_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, {"a.jpg": b"a"})
    world.run()
    with_room(monkeypatch, world, 0, 2_000)
    world.source.put("big.jpg", b"x" * 100_000)
    report = world.run()
    assert report.exit_code == 14
    assert world.mirrored() == {"a.jpg": b"a"}
    assert world.app().status().mirrors[0].state == "failing"
    monkeypatch.undo()
    assert world.run().exit_code == 0
    assert world.app().status().exit_code == 0
