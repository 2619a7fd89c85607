"""The configuration file's watch: it notices every way in which editors and deployments change a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.daemon.reloading import ConfigWatch

PATIENCE_S = 20.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    file = folder / "syncd.toml"
    file.write_text("a = 1\n")
    return file


@pytest.fixture
def told(file: Path) -> Iterator[threading.Event]:
    told = threading.Event()
    watch = ConfigWatch(file, told.set)
    watch.start()
    yield told
    watch.close()


def write(file: Path) -> None:
    file.write_text("a = 2, and longer\n")


def replace(file: Path) -> None:
    fresh = file.with_name("fresh")
    fresh.write_text("a = 2, by another name\n")
    fresh.replace(file)


def move_in(file: Path) -> None:
    fresh = file.parent.parent / "elsewhere"
    fresh.write_text("a = 2, from another folder\n")
    fresh.replace(file)


def remove_and_write(file: Path) -> None:
    file.unlink()
    file.write_text("a = 2, made anew\n")


def touch(file: Path) -> None:
    os.utime(file, (1, 1))


@pytest.mark.parametrize("change", [write, replace, move_in, remove_and_write, touch])
def test_a_change_is_told(file: Path, told: threading.Event, change: Callable[[Path], None]) -> None:
    change(file)
    assert told.wait(PATIENCE_S)


def test_reading_is_no_change(file: Path, told: threading.Event) -> None:
    for _ in range(100):
        file.read_text()
        os.listdir(file.parent)
    write(file.with_name("another"))
    assert not told.is_set()
    write(file)
    assert told.wait(PATIENCE_S)
