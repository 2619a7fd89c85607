"""One measured command, and what several of them say together."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")
GRACE_S = 30.0


class BenchError(Exception):
    """Something that must not be measured: a command that failed, an output that is not the corpus."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one command cost: wall and CPU time of it and its children, peak memory of the largest.

    machine_s: CPU time of the whole machine meanwhile, its servers included; 0 where that is not known.
    """

    wall_s: float
    user_s: float
    system_s: float
    machine_s: float
    peak_bytes: int
    code: int
    timed_out: bool
    stdout: Path
    stderr: Path

    def complaint(self) -> str:
        """Return the end of what the command said on standard error."""
        return self.stderr.read_text(errors="replace")[-2000:].strip()


def run(
    argv: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float,
    may_time_out: bool = False,
) -> Sample:
    """Run a command to its end and return its cost. `folder` takes its output.

    Raises: BenchError when it fails. One that was killed at `timeout_s` failed too, unless may_time_out.
    """
    result, stdout, stderr = (folder / name for name in ("cost.json", "stdout", "stderr"))
    result.unlink(missing_ok=True)
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(result), str(stdout), str(stderr), str(timeout_s)]
    ours = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen([*launcher, *argv], env={**ours, **(env or {})}, stdin=subprocess.DEVNULL)
    try:
        process.wait(timeout_s + GRACE_S)
    finally:
        if process.poll() is None:
            process.terminate()  # which ends the command too
            process.wait(GRACE_S)
    if not result.exists():
        raise BenchError(f"{argv[0]} could not be started: exit code {process.returncode} of the launcher")
    sample = Sample(**json.loads(result.read_text()), stdout=stdout, stderr=stderr)
    if sample.timed_out:
        if may_time_out:
            return sample
        raise BenchError(f"{Path(argv[0]).name} was not done after {timeout_s:.0f} s")
    if sample.code != 0:
        raise BenchError(f"{Path(argv[0]).name} ended with exit code {sample.code}:\n{sample.complaint()}")
    return sample


@dataclass(slots=True)
class Series:
    """All runs of one contestant over one workload. `note` says how it was run, or why it was not."""

    walls_s: list[float]
    peak_bytes: int = 0
    cpus_s: list[float] = field(default_factory=list)
    machines_s: list[float] = field(default_factory=list)
    note: str = ""
    timeout_s: float = 0.0

    def add(self, sample: Sample) -> None:
        """Count one run; a run that was cut off counts as its time limit, and the series says so."""
        self.walls_s.append(sample.wall_s)
        self.peak_bytes = max(self.peak_bytes, sample.peak_bytes)
        self.cpus_s.append(sample.user_s + sample.system_s)
        self.machines_s.append(sample.machine_s)
        if sample.timed_out:
            self.timeout_s = sample.wall_s

    @property
    def median_s(self) -> float | None:
        return statistics.median(self.walls_s) if self.walls_s else None

    @property
    def cpu_s(self) -> float:
        """CPU time of a run: the median."""
        return statistics.median(self.cpus_s or [0.0])

    @property
    def machine_s(self) -> float:
        """CPU time of the whole machine during a run: the median; 0 where it is not known."""
        return statistics.median(self.machines_s or [0.0])

    def as_json(self) -> dict[str, object]:
        return {
            "median_s": None if self.median_s is None else round(self.median_s, 4),
            "runs_s": [round(wall_s, 4) for wall_s in self.walls_s],
            "cpu_s": round(self.cpu_s, 3),
            "machine_cpu_s": round(self.machine_s, 3),
            "peak_mb": round(self.peak_bytes / 1e6, 1),
            "timed_out": bool(self.timeout_s),
            "note": self.note,
        }
