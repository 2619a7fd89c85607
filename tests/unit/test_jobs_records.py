"""The guarded update as documents, tried on documents in memory as MongoDB reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from worker_glue.jobs import records
from worker_glue.jobs.documents import apply, matches
from worker_glue.model import Outcome, Task
from worker_glue.tasks import entries

NOW = datetime(2026, 2, 1, 10, 0, tzinfo=UTC)


def task(path: str, index: int | None, job_id: str = "j") -> Task:
    return Task(job_id, path, index, (), False, "single", None, None, b"")


def failed(of: Task, message_id: str = "m") -> Outcome:
    return entries.error(of, "no", message_id=message_id, worker_id="w", now=NOW)


def entered(*outcomes: Outcome, total: int = 10) -> dict[str, Any]:
    job = records.job_document("j", total, NOW)
    for each in outcomes:
        apply(job, records.update(each, NOW, records.counted(job)))
    return job


def test_the_filter_is_the_one_of_the_rules() -> None:
    assert records.guard(failed(task("/app/B/x.jpg", 3)), "id") == {
        "job_id": "j",
        "$nor": [
            {"checkpoint.results.file_index": 3, "checkpoint.results.file": "x.jpg"},
            {"checkpoint.errors.file_index": 3, "checkpoint.errors.file": "x.jpg"},
        ],
        "checkpoint.processed_message_ids": {"$ne": "id"},
        "checkpoint.processed_files": {"$ne": "/app/B/x.jpg"},
    }


def test_the_filter_of_a_task_without_index_knows_every_spelling() -> None:
    found = records.guard(task("./B/x.jpg", None), aliases=lambda _: ["smb://h/x", "/mnt/B/x.jpg"])
    assert found == {
        "job_id": "j",
        "checkpoint.processed_files": {
            "$nin": ["./B/x.jpg", "smb://h/x", "/mnt/B/x.jpg", "B/x.jpg", "/app/B/x.jpg", "/data/B/x.jpg"]
        },
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("B/x", {"B/x", "/app/B/x", "/data/B/x", "./B/x"}),
        ("/app/B/x", {"B/x", "/app/B/x", "/data/B/x", "./B/x"}),
        ("/data/./B/x", {"/data/./B/x", "B/x", "/app/B/x", "/data/B/x", "./B/x"}),
        ("/mnt/B/x", {"/mnt/B/x"}),
        ("smb://h/s/x", {"smb://h/s/x"}),
        ("\\\\h\\s\\x", {"\\\\h\\s\\x"}),
        ("/app/", {"/app/"}),
    ],
)
def test_spellings(path: str, expected: set[str]) -> None:
    found = records.spellings(path)
    assert set(found) == expected
    assert found[0] == path


def test_the_update_adds_one_entry_and_counts_it() -> None:
    outcome = failed(task("B/x.jpg", 3), "id")
    assert records.update(outcome, NOW, records.Counted(4, 10, {})) == {
        "$push": {"checkpoint.errors": outcome.entry},
        "$addToSet": {"checkpoint.processed_files": "B/x.jpg", "checkpoint.processed_message_ids": "id"},
        "$inc": {"consumed_count": 1},
        "$set": {
            "progress.current": 5,
            "progress.percentage": 50,
            "progress.total": 10,
            "progress.filename": "x.jpg",
            "updated_at": NOW,
        },
    }
    silent = failed(task("B/x.jpg", 3), "")
    assert "checkpoint.processed_message_ids" not in records.update(silent, NOW, records.Counted(0, 1, {}))["$addToSet"]
    assert "checkpoint.processed_message_ids" not in records.guard(silent, "")


def test_progress_of_jobs_that_say_little_or_nonsense() -> None:
    assert records.progress(records.Counted(5, 0, {})) == {"progress.current": 5, "progress.percentage": 0}
    assert records.progress(records.Counted(15, 10, {}))["progress.percentage"] == 100
    assert records.counted({"consumed_count": "x", "total_files": None, "published_count": 7.0, "progress": []}) == (
        0, 7, {},
    )  # fmt: skip
    assert records.counted({"consumed_count": float("nan"), "total_files": float("inf"), "published_count": -3}) == (
        0, 0, {},
    )  # fmt: skip


def test_who_is_let_in() -> None:
    job = entered(failed(task("B/x.jpg", 3), "first"))
    let_in = {
        "the same again": (failed(task("B/x.jpg", 3), "first"), False),
        "the same by another message": (failed(task("B/x.jpg", 3), "second"), False),
        "the same in another spelling": (failed(task("/app/B/x.jpg", 3), "second"), False),
        "the same name in another folder": (failed(task("C/x.jpg", 4), "second"), True),
        "the same file in another spelling, as another task": (failed(task("/app/B/x.jpg", 4), "second"), True),
        "another file by the same message": (failed(task("B/y.jpg", 5), "first"), False),
        "another": (failed(task("B/y.jpg", 5), "second"), True),
        "without an index, the same": (failed(task("/data/B/x.jpg", None), "second"), False),
        "without an index, another": (failed(task("C/x.jpg", None), "second"), True),
    }
    for name, (outcome, expected) in let_in.items():
        assert matches(job, records.guard(outcome, outcome.message_id)) is expected, name


def test_an_entry_of_an_older_worker_counts() -> None:
    job = entered()
    job["checkpoint"]["results"].append({"file": "x.jpg", "file_path": "/app/B/x.jpg", "file_index": 3})
    job["checkpoint"]["errors"].append({"file": "y.jpg", "file_path": "B/y.jpg", "error": "no"})
    job["checkpoint"]["processed_files"] += ["/app/B/x.jpg", "B/y.jpg"]
    assert not matches(job, records.guard(task("B/x.jpg", 3)))
    assert not matches(job, records.guard(task("B/y.jpg", 4)))
    assert matches(job, records.guard(task("C/y.jpg", 5)))


def test_two_elements_that_meet_one_half_each_shut_a_task_out() -> None:
    """What the dotted form costs, for a list of files that was numbered anew under the same job."""
    job = entered(failed(task("B/old.jpg", 3), "a"), failed(task("C/x.jpg", 4), "b"))
    assert not matches(job, records.guard(task("B/x.jpg", 3)))


def test_the_stand_in_for_mongodb_reads_filters_as_mongodb_does() -> None:
    job = {"a": [{"b": 1, "c": 2}, {"b": 3}], "d": ["x"], "e": {"f": None}}
    for wanted, expected in (
        ({"a.b": 1}, True),
        ({"a.b": 2}, False),
        ({"a.b": 3, "a.c": 2}, True),
        ({"d": "x"}, True),
        ({"d": {"$ne": "x"}}, False),
        ({"d": {"$nin": ["y", "z"]}}, True),
        ({"d": {"$nin": ["y", "x"]}}, False),
        ({"none.such": {"$ne": 1}}, True),
        ({"$nor": [{"a.b": 9}, {"d": "q"}]}, True),
        ({"$nor": [{"a.b": 9}, {"d": "x"}]}, False),
    ):
        assert matches(job, wanted) is expected, wanted
    with pytest.raises(ValueError, match="not known"):
        matches(job, {"d": {"$gt": 1}})
