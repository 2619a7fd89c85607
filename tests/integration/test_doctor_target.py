"""`syncd doctor` on a target that is too small, or read-only: file systems of our own, mounted for the test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.doctor.checks import Check, Level
from syncd.doctor.examine import examine_mirrors

MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 8 MiB and 64 inodes, with the target in it."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=64", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted: needs root")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def file(tmp_path: Path, small: Path) -> Path:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "a.pdf").write_bytes(b"1" * MIB)
    file = tmp_path / "config.toml"
    file.write_text(
        '[host]\nstate_dir = "state"\n'
        '[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "disk/B"\nmin_free = "4MiB"\nsettle = "0s"\n'
    )
    return file


def checks(file: Path) -> dict[str, Check]:
    (group,) = examine_mirrors(config.load(file, {"HOME": str(file.parent)}))
    return {check.name: check for check in group.checks}


def test_room_is_told_against_the_floor(file: Path, small: Path) -> None:
    told = checks(file)
    assert told["file system"].seen == "tmpfs (local)"
    assert told["free space"].status is Level.OK
    assert "floor 4.2 MB" in told["free space"].seen
    (small / "other").write_bytes(b"0" * (5 * MIB))
    told = checks(file)
    assert told["free space"].status is Level.FAIL
    assert "min_free" in told["free space"].todo


def test_what_is_held_already_counts_as_fitting(file: Path, tmp_path: Path) -> None:
    (tmp_path / "share" / "b.pdf").write_bytes(b"2" * 2 * MIB)
    assert main(["-c", str(file), "run-once"]) == 0
    told = checks(file)
    assert "room" not in told
    (tmp_path / "share" / "c.pdf").write_bytes(b"3" * 3 * MIB)
    assert checks(file)["room"].status is Level.FAIL


def test_no_inodes_left_fails(file: Path, small: Path) -> None:
    with pytest.raises(OSError, match="space"):
        for number in range(64):
            (small / str(number)).touch()
    assert "inodes" in checks(file)["free space"].seen


def test_a_read_only_target_fails(file: Path, small: Path) -> None:
    assert main(["-c", str(file), "run-once"]) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    told = checks(file)
    assert told["target"].status is Level.FAIL
    assert "read-only" in told["target"].seen
