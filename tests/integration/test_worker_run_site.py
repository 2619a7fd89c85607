"""`worker-glue run` on a whole site: health, metrics, a worker that dies, sync_workers, and the end."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncd.client.heartbeats import FOLDER, read_all
from tests.support.backend import Wanted
from tests.support.ocr_site import COMMAND, Site, WorkerHost, Workers, descendants, start_site
from tests.support.ports import free_port
from tests.support.trial_engine import CONFIG, page

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_site(tmp_path_factory.mktemp("site")) as site:
        for number in range(6):
            (site.share.root / f"p{number}.jpg").write_bytes(page(f"page {number}"))
        yield site


@pytest.fixture(scope="module")
def host(site: Site) -> Iterator[WorkerHost]:
    with site.host(worker=CONFIG) as host:
        yield host


def until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def run(host: WorkerHost, *words: str) -> Workers:
    made = Workers([*COMMAND, "-c", str(host.syncd.config), "run", *words], host.environment, host.base / "workers.log")
    made.start()
    return made


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def total(port: int, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(get(port, "/metrics"))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_workers_from_start_to_end(site: Site, host: WorkerHost) -> None:
    port = free_port()
    workers = run(host, "--workers", "2", "--metrics", f"127.0.0.1:{port}")
    try:
        host.until_consuming(workers, 2)
        job = site.backend.submit([Wanted(f"Bhushanji/p{number}.jpg") for number in range(6)])
        document = site.backend.until_complete(job, WITHIN_S)
        site.backend.assert_complete(job, document, no_errors=True)
        ids = {result["metadata"]["worker_id"] for result in document["checkpoint"]["results"]}
        assert ids <= {"tod-mac-1", "tod-mac-2"}
        until(lambda: total(port, "worker_glue_tasks_total", outcome="result") == 6, "the counts")
        assert total(port, "worker_glue_pages_total") == 6
        until(lambda: total(port, "worker_glue_nsqd_connected") == 2, "both are connected")
        until(lambda: json.loads(get(port, "/healthz"))["ok"], "healthy")
        until(lambda: _told(site) == ["tod-mac-1", "tod-mac-2"], "sync_workers")
        assert {each["id"] for each in host.daemon.api.status()["workers"]} == {"tod-mac-1", "tod-mac-2"}

        killed = workers.pids()[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: total(port, "worker_glue_restarts_total") == 1, "started again")
        until(lambda: site.consumers() == 2 and killed not in workers.pids(), "consumes again")
        assert total(port, "worker_glue_tasks_total", outcome="result") == 6, "the counts go on"
        seen = read_all(host.syncd.state / FOLDER)
        assert [each.worker_id for each in seen] == ["tod-mac-1", "tod-mac-2"]
        assert workers.stop() == 0
    finally:
        if workers.process is not None and workers.process.poll() is None:
            workers.kill()
    workers.assert_no_bug()
    assert read_all(host.syncd.state / FOLDER) == []
    assert _told(site) == []
    assert not list((host.syncd.state / "worker").glob("metrics-*"))


def test_when_the_first_process_is_killed_all_below_it_end(site: Site, host: WorkerHost) -> None:
    workers = run(host, "--workers", "2", "--grace", "5")
    host.until_consuming(workers, 2)
    below = descendants(workers.pid)
    assert len(below) >= 2
    assert workers.process is not None
    workers.process.kill()
    workers.process.wait(WITHIN_S)
    until(lambda: not any(map(lives, below)), "they live on")
    until(lambda: site.consumers() == 0, "nobody consumes")
    workers.assert_no_bug()


def test_a_worker_for_one_job_ends_when_it_is_done(site: Site, host: WorkerHost) -> None:
    job = site.backend.submit([Wanted("Bhushanji/p1.jpg")])
    workers = run(host, "--workers", "1", "--once-idle", "2")
    assert workers.process is not None
    assert workers.process.wait(WITHIN_S) == 0
    site.backend.assert_complete(job, site.backend.until_complete(job, 1), no_errors=True)


def test_an_engine_that_is_not_there_ends_it_with_2(host: WorkerHost, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[host]\nstate_dir = "{tmp_path / "state"}"\n[worker]\nengine = "tesserakt"\n')
    workers = Workers([*COMMAND, "-c", str(file), "run", "--workers", "2"], host.environment, tmp_path / "log")
    workers.start()
    assert workers.process is not None
    assert workers.process.wait(WITHIN_S) == 2
    assert 'there is no OCR engine "tesserakt"' in workers.log
    workers.assert_no_bug()


def _told(site: Site) -> list[str]:
    with site.mongo.client() as database:
        return sorted(each["worker_id"] for each in database["sync_workers"].find())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_told_to_end_at_once_after_its_start(host: WorkerHost, number: int, code: int) -> None:
    workers = run(host, "--workers", "2")
    until(lambda: len(workers.pids()) == 2, "a start")
    assert workers.process is not None
    workers.process.send_signal(number)
    assert workers.process.wait(WITHIN_S) == code
    assert read_all(host.syncd.state / FOLDER) == []


def test_without_mongodb_results_are_kept_and_go_there_once_it_is_named(site: Site, host: WorkerHost) -> None:
    without = {name: value for name, value in host.environment.items() if name != "MONGO_URI"}
    argv = [*COMMAND, "-c", str(host.syncd.config), "run", "--workers", "1"]
    workers = Workers(argv, without, host.base / "without.log")
    workers.start()
    host.until_consuming(workers, 1)
    job = site.backend.submit([Wanted("Bhushanji/p2.jpg")])

    def owed() -> int:
        return sum(seen.beat.owed for seen in read_all(host.syncd.state / FOLDER) if seen.beat is not None)

    until(lambda: owed() == 1, "it is kept")
    assert "no MongoDB is configured" in workers.log
    assert workers.stop() == 0
    workers.assert_no_bug()
    workers = run(host, "--workers", "1")
    document = site.backend.until_complete(job, WITHIN_S)
    assert workers.stop() == 0
    site.backend.assert_complete(job, document, no_errors=True)
