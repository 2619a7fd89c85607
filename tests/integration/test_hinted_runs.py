"""Runs after a hint: single folders are looked at, what is new or changed comes, nothing is concluded to be gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.core.model import RelPath
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions
from syncd.store.reading import open_readonly
from tests.support.world import World

TREE = {f"{folder}/page {n:02}.jpg": f"{folder} {n}".encode() for folder in ("a", "b", "c") for n in range(8)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, dict(TREE))
    assert world.run().exit_code == 0
    return world


def hinted(world: World, *directories: str, replaced_before: int = 0) -> Report:
    """Do what the daemon does after a hint about these directories."""
    app = world.app()
    report = Report("M", f"hint{len(world.source.calls)}", hinted=True)
    options = RunOptions(hinted=tuple(map(RelPath, directories)), replaced_before=replaced_before)
    with app._writing() as (host, catalogue):
        app._run_mirror(app.settings.mirrors[0], options, host, catalogue, report, False, False)
    return report


def test_only_the_hinted_folder_is_listed_and_its_changes_come(world: World) -> None:
    world.source.put("a/new.jpg", b"new")
    world.source.put("a/page 00.jpg", b"another")
    world.source.put("b/not hinted.jpg", b"later")
    listed = world.source.calls["scan"]
    report = hinted(world, "a")
    assert (report.exit_code, report.fetched, report.replaced) == (0, 2, 1)
    assert report.scanned == 9, "one folder"
    assert world.source.calls["scan"] <= listed + 2
    assert world.mirrored()["a/new.jpg"] == b"new"
    assert world.mirrored()["a/page 00.jpg"] == b"another"
    assert "b/not hinted.jpg" not in world.mirrored()
    assert world.run().fetched == 1
    assert world.converged()


def test_new_folders_below_are_entered_and_known_ones_are_not(world: World) -> None:
    world.source.put("a/deep/deeper/x.jpg", b"x")
    assert hinted(world, "a").fetched == 1
    world.source.put("a/deep/deeper/y.jpg", b"y")
    report = hinted(world, "a")
    assert report.fetched == 0, "a/deep is known by now: a hint about it would name it"
    assert hinted(world, "a/deep/deeper").fetched == 1


def test_a_missing_file_is_sighted_once_and_never_retired_by_hints_alone(world: World) -> None:
    world.source.remove("a/page 03.jpg")
    for _ in range(3):
        report = hinted(world, "a")
        assert (report.retired, report.absent) in ((0, 1), (0, 0))
    assert "a/page 03.jpg" in world.mirrored()
    assert world.run().retired == 1, "the whole run is the second of two looks in different runs"
    assert "a/page 03.jpg" not in world.mirrored()


def test_a_file_that_is_back_loses_its_sighting(world: World) -> None:
    content = TREE["a/page 03.jpg"]
    world.source.remove("a/page 03.jpg")
    hinted(world, "a")
    world.source.put("a/page 03.jpg", content)
    hinted(world, "a")
    world.source.remove("a/page 03.jpg")
    assert world.run().retired == 0
    assert world.run().retired == 1


def test_a_rename_between_hinted_folders_is_a_rename(world: World) -> None:
    fetched = world.source.calls["get"]
    world.source.rename("a/page 05.jpg", "b/moved.jpg")
    report = hinted(world, "a", "b")
    assert (report.renamed, report.fetched) == (1, 0)
    assert world.source.calls["get"] == fetched
    assert world.converged()


def test_a_rename_whose_old_place_was_not_looked_at_is_a_fetch(world: World) -> None:
    world.source.rename("a/page 05.jpg", "b/moved.jpg")
    report = hinted(world, "b")
    assert (report.renamed, report.fetched) == (0, 1)
    assert "a/page 05.jpg" in world.mirrored()


def test_a_file_that_became_a_folder_is_left_to_a_whole_run(world: World) -> None:
    world.source.remove("a/page 01.jpg")
    world.source.put("a/page 01.jpg/inside.jpg", b"inside")
    report = hinted(world, "a")
    assert report.whole_run_needed
    assert world.mirrored()["a/page 01.jpg"] == TREE["a/page 01.jpg"]
    world.run()
    assert world.converged()


def test_mass_replacement_by_hints_is_left_to_the_guard(world: World) -> None:
    for n in range(8):
        for folder in ("a", "b"):
            world.source.put(f"{folder}/page {n:02}.jpg", b"encrypted")
    first = hinted(world, "a")
    assert (first.replaced, first.whole_run_needed) == (8, False)
    second = hinted(world, "b", replaced_before=first.replaced)
    assert (second.replaced, second.whole_run_needed) == (0, True)
    assert world.mirrored()["b/page 00.jpg"] == TREE["b/page 00.jpg"]


def test_a_hint_is_no_whole_look_and_no_last_run(world: World) -> None:
    with open_readonly(world.state / "catalogue.db") as catalogue:
        facts = catalogue.mirror("M")
        before = (facts.listed_at, facts.last_success, facts.last_run())
    world.source.put("a/new.jpg", b"new")
    assert hinted(world, "a").fetched == 1
    with open_readonly(world.state / "catalogue.db") as catalogue:
        facts = catalogue.mirror("M")
        assert (facts.listed_at, facts.last_success, facts.last_run()) == before
        assert facts.runs(1)[0].report["kind"] == "hint"


def test_a_hint_about_nothing_that_changed_leaves_no_trace(world: World) -> None:
    with open_readonly(world.state / "catalogue.db") as catalogue:
        runs = len(catalogue.mirror("M").runs(100))
    assert hinted(world, "a", "gone away").fetched == 0
    with open_readonly(world.state / "catalogue.db") as catalogue:
        assert len(catalogue.mirror("M").runs(100)) == runs
    assert world.converged()


def test_an_emptied_root_is_refused_after_a_hint_too(world: World) -> None:
    for folder in ("a", "b", "c"):
        for n in range(8):
            world.source.remove(f"{folder}/page {n:02}.jpg")
        world.source.remove(folder)
    report = hinted(world, "")
    assert report.exit_code == 13
    assert world.mirrored() == TREE
