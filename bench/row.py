"""Measure one row: every contestant in turn, again and again, each run into an empty folder and looked at after it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.corpora import compare, provide
from bench.measure import Sample, Series, run
from bench.peers import Contestant, Cp, Job, Rclone, Rsync, Smbclient, Syncd
from bench.servers import Endpoint, Servers
from bench.workloads import Workload

TIMEOUT_S = 600.0
LIMIT_TIMEOUT_S = 120.0
"""smbclient, rsync and cp show the limits: they may take no longer than this."""
LIMIT_RUNS, LONG_S = 3, 20.0
"""And three runs are enough for them, one when it takes long."""
BEST = "rclone best"
DEFAULTS = "defaults"


@dataclass(slots=True)
class Row:
    """What was measured of one workload: a series for each contestant, and rclone's variants tried once."""

    workload: Workload
    series: dict[str, Series] = field(default_factory=dict)
    tried_s: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """Return the series that is rclone's best: its defaults, when no variant was faster in the end."""
        medians = {name: self.series[name].median_s for name in (BEST, "rclone") if name in self.series}
        return min(medians, key=lambda name: medians[name] or float("inf"), default="rclone")

    def ratio(self, to: str) -> float | None:
        """Return syncd's median as a share of another's; None when one of them is not there."""
        ours, theirs = (self.series[name].median_s if name in self.series else None for name in ("syncd", to))
        return ours / theirs if ours is not None and theirs else None

    def reached(self) -> bool | None:
        """Say whether the bar is reached, against rclone's best; None when that cannot be said."""
        ratio = self.ratio(self.best)
        return None if ratio is None or not self.workload.reach else ratio <= self.workload.reach


class Bench:
    """Measures rows into `output` (emptied between runs) or `disk` (where nothing is removed before the end)."""

    def __init__(self, servers: Servers, output: Path, disk: Path, runs: int) -> None:
        self._servers = servers
        self._output = output
        self._disk = disk
        self._runs = runs
        self._count = 0

    def measure(self, workload: Workload) -> Row:
        """Measure one row: A B C A B C ..."""
        row = Row(workload)
        original = provide(workload.corpus, self._servers.corpora)
        endpoint = self._servers.endpoint(rtt_ms=workload.rtt_ms, encrypt=workload.encrypt)
        contestants = self._contestants(workload, original, endpoint, row)
        jobs = {each.name: self._job(workload, original, endpoint) for each in contestants}
        if workload.unchanged:
            for each in contestants:
                self._fill(each, jobs[each.name])
        runs = min(self._runs, workload.runs_max)
        for number in range(runs):
            for each in contestants:
                self._one_run(row, each, jobs, number, runs)
        for job in jobs.values():
            self._drop(workload, job.folder)
        return row

    def _contestants(self, workload: Workload, original: Path, endpoint: Endpoint, row: Row) -> list[Contestant]:
        """Choose who takes part, rclone's best variant among them; the others are named in the row."""
        peers: list[Contestant] = [Syncd(), Rclone(), Smbclient(), Rsync(), Cp()]
        if workload.rtt_ms:
            row.series["cp"] = Series([], note="knows no network")
        present = []
        for each in peers:
            if missing := each.missing():
                row.series[each.name] = Series([], note=f"not installed: {missing}")
            elif each.name in workload.left_out:
                row.series[each.name] = Series([], note="left out")
            elif each.name not in row.series:
                present.append(each)
        if any(each.name == "rclone" for each in present):
            options = self._best_rclone(workload, original, endpoint, row)
            if options:
                present.insert(2, Rclone(BEST, options))
        return present

    def _best_rclone(self, workload: Workload, original: Path, endpoint: Endpoint, row: Row) -> tuple[str, ...]:
        """Run rclone once with each set of options; return the best, () when its defaults are."""
        for options in ((), *workload.tries):
            job = self._job(workload, original, endpoint)
            contestant = Rclone(options=options)
            if workload.unchanged:
                self._fill(contestant, job)
            sample = self._timed(contestant, job)
            row.tried_s[" ".join(options) or DEFAULTS] = sample.wall_s
            self._drop(workload, job.folder)
        best = min(row.tried_s, key=row.tried_s.__getitem__)
        return () if best == DEFAULTS else tuple(best.split())

    def _one_run(self, row: Row, each: Contestant, jobs: dict[str, Job], number: int, runs: int) -> None:
        workload = row.workload
        series = row.series.setdefault(each.name, Series([]))
        if isinstance(each, Rclone):
            series.note = " ".join(each.options)
        if _is_limit(each) and (number >= LIMIT_RUNS or any(wall_s > LONG_S for wall_s in series.walls_s)):
            return
        if not workload.unchanged and number:
            old = jobs[each.name]
            self._drop(workload, old.folder)
            jobs[each.name] = self._job(workload, old.original, old.endpoint)
        sample = self._timed(each, jobs[each.name])
        series.add(sample)
        say(f"{workload.name}: {each.name} {number + 1}/{runs}: {sample.wall_s:.2f} s")

    def _timed(self, contestant: Contestant, job: Job) -> Sample:
        """Run once and see that the output is the corpus. What others left to be written is written before."""
        command = contestant.command(job)
        os.sync()
        limit = _is_limit(contestant)
        timeout_s = LIMIT_TIMEOUT_S if limit else TIMEOUT_S
        sample = run(command.argv, job.folder, env=command.env, timeout_s=timeout_s, may_time_out=limit)
        if sample.timed_out:
            return sample
        contestant.check(job, sample)
        compare(job.corpus, job.original, job.out, mtimes=contestant.keeps_mtimes)
        return sample

    def _fill(self, contestant: Contestant, job: Job) -> None:
        """Bring the output to where nothing is left to do; syncd has to do that itself."""
        filler: Contestant = Cp() if contestant.stateless else contestant
        first = replace(job, unchanged=False)
        sample = run(filler.command(first).argv, job.folder, timeout_s=TIMEOUT_S)
        filler.check(first, sample)

    def _job(self, workload: Workload, original: Path, endpoint: Endpoint) -> Job:
        self._count += 1
        folder = (self._disk if workload.on_disk else self._output) / f"{self._count:04d}"
        folder.mkdir()
        return Job(workload.corpus, original, endpoint, folder, workload.encrypt, workload.unchanged)

    def _drop(self, workload: Workload, folder: Path) -> None:
        """Remove a run's output, but not on a disk: ext4 is slow to create files where many were just removed."""
        if not workload.on_disk:
            shutil.rmtree(folder)


def _is_limit(contestant: Contestant) -> bool:
    return not isinstance(contestant, Syncd | Rclone)


def say(text: str) -> None:
    """Tell how far the benchmark is."""
    print(f"-- {text}", file=sys.stderr, flush=True)
