"""Two hosts on one channel, one of which dies owing results; and our worker beside an old one that gives up early."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backend import Wanted, entries, results_by_index
from tests.support.daemon import put
from tests.support.ocr_site import MIRROR, Site, WorkerHost, start_site
from tests.support.trial_engine import CONFIG, page
from worker_glue.errors import StoreFailed
from worker_glue.running.settings import load, store_path
from worker_glue.store.reading import Reading

TRIAL = f'[worker]\nmissing_grace = "1s"\n{CONFIG}'
EXHAUSTIVE = os.environ.get("SYNCD_EXHAUSTIVE") == "1"
MESSAGE_TIMEOUT = "60s" if EXHAUSTIVE else "5s"
"""nsqd keeps what a dead worker had in hand for so long: it does not give it back when the connection ends."""
COPIES_COME_WITHIN_S = 120.0
"""A copy of a task whose result is owed is delayed by half a minute."""
STOPS = 6
"""More than the deliveries after which the old worker gives up."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with start_site(tmp_path, nsqd_options={"msg-timeout": MESSAGE_TIMEOUT}) as site:
        yield site


def pages(site: Site, base: str, count: int, takes_s: float) -> list[Wanted]:
    """Put pages on the share; return their tasks."""
    for n in range(count):
        put(site.share.root, f"{base}/{n:03}.jpg", page(f"page {n} of {base}", takes_s))
    return [Wanted(f"{MIRROR}/{base}/{n:03}.jpg") for n in range(count)]


@pytest.mark.timeout(300)
def test_a_host_that_dies_owing_results_costs_nothing_and_doubles_nothing(site: Site) -> None:
    tasks = pages(site, "set", 24, 0.3)
    with (
        site.host("mac-a", TRIAL) as dying,
        site.host("mac-b", TRIAL) as living,
        living.workers(1),
        dying.workers(2) as workers,
    ):
        living.until_consuming(workers, 3)
        dying.proxies.mongo.cut()
        job = site.backend.submit(tasks)
        site.backend.until(lambda: _owed(dying) >= 3, lambda: f"mac-a owes {_owed(dying)} results")
        workers.kill()
        dying.daemon.kill()
        owed = _owed(dying)
        document = site.backend.until_complete(job, COPIES_COME_WITHIN_S)
        site.backend.assert_complete(job, document, no_errors=True)
        for index, result in results_by_index(document).items():
            assert result["full_text"].strip() == f"page {index} of set"
            assert result["metadata"]["worker_id"] == "mac-b-1"
        assert owed >= 3
        # it comes back, with what it still owes
        dying.proxies.mongo.restore()
        dying.daemon.start()
        workers.start()
        site.backend.until(lambda: _owed(dying) == 0, lambda: f"mac-a owes {_owed(dying)} results")
        if EXHAUSTIVE:
            site.backend.until_idle(COPIES_COME_WITHIN_S)
        site.backend.assert_unchanged(job, document)


def _owed(host: WorkerHost) -> int:
    """Return how many results a host's store has that MongoDB has not acknowledged."""
    try:
        with Reading(store_path(load(host.syncd.config, {}))) as store:
            return store.counts().owed
    except StoreFailed:
        return 0  # not made yet


@pytest.mark.timeout(240)
def test_waiting_beside_an_old_worker_costs_no_task(site: Site) -> None:
    put(site.share.root, "there.jpg", page("there"))
    with site.host("mac-a", TRIAL) as host:
        host.smb.down()
        job = site.backend.submit(pages(site, "late", 10, 0.0))
        for _ in range(STOPS):
            with host.workers(1):
                site.backend.until(lambda: site.backend.queue()[1] == 10, lambda: f"in hand: {site.backend.queue()}")
        with _old_worker(site) as said:
            site.backend.until_complete(job, COPIES_COME_WITHIN_S)
            assert "given up" not in said.read_text()
        told = [entry["file_index"] for _, entry in entries(site.backend.document(job))]
        assert sorted(told) == list(range(10))


@contextlib.contextmanager
def _old_worker(site: Site) -> Iterator[Path]:
    """Run an old worker until the block ends; yields the file that it writes into."""
    said = site.base / "old-worker.log"
    argv = [sys.executable, "-m", "tests.support.old_worker", str(site.nsqd.tcp_port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with said.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment)
    assert process.stdin is not None
    process.stdin.write(site.mongo.uri().encode() + b"\n")
    process.stdin.close()
    try:
        yield said
    finally:
        process.kill()
        process.wait(10)
