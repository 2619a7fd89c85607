"""The OCR job while workers, proxies, nsqd, MongoDB and syncd die at random; then quiet, and one entry for each task.

A short sample in CI; SYNCD_EXHAUSTIVE=1 goes on for minutes, job after job. A failure prints its seed; SYNCD_SEED=N
replays its choices.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backend import Job, errors_by_index
from tests.support.ocr_collection import Expected, assert_read, render_collection
from tests.support.ocr_site import Proxy, Site, WorkerHost, Workers, start_site

EXHAUSTIVE = os.environ.get("SYNCD_EXHAUSTIVE") == "1"
SEED = int(os.environ.get("SYNCD_SEED") or 0) or random.SystemRandom().randrange(1, 10**6)
CHAOS_S = 300.0 if EXHAUSTIVE else 12.0
PAGES = 60 if EXHAUSTIVE else 30
MESSAGE_TIMEOUT = "60s" if EXHAUSTIVE else "5s"
"""nsqd keeps what a dead worker had in hand for so long: it does not give it back when the connection ends."""
QUIET_WITHIN_S = 240.0
"""Afterwards: what was passed on with a delay comes back, and is done."""
PAUSE_S = (0.2, 1.5)
OUTAGE_S = (0.1, 3.0)


class Chaos:
    """What can happen to a site. Every outage ends before the next one begins, but for the worker's own restarts."""

    def __init__(self, site: Site, host: WorkerHost, workers: Workers, chosen: random.Random) -> None:
        self._site = site
        self._host = host
        self._workers = workers
        self._random = chosen
        self.done: list[str] = []
        self._faults: dict[Callable[[], None], int] = {
            self.kill_worker: 6,
            self.kill_below: 3,
            self.kill_run: 1,
            self.cut_nsqd: 2,
            self.cut_lookupd: 1,
            self.restart_nsqd: 1,
            self.kill_syncd: 2,
        }
        if EXHAUSTIVE:  # whatever MongoDB does not take comes again after half a minute
            self._faults |= {self.cut_mongo: 2, self.kill_mongo: 1}

    def strike(self) -> None:
        """Have one thing go wrong."""
        (fault,) = self._random.choices(list(self._faults), list(self._faults.values()))
        self.done.append(fault.__name__)
        fault()
        time.sleep(self._random.uniform(*PAUSE_S))

    def kill_worker(self) -> None:
        self._kill_one(self._workers.pids())

    def kill_below(self) -> None:
        """Kill an engine, or whatever else a worker has started."""
        from tests.support.ocr_site import descendants

        below = descendants(self._workers.pid)
        self._kill_one([pid for pid in below if pid not in self._workers.pids()] or below)

    def kill_run(self) -> None:
        """All processes at once, and a new start."""
        self._workers.kill()
        self._workers.start()

    def cut_mongo(self) -> None:
        self._cut(self._host.proxies.mongo)

    def cut_nsqd(self) -> None:
        self._cut(self._host.proxies.nsqd)

    def cut_lookupd(self) -> None:
        self._cut(self._host.proxies.lookupd)

    def restart_nsqd(self) -> None:
        self._site.nsqd.stop()
        self._outage()
        self._site.nsqd.start()

    def kill_mongo(self) -> None:
        self._site.mongo.kill()
        self._outage()
        self._site.mongo.start()

    def kill_syncd(self) -> None:
        self._host.daemon.kill()
        self._outage()
        self._host.daemon.start()

    def _cut(self, proxy: Proxy) -> None:
        proxy.cut()
        self._outage()
        proxy.restore()

    def _kill_one(self, pids: list[int]) -> None:
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), signal.SIGKILL)

    def _outage(self) -> None:
        time.sleep(self._random.uniform(*OUTAGE_S))


@pytest.mark.timeout(120 + CHAOS_S + 2 * QUIET_WITHIN_S)
def test_whatever_dies_each_task_ends_once(tmp_path: Path) -> None:
    with start_site(tmp_path, nsqd_options={"msg-timeout": MESSAGE_TIMEOUT}) as site:
        expected = render_collection(site.share.root, PAGES)
        with site.host() as host, host.workers(3) as workers:
            chaos = Chaos(site, host, workers, random.Random(SEED))
            try:
                jobs = _jobs_under(chaos, site, expected)
                host.until_consuming(workers, 3)
                for job in jobs:
                    _assert_ended(site, job, expected)
                if EXHAUSTIVE:
                    documents = [site.backend.document(job) for job in jobs]
                    site.backend.until_idle(QUIET_WITHIN_S)
                    for job, document in zip(jobs, documents, strict=True):
                        site.backend.assert_unchanged(job, document)
            except BaseException:
                print(f"SYNCD_SEED={SEED} after {chaos.done}")
                raise


def _jobs_under(chaos: Chaos, site: Site, expected: list[Expected]) -> list[Job]:
    """Strike as long as there is time, with a new job whenever the last one is done; return the jobs."""
    jobs = [site.backend.submit([each.wanted for each in expected])]
    ends = time.monotonic() + CHAOS_S
    while time.monotonic() < ends:
        chaos.strike()
        if site.backend.recorded(jobs[-1]) >= len(expected):
            if not EXHAUSTIVE:
                break
            jobs.append(site.backend.submit([each.wanted for each in expected]))
    assert chaos.done
    return jobs


def _assert_ended(site: Site, job: Job, expected: list[Expected]) -> None:
    """One entry each; an error only for what was at work each time when its worker was killed."""
    document = site.backend.until_complete(job, QUIET_WITHIN_S)
    site.backend.assert_complete(job, document)
    assert_read(document, expected)
    for error in errors_by_index(document).values():
        assert "given up" in error["error"], error
    assert len(errors_by_index(document)) <= len(expected) // 5
