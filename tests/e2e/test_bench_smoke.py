"""The benchmark runs with one command, and does not believe what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.corpora import Corpus, compare, provide
from bench.measure import BenchError, Series, run
from bench.row import BEST, Row
from bench.startup import summarise
from bench.workloads import WORKLOADS
from tests.support.require import require

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = Corpus("tiny", files=5, size=3000, folders=2)


def bench(*arguments: str, base: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--tmpfs", str(base), "--disk", str(base), *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(base)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def test_one_quick_row_is_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    require("smbd", "samba")
    done = bench("--only", "small", "--json", base=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    ours = row["contestants"]["syncd"]
    assert (row["files"], len(ours["runs_s"])) == (200, 1)
    assert ours["median_s"] > 0
    assert 10 < ours["peak_mb"] < 200
    for name, peer in row["contestants"].items():
        assert peer["runs_s"] or peer["note"], f"{name} is neither measured nor said to be missing"
    assert (row["ratio_to_rclone"] is None) == (not row["contestants"]["rclone"]["runs_s"])
    assert list(tmp_path.iterdir()) == []


def test_memory_with_many_files_is_measured_over_two_runs(tmp_path: Path) -> None:
    require("smbd", "samba")
    done = bench("--only", "million", base=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "first run" in done.stdout
    assert "no change" in done.stdout


def spoil_bytes(path: Path) -> None:
    times = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_bytes, "other bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "other bytes"),
        (lambda path: path.unlink(), "not copied"),
        (lambda path: path.touch(), "another mtime"),
        (lambda path: path.with_name("more").touch(), "6 files, expected 5"),
    ],
)
def test_an_output_that_is_not_the_corpus_is_no_result(tmp_path: Path, spoil: object, said: str) -> None:
    original = provide(TINY, tmp_path / "a")
    copy = provide(TINY, tmp_path / "b")
    compare(TINY, original, copy, mtimes=True)
    spoil(copy / list(TINY.paths())[3])  # type: ignore[operator]
    with pytest.raises(BenchError, match=said):
        compare(TINY, original, copy, mtimes=True)


def test_a_corpus_is_the_same_each_time_and_made_once(tmp_path: Path) -> None:
    first = provide(TINY, tmp_path)
    path = first / next(iter(TINY.paths()))
    content, inode = path.read_bytes(), path.stat().st_ino
    assert provide(TINY, tmp_path) == first
    assert path.stat().st_ino == inode
    assert (provide(TINY, tmp_path / "again") / next(iter(TINY.paths()))).read_bytes() == content


def test_a_command_that_fails_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="exit code 3:\nno luck"):
        run(["sh", "-c", "echo no luck >&2; exit 3"], tmp_path, timeout_s=20)


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    hanging = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with pytest.raises(BenchError, match="sh was not done after 0 s"):
        run(hanging, tmp_path, timeout_s=0.3)
    sample = run(hanging, tmp_path, timeout_s=0.5, may_time_out=True)
    assert sample.timed_out
    assert 0.4 < sample.wall_s < 30
    child = int(sample.stdout.read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_peak_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    ballast = bytearray(150_000_000)
    small = run([sys.executable, "-S", "-c", "pass"], tmp_path, timeout_s=60)
    large = run([sys.executable, "-S", "-c", "bytearray(90_000_000)"], tmp_path, timeout_s=60)
    assert len(ballast) > small.peak_bytes
    assert large.peak_bytes - small.peak_bytes > 80_000_000


def series(*walls_s: float) -> Series:
    return Series(list(walls_s))


def test_the_bar_is_held_against_the_best_rclone() -> None:
    row = Row(WORKLOADS[0], {"syncd": series(3, 1, 2), "rclone": series(20.0)})
    assert row.reached()
    assert row.ratio("rclone") == pytest.approx(0.1)
    row.series[BEST] = series(2.5, 2.5)
    assert row.ratio(row.best) == pytest.approx(0.8)
    assert row.reached() is False


def test_without_rclone_nothing_is_claimed() -> None:
    row = Row(WORKLOADS[0], {"syncd": series(1.0), "rclone": Series([], note="not installed")})
    assert row.reached() is None


def test_import_times_are_added_up_by_package() -> None:
    found = summarise(
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1500 |       1500 |   syncd.core\n"
        "import time:       500 |       2000 | syncd.cli\n"
        "import time:      4000 |       4000 | ssl\n"
        "something else\n"
    )
    assert (found.total_ms, found.modules) == (6.0, 3)
    assert found.packages == {"ssl": 4.0, "syncd": 2.0}
