"""The worker's MongoDB side without a server: what errors mean, what is dialled, and the jobs in memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)

from syncd.core.errors import ConfigError
from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.jobs import records
from worker_glue.jobs.errors import is_broken, translated, why_no_entry
from worker_glue.jobs.link import Link, Patience
from worker_glue.jobs.memory import MemoryJobs
from worker_glue.model import Task
from worker_glue.ports import JobLook, Saved
from worker_glue.tasks import entries

SECRET = "s3cr@t"
NOW = datetime(2026, 2, 1, tzinfo=UTC)
TASK = Task("j", "B/x.jpg", 0, (), False, "single", None, None, b"")
HASTY = Patience(connect_s=0.3, call_s=0.5)

ERRORS: list[tuple[Exception, type[JobsAway | JobsRefused], str]] = [
    (OperationFailure("x", 18, {"errmsg": "Authentication failed."}), JobsRefused, "Authentication failed. code 18"),
    (OperationFailure("x", 8000, {"errmsg": "bad auth"}), JobsRefused, "login refused"),
    (OperationFailure("x", 13, {"errmsg": "not authorized on gvpocr"}), JobsRefused, "not authorized on gvpocr"),
    (OperationFailure("x", 73, {"errmsg": "Invalid namespace"}), JobsRefused, "name of the database"),
    (WriteError("x", 2, {"errmsg": "must be an array"}), JobsRefused, "must be an array code 2"),
    (WriteError("x", 28, {"errmsg": "Cannot create field"}), JobsRefused, "does not take"),
    (OperationFailure("x", 11600, {"errmsg": "interrupted at shutdown"}), JobsAway, "interrupted at shutdown"),
    (OperationFailure("x"), JobsAway, "it failed"),
    (ExecutionTimeout("x", 50, {"errmsg": "operation exceeded time limit"}), JobsAway, "no answer in time"),
    (WriteConcernError("x", 100, {"errmsg": "Not enough data-bearing nodes"}), JobsAway, "majority"),
    (WTimeoutError("x", 64, {"errmsg": "waiting for replication timed out"}), JobsAway, "majority"),
    (NotPrimaryError("x"), JobsAway, "not the primary"),
    (NetworkTimeout("x"), JobsAway, "no answer in time"),
    (ServerSelectionTimeoutError("x"), JobsAway, "no answer in time"),
    (AutoReconnect("x"), JobsAway, "connection breaks"),
    (InvalidOperation("x"), JobsAway, "was closed"),
    (ConfigurationError("x"), JobsRefused, "connection string"),
    (InvalidName("x"), JobsRefused, "name of the database"),
    (InvalidDocument("x"), JobsRefused, "has no form"),
    (OverflowError("MongoDB can only handle up to 8-byte ints"), JobsRefused, "has no form"),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), JobsRefused, "has no form"),
    (PyMongoError("x"), JobsAway, "it failed"),
    (ConnectionResetError(104, "x"), JobsAway, "errno 104"),
]


@pytest.mark.parametrize(("raised", "kind", "said"), ERRORS)
def test_what_the_driver_raises_means_one_of_two_things(
    raised: Exception, kind: type[JobsAway | JobsRefused], said: str
) -> None:
    with pytest.raises(kind) as caught, translated("h:1"):
        raise raised
    assert "MongoDB at h:1: " in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint
    assert caught.value.__cause__ is raised


def test_a_bug_is_not_taken_for_mongodb() -> None:
    with pytest.raises(KeyError), translated("h:1"):
        raise KeyError("x")


def test_what_the_driver_says_may_repeat_the_uri_and_is_left_out() -> None:
    for raised in (AutoReconnect(f"mongodb://u:{SECRET}@h"), ConfigurationError(SECRET), PyMongoError(SECRET)):
        with pytest.raises((JobsAway, JobsRefused)) as caught, translated("h:1"):
            raise raised
        assert SECRET not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DocumentTooLarge("BSON document too large"), Saved.TOO_LARGE),
        (
            WriteError("x", 17419, {"errmsg": "Resulting document after update is larger than 16777216"}),
            Saved.TOO_LARGE,
        ),
        (WriteError("x", 17420, {"errmsg": "Document to upsert is larger than 16777216"}), Saved.TOO_LARGE),
        (OperationFailure("x", 10334, {"errmsg": "BSONObj size: 16777300 is invalid"}), Saved.TOO_LARGE),
        (WriteError("x", 2, {"errmsg": "The field 'checkpoint.results' must be an array"}), Saved.WRONG_FORM),
        (WriteError("x", 28, {"errmsg": "Cannot create field 'results'"}), Saved.WRONG_FORM),
        (WriteError("x", 14, {"errmsg": "Cannot apply $inc"}), Saved.WRONG_FORM),
        (WriteError("x", 2, {"errmsg": "larger than"}), None),
        (AutoReconnect("too large"), None),
    ],
)
def test_what_takes_no_entry_is_told_by_its_code(error: Exception, expected: Saved | None) -> None:
    assert why_no_entry(error) is expected


def test_only_a_broken_connection_is_worth_a_second_try_at_once() -> None:
    assert is_broken(AutoReconnect("x"))
    for other in (NetworkTimeout("x"), ServerSelectionTimeoutError("x"), NotPrimaryError("x"), OSError("x"), None):
        assert not is_broken(other)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "cannot be used"),
        (f"mongodb://u:{SECRET}@h:1/gvpocr", "raw @"),
        (f"mongodb+srv://u:{SECRET}@h/gvpocr", "mongodb+srv"),
        ("mongodb://u:p@h:1/gvpocr?noSuchOption=1", "noSuchOption"),
        ("mongodb://u:p@h:1/no.dots", "name of a database"),
    ],
)
def test_a_connection_string_that_cannot_be_used_is_refused_without_dialling(uri: str, said: str) -> None:
    link = Link(lambda: uri, where="env MONGO_URI", patience=HASTY)
    with pytest.raises(JobsRefused) as caught:
        link.call(lambda _: None)
    assert "MONGO_URI" in caught.value.message
    assert said in caught.value.message
    assert SECRET not in caught.value.message + caught.value.hint


def test_a_secret_that_cannot_be_read_is_refused() -> None:
    def unreadable() -> str:
        raise ConfigError("no such file: mongo-uri", hint="syncd secret mongo-uri")

    with pytest.raises(JobsRefused, match="no such file") as caught:
        Link(unreadable).call(lambda _: None)
    assert caught.value.hint == "syncd secret mongo-uri"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are made and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        yield listening.getsockname()[1]


def test_threads_that_wait_for_a_connection_share_its_failure(silent_port: int) -> None:
    reads: list[int] = []

    def uri() -> str:
        reads.append(1)
        return f"mongodb://127.0.0.1:{silent_port}/gvpocr"

    link = Link(uri, patience=HASTY)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            link.call(lambda _: None)
        except JobsAway as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(failed) == 12
    assert len(set(map(id, failed))) == 12
    assert len(reads) < 6
    link.close()
    with pytest.raises(JobsAway, match="closed"):
        link.call(lambda _: None)


def test_the_jobs_in_memory_fail_as_they_are_told() -> None:
    jobs = MemoryJobs()
    jobs.put(records.new_job(records.JobSpec("j", ["B/x.jpg", "B/y.jpg"]), NOW))
    failed = entries.error(TASK, "no", message_id="m", worker_id="w", now=NOW)
    jobs.script("rEXTL")
    assert jobs.look(TASK) == JobLook("processing", True)
    with pytest.raises(JobsAway):
        jobs.save(failed)
    with pytest.raises(JobsRefused):
        jobs.save(failed)
    assert jobs.save(failed) is Saved.TOO_LARGE
    assert jobs.job("j")["consumed_count"] == 0
    with pytest.raises(JobsAway):
        jobs.save(failed)
    assert jobs.job("j")["consumed_count"] == 1
    assert jobs.save(failed) is Saved.DONE_BEFORE
    jobs.down = True
    with pytest.raises(JobsAway):
        jobs.status("j")
    jobs.down = False
    jobs.too_large_above = 3
    large: Any = failed._replace(
        key=failed.key._replace(file_index=1, file="y.jpg"), file_path="B/y.jpg", entry={"text": "four"}, message_id="n"
    )
    assert jobs.save(large) is Saved.TOO_LARGE
    assert jobs.calls[:2] == ["look", "save"]
    with pytest.raises(ValueError, match="unknown faults"):
        jobs.script("q")
