"""The other side of the job: what the deployment's backend does, written from CONTRACTS sections 2 and 3 alone.

    backend = Backend(mongo, nsqd)
    job = backend.submit([Wanted("Bhushanji/eng-typed/x.pdf", languages=("en",))])
    document = backend.until_complete(job)
    backend.assert_complete(job, document)      # exactly one well-formed entry per task

It knows nothing of worker_glue's code, so that it can be held against it. It talks to the servers directly; only the
workers have to go through proxies.
"""

from __future__ import annotations

import collections
import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.mongo import MongoServer
from tests.support.nsqd import NsqdServer

TOPIC, CHANNEL = "bulk_ocr_file_tasks", "bulk_ocr_workers"
DEAD_TOPIC = "bulk_ocr_file_tasks_dead"
CONTROL_TOPIC = "bulk_ocr_control"

RESULT_TYPES: dict[str, type | tuple[type, ...]] = {
    "file": str,
    "file_path": str,
    "file_index": int,
    "status": str,
    "provider": str,
    "languages": list,
    "handwriting": bool,
    "text": str,
    "full_text": str,
    "confidence": (int, float),
    "detected_language": str,
    "blocks_count": int,
    "words_count": int,
    "pages_processed": int,
    "file_info": dict,
    "metadata": dict,
    "processed_at": str,
    "retry_count": int,
}
"""The fields of a result (CONTRACTS section 3)."""
MORE_IN_RESULTS = {"source_sha256": str, "source_generation": int, "engine": str, "engine_version": str}
"""What our workers add to it."""
ERROR_TYPES: dict[str, type | tuple[type, ...]] = {
    "file": str,
    "file_path": str,
    "error": str,
    "processed_at": str,
    "file_index": int,
}
ERROR_CHARACTERS_MAX = 1000
"""A short, clear error."""
PATIENCE_S = 60.0
LOOK_S = 0.25
"""FerretDB reads a job's whole document for each look at it."""


