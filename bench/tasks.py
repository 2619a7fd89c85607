"""What a worker costs around OCR: tasks a second from nsqd to FIN with an engine that reads nothing.

`worker-glue run --workers 3`, a mirror and its daemon, nsqd, nsqlookupd and socat are real; only the database is a
stand-in (standin.py), since FerretDB reads all jobs for each update (40 a second with 200 jobs), and a mongod is not on
every machine. The tasks wait in a paused channel; time is taken from when it is opened until nsqd has all of them
finished. How fast the database takes the same updates from three bare connections is measured beside it. All of it
runs on the same two cores.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from bench.measure import BenchError
from bench.row import say
from bench.standin import start_standin
from tests.support.backend import CHANNEL, TOPIC, Backend, Job, Wanted
from tests.support.ocr_site import MIRROR, Site, Workers, descendants, start_site

TASKS, QUICK_TASKS = 6_000, 300
JOB_TASKS = 300
"""Of one job. Towards the end of a job a worker looks once more at its progress after each task."""
FILES = 300
WORKERS = 3
REACH_PER_S = 300.0
DEADLINE_S = 600.0
ENGINE = '[worker]\nengine = "null"\n'
TEXT = "null"


@dataclass(frozen=True, slots=True)
class Overhead:
    """One run. cpu_s: of all worker processes; floor_per_s: what the database takes from a bare client."""

    tasks: int
    wall_s: float
    cpu_s: float
    floor_per_s: float
    database: str

    @property
    def per_s(self) -> float:
        return self.tasks / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU that the workers took for one task."""
        return self.cpu_s / self.tasks * 1000

    @property
    def reached(self) -> bool:
        return self.per_s >= REACH_PER_S

    def as_json(self) -> dict[str, object]:
        return {
            "tasks": self.tasks,
            "workers": WORKERS,
            "wall_s": round(self.wall_s, 3),
            "per_s": round(self.per_s, 1),
            "worker_cpu_ms_per_task": round(self.cpu_ms, 3),
            "database": self.database,
            "database_alone_per_s": round(self.floor_per_s, 1),
            "reach_per_s": REACH_PER_S,
            "reached": self.reached,
        }


def measure(folder: Path, tasks: int = TASKS) -> Overhead:
    """Have the tasks done once. folder: takes the servers' files, a mirror and the state."""
    try:
        with start_standin(folder) as mongo, start_site(folder, mongo=mongo) as site:
            return _measured(site, tasks)
    except (AssertionError, RuntimeError) as error:
        raise BenchError(str(error)) from error


def _measured(site: Site, tasks: int) -> Overhead:
    paths = _files(site, min(FILES, tasks))
    with site.host("bench-mac", ENGINE) as host, host.workers(WORKERS) as workers:
        _warm_up(site, paths)
        site.nsqd.http(f"/channel/pause?topic={TOPIC}&channel={CHANNEL}", b"")
        jobs = _jobs(site.backend, paths, tasks)
        before, cpu_s = _finished(site), _cpu_s(workers)
        began = time.perf_counter()
        site.nsqd.http(f"/channel/unpause?topic={TOPIC}&channel={CHANNEL}", b"")
        _wait(lambda: _finished(site) - before >= tasks, lambda: f"{_finished(site) - before} of {tasks} are finished")
        wall_s, cpu_s = time.perf_counter() - began, _cpu_s(workers) - cpu_s
        for job in jobs:
            site.backend.assert_complete(job, site.backend.document(job), no_errors=True)
        floor = _floor(site, host.proxies.mongo.port, max(90, tasks // 10))
        return Overhead(tasks, wall_s, cpu_s, floor, site.mongo.kind)


def _files(site: Site, count: int) -> list[str]:
    for n in range(count):
        path = site.share.root / f"set {n % 10}" / f"{n:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % n)
        os.utime(path, (10**9, 10**9))
    return [f"{MIRROR}/set {n % 10}/{n:04}.jpg" for n in range(count)]


def _warm_up(site: Site, paths: list[str]) -> None:
    """Have every worker do something, so that connections and engines are there."""
    job = site.backend.submit([Wanted(path) for path in (paths * WORKERS)[: 10 * WORKERS]])
    site.backend.until_complete(job)
    site.backend.until_idle()


def _jobs(backend: Backend, paths: list[str], tasks: int) -> list[Job]:
    """Publish the tasks. No two of a job have the same path."""
    jobs = []
    for first in range(0, tasks, JOB_TASKS):
        numbers = range(first, min(first + JOB_TASKS, tasks))
        jobs.append(backend.submit([Wanted(paths[n % len(paths)]) for n in numbers], publish=False))
    backend.publish(*(body for job in jobs for body in job.bodies))
    return jobs


def _finished(site: Site) -> int:
    """Return how many messages of the channel have ended."""
    channel = site.nsqd.channels(TOPIC)[CHANNEL]
    left = channel["depth"] + channel["in_flight_count"] + channel["deferred_count"]
    return int(channel["message_count"]) - int(left)


def _wait(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(told())
        time.sleep(0.02)


def _cpu_s(workers: Workers) -> float:
    """Return the CPU time of `worker-glue run` and all below it that is still there, with what it has waited for."""
    total = 0
    for pid in (workers.pid, *descendants(workers.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(ticks) for ticks in fields[11:15])  # proc(5): utime, stime, cutime, cstime
    return total / os.sysconf("SC_CLK_TCK")


# --- the database alone ----------------------------------------------------------------------------------------------


def _floor(site: Site, port: int, updates: int) -> float:
    """Return how many guarded updates a second the database takes from three connections through the same proxy."""
    ids = [str(uuid.uuid4()) for _ in range(-(-updates // JOB_TASKS))]
    with site.mongo.client() as database:
        empty = {"results": [], "errors": [], "processed_files": [], "processed_message_ids": []}
        database.bulk_jobs.insert_many([{"job_id": each, "consumed_count": 0, "checkpoint": empty} for each in ids])
    work = iter([(each, index) for each in ids for index in range(JOB_TASKS)][:updates])
    lock = threading.Lock()

    def shared() -> Iterator[tuple[str, int]]:
        while True:
            with lock:
                found = next(work, None)
            if found is None:
                return
            yield found

    began = time.perf_counter()
    with _threads([lambda: _update_all(site.mongo.uri(port=port), shared())] * WORKERS):
        pass
    per_s = updates / (time.perf_counter() - began)
    say(f"the database alone takes {per_s:.0f} updates a second")
    return per_s


def _update_all(uri: str, work: Iterator[tuple[str, int]]) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(uri, directConnection=True, w="majority")
    with client:
        for job_id, index in work:
            _update(client["gvpocr"]["bulk_jobs"], job_id, index)


def _update(jobs: Any, job_id: str, index: int) -> None:
    path, message = f"{MIRROR}/{index}.jpg", uuid.uuid4().hex[:16]
    now = datetime.now(UTC).replace(tzinfo=None)
    entry = {"file": f"{index}.jpg", "file_path": path, "file_index": index, "text": TEXT, "processed_at": str(now)}
    jobs.update_one(
        {"job_id": job_id, "checkpoint.processed_files": {"$ne": path}},
        {
            "$push": {"checkpoint.results": entry},
            "$addToSet": {"checkpoint.processed_files": path, "checkpoint.processed_message_ids": message},
            "$inc": {"consumed_count": 1},
            "$set": {"updated_at": now},
        },
    )


@contextmanager
def _threads(work: Sequence[Callable[[], None]]) -> Iterator[None]:
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(DEADLINE_S)
