"""Large files: checkpoints, resume at the journalled offset, and what makes a partial worthless."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from syncd.engine import transfer
from syncd.store.reading import open_readonly
from tests.support.world import World

CHECKPOINT = 1 << 20
SIZE = 5 * CHECKPOINT + 12_345


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(transfer, "CHECKPOINT_BYTES", CHECKPOINT)
    return World(tmp_path, {"big.tiff": random.Random(1).randbytes(SIZE), "small.jpg": b"small"})


def partials(world: World) -> dict[str, int]:
    with open_readonly(world.state / "catalogue.db") as catalogue:
        return {partial.path: partial.offset for partial in catalogue.mirror("M").partials()}


def lose_the_connection_at(world: World, count: int) -> None:
    world.source.unavailable_after(count)
    assert world.run().exit_code == 10
    world.source.heal()


def test_a_lost_connection_is_taken_up_at_the_last_checkpoint(world: World) -> None:
    lose_the_connection_at(world, 3 * CHECKPOINT + 500_000)
    assert partials(world) == {"big.tiff": 3 * CHECKPOINT}
    assert "big.tiff" not in world.mirrored()
    report = world.run()
    assert (report.exit_code, report.bytes) == (0, SIZE - 3 * CHECKPOINT)
    assert world.converged()
    assert not partials(world)
    assert not world.staged()


def test_what_came_before_the_connection_was_lost_is_counted_in_each_run(world: World) -> None:
    world.source.unavailable_after(3 * CHECKPOINT + 500_000)
    assert 3 * CHECKPOINT < world.run().bytes <= 3 * CHECKPOINT + 500_000
    world.source.heal()
    world.source.unavailable_after(CHECKPOINT + 500_000)
    assert CHECKPOINT < world.run().bytes <= CHECKPOINT + 500_000, "and not what an earlier run had brought"


def test_a_partial_of_another_version_is_thrown_away(world: World) -> None:
    lose_the_connection_at(world, 2 * CHECKPOINT + 10)
    world.source.put("big.tiff", random.Random(2).randbytes(SIZE))
    report = world.run()
    assert (report.exit_code, report.bytes) == (0, SIZE)
    assert world.converged()
    assert not partials(world)


def test_a_damaged_partial_is_found_by_hashing_it_again(world: World) -> None:
    lose_the_connection_at(world, 2 * CHECKPOINT + 10)
    (staged,) = (world.target / ".syncd/staging").iterdir()
    content = bytearray(staged.read_bytes())
    content[1000] ^= 1
    staged.write_bytes(content)
    report = world.run()
    assert (report.exit_code, report.bytes) == (0, SIZE)
    assert world.converged()


def test_the_partial_of_a_file_that_is_gone_is_swept(world: World) -> None:
    lose_the_connection_at(world, 2 * CHECKPOINT + 10)
    world.source.remove("big.tiff")
    world.run()
    assert world.run().exit_code == 0
    assert not partials(world)
    assert not world.staged()
