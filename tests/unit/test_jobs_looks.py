"""Looks of several threads, in one query where that can answer them all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker_glue.errors import JobsAway
from worker_glue.jobs import records
from worker_glue.jobs.looks import TOGETHER, Looks
from worker_glue.model import Task
from worker_glue.ports import JobLook

OPEN, DONE = JobLook("processing", True), JobLook("processing", False)
THREADS = 21


def task(number: int, job_id: str = "job") -> Task:
    return Task(job_id, f"B/{number}.jpg", number, (), False, "single", None, None, b"")


class Jobs:
    """Answers once `go_on` is set. done: tasks that have an entry; away: how many queries fail first."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.done: set[int] = set()
        self.away = 0
        self.alone: list[int | None] = []
        self.together: list[list[int | None]] = []
        self.looks = Looks(self._alone, self._together)

    def _alone(self, one: Task) -> JobLook:
        self._query()
        self.alone.append(one.file_index)
        return DONE if one.file_index in self.done else OPEN

    def _together(self, tasks: Sequence[Task]) -> JobLook | None:
        self._query()
        assert len({each.job_id for each in tasks}) == 1
        self.together.append([each.file_index for each in tasks])
        return None if any(each.file_index in self.done for each in tasks) else OPEN

    def _query(self) -> None:
        assert self.go_on.wait(20)
        if self.away:
            self.away -= 1
            raise JobsAway("away", hint="wait")

    def all_at_once(self, tasks: Sequence[Task]) -> list[JobLook | JobsAway]:
        """Look from a thread each, with the first query answered when all of them wait."""

        def look(one: Task) -> JobLook | JobsAway:
            try:
                return self.looks.look(one)
            except JobsAway as error:
                return error

        with ThreadPoolExecutor(len(tasks)) as pool:
            answers = [pool.submit(look, each) for each in tasks]
            while len(self.looks._waiting) < len(tasks) - 1:
                pass
            self.go_on.set()
            return [answer.result(20) for answer in answers]


def test_those_that_wait_are_asked_about_in_one_query() -> None:
    jobs = Jobs()
    assert jobs.all_at_once([task(number) for number in range(THREADS)]) == [OPEN] * THREADS
    assert sorted(number or 0 for group in [jobs.alone, *jobs.together] for number in group) == list(range(THREADS))
    assert len(jobs.together) <= 3
    assert all(len(group) <= TOGETHER for group in jobs.together)


def test_where_one_is_done_each_hears_its_own_answer() -> None:
    jobs = Jobs()
    jobs.done = {3, 7}
    answers = jobs.all_at_once([task(number) for number in range(THREADS)])
    assert answers == [DONE if number in jobs.done else OPEN for number in range(THREADS)]


def test_jobs_are_asked_about_apart() -> None:
    jobs = Jobs()
    assert jobs.all_at_once([task(number, f"job-{number % 3}") for number in range(9)]) == [OPEN] * 9


def test_one_failure_is_everybodys_who_waits() -> None:
    jobs = Jobs()
    jobs.away = 1
    answers = jobs.all_at_once([task(number) for number in range(THREADS)])
    failed = [answer for answer in answers if isinstance(answer, JobsAway)]
    assert len(failed) == THREADS
    assert len(set(map(id, failed))) == THREADS, "each has its own traceback"
    assert jobs.looks.look(task(1)) == OPEN


def test_one_thread_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_glue.jobs.looks.time.sleep", lambda _: pytest.fail("there is nobody to wait for"))
    jobs = Jobs()
    jobs.go_on.set()
    assert [jobs.looks.look(task(number)) for number in range(3)] == [OPEN] * 3
    assert not jobs.together


def test_the_filter_has_all_guards() -> None:
    guards = [records.guard(task(number)) for number in range(2)]
    assert records.guard_all("job", guards) == {
        "job_id": "job",
        "$and": [{name: each[name] for name in each if name != "job_id"} for each in guards],
    }
