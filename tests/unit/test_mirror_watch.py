"""The watch on the mirror itself: what it tells, and that it comes and goes with its target."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import RelPath
from syncd.store.watching import MirrorWatch
from tests.support.hostile_smb import wait_until


class Story:
    """What a watch told; None is kept as it is."""

    def __init__(self) -> None:
        self.told: list[frozenset[RelPath] | None] = []
        self.threads: set[str] = set()

    def tell(self, paths: frozenset[RelPath] | None) -> None:
        self.threads.add(threading.current_thread().name)
        self.told.append(paths)

    def paths(self) -> set[RelPath]:
        return {path for paths in self.told for path in paths or ()}

    def has(self, *paths: str) -> None:
        wait_until(lambda: set(paths) <= self.paths())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "mirror"
    (target / "a").mkdir(parents=True)
    (target / ".syncd/staging").mkdir(parents=True)
    (target / "a/held.jpg").write_bytes(b"held")
    return target


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def watch(target: Path, story: Story) -> Iterator[MirrorWatch]:
    watch = MirrorWatch(target, story.tell)
    assert watch.state == "off: not begun"
    watch.start()
    wait_until(lambda: watch.state == "on")
    yield watch
    watch.close()
    watch.close()
    assert watch.state.startswith("off: ")


def test_first_anything_then_paths_by_a_thread_of_its_own(watch: MirrorWatch, story: Story, target: Path) -> None:
    assert story.told == [None]
    (target / "a/held.jpg").write_bytes(b"changed")
    story.has("a/held.jpg")
    (target / "a/held.jpg").unlink()
    (target / "foreign").touch()
    story.has("foreign")
    assert story.told[0] is None
    assert None not in story.told[1:]
    assert story.threads == {"mirror-watch"}


def test_what_syncd_stages_is_not_told_and_what_it_promotes_is(watch: MirrorWatch, story: Story, target: Path) -> None:
    for number in range(100):
        (target / f".syncd/staging/{number}").write_bytes(b"x" * 1000)
        os.rename(target / f".syncd/staging/{number}", target / f"a/{number}")
    story.has(*(f"a/{number}" for number in range(100)))
    assert not any(".syncd" in path for path in story.paths())


def test_a_person_s_edit_is_told_within_the_second(watch: MirrorWatch, story: Story, target: Path) -> None:
    """Not by the clock: while edits go on without a pause they are told nevertheless."""
    stop = threading.Event()

    def scribble() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            (target / f"a/{number}").touch()

    thread = threading.Thread(target=scribble, daemon=True)
    thread.start()
    wait_until(lambda: len(story.told) >= 3)
    stop.set()
    thread.join()


def test_more_paths_than_are_kept_are_anything(watch: MirrorWatch, story: Story, target: Path) -> None:
    for number in range(10_500):
        os.close(os.open(target / f"a/{number}", os.O_CREAT | os.O_WRONLY))
    wait_until(lambda: None in story.told[1:] or len(story.paths()) >= 10_500)
    assert all(len(paths or ()) <= 10_000 for paths in story.told)


def test_a_target_that_goes_ends_it_and_start_begins_anew(watch: MirrorWatch, story: Story, target: Path) -> None:
    watch.start()  # nothing to do
    assert [each.name for each in threading.enumerate()].count("mirror-watch") == 1
    shutil.rmtree(target)
    wait_until(lambda: watch.state.startswith("off: "))
    watch.start()
    wait_until(lambda: "is not there" in watch.state)
    target.mkdir()
    before = len(story.told)
    wait_until(lambda: (watch.start(), watch.state == "on")[1])
    assert None in story.told[before:]
    (target / "x").touch()
    story.has("x")


def test_close_ends_it_for_good_and_at_once(target: Path, story: Story) -> None:
    watch = MirrorWatch(target, story.tell)
    watch.close()
    watch.start()
    wait_until(lambda: watch.state == "on")
    began = time.monotonic()
    watch.close()
    assert time.monotonic() - began < 2
    assert watch.state == "off: closed"
    assert "mirror-watch" not in {each.name for each in threading.enumerate()}
    (target / "x").touch()
    time.sleep(0.5)
    assert story.told == [None]
