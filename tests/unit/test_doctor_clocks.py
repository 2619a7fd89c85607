"""How far clocks are apart, in one line: told from 2 s on, failed where it does harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import config
from syncd.core.clocks import Apart, largest
from syncd.doctor import clock
from syncd.doctor.checks import Level, ok
from syncd.doctor.examine import examine


@pytest.mark.parametrize(
    ("offsets", "level", "seen"),
    [
        ([0.1, -1.5], Level.OK, "b's clock is 1.5 s behind ours, the farthest of 2 compared"),
        ([2.5, -1.5], Level.WARN, "a's clock is 2.5 s ahead of ours, the farthest of 2 compared: "),
        ([2.5, -299.0], Level.WARN, "b's clock is 299.0 s behind ours"),
        ([301.0], Level.FAIL, "a's clock is 301.0 s ahead of ours: "),
        ([-86_400.0, 3.0], Level.FAIL, "a's clock is 86400.0 s behind ours"),
    ],
)
def test_the_farthest_clock_is_the_one_that_is_judged(offsets: list[float], level: Level, seen: str) -> None:
    compared = [clock.compare(offset_s, f"{name}'s") for name, offset_s in zip("ab", offsets, strict=False)]
    (check,) = clock.largest_of([ok("name", "127.0.0.1"), *compared])
    assert (check.name, check.status) == ("largest difference", level)
    assert check.seen.startswith(seen)
    assert ("NTP" in check.todo) is (level is not Level.OK)


def test_one_clock_alone_makes_no_check_fail_by_itself() -> None:
    assert clock.compare(1e6, "its").status is Level.WARN


def test_without_another_clock_nothing_is_said(tmp_path: Path) -> None:
    assert clock.largest_of([ok("name", "127.0.0.1")]) == []
    assert largest([]) is None
    (tmp_path / "share").mkdir()
    (tmp_path / "c.toml").write_text('[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n')
    env = {"HOME": str(tmp_path)}
    groups = list(examine(config.load(tmp_path / "c.toml", env), env, only="B"))
    assert [group.mirror for group in groups] == ["B"]


def test_the_comparison_is_no_part_of_the_json() -> None:
    check = clock.compare(5, "its")
    assert check.apart == Apart("its", 5)
    assert set(check.as_json()) == {"name", "status", "seen", "todo"}
