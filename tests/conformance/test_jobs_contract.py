"""The contract of ports.Jobs: in memory, and a real server with a login behind a real socat."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.mongo import KINDS, MongoServer, start_mongo
from tests.support.socat import start_socat
from worker_glue.jobs import records
from worker_glue.jobs.link import Patience
from worker_glue.jobs.memory import MemoryJobs
from worker_glue.jobs.mongo import MongoJobs
from worker_glue.model import Kind, Outcome, Page, Recognized, SourceOf, Task
from worker_glue.ports import JobLook, Jobs, Saved
from worker_glue.tasks import entries
from worker_glue.tasks.parse import new_task, read_task

PATIENCE = Patience(connect_s=10.0, call_s=60.0)
SOURCE = SourceOf("B/x", "ab" * 32, 1_770_000_000_123, 5)
SAVERS = 8

_numbers = itertools.count()


def aliases(path: str) -> Sequence[str]:
    """Spell a path of mirror B in the ways that only a mirror's configuration knows."""
    bare = path.rpartition("B/")[2]
    return [f"/mnt/disk/B/{bare}", f"smb://host/share/{bare}", f"B/{bare}"]


class Place:
    """Where jobs are kept: a Jobs under test, and the backend's way to the same documents."""

    def __init__(self, server: MongoServer | None, port: int) -> None:
        self._server = server
        self.memory = MemoryJobs(aliases=aliases)
        self.jobs: Jobs = self.memory
        if server is not None:
            self.jobs = MongoJobs(lambda: server.uri(port=port), aliases=aliases, patience=PATIENCE)

    def put(self, job: dict[str, Any]) -> None:
        if self._server is None:
            self.memory.put(job)
        else:
            with self._server.client() as db:
                db.bulk_jobs.insert_one(job)

    def job(self, job_id: str) -> dict[str, Any]:
        if self._server is None:
            return self.memory.job(job_id)
        with self._server.client() as db:
            found: dict[str, Any] = db.bulk_jobs.find_one({"job_id": job_id})
            return found

    def new(self, total: int, **fields: Any) -> str:
        """Have a job of so many tasks; returns its id."""
        job_id = f"job-{next(_numbers)}"
        self.put(records.job_document(job_id, total, datetime.now(UTC)) | fields)
        return job_id

    def close(self) -> None:
        if isinstance(self.jobs, MongoJobs):
            self.jobs.close()


