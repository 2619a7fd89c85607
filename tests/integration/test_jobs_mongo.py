"""MongoDB as a worker meets it: away, hanging, refusing, full; and what operators and status pages ask of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, WriteError

from bench import saving
from tests.support.mongo import KINDS, Login, MongoServer, start_mongo
from tests.support.ports import free_port
from tests.support.socat import start_socat
from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.jobs import link as linking
from worker_glue.jobs import records
from worker_glue.jobs.desk import TASKS_A_DOCUMENT, EntrySource, JobDesk
from worker_glue.jobs.link import Link, Patience
from worker_glue.jobs.mongo import FAR_FROM_THE_END, FRESH_S, REMEMBERED, Fresh, MongoJobs
from worker_glue.jobs.workers import Heartbeats
from worker_glue.model import Kind, Outcome, Page, Recognized, SourceOf, Task
from worker_glue.ports import Saved
from worker_glue.tasks import entries

PATIENCE = Patience(connect_s=2.0, call_s=3.0)
BOUND_S = 30.0
NOW = datetime(2026, 2, 1, 10, 0, tzinfo=UTC)

_numbers = itertools.count()


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as started:
        yield started


@pytest.fixture(scope="module")
def port(server: MongoServer) -> Iterator[int]:
    with start_socat(server.port) as listening:
        yield listening


@pytest.fixture
def jobs(server: MongoServer, port: int) -> Iterator[MongoJobs]:
    made = MongoJobs(lambda: server.uri(port=port), where="the secret", patience=PATIENCE)
    yield made
    made.close()


def new_job(jobs: MongoJobs, total: int = 3) -> str:
    job_id = f"job-{next(_numbers)}"
    assert JobDesk(jobs.link).create(job_id, total)
    return job_id


def result(job_id: str, index: int = 0, *, text: str = "text", sha256: str = "ab" * 32) -> Outcome:
    task = Task(job_id, f"B/{index}.jpg", index, ("hi",), True, "single", "chrome_lens", None, b"")
    read = Recognized((Page(1, text, 0.5, (), 1, 1),), "null", "1")
    source = SourceOf(f"B/{index}.jpg", sha256, 1_770_000_000_123, 5)
    return entries.result(
        task, read, source, message_id=f"{next(_numbers):016x}", worker_id="w-1", took_s=1, retries=0, now=NOW
    )


def error(job_id: str, index: int) -> Outcome:
    task = Task(job_id, f"B/{index}.jpg", index, (), False, "single", None, None, b"")
    return entries.error(task, "no", message_id=f"{next(_numbers):016x}", worker_id="w-1", now=NOW)


def stored(server: MongoServer, job_id: str) -> dict[str, Any]:
    with server.client() as db:
        found: dict[str, Any] = db.bulk_jobs.find_one({"job_id": job_id})
        return found


# --- faults


def test_away_is_said_in_time_and_over_by_itself(server: MongoServer, jobs: MongoJobs) -> None:
    job_id = new_job(jobs)
    server.kill()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(JobsAway):
            jobs.save(result(job_id))
    with pytest.raises(JobsAway):
        jobs.status(job_id)
    assert time.monotonic() - began < BOUND_S
    server.start()
    assert jobs.save(result(job_id)) is Saved.RECORDED


def test_hanging_ends_by_the_deadline_for_all_threads(server: MongoServer, jobs: MongoJobs) -> None:
    job_id = new_job(jobs)
    server.suspend()
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(jobs.save, result(job_id, n)) for n in range(12)]
            assert all(isinstance(each.exception(BOUND_S), JobsAway) for each in asked)
        assert time.monotonic() - began < BOUND_S
    finally:
        server.resume()
    found = jobs.save(result(job_id, 1))
    assert found in (Saved.RECORDED, Saved.DONE_BEFORE)  # what was sent while it hung may have arrived after all
    assert jobs.save(result(job_id, 1)) is Saved.DONE_BEFORE


def test_a_proxy_that_was_started_anew_is_not_noticed(server: MongoServer) -> None:
    listening = free_port()
    with start_socat(server.port, listening):
        jobs = MongoJobs(lambda: server.uri(port=listening), patience=PATIENCE)
        job_id = new_job(jobs)
    with start_socat(server.port, listening):
        assert jobs.save(result(job_id)) is Saved.RECORDED
    assert jobs.link.connections == 2
    jobs.close()


def test_an_answer_that_was_lost_is_no_second_entry(
    server: MongoServer, jobs: MongoJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = new_job(jobs)
    update_one = Collection.update_one
    failures = [AutoReconnect("connection closed"), AutoReconnect("connection closed")]

    def losing(self: Any, *args: Any, **more: Any) -> Any:
        done = update_one(self, *args, **more)
        if failures:
            raise failures.pop()
        return done

    monkeypatch.setattr(Collection, "update_one", losing)
    with pytest.raises(JobsAway):
        for _ in range(2):
            jobs.save(result(job_id))
    assert jobs.save(result(job_id)) is Saved.DONE_BEFORE
    assert stored(server, job_id)["consumed_count"] == 1


def test_an_entry_larger_than_any_document_is_too_large_and_hinders_nothing(jobs: MongoJobs) -> None:
    job_id = new_job(jobs, 1)
    large = result(job_id, text="x" * (17 << 20))
    assert jobs.save(large) is Saved.TOO_LARGE
    assert jobs.save(entries.too_large(large, host="h", now=NOW)) is Saved.RECORDED
    progress = JobDesk(jobs.link).progress(job_id)
    assert progress is not None
    assert (progress.complete, progress.errors) == (True, 1)
    assert jobs.link.connections == 1


@pytest.mark.parametrize("code", [17419, 10334])
def test_a_document_that_is_full_is_too_large(
    server: MongoServer, jobs: MongoJobs, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    job_id = new_job(jobs)

    def full(*_: Any, **__: Any) -> Any:
        raise WriteError("x", code, {"errmsg": "Resulting document after update is larger than 16777216"})

    monkeypatch.setattr(Collection, "update_one", full)
    assert jobs.save(result(job_id)) is Saved.TOO_LARGE
    assert stored(server, job_id)["consumed_count"] == 0


def test_a_document_of_another_form_takes_no_entry_and_the_next_job_does(server: MongoServer, jobs: MongoJobs) -> None:
    bad, good = new_job(jobs), new_job(jobs)
    with server.client() as db:
        db.bulk_jobs.update_one({"job_id": bad}, {"$set": {"checkpoint.results": "none yet"}})
    assert jobs.save(result(bad)) is Saved.WRONG_FORM
    assert jobs.save(result(good)) is Saved.RECORDED
    assert jobs.link.connections == 1


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        "checkpoint.results",
        "checkpoint.errors",
        "checkpoint.processed_files",
        "checkpoint.processed_message_ids",
        "progress",
        "consumed_count",
    ],
)
def test_a_field_that_is_null_counts_as_one_that_is_not_there(server: MongoServer, jobs: MongoJobs, name: str) -> None:
    job_id = new_job(jobs)
    with server.client() as db:
        db.bulk_jobs.update_one({"job_id": job_id}, {"$set": {name: None}})
    wanted = error(job_id, 0) if name == "checkpoint.errors" else result(job_id)
    assert jobs.save(wanted) is Saved.RECORDED
    assert jobs.save(wanted) is Saved.DONE_BEFORE
    job = stored(server, job_id)
    checkpoint = job["checkpoint"]
    assert len(checkpoint.get("results") or ()) + len(checkpoint.get("errors") or ()) == 1
    assert checkpoint["processed_files"] == ["B/0.jpg"]
    assert (job["consumed_count"], job["progress"]["current"]) == (1, 1)


def test_what_is_recorded_stays_when_another_field_is_null(server: MongoServer, jobs: MongoJobs) -> None:
    job_id = new_job(jobs)
    assert jobs.save(result(job_id)) is Saved.RECORDED
    with server.client() as db:
        db.bulk_jobs.update_one({"job_id": job_id}, {"$set": {"checkpoint.processed_message_ids": None}})
    assert jobs.save(result(job_id, 1)) is Saved.RECORDED
    assert [each["file_index"] for each in stored(server, job_id)["checkpoint"]["results"]] == [0, 1]


# --- logging in


def test_a_refused_login_is_not_hammered_and_a_new_secret_is_read(server: MongoServer, port: int) -> None:
    wrong = Login(server.login.user, "wr0ng!")
    uris = [server.uri(port=port, login=wrong)]
    tries: list[object] = []
    link = Link(lambda: uris[-1], where="the secret", patience=PATIENCE)
    original = link._log_in
    link._log_in = lambda *args: tries.append(args) or original(*args)  # type: ignore[assignment,func-returns-value]
    for _ in range(5):
        with pytest.raises(JobsRefused) as caught:
            link.call(lambda db: db.command("ping"))
        assert "login refused" in caught.value.message
        assert "the secret" in caught.value.hint
        assert "wr0ng" not in caught.value.message + caught.value.hint
    assert len(tries) == 1
    uris.append(server.uri(port=port))
    link.call(lambda db: db.command("ping"))
    assert len(tries) == 2
    link.close()


def test_an_hour_later_it_is_tried_again(server: MongoServer, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(lambda: server.uri(port=port, login=Login("nobody", "x")), patience=PATIENCE)
    monkeypatch.setattr(linking, "REFUSED_FOR_S", -1.0)
    tries: list[object] = []
    original = link._log_in
    link._log_in = lambda *args: tries.append(args) or original(*args)  # type: ignore[assignment,func-returns-value]
    for _ in range(2):
        with pytest.raises(JobsRefused):
            link.call(lambda db: db.command("ping"))
    assert len(tries) == 2
    link.close()


def test_a_uri_that_does_not_say_where_the_user_is_kept_is_tried_with_admin(server: MongoServer, port: int) -> None:
    if server.kind == "ferretdb":
        pytest.skip("FerretDB keeps one list of users for all databases")
    warnings: list[str] = []
    link = Link(lambda: server.uri(port=port, auth_source=""), warn=warnings.append, patience=PATIENCE)
    link.call(lambda db: db.command("ping"))
    assert "authSource=admin" in warnings[0]
    link.close()


def test_admin_is_tried_once_and_said_once(server: MongoServer, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, where the server does not make the difference: the first refusal is made up."""
    warnings: list[str] = []
    link = Link(lambda: server.uri(port=port, auth_source=""), where="env MONGO_URI", warn=warnings.append)
    original, tried = link._log_in, []

    def log_in(uri: Any, before: str = "") -> Any:
        tried.append(uri.auth_source)
        if not uri.auth_source:
            login = Login("nobody", "x")
            return original(uri._replace(user=login.user, password=login.password), before)
        return original(uri, before)

    monkeypatch.setattr(link, "_log_in", log_in)
    for _ in range(2):
        link.call(lambda db: db.command("ping"))
        link._give_up(link._session)  # type: ignore[arg-type]
    assert tried == ["", "admin", "admin"]
    assert len(warnings) == 1
    assert "authSource=admin" in warnings[0]
    assert server.login.password not in warnings[0]
    link.close()


