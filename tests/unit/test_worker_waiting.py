"""`--wait-for-config` of a worker: what is said how often, and how seldom workers that cannot work are started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from syncd.core.errors import ConfigError
from worker_glue.running import waiting


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def error(self, name: str, **fields: Any) -> None:
        assert name == "config.unusable"
        self.lines.append(fields)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(waiting, "logger", lambda: made)
    return made


def outcomes(*each: int | ConfigError) -> Callable[[], int]:
    left = iter(each)

    def work() -> int:
        found = next(left)
        if isinstance(found, ConfigError):
            raise found
        return found

    return work


def test_the_same_problem_is_said_once_and_another_anew(log: Log) -> None:
    first, second = ConfigError("a", problems=["x"], hint="do"), ConfigError("a", problems=["y"])
    slept: list[float] = []
    assert waiting.wait_and_work(outcomes(first, first, first, second, first, 0), slept.append) == 0
    assert [line["problems"] for line in log.lines] == [["x"], ["y"], ["x"]]
    assert log.lines[0]["hint"] == "do"
    assert slept == [waiting.RETRY_S] * 5


@pytest.mark.parametrize("code", [0, 1, 130, 143])
def test_any_other_end_is_the_end(log: Log, code: int) -> None:
    assert waiting.wait_and_work(outcomes(code)) == code
    assert not log.lines


def test_workers_that_cannot_work_are_started_again_more_and_more_seldom(log: Log) -> None:
    slept: list[float] = []
    assert waiting.wait_and_work(outcomes(2, 2, 12, 2, 2, 2, 0), slept.append) == 0
    assert slept == [5, 10, 20, 40, 60, 60]
    assert [line["error"] for line in log.lines][2] == "a worker ended with exit code 12: the lines above say why"


def test_what_was_mended_for_a_time_is_told_anew(log: Log) -> None:
    broken = ConfigError("a")
    waiting.wait_and_work(outcomes(broken, 2, broken, 0), lambda _: None)
    assert [line["error"] for line in log.lines] == [
        "a", "a worker ended with exit code 2: the lines above say why", "a",
    ]  # fmt: skip
