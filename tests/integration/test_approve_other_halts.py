"""`syncd approve` where a mirror is halted, but not by anything that could be approved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from syncd.remote.verbs import _HALTED
from tests.support.cli import Syncd

FILES, GONE = 14, 6


@pytest.fixture
def host(tmp_path: Path) -> Syncd:
    host = Syncd(tmp_path)
    host.add_mirror("M", f"file://{tmp_path}/share", tmp_path / "data" / "M", extra='settle = "1ms"\nmin_free = "0%"')
    fill(tmp_path / "share", "page")
    assert host("approve").out == "nothing is held back\n", "never mirrored"
    assert host.run_once().code == 0
    return host


def fill(folder: Path, name: str) -> None:
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{name} {number} .txt").write_text(str(number))


@pytest.mark.parametrize("how", ["empty", "another share", "target gone"])
def test_it_says_what_halted_it_and_that_approving_does_not_lift_that(host: Syncd, how: str) -> None:
    folder = host.base / ("data/M" if how == "target gone" else "share")
    shutil.rmtree(folder)
    if how == "another share":
        fill(folder, "other")
    elif how == "empty":
        folder.mkdir()
    halt = host.run_once()
    assert halt.code == 13
    error = halt.json["mirrors"][0]["error"]
    for words in ((), ("--yes",), ("--mirror", "M")):
        done = host("approve", *words)
        first, said, following = done.out.splitlines()
        assert done.code == 0
        assert first == "nothing is held back"
        assert said == f"M is halted, and approving does not lift that: {error['message'].removeprefix('M: ')}"
        assert following == f"  next: {error['hint']} -c {host.config}"
        assert error["hint"]
        assert _HALTED.search(done.out), "syncd remote approve tells of it too"


def test_what_is_approved_already_waits_for_the_next_run(host: Syncd) -> None:
    for number in range(GONE):
        (host.base / "share" / f"page {number} .txt").unlink()
    assert [host.run_once().code for _ in range(2)][-1] == 13
    assert "is halted" not in host("approve", "--yes").out
    assert host("approve").out.splitlines() == [
        "nothing is held back",
        "M: what was held back is approved already; the next run does it",
        f"  next: syncd run-once --mirror M -c {host.config}",
    ]
    assert host.run_once().code == 0
    assert host("approve").out == "nothing is held back\n"


def test_one_mirror_that_is_halted_otherwise_does_not_hide_what_another_holds_back(host: Syncd) -> None:
    fill(host.base / "second", "page")
    host.add_mirror(
        "N", f"file://{host.base}/second", host.base / "data" / "N", extra='settle = "1ms"\nmin_free = "0%"'
    )
    assert host.run_once().code == 0
    for number in range(GONE):
        (host.base / "second" / f"page {number} .txt").unlink()
    shutil.rmtree(host.base / "share")
    (host.base / "share").mkdir()
    assert [host.run_once().code for _ in range(2)][-1] == 13
    out = host("approve", "--yes").out
    assert "M is halted, and approving does not lift that: " in out
    assert f"N: {GONE} files" in out
    assert "approved; the next run does it" in out