def test_closing_ends_no_call_of_another_thread(jobs: MongoJobs) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def work(db: Any) -> Any:
        inside.set()
        assert go_on.wait(BOUND_S)
        return db.command("ping")["ok"]

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(jobs.link.call, work)
        assert inside.wait(BOUND_S)
        jobs.close()
        jobs.close()
        with pytest.raises(JobsAway):
            jobs.status("x")
        go_on.set()
        assert asked.result(BOUND_S) == 1.0


# --- what operators and status pages ask


def test_a_job_is_made_once_and_counted(server: MongoServer, jobs: MongoJobs) -> None:
    desk, job_id = JobDesk(jobs.link), f"job-{next(_numbers)}"
    assert desk.progress(job_id) is None
    assert desk.create(job_id, 3, {"folder_path": "B/a", "retry_of": "x"})
    assert not desk.create(job_id, 9)
    job = stored(server, job_id)
    assert (job["total_files"], job["folder_path"], job["retry_of"], job["status"]) == (3, "B/a", "x", "processing")
    for index in range(3):
        progress = desk.progress(job_id)
        assert progress is not None
        assert not progress.complete
        jobs.save(error(job_id, index) if index == 1 else result(job_id, index))
    progress = desk.progress(job_id)
    assert progress is not None
    assert progress.complete
    assert progress[1:7] == ("processing", 3, 3, 3, 2, 1)
    assert next(iter(desk.recent(5))).job_id == job_id