@dataclass(frozen=True)
class Wanted:
    """One task of a job. more: other fields of the message, or other values of those named here."""

    path: str
    languages: Sequence[str] = ("en",)
    handwriting: bool = False
    provider: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def basename(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Job:
    """A job that was submitted; tasks[i] has file_index i, and bodies[i] is its message."""

    id: str
    tasks: tuple[Wanted, ...]
    bodies: tuple[bytes, ...]


class Backend:
    """Publishes jobs and reads what became of them. sick: looked at while it waits; raises when that is in vain."""

    def __init__(self, mongo: MongoServer, nsqd: NsqdServer, sick: Callable[[], None] = lambda: None) -> None:
        self._mongo = mongo
        self._nsqd = nsqd
        self._sick = sick

    # -- as the backend does it

    def submit(self, tasks: Sequence[Wanted], *, publish: bool = True) -> Job:
        """Make the job's document, then publish one message a file."""
        job_id = str(uuid.uuid4())
        bodies = tuple(self._body(job_id, index, task, len(tasks)) for index, task in enumerate(tasks))
        job = Job(job_id, tuple(tasks), bodies)
        with self._mongo.client() as database:
            database.bulk_jobs.insert_one(_document(job))
        if publish:
            self.publish(*bodies)
        return job

    def publish(self, *bodies: bytes) -> None:
        """Publish messages to the tasks' topic."""
        for first in range(0, len(bodies), 200):
            group = bodies[first : first + 200]
            if any(b"\n" in body or not body for body in group):
                self._nsqd.publish(TOPIC, *group)
            else:
                self._nsqd.http(f"/mpub?topic={TOPIC}", b"\n".join(group))

    def control(self, job: Job, action: str) -> None:
        """Pause, resume or cancel a job: its status, and a message to all workers."""
        status = {"pause": "paused", "resume": "processing", "cancel": "cancelled"}[action]
        with self._mongo.client() as database:
            database.bulk_jobs.update_one({"job_id": job.id}, {"$set": {"status": status}})
        body = {"job_id": job.id, "action": action, "timestamp": _now()}
        self._nsqd.publish(CONTROL_TOPIC, json.dumps(body).encode())

    @staticmethod
    def _body(job_id: str, index: int, task: Wanted, total: int) -> bytes:
        body = {
            "job_id": job_id,
            "file_path": task.path,
            "file_index": index,
            "total_files": total,
            "processing_mode": "single",
            "languages": list(task.languages),
            "handwriting": task.handwriting,
            "attempt": 0,
            "enqueued_at": _now(),
            "provider": task.provider,
            **task.more,
        }
        return json.dumps(body).encode()

    # -- looking

    def document(self, job: Job) -> dict[str, Any]:
        """Return a job's whole document."""
        with self._mongo.client() as database:
            found = database.bulk_jobs.find_one({"job_id": job.id}, {"_id": 0})
        assert found is not None
        return dict(found)

    def recorded(self, job: Job) -> int:
        """Return how many tasks of a job have been counted so far."""
        with self._mongo.client() as database:
            found = database.bulk_jobs.find_one({"job_id": job.id}, {"_id": 0, "consumed_count": 1})
        return int(found["consumed_count"])

    def until_complete(self, job: Job, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until everything is counted; return the document."""
        self.until(lambda: self.recorded(job) >= len(job.tasks), lambda: self._lacking(job), within_s)
        return self.document(job)

    def until_recorded(self, job: Job, count: int, within_s: float = PATIENCE_S) -> None:
        """Wait until so many tasks have been counted."""
        self.until(lambda: self.recorded(job) >= count, lambda: self._lacking(job), within_s)

    def until(self, condition: Callable[[], object], what: Callable[[], str], within_s: float = PATIENCE_S) -> None:
        """Wait for a condition; what() says what is missing when it does not come."""
        deadline = time.monotonic() + within_s
        while not condition():
            self._sick()
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s:.0f} s: {what()}")
            time.sleep(LOOK_S)

    def until_idle(self, within_s: float = PATIENCE_S) -> None:
        """Wait until the tasks' channel has nothing left: nothing waits, is in flight or deferred."""
        self.until(lambda: sum(self.queue()) == 0, lambda: f"(depth, in flight, deferred) = {self.queue()}", within_s)

    def forget(self) -> None:
        """Empty the tasks' channel, and drop all jobs."""
        self._nsqd.http(f"/channel/empty?topic={TOPIC}&channel={CHANNEL}", b"")
        with self._mongo.client() as database:
            database.bulk_jobs.delete_many({})

    def queue(self) -> tuple[int, int, int]:
        """Return the channel's (depth, in flight, deferred)."""
        channel = self._nsqd.channels(TOPIC).get(CHANNEL, {})
        return (
            int(channel.get("depth", 0)),
            int(channel.get("in_flight_count", 0)),
            int(channel.get("deferred_count", 0)),
        )

    def _lacking(self, job: Job) -> str:
        document = self.document(job)
        have = collections.Counter(entry["file_index"] for _, entry in entries(document))
        lacking = [f"{index} {job.tasks[index].path}" for index in range(len(job.tasks)) if not have[index]]
        counts = f"consumed_count {document['consumed_count']} of {len(job.tasks)}, {len(lacking)} lack an entry"
        return f"{counts}: {lacking[:10]}; (depth, in flight, deferred) = {self.queue()}"

    # -- the rules

    @staticmethod
    def assert_complete(job: Job, document: dict[str, Any], *, no_errors: bool = False) -> None:
        """Assert the completion rule, and that each task has exactly one well-formed entry."""
        results, errors = document["checkpoint"]["results"], document["checkpoint"]["errors"]
        if no_errors:
            assert errors == []
        assert document["consumed_count"] == document["published_count"] == len(results) + len(errors)
        for entry in results:
            _assert_fields(entry, {**RESULT_TYPES, **MORE_IN_RESULTS})
            _assert_result(entry)
        for entry in errors:
            _assert_fields(entry, ERROR_TYPES)
            assert 0 < len(entry["error"]) <= ERROR_CHARACTERS_MAX, entry["error"][:200]
        told = [entry for _, entry in entries(document)]
        assert sorted(entry["file_index"] for entry in told) == list(range(len(job.tasks)))
        for entry in told:
            task = job.tasks[entry["file_index"]]
            assert (entry["file_path"], entry["file"]) == (task.path, task.basename)
        _assert_counted(job, document)

    def assert_unchanged(self, job: Job, before: dict[str, Any]) -> None:
        """Assert that nothing has been recorded since `before`; progress is told after the entry, and may have been."""
        now = self.document(job)
        for told_later in ("progress", "updated_at"):
            now[told_later] = before[told_later]
        assert now == before

    @staticmethod
    def assert_no_local_path(document: dict[str, Any], *roots: object) -> None:
        """Assert that nothing in a document tells where a file lay on the worker."""
        text = json.dumps(document, default=str, ensure_ascii=False)
        for root in roots:
            assert str(root) not in text


def entries(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (array, entry) of every result and error in a job's document."""
    for array in ("results", "errors"):
        for entry in document["checkpoint"][array]:
            yield array, entry


def results_by_index(document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return a document's results by file_index."""
    return {entry["file_index"]: entry for entry in document["checkpoint"]["results"]}


def errors_by_index(document: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return a document's errors by file_index."""
    return {entry["file_index"]: entry for entry in document["checkpoint"]["errors"]}


def _assert_fields(entry: dict[str, Any], types: dict[str, Any]) -> None:
    assert types.keys() <= entry.keys(), f"{sorted(types.keys() - entry.keys())} are missing in {entry}"
    for name, kind in types.items():
        right = isinstance(entry[name], kind) and not (kind is int and isinstance(entry[name], bool))
        assert right, f"{name} = {entry[name]!r}"
    moment = datetime.fromisoformat(entry["processed_at"])
    assert moment.tzinfo is None, "naive, and UTC"
    assert abs((datetime.now(UTC).replace(tzinfo=None) - moment).total_seconds()) < 3600


def _assert_result(entry: dict[str, Any]) -> None:
    assert entry["status"] == "success"
    assert entry["text"] in entry["full_text"]
    assert 0 <= entry["confidence"] <= 1
    assert entry["pages_processed"] >= 1
    assert entry["file_info"].keys() >= {"size", "extension"}
    metadata = entry["metadata"]
    assert metadata.keys() >= {"processing_time", "worker_id"}
    assert metadata["worker_id"]
    assert "$" not in metadata["worker_id"]
    assert len(entry["source_sha256"]) == 64


def _assert_counted(job: Job, document: dict[str, Any]) -> None:
    """The counters beside the entries say the same."""
    progress, checkpoint = document["progress"], document["checkpoint"]
    assert progress["total"] == len(job.tasks)
    assert progress["current"] <= len(job.tasks)
    assert 0 <= progress["percentage"] <= 100
    assert set(checkpoint["processed_files"]) == {task.path for task in job.tasks}
    ids = checkpoint["processed_message_ids"]
    assert len(ids) == len(set(ids))
    with contextlib.suppress(KeyError):
        assert document["status"] in ("processing", "completed")


def _document(job: Job) -> dict[str, Any]:
    """Return what the backend writes before it publishes."""
    total = len(job.tasks)
    return {
        "job_id": job.id,
        "status": "processing",
        "total_files": total,
        "published_count": total,
        "consumed_count": 0,
        "progress": {"current": 0, "total": total, "percentage": 0, "filename": ""},
        "checkpoint": {"results": [], "errors": [], "processed_files": [], "processed_message_ids": []},
        "created_at": datetime.now(UTC).replace(tzinfo=None),
        "updated_at": datetime.now(UTC).replace(tzinfo=None),
    }


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat()
