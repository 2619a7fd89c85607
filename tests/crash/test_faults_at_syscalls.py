"""Killed at, or failed by, every write-class system call of a run; then the promises P1, P2, P11, P12 and P14 hold.

By default a seeded sample; all of them with SYNCD_EXHAUSTIVE=1 (`make exhaustive`). The calls are counted first, under
strace, in a run that nothing disturbs.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.scenario import Scenario
from tests.support.require import require

WRITE_CLASS = (
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "syncfs",
    "renameat",
    "rename",
    "linkat",
    "unlinkat",
    "unlink",
    "mkdirat",
    "mkdir",
    "rmdir",
    "ftruncate",
    "utimensat",
    "fchmod",
    "close",
)
FAILING = {"write": "EIO", "fsync": "EIO", "fdatasync": "EIO", "syncfs": "EIO", "renameat": "EIO", "linkat": "EIO"}
FULL = {"write": "ENOSPC", "pwrite64": "ENOSPC", "mkdirat": "ENOSPC", "renameat": "ENOSPC", "linkat": "ENOSPC"}
SAMPLE = 12
SEED = 20_261_123
TIMEOUT_S = 60


def strace(scenario: Scenario, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [require("strace", "strace"), "-f", "-qq", *options, *scenario.command],
        env=scenario.environment,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def count_calls(base: Path) -> Counter[str]:
    """Return, for each write-class call, the highest number of them that one thread makes."""
    base.mkdir()
    scenario = Scenario(base)
    log = base / "calls"
    done = strace(scenario, "-o", str(log), "-e", "trace=" + ",".join(WRITE_CLASS))
    assert done.returncode == 0, done.stderr.decode()
    by_thread: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+)\s+(\w+)\(", line)
        if found:
            by_thread[found.group(1), found.group(2)] += 1
    most: Counter[str] = Counter()
    for (_, call), count in by_thread.items():
        most[call] = max(most[call], count)
    return most


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    return count_calls(tmp_path_factory.mktemp("count") / "base")


def sampled(points: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    if os.environ.get("SYNCD_EXHAUSTIVE") == "1":
        yield from points
    else:
        yield from random.Random(SEED).sample(points, min(SAMPLE, len(points)))


def test_the_run_makes_the_calls_that_this_suite_is_about(calls: Counter[str]) -> None:
    assert calls["renameat"] >= 3
    assert calls["fsync"] + calls["fdatasync"] + calls["syncfs"] >= 3
    assert calls["linkat"] >= 1


@pytest.mark.timeout(3600)
def test_killed_at_any_write_class_call(calls: Counter[str], tmp_path: Path) -> None:
    points = [(call, n) for call in WRITE_CLASS for n in range(1, calls[call] + 1)]
    for number, (call, n) in enumerate(sampled(points)):
        base = tmp_path / str(number)
        base.mkdir()
        scenario = Scenario(base)
        done = strace(scenario, "-e", f"inject={call}:signal=KILL:when={n}")
        assert done.returncode in (-9, 137, 0), (call, n, done.stderr.decode())
        try:
            scenario.check_after_the_fault()
            scenario.check_convergence()
        except AssertionError as error:
            raise AssertionError(f"killed at {call} number {n}: {error}") from error


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "faults"), [("failed", FAILING), ("full", FULL)])
def test_a_failing_call_is_never_counted_as_success(
    calls: Counter[str], tmp_path: Path, kind: str, faults: dict[str, str]
) -> None:
    points = [(call, n) for call in faults for n in range(1, calls[call] + 1)]
    for number, (call, n) in enumerate(sampled(points)):
        base = tmp_path / str(number)
        base.mkdir()
        scenario = Scenario(base)
        done = strace(scenario, "-e", f"inject={call}:error={faults[call]}:when={n}")
        said = done.stderr.decode(errors="replace")
        assert "Traceback" not in said, (kind, call, n, said)
        assert done.returncode in (0, 1, 2, 3, 13, 14, 15), (kind, call, n, said)
        try:
            scenario.check_after_the_fault()
            scenario.check_convergence()
        except AssertionError as error:
            raise AssertionError(
                f"{call} number {n} {kind} ({faults[call]}), exit {done.returncode}: {error}"
            ) from error