def test_entries_and_sources_are_listed_without_texts(jobs: MongoJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, job_id = JobDesk(jobs.link), new_job(jobs)
    for outcome in (result(job_id, 2, text="x" * 100_000), error(job_id, 1), result(job_id, 0, sha256="")):
        assert jobs.save(outcome) is Saved.RECORDED
    fetched: list[Any] = []
    find_one = Collection.find_one
    monkeypatch.setattr(
        Collection, "find_one", lambda *args, **more: fetched.append(find_one(*args, **more)) or fetched[-1]
    )
    listed = [(each.kind, each.file_index, each.file, each.file_path, each.error) for each in desk.entries(job_id)]
    assert listed == [
        (Kind.RESULT, 2, "2.jpg", "B/2.jpg", None),
        (Kind.RESULT, 0, "0.jpg", "B/0.jpg", None),
        (Kind.ERROR, 1, "1.jpg", "B/1.jpg", "no"),
    ]
    first = next(iter(desk.entries(job_id)))
    assert (first.languages, first.handwriting, first.provider) == (("hi",), True, "chrome_lens")
    sources = [
        EntrySource(job_id, 2, "B/2.jpg", "ab" * 32, 1_770_000_000_123),
        EntrySource(job_id, 0, "B/0.jpg", "", 0),
    ]
    assert list(desk.sources(job_id)) == sources
    assert [each for each in desk.sources() if each.job_id == job_id] == sources
    assert "xxx" not in str(fetched)
    assert list(desk.entries("no such job")) == list(desk.sources("no such job")) == []


def test_jobs_of_others_are_read_with_tolerance(server: MongoServer, jobs: MongoJobs) -> None:
    desk, job_id = JobDesk(jobs.link), f"job-{next(_numbers)}"
    odd = {"results": [{"file": 5}, "x", {}], "errors": None}
    with server.client() as db:
        db.bulk_jobs.insert_one({"job_id": job_id, "total_files": "many", "checkpoint": odd})
        db.bulk_jobs.insert_one({"no": "job_id"})
    progress = desk.progress(job_id)
    assert progress is not None
    assert progress[1:5] == ("", 0, 0, 0)
    assert progress.results >= 2
    assert {each.file_path for each in desk.entries(job_id)} == {""}
    assert job_id in {each.job_id for each in desk.sources()}
    assert job_id in {each.job_id for each in desk.recent()}


def test_the_tasks_of_a_job_are_kept_however_many(jobs: MongoJobs) -> None:
    desk, job_id = JobDesk(jobs.link), f"job-{next(_numbers)}"
    tasks = [{"file_path": f"B/{n} .jpg", "languages": ["hi"]} for n in range(2 * TASKS_A_DOCUMENT + 1)]
    desk.keep_tasks(job_id, tasks)
    desk.keep_tasks(job_id, tasks)
    assert desk.kept_tasks(job_id) == tasks
    assert desk.kept_tasks("no such job") == []


def test_workers_are_shown_until_they_go(server: MongoServer, jobs: MongoJobs) -> None:
    here, there = Heartbeats(jobs.link, "host-a"), Heartbeats(jobs.link, "host-b")
    worker = {"worker_id": "tod-mac-1", "state": "ocr", "task": "B/x.jpg", "since": NOW, "pid": 7, "done": 3}
    here.beat(worker)
    there.beat(worker)
    here.beat({**worker, "state": "idle", "task": None, "at": "mine", "_id": "mine"})
    mine, other = here.workers()
    assert (mine["_id"], mine["host"], mine["state"], mine["task"]) == ("host-a/tod-mac-1", "host-a", "idle", None)
    assert (other["_id"], other["state"], other["since"]) == ("host-b/tod-mac-1", "ocr", NOW)
    assert abs((mine["at"] - datetime.now(UTC)).total_seconds()) < 600
    here.gone("tod-mac-1")
    here.gone("tod-mac-1")
    assert [each["_id"] for each in there.workers()] == ["host-b/tod-mac-1"]


def test_a_save_writes_with_majority_and_journal(jobs: MongoJobs) -> None:
    concern = jobs.link.call(lambda db: db[records.COLLECTION].write_concern.document)
    assert (concern["w"], concern.get("journal", concern.get("j"))) == ("majority", True)


def test_a_save_after_a_look_is_one_update_until_the_job_comes_to_its_end(
    server: MongoServer, jobs: MongoJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_glue.jobs.mongo.FRESH_S", 600.0)
    job_id = new_job(jobs, 12)
    asked: list[str] = []
    find_one = Collection.find_one
    monkeypatch.setattr(Collection, "find_one", lambda *args, **more: asked.append("find") or find_one(*args, **more))
    for number in range(12):
        task = Task(job_id, f"B/{number}.jpg", number, (), False, "single", None, None, b"")
        assert jobs.look(task).open
        asked.clear()
        assert jobs.save(result(job_id, number)) is Saved.RECORDED
        assert bool(asked) is (number >= 12 - FAR_FROM_THE_END)
    monkeypatch.undo()
    job = stored(server, job_id)
    assert (job["consumed_count"], job["progress"]["current"], job["progress"]["percentage"]) == (12, 12, 100)


def test_counters_that_are_old_are_read_again() -> None:
    now = [0.0]
    fresh = Fresh(lambda: now[0])
    fresh.remember("job", records.Counted(3, 100, {}))
    fresh.advance("job")
    assert fresh.remembered("job") == records.Counted(4, 100, {})
    now[0] = FRESH_S + 1
    fresh.advance("job")
    assert fresh.remembered("job") is None
    assert fresh.remembered("another") is None
    for number in range(REMEMBERED):
        fresh.remember(str(number), records.Counted(0, 9, {}))
    now[0] = 0
    assert fresh.remembered("job") is None


def test_a_uri_cannot_turn_acknowledgement_off(server: MongoServer, port: int) -> None:
    link = Link(lambda: server.uri(port=port, w="0", journal="false"), patience=PATIENCE)
    assert link.call(lambda db: db[records.COLLECTION].write_concern.acknowledged)
    assert link.call(lambda db: db[records.COLLECTION].write_concern.document["w"]) == "majority"
    link.close()


def test_the_bytes_of_a_save_do_not_grow_with_the_job(tmp_path: Path) -> None:
    curve = saving.measure(tmp_path, (1, 2, 60))
    assert curve.reached, curve
    sent = curve.points[0].save_sent
    assert curve.entry_bytes < sent < 2 * curve.entry_bytes + 2_000
    assert curve.last is not None
    assert curve.as_json()["same"] is True


def test_importing_the_pure_parts_loads_no_driver(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = "import worker_glue.jobs.memory, worker_glue.tasks.entries, sys; print('pymongo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False", tmp_path
