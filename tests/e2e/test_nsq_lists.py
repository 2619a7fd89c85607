"""A whole host whose configuration lists two nsqds and three nsqlookupds, and the first of each does not answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.backend import CHANNEL, TOPIC, Backend, Wanted
from tests.support.consumer import TOPIC as READY
from tests.support.consuming import counts, until
from tests.support.fake_nsqd import FakeNsqd
from tests.support.nsqd import start_nsqd
from tests.support.ocr_site import COMMAND, MIRROR, NOWHERE, WorkerHost, Workers, start_site
from tests.support.ways import Way

FILES = 8


def test_announcements_and_tasks_go_on_over_the_others_and_over_the_first_once_it_is_back(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(start_site(tmp_path))
        apart = {"node-id": "1"}  # on one host two nsqds give messages the same ids, else
        other = stack.enter_context(start_nsqd(tmp_path, lookupd=site.lookupd, broadcast=NOWHERE, options=apart))
        for topic, channel in ((TOPIC, CHANNEL), (READY, "reader")):
            other.make_channel(topic, channel)
        first, second = Way(stack, site.nsqd.address), Way(stack, other.address)
        hanging = stack.enter_context(FakeNsqd())
        first.break_("closes")
        for n in range(FILES):
            (site.share.root / f"{n}.jpg").write_bytes(b"%d" % n)
        nsq = f"""[nsq]
nsqd_tcp_address = ["127.0.0.1:{first.address[1]}", "127.0.0.1:{second.address[1]}"]
lookupd_http_addresses = ["127.0.0.1:1", "127.0.0.1:{hanging.address[1]}", "127.0.0.1:{site.lookupd.http_port}"]
[worker]
engine = "null"
"""
        host = stack.enter_context(site.host(worker=nsq))
        host.daemon.until(lambda: host.daemon.status["announcing"]["owed"] == 0, "nothing is owed")
        assert counts(other, READY, "reader")["depth"] == FILES

        workers = stack.enter_context(working(host))
        tasks = [Wanted(f"{MIRROR}/{n}.jpg") for n in range(FILES)]
        job = site.backend.submit(tasks, publish=False)
        site.backend.publish(*job.bodies[::2])
        Backend(site.mongo, other).publish(*job.bodies[1::2])
        strange = site.backend.submit([Wanted(f"{MIRROR}/0.jpg", provider="azure")], publish=False)
        Backend(site.mongo, other).publish(*strange.bodies)
        until(lambda: consumed(site.backend, job.id) == FILES // 2, 60)
        until(lambda: counts(other, TOPIC)["deferred_count"] == 1, 60)  # passed on, to where it can be
        first.mend()
        document = site.backend.until_complete(job)
        site.backend.assert_complete(job, document, no_errors=True)
        assert workers.stop() == 0
        workers.assert_no_bug()


def consumed(backend: Backend, job_id: str) -> int:
    with backend._mongo.client() as database:
        return int(database.bulk_jobs.find_one({"job_id": job_id})["consumed_count"])


@contextlib.contextmanager
def working(host: WorkerHost) -> Iterator[Workers]:
    """Run a worker that knows NSQ from the configuration file alone."""
    env = {name: value for name, value in host.environment.items() if not name.startswith("NSQ")}
    argv = [*COMMAND, "-c", str(host.syncd.config), "run", "--workers", "1"]
    workers = Workers(argv, env, host.base / "workers.log")
    workers.start()
    try:
        yield workers
    finally:
        if workers.process is not None and workers.process.poll() is None:
            workers.kill()
