"""The mirror's own folder is changed by somebody: what is held is repaired, what is foreign is left alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.core.model import RelPath
from syncd.engine.commit import Committer
from syncd.engine.report import Report
from syncd.engine.tending import Found, Tending
from tests.support.world import World

PAGES = {"a/one.jpg": b"one", "a/two.jpg": b"two", "a/deep/three.jpg": b"three", "four.jpg": b"four"}

Look = Callable[..., Found]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, dict(PAGES))
    assert world.run().exit_code == 0
    return world


@pytest.fixture
def look(world: World) -> Look:
    def run(*paths: str) -> Found:
        app = world.app()
        with app._writing() as (host, catalogue):
            facts = catalogue.mirror("M")
            mirror = app._open_target(app.settings.mirrors[0], host, facts)
            lock = threading.RLock()
            committer = Committer(mirror, facts, Report("M", "tend"), "20260101T000000Z-tend", lambda: 1, lock)
            try:
                changed = frozenset(map(RelPath, paths)) if paths else None
                return Tending(mirror, facts, committer, lock).look(changed)
            finally:
                mirror.close()

    return run


def test_nothing_changed_is_nothing_found(look: Look, world: World) -> None:
    announced = len(world.announced())
    assert look() == Found()
    assert look("a/one.jpg", "a", "a/deep") == Found()
    assert len(world.announced()) == announced


def test_an_edited_file_is_dropped_set_aside_and_announced(look: Look, world: World) -> None:
    (world.target / "a/one.jpg").write_bytes(b"scribble")
    found = look("a/one.jpg")
    assert found.damaged == ["a/one.jpg"]
    assert world.announced()[-1] == ("removed", "a/one.jpg")
    assert world.trashed() == {"a/one.jpg": b"scribble"}
    assert "a/one.jpg" not in world.records()
    assert world.run().fetched == 1
    assert world.converged()


def test_a_removed_file_and_everything_below_a_removed_folder(look: Look, world: World) -> None:
    (world.target / "a/deep/three.jpg").unlink()
    (world.target / "a/deep").rmdir()
    (world.target / "four.jpg").unlink()
    assert look("a/deep", "four.jpg").damaged == ["a/deep/three.jpg", "four.jpg"]
    assert world.run().fetched == 2
    assert world.converged()


def test_a_touched_file_with_its_bytes_stays_held(look: Look, world: World) -> None:
    os.utime(world.target / "a/one.jpg", ns=(1, 1))
    assert look("a/one.jpg") == Found()
    assert look() == Found()
    assert ("removed", "a/one.jpg") not in world.announced()
    assert world.run().fetched == 0


def test_foreign_files_are_reported_and_left(look: Look, world: World) -> None:
    (world.target / "a/notes.txt").write_text("mine")
    assert look("a/notes.txt", "a/never there").foreign == ["a/notes.txt"]
    assert (world.target / "a/notes.txt").read_text() == "mine"


def test_a_link_in_the_place_of_a_file_or_folder_is_not_followed(look: Look, world: World) -> None:
    outside = world.base / "outside"
    outside.mkdir()
    (outside / "three.jpg").write_bytes(b"three")
    (world.target / "a/deep/three.jpg").unlink()
    (world.target / "a/deep").rmdir()
    (world.target / "a/deep").symlink_to(outside)
    (world.target / "four.jpg").unlink()
    (world.target / "four.jpg").symlink_to(outside / "three.jpg")
    assert look("a/deep/three.jpg", "four.jpg").damaged == ["a/deep/three.jpg", "four.jpg"]
    assert (outside / "three.jpg").read_bytes() == b"three"
