"""Bad input and faults around a job: one clear error or one result each, and whatever is good is not held up.

A seed is printed by a test that fails; SYNCD_SEED=N replays its choices.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.backend import CHANNEL, DEAD_TOPIC, TOPIC, Backend, Job, Wanted, errors_by_index, results_by_index
from tests.support.daemon import put
from tests.support.ocr_site import MIRROR, Site, WorkerHost, Workers, start_site
from tests.support.rendered import bomb_png, encrypted_pdf, pdf_of_many_pages, render, truncated_jpeg
from tests.support.trial_engine import CONFIG, page

EXHAUSTIVE = os.environ.get("SYNCD_EXHAUSTIVE") == "1"
SEED = int(os.environ.get("SYNCD_SEED") or 0) or random.SystemRandom().randrange(1, 10**6)
KILLS = 40 if EXHAUSTIVE else 5
MESSAGE_TIMEOUT_S = 5
TESSERACT = '[worker]\nexclusive = true\nmissing_grace = "1s"\nengine = "tesseract"\n'
TRIAL = f'[worker]\nmissing_grace = "1s"\nwait_for_source = "1h"\n{CONFIG}page_limit = "3s"\n'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    options = {"msg-timeout": f"{MESSAGE_TIMEOUT_S}s"}
    with start_site(tmp_path_factory.mktemp("faults"), nsqd_options=options) as site:
        yield site


@pytest.fixture
def base(request: pytest.FixtureRequest) -> str:
    """A folder of the share for one test."""
    return request.node.name.replace("[", " ").strip("]")[:60]


@pytest.fixture(autouse=True)
def _nothing_left(site: Site) -> Iterator[None]:
    """What a test that failed has left is no business of the next one."""
    yield
    site.backend.forget()


# --- bad input -------------------------------------------------------------------------------------------------------


def bad_files(root: Path) -> None:
    root.mkdir(parents=True)
    truncated_jpeg(root / "truncated.jpg")
    encrypted_pdf(root / "encrypted.pdf")
    pdf_of_many_pages(root / "10000 pages.pdf")
    bomb_png(root / "bomb.png")
    (root / "zero.jpg").write_bytes(b"")
    (root / "a folder.jpg").mkdir()
    (root / "no image.jpg").write_bytes(b"this is text, whatever its name says")
    (root / "unknown.xyz").write_bytes(os.urandom(1000))
    (root / "._x.JPG").write_bytes(b"\0\5\x16\7" + bytes(100))
    render(root / "cut.pdf", "en", 3)
    whole = (root / "cut.pdf").read_bytes()
    (root / "cut.pdf").write_bytes(whole[: len(whole) // 2])


BAD: tuple[tuple[Wanted, str], ...] = (
    (Wanted("{}/truncated.jpg"), "truncated|damaged|ends"),
    (Wanted("{}/encrypted.pdf"), "encrypted|password"),
    (Wanted("{}/10000 pages.pdf"), "10,?000 pages|pages"),
    (Wanted("{}/bomb.png"), "pixels|large|big"),
    (Wanted("{}/zero.jpg"), "empty|no bytes|0 bytes"),
    (Wanted("{}/a folder.jpg"), "folder|directory"),
    (Wanted("{}/no image.jpg"), "image|type|read"),
    (Wanted("{}/unknown.xyz"), "type|image|read"),
    (Wanted("{}/cut.pdf"), "damaged|PDF"),
    (Wanted("{}/._x.JPG"), "hidden|veto|._"),
    (Wanted("{}/was never there.jpg"), "missing|not on the share"),
    (Wanted("{}/../../etc/passwd"), "refused"),
    (Wanted("Bhushanji/../../../etc/shadow"), "refused"),
    (Wanted("/srv/other-host/scans/letter.jpg"), "missing|not available|refused"),
    (Wanted("no such collection/letter.jpg"), "missing|not available"),
    (Wanted("./{}/good 0.jpg", provider="an engine of tomorrow"), "provider.*an engine of tomorrow.*worker.providers"),
    (Wanted("./{}/good 1.jpg", provider="ollama"), "provider.*ollama"),
    (
        Wanted("./{}/good 2.jpg", more={"processing_mode": "chain", "chain_config": {"steps": []}, "provider": None}),
        "chain",
    ),
    (Wanted("./{}/good 3.jpg", languages=("xx",)), "language"),
)


@pytest.mark.timeout(240)
def test_each_bad_file_and_path_is_one_clear_error_and_delays_nobody(site: Site, base: str) -> None:
    bad_files(site.share.root / base)
    good = [Wanted(f"{MIRROR}/{base}/good {n}.jpg") for n in range(8)]
    for n, wanted in enumerate(good):
        render(site.share.root / base / Path(wanted.path).name, "en", n, words=6)
    bad = [Wanted(w.path.format(f"{MIRROR}/{base}"), w.languages, w.handwriting, w.provider, w.more) for w, _ in BAD]
    tasks = [task for n in range(max(len(bad), len(good))) for task in (*bad[n : n + 1], *good[n : n + 1])]
    with site.host("bad-mac", TESSERACT) as host, host.workers(2) as workers:
        pids = workers.pids()
        job = site.backend.submit(tasks)
        document = site.backend.until_complete(job, 120)
        site.backend.until_idle()
        site.backend.assert_complete(job, document)
        site.backend.assert_no_local_path(document, host.base)
        errors = errors_by_index(document)
        assert {job.tasks[index].path for index in results_by_index(document)} == {task.path for task in good}
        for task, (_, pattern) in zip(bad, BAD, strict=True):
            index = tasks.index(task)
            assert index in errors, f"{task.path} is no error"
            _assert_says(pattern, errors[index]["error"])
        assert workers.pids() == pids, "a worker died of it"
        channel = site.nsqd.channels(TOPIC)[CHANNEL]
        assert (channel["requeue_count"], channel["timeout_count"]) == (0, 0)


def _assert_says(pattern: str, error: str) -> None:
    import re

    assert re.search(pattern, error, re.IGNORECASE), f"{error!r} does not say {pattern!r}"
    assert "Traceback" not in error
    assert "\n" not in error


def odd_bodies(job_id: str, path: str) -> list[bytes]:
    """Return messages that are no tasks and name no job, or none that there is."""
    unknown = str(uuid.uuid4())
    return [
        b"not JSON",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"[" * 100_000,
        b'{"job_id": 7}',
        json.dumps({"file_path": path, "file_index": 0}).encode(),
        json.dumps({"job_id": unknown, "file_path": path, "file_index": 0, "languages": ["en"]}).encode(),
        os.urandom(1 << 20),
        b'{"job_id": "' + b"x" * ((1 << 20) - 20) + b'"}',
        json.dumps({"job_id": job_id}).encode()[:-1],
    ]


WRONG: tuple[dict[str, object], ...] = (
    {"file_path": None},
    {"file_path": ""},
    {"file_path": 7},
    {"file_path": ["a"]},
    {"file_path": "Bhushanji/a\0b.jpg"},
    {"file_path": "x" * 100_000},
    {"languages": "en"},
    {"languages": {"en": 1}},
    {"languages": [1, 2]},
    {"handwriting": "yes"},
    {"provider": 7},
    {"processing_mode": 7},
)


@pytest.mark.timeout(180)
def test_messages_that_are_no_tasks_end_and_those_that_name_a_job_are_recorded_in_it(site: Site, base: str) -> None:
    put(site.share.root, f"{base}/good.jpg", page("a good page"))
    good = Wanted(f"{MIRROR}/{base}/good.jpg")
    with site.host("odd-mac", TRIAL) as host, host.workers(2) as workers:
        pids = workers.pids()
        wrong = [Wanted(f"{MIRROR}/{base}/{n}.jpg", more=dict(more)) for n, more in enumerate(WRONG)]
        job = site.backend.submit([good, *wrong], publish=False)
        site.backend.publish(*odd_bodies(job.id, good.path), *job.bodies[1:])
        site.backend.publish(job.bodies[0])
        document = site.backend.until_complete(job)
        site.backend.until_idle()
        checkpoint = document["checkpoint"]
        assert document["consumed_count"] == len(checkpoint["results"]) + len(checkpoint["errors"]) == len(job.tasks)
        assert [each["file_index"] for each in checkpoint["results"]] == [0]
        assert sorted(each["file_index"] for each in checkpoint["errors"]) == list(range(1, len(job.tasks)))
        assert all(0 < len(each["error"]) < 1000 for each in checkpoint["errors"])
        assert workers.pids() == pids, "a worker died of it"
        dead = [json.loads(body) for body in site.nsqd.take_all(DEAD_TOPIC, "test")]
        assert len(dead) >= 1, "a task of an unknown job goes to the dead topic"
        channel = site.nsqd.channels(TOPIC)[CHANNEL]
        assert channel["timeout_count"] == 0


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial_host(site: Site) -> Iterator[WorkerHost]:
    """One host for all tests whose pages are read by the trial engine."""
    with site.host("trial-mac", TRIAL) as host:
        yield host


@pytest.fixture(scope="module")
def workers(trial_host: WorkerHost) -> Iterator[Workers]:
    """Its three workers."""
    with trial_host.workers(3) as workers:
        yield workers


def pages(site: Site, base: str, count: int, takes_s: float = 0.1, then: str = "") -> list[Wanted]:
    """Put pages on the share; return their tasks."""
    made = []
    for n in range(count):
        put(site.share.root, f"{base}/{n:03}.jpg", page(f"page {n} of {base}", takes_s, then))
        made.append(Wanted(f"{MIRROR}/{base}/{n:03}.jpg"))
    return made


def mirrored(host: WorkerHost) -> None:
    """Have what is new on the share fetched."""
    done = host.syncd("run-once", "--json")
    assert done.code == 0, done.err


def assert_read(backend: Backend, job: Job, document: dict, base: str) -> None:
    """Every task has its result, with the text of its own file."""
    backend.assert_complete(job, document, no_errors=True)
    for index, result in results_by_index(document).items():
        assert result["full_text"].strip() == f"page {index} of {base}"


@contextlib.contextmanager
def replayable() -> Iterator[random.Random]:
    """Choose by a seed that a failure prints."""
    try:
        yield random.Random(SEED)
    except BaseException:
        print(f"SYNCD_SEED={SEED}")
        raise


@pytest.mark.timeout(60 + KILLS * 10)
def test_workers_killed_at_any_point_of_a_task(site: Site, trial_host: WorkerHost, workers: Workers, base: str) -> None:
    tasks = pages(site, base, 8 * KILLS)
    mirrored(trial_host)
    with replayable() as chosen:
        job = site.backend.submit(tasks)
        killed = 0
        while killed < KILLS and site.backend.recorded(job) < len(tasks):
            time.sleep(chosen.uniform(0.0, 0.6))
            if pids := workers.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chosen.choice(pids), signal.SIGKILL)
                    killed += 1
        document = site.backend.until_complete(job, 60 + KILLS * 2)
        assert killed >= 2
        assert_read(site.backend, job, document, base)
        workers.assert_alive()
        trial_host.until_consuming(workers, 3)


Fault = Callable[[Site, WorkerHost, Workers], None]


def restart_nsqd(site: Site, host: WorkerHost, workers: Workers) -> None:
    site.nsqd.restart()


def cut_nsqd(site: Site, host: WorkerHost, workers: Workers) -> None:
    host.proxies.nsqd.cut()
    time.sleep(1.0)
    host.proxies.nsqd.restore()


def cut_all(site: Site, host: WorkerHost, workers: Workers) -> None:
    for proxy in host.proxies.all:
        proxy.cut()
    time.sleep(1.5)
    for proxy in host.proxies.all:
        proxy.restore()


def cut_mongo(site: Site, host: WorkerHost, workers: Workers) -> None:
    host.proxies.mongo.cut()
    time.sleep(60.0 if EXHAUSTIVE else 3.0)
    host.proxies.mongo.restore()


def restart_mongo(site: Site, host: WorkerHost, workers: Workers) -> None:
    site.mongo.kill()
    time.sleep(1.0)
    site.mongo.start()


def hang_mongo(site: Site, host: WorkerHost, workers: Workers) -> None:
    site.mongo.suspend()
    time.sleep(3.0)
    site.mongo.resume()


def restart_syncd(site: Site, host: WorkerHost, workers: Workers) -> None:
    host.daemon.kill()
    time.sleep(0.5)
    host.daemon.start()


def suspend_worker(site: Site, host: WorkerHost, workers: Workers) -> None:
    """One works on while its messages have gone to others: nsqd takes them back, it does not know."""
    victim = workers.pids()[0]
    os.kill(victim, signal.SIGSTOP)
    time.sleep(MESSAGE_TIMEOUT_S + 1.0)
    os.kill(victim, signal.SIGCONT)


FAULTS: tuple[Fault, ...] = (restart_nsqd, cut_all, restart_mongo, suspend_worker)
MORE_FAULTS: tuple[Fault, ...] = (cut_nsqd, cut_mongo, hang_mongo, restart_syncd)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", FAULTS + MORE_FAULTS if EXHAUSTIVE else FAULTS)
def test_a_fault_in_the_middle_of_a_job(
    site: Site, trial_host: WorkerHost, workers: Workers, base: str, fault: Fault
) -> None:
    tasks = pages(site, base, 15, takes_s=0.3)
    mirrored(trial_host)
    job = site.backend.submit(tasks)
    site.backend.until_recorded(job, 2)
    fault(site, trial_host, workers)
    document = site.backend.until_complete(job, 120)
    assert_read(site.backend, job, document, base)
    if EXHAUSTIVE:
        site.backend.until_idle(120)
        site.backend.assert_unchanged(job, document)


def test_a_message_delivered_twice_at_a_time(site: Site, trial_host: WorkerHost, workers: Workers, base: str) -> None:
    tasks = pages(site, base, 6, takes_s=0.6)
    mirrored(trial_host)
    job = site.backend.submit(tasks)
    site.backend.publish(*job.bodies)
    document = site.backend.until_complete(job)
    assert_read(site.backend, job, document, base)
    again = [*job.bodies, *reversed(job.bodies)]
    finished = _finished(site)
    site.backend.publish(*again)
    site.backend.until(lambda: _finished(site) >= finished + len(again), lambda: f"{_finished(site)} are finished")
    site.backend.assert_unchanged(job, document)


def _finished(site: Site) -> int:
    """Return how many messages of the channel have ended, copies of delayed ones included."""
    channel = site.nsqd.channels(TOPIC)[CHANNEL]
    left = channel["depth"] + channel["in_flight_count"] + channel["deferred_count"]
    return int(channel["message_count"]) - int(left)


def test_a_file_replaced_on_the_server_while_it_is_read(
    site: Site, trial_host: WorkerHost, workers: Workers, base: str
) -> None:
    (task,) = pages(site, base, 1, takes_s=2.0)
    mirrored(trial_host)
    old = (site.share.root / base / "000.jpg").read_bytes()
    job = site.backend.submit([task])
    site.backend.until(lambda: site.backend.queue()[1] == 1, lambda: "the task is in hand")
    new = page("another text", 0.0)
    put(site.share.root, f"{base}/000.jpg", new, at=10**9 + 1000)
    mirrored(trial_host)
    assert (trial_host.target / base / "000.jpg").read_bytes() == new
    document = site.backend.until_complete(job)
    site.backend.assert_complete(job, document, no_errors=True)
    (result,) = document["checkpoint"]["results"]
    made_from = {hashlib.sha256(each).hexdigest(): json.loads(each)["text"] for each in (old, new)}
    assert made_from[result["source_sha256"]] == result["full_text"].strip()


def test_a_file_that_is_not_mirrored_yet_is_fetched_on_demand(site: Site, workers: Workers, base: str) -> None:
    tasks = pages(site, base, 5, takes_s=0.0)
    job = site.backend.submit(tasks)
    document = site.backend.until_complete(job)
    assert_read(site.backend, job, document, base)


@pytest.mark.timeout(900)
def test_tasks_that_wait_for_their_files_do_not_hold_up_those_that_are_ready(
    site: Site, trial_host: WorkerHost, workers: Workers, base: str
) -> None:
    """More wait than there is room for with the workers; the server that has their files is away."""
    waiting, ready = 66, 500 if EXHAUSTIVE else 30
    tasks = pages(site, base, ready, takes_s=0.0)
    mirrored(trial_host)
    trial_host.smb.down()
    try:
        job_late = site.backend.submit(pages(site, f"{base} late", waiting, takes_s=0.0))
        site.backend.until(lambda: site.backend.queue()[0] == 0, lambda: f"all are in hand: {site.backend.queue()}")
        job = site.backend.submit(tasks)
        document = site.backend.until_complete(job, 60 + ready)  # FerretDB reads a job's document for each look at it
        assert_read(site.backend, job, document, base)
        assert site.backend.recorded(job_late) == 0
    finally:
        trial_host.smb.up()
    document = site.backend.until_complete(job_late, 120)
    assert_read(site.backend, job_late, document, f"{base} late")


@pytest.mark.timeout(180)
def test_an_engine_that_hangs_or_dies_costs_its_own_task_only(
    site: Site, trial_host: WorkerHost, workers: Workers, base: str
) -> None:
    ways = ("hang", "die", "fail")
    bad = [task for way in ways for task in pages(site, f"{base} {way}", 1, then=way)]
    good = pages(site, base, 12, takes_s=0.05)
    mirrored(trial_host)
    pids = workers.pids()
    job_bad, job = site.backend.submit(bad), site.backend.submit(good)
    document = site.backend.until_complete(job)
    assert_read(site.backend, job, document, base)
    site.backend.until(lambda: "took longer than 3s" in workers.log, lambda: "the engine that hangs is ended")
    assert workers.pids() == pids
    if EXHAUSTIVE:  # each is tried three times, with pauses
        _assert_given_up(site, job_bad)


def _assert_given_up(site: Site, job: Job) -> None:
    document = site.backend.until_complete(job, 120)
    site.backend.assert_complete(job, document)
    assert set(errors_by_index(document)) == set(range(len(job.tasks)))
    dead = [json.loads(body) for body in site.nsqd.take_all(DEAD_TOPIC, "test")]
    assert {each["file_path"] for each in dead if each.get("job_id") == job.id} == {task.path for task in job.tasks}


def _steady(site: Site, job: Job) -> int:
    """Return how many entries a job has once none are added any more: what was under way has been saved."""
    before = -1
    while (now := site.backend.recorded(job)) != before:
        before = now
        time.sleep(1.5)
    return now


def test_pause_resume_and_cancel(site: Site, trial_host: WorkerHost, workers: Workers, base: str) -> None:
    tasks = pages(site, base, 40, takes_s=0.3)
    mirrored(trial_host)
    job = site.backend.submit(tasks)
    site.backend.until_recorded(job, 2)
    site.backend.control(job, "pause")
    paused = _steady(site, job)
    time.sleep(1.5)
    assert site.backend.recorded(job) == paused < len(tasks)
    site.backend.control(job, "resume")
    site.backend.until_recorded(job, paused + 2)
    site.backend.control(job, "cancel")
    cancelled = _steady(site, job)
    if EXHAUSTIVE:  # a task for which there was no room while the job paused comes again after half a minute
        site.backend.until_idle()
    else:
        time.sleep(1.5)
    assert site.backend.recorded(job) == cancelled < len(tasks)