@pytest.fixture(scope="module", params=["memory", *KINDS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "memory":
        yield Place(None, 0)
    else:
        base = tmp_path_factory.mktemp("mongo")
        with start_mongo(request.param, base) as server, start_socat(server.port) as port:
            made = Place(server, port)
            yield made
            made.close()


def task(job_id: str, path: str, index: int | None) -> Task:
    found = read_task(new_task(job_id, path, index or 0, 9, now=datetime.now(UTC)))
    assert isinstance(found, Task)
    return found._replace(file_index=index)


def result(of: Task, message_id: str = "", *, text: str = "text", worker: str = "w-1") -> Outcome:
    read = Recognized((Page(1, text, 0.5, (), 1, 1),), "null", "1")
    message_id = message_id or f"{next(_numbers):016x}"
    return entries.result(
        of, read, SOURCE, message_id=message_id, worker_id=worker, took_s=1, retries=0, now=datetime.now(UTC)
    )


def error(of: Task, message_id: str = "") -> Outcome:
    message_id = message_id or f"{next(_numbers):016x}"
    return entries.error(of, "no", message_id=message_id, worker_id="w-1", now=datetime.now(UTC))


def all_at_once(calls: Sequence[Callable[[], Saved]]) -> list[Saved]:
    gate = threading.Barrier(SAVERS)

    def mine(number: int) -> list[Saved]:
        gate.wait(30)
        return [call() for call in calls[number::SAVERS]]

    with ThreadPoolExecutor(SAVERS) as pool:
        return [saved for found in pool.map(mine, range(SAVERS)) for saved in found]


def assert_complete(job: dict[str, Any], total: int) -> None:
    """The backend's rule, and what people see."""
    checkpoint = job["checkpoint"]
    assert job["consumed_count"] == job["published_count"] == total
    assert len(checkpoint["results"]) + len(checkpoint["errors"]) == total
    shown = {name: job["progress"][name] for name in ("current", "total", "percentage")}
    assert shown == {"current": total, "total": total, "percentage": 100}


def test_a_result_is_recorded_once_whatever_comes_again(place: Place) -> None:
    job_id = place.new(2)
    one = task(job_id, "/app/B/a  b/Patra 3, (2) .JPG", 0)
    assert place.jobs.look(one) == JobLook("processing", True)
    saved = result(one, "0000000000000001", text="नमस्ते\n\nworld")
    assert place.jobs.save(saved) is Saved.RECORDED
    assert place.jobs.look(one) == JobLook("processing", False)
    assert place.jobs.save(saved) is Saved.DONE_BEFORE
    assert place.jobs.save(result(one, "0000000000000002")) is Saved.DONE_BEFORE
    assert place.jobs.save(error(one)) is Saved.DONE_BEFORE
    job = place.job(job_id)
    assert job["checkpoint"]["results"] == [saved.entry]
    assert job["checkpoint"]["errors"] == []
    assert job["checkpoint"]["processed_files"] == ["/app/B/a  b/Patra 3, (2) .JPG"]
    assert job["checkpoint"]["processed_message_ids"] == ["0000000000000001"]
    assert job["consumed_count"] == 1
    assert job["progress"] == {"current": 1, "total": 2, "percentage": 50, "filename": "Patra 3, (2) .JPG"}
    assert job["updated_at"] >= job["created_at"]


def test_whoever_looked_before_the_others_saved_leaves_no_progress_behind(place: Place) -> None:
    total = 40
    job_id = place.new(total)
    tasks = [task(job_id, f"B/{n}.jpg", n) for n in range(total)]
    assert all(place.jobs.look(each).open for each in tasks)
    saved = all_at_once([lambda each=each: place.jobs.save(result(each)) for each in tasks])  # type: ignore[misc]
    assert saved == [Saved.RECORDED] * total
    assert_complete(place.job(job_id), total)


def test_threads_that_look_together_hear_what_each_would_hear(place: Place) -> None:
    job_id, total = place.new(24), 24
    tasks = [task(job_id, f"B/{n}.jpg", n if n % 2 else None) for n in range(total)]
    for done in (set[int](), {5, 6}):
        for n in done:
            assert place.jobs.save(result(tasks[n])) is Saved.RECORDED
        with ThreadPoolExecutor(SAVERS) as pool:
            looks = list(pool.map(place.jobs.look, tasks))
        assert looks == [JobLook("processing", n not in done) for n in range(total)]
    unknown = [task("nobody-knows", f"B/{n}.jpg", n) for n in range(SAVERS)]
    with ThreadPoolExecutor(SAVERS) as pool:
        assert list(pool.map(place.jobs.look, unknown)) == [JobLook(None, False)] * SAVERS


def test_an_error_is_an_entry_like_a_result(place: Place) -> None:
    job_id = place.new(2)
    one, other = task(job_id, "B/x.jpg", 0), task(job_id, "B/y.jpg", 1)
    failed = error(one)
    assert place.jobs.save(failed) is Saved.RECORDED
    assert place.jobs.save(result(one)) is Saved.DONE_BEFORE
    assert place.jobs.save(result(other)) is Saved.RECORDED
    job = place.job(job_id)
    assert job["checkpoint"]["errors"] == [failed.entry]
    assert job["checkpoint"]["errors"][0]["file_index"] == 0
    assert_complete(job, 2)


def test_fifty_savers_of_one_task_leave_one_entry(place: Place) -> None:
    job_id = place.new(1)
    one = task(job_id, "B/x.jpg", 0)
    outcomes = [result(one, worker=f"w-{n}") if n % 2 else error(one) for n in range(50)]
    found = all_at_once([lambda outcome=outcome: place.jobs.save(outcome) for outcome in outcomes])  # type: ignore[misc]
    assert found.count(Saved.RECORDED) == 1
    assert found.count(Saved.DONE_BEFORE) == 49
    assert_complete(place.job(job_id), 1)


def test_a_job_ends_at_a_hundred_percent_whoever_comes_last(place: Place) -> None:
    job_id = place.new(40)
    tasks = [task(job_id, f"B/{'ab'[n % 2]}/{n // 2}.jpg", n) for n in range(40)]  # each name in two folders
    outcomes = [result(each) if n % 3 else error(each) for n, each in enumerate(tasks)]
    outcomes += [result(each) for each in tasks]
    random.Random(7).shuffle(outcomes)
    found = all_at_once([lambda outcome=outcome: place.jobs.save(outcome) for outcome in outcomes])  # type: ignore[misc]
    assert found.count(Saved.RECORDED) == 40
    assert_complete(place.job(job_id), 40)


def test_two_tasks_of_one_name_both_have_their_entry(place: Place) -> None:
    job_id = place.new(2)
    for index, path in enumerate(("B/a/x.jpg", "B/b/x.jpg")):
        each = task(job_id, path, index)
        assert place.jobs.look(each).open
        assert place.jobs.save(result(each)) is Saved.RECORDED
    assert_complete(place.job(job_id), 2)


def test_one_file_in_two_spellings_is_two_tasks(place: Place) -> None:
    job_id = place.new(3)
    for index, path in enumerate(("B/a/x.jpg", "/app/B/a/x.jpg", "./B/a/x.jpg")):
        assert place.jobs.save(result(task(job_id, path, index))) is Saved.RECORDED
    assert_complete(place.job(job_id), 3)


def test_a_task_in_another_spelling_is_the_same_task(place: Place) -> None:
    job_id = place.new(1)
    assert place.jobs.save(result(task(job_id, "B/a/x.jpg", 0))) is Saved.RECORDED
    assert place.jobs.save(result(task(job_id, "/app/B/a/x.jpg", 0))) is Saved.DONE_BEFORE
    assert not place.jobs.look(task(job_id, "/data/B/a/x.jpg", 0)).open


@pytest.mark.parametrize("first", ["B/x.jpg", "/app/B/x.jpg", "/data/B/x.jpg", "/mnt/disk/B/x.jpg", "./B/x.jpg"])
def test_a_task_without_index_is_known_in_every_spelling(place: Place, first: str) -> None:
    job_id = place.new(2)
    assert place.jobs.save(result(task(job_id, first, None))) is Saved.RECORDED
    for again in ("B/x.jpg", "/app/B/x.jpg", "/data/B/x.jpg", "/mnt/disk/B/x.jpg"):
        assert place.jobs.save(error(task(job_id, again, None))) is Saved.DONE_BEFORE, again
        assert not place.jobs.look(task(job_id, again, None)).open
    assert place.jobs.save(result(task(job_id, "B/other/x.jpg", None))) is Saved.RECORDED
    assert_complete(place.job(job_id), 2)


def test_a_message_that_was_answered_is_not_answered_again(place: Place) -> None:
    job_id = place.new(2)
    assert place.jobs.save(result(task(job_id, "B/x.jpg", 0), "00000000000000aa")) is Saved.RECORDED
    assert place.jobs.save(result(task(job_id, "B/y.jpg", 1), "00000000000000aa")) is Saved.DONE_BEFORE
    assert place.jobs.save(result(task(job_id, "B/y.jpg", 1), "00000000000000ab")) is Saved.RECORDED


def test_what_older_workers_recorded_counts(place: Place) -> None:
    old = {"file": "x.jpg", "file_path": "/app/B/x.jpg", "file_index": 0, "status": "success", "text": "old"}
    failed = {"file": "y.jpg", "file_path": "B/y.jpg", "error": "old"}
    checkpoint = {
        "results": [old],
        "errors": [failed],
        "processed_files": ["/app/B/x.jpg", "B/y.jpg"],
        "processed_message_ids": ["00000000000000a1"],
    }
    job_id = place.new(3, consumed_count=2, checkpoint=checkpoint)
    assert place.jobs.save(result(task(job_id, "B/x.jpg", 0))) is Saved.DONE_BEFORE
    assert place.jobs.save(result(task(job_id, "B/y.jpg", 1))) is Saved.DONE_BEFORE
    assert place.jobs.save(result(task(job_id, "C/y.jpg", 2))) is Saved.RECORDED
    assert_complete(place.job(job_id), 3)


def test_a_job_that_there_is_not(place: Place) -> None:
    nobodys = task("no such job", "B/x.jpg", 0)
    assert place.jobs.look(nobodys) == JobLook(None, False)
    assert place.jobs.status("no such job") is None
    assert place.jobs.save(result(nobodys)) is Saved.NO_JOB
    assert place.jobs.save(error(task("no such job", "B/x.jpg", None))) is Saved.NO_JOB


@pytest.mark.parametrize("status", ["paused", "cancelled", "completed", "error", "something new"])
def test_a_jobs_status_is_told_and_hinders_no_result(place: Place, status: str) -> None:
    job_id = place.new(1, status=status)
    one = task(job_id, "B/x.jpg", 0)
    assert place.jobs.status(job_id) == status
    assert place.jobs.look(one) == JobLook(status, True)
    assert place.jobs.save(result(one)) is Saved.RECORDED
    assert place.jobs.look(one) == JobLook(status, False)


def test_odd_names_and_large_numbers_come_back(place: Place) -> None:
    odd = [
        "$x.y",
        "a.b/$set",
        "हिन्दी/पत्र .JPG",
        "e\u0301",
        "é",
        "\U0001f600",
        "quote\"'\\",
        "{}",
        " lead",
        "%41",
        "a\tb",
    ]
    job_id = place.new(len(odd))
    for index, name in enumerate(odd):
        each = task(job_id, f"B/{name}", index)._replace(file_index=(1 << 62) + index)
        assert place.jobs.save(result(each)) is Saved.RECORDED
        assert place.jobs.save(result(each)) is Saved.DONE_BEFORE
    job = place.job(job_id)
    assert [each["file_path"] for each in job["checkpoint"][Kind.RESULT.value]] == [f"B/{name}" for name in odd]
    assert_complete(job, len(odd))


def test_a_job_document_that_lacks_everything_takes_entries(place: Place) -> None:
    job_id = f"job-{next(_numbers)}"
    place.put({"job_id": job_id})
    one = task(job_id, "B/x.jpg", 0)
    assert place.jobs.look(one) == JobLook("", True)
    assert place.jobs.save(result(one)) is Saved.RECORDED
    assert place.jobs.save(result(one)) is Saved.DONE_BEFORE
    assert place.job(job_id)["consumed_count"] == 1
