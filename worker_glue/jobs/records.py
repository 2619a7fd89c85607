"""The guarded update that lets one entry a task into `bulk_jobs` (RULES section 6), as documents. Pure.

bulk_jobs   one document a job, found by job_id; see CONTRACTS section 3 for its fields
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from worker_glue.model import Kind, Outcome, Task

COLLECTION = "bulk_jobs"
PATHS = "checkpoint.processed_files"
MESSAGES = "checkpoint.processed_message_ids"
_PROGRESS = ("progress.current", "progress.total", "progress.percentage")
COUNTERS = dict.fromkeys(("_id", "status", "consumed_count", "published_count", "total_files", *_PROGRESS), 1)
"""What of a job is read when one of its results is saved."""

_ENTERED = ("checkpoint", *(f"checkpoint.{kind.value}" for kind in Kind), PATHS, MESSAGES, "progress", "consumed_count")
"""What an entry is put into."""

Document = dict[str, Any]
Aliases = Callable[[str], Sequence[str]]
_PREFIXES = ("/app/", "/data/", "./")


class Counted(NamedTuple):
    """A job's counters. total: of its files; 0 where the job does not say. shown: `progress` as it is."""

    consumed: int
    total: int
    shown: Mapping[str, Any]


class JobSpec(NamedTuple):
    """A job to be made. files: paths as tasks spell them, by file_index. extra: further fields of its document."""

    job_id: str
    files: Sequence[str]
    extra: Mapping[str, Any] = {}


def new_job(job: JobSpec, now: datetime) -> Document:
    """Return the document of a job that begins, with all its files counted as published."""
    return job_document(job.job_id, len(job.files), now, job.extra)


def job_document(job_id: str, total: int, now: datetime, extra: Mapping[str, Any] | None = None) -> Document:
    """Return the document of a job that begins, as the backend would make it. extra: further fields; now: UTC.

    published_count is whole from the start: counted up while tasks are published, it would equal consumed_count now
    and then, and the job would be taken for complete.
    """
    return {
        **(extra or {}),
        "job_id": job_id,
        "status": "processing",
        "total_files": total,
        "published_count": total,
        "consumed_count": 0,
        "progress": {"current": 0, "total": total, "percentage": 0, "filename": ""},
        "checkpoint": {"results": [], "errors": [], "processed_files": [], "processed_message_ids": []},
        "created_at": now,
        "updated_at": now,
    }


def guard(subject: Outcome | Task, message_id: str = "", aliases: Aliases | None = None) -> Document:
    """Return the filter that finds the job while this task has no entry in it.

    message_id: "" leaves messages out of it. aliases: all spellings of a path's file, for a task without file_index.
    The two fields below one dotted path may be met by two elements of the array: see docs of MongoDB on arrays of
    documents; `$elemMatch` would be exact, and FerretDB lacks it.
    """
    key = subject.key
    found: Document = {"job_id": key.job_id}
    if key.file_index is None:
        found[PATHS] = {"$nin": spellings(subject.file_path, aliases)}
    else:
        found["$nor"] = [
            {f"checkpoint.{kind.value}.file_index": key.file_index, f"checkpoint.{kind.value}.file": key.file}
            for kind in Kind
        ]
        found[PATHS] = {"$ne": subject.file_path}
    if message_id:
        found[MESSAGES] = {"$ne": message_id}
    return found


def guard_all(job_id: str, guards: Sequence[Document]) -> Document:
    """Return the filter that finds a job while none of these tasks of it has an entry."""
    return {"job_id": job_id, "$and": [{name: each[name] for name in each if name != "job_id"} for each in guards]}


def before_the_last(guard: Document, total: int) -> Document:
    """Return a filter that finds the job only while more than one task is missing: whoever records the last one is to
    look at `progress` again, and with this nobody can be the last without knowing it.
    """
    return {**guard, "consumed_count": {"$lt": total - 1}}


def spellings(path: str, aliases: Aliases | None = None) -> list[str]:
    """Return the ways in which workers may have noted a path: raw, every alias's, each bare and below /app/, /data/."""
    known = [path, *(aliases(path) if aliases is not None else ())]
    return list(dict.fromkeys([*known, *(form for each in known for form in _prefixed(each))]))


def _prefixed(path: str) -> list[str]:
    """Return a relative path, or one of a container, in the forms that containers use; none of any other."""
    while prefix := next((each for each in _PREFIXES if path.startswith(each)), ""):
        path = path[len(prefix) :].lstrip("/")
    if not path or path.startswith(("/", "\\")) or "://" in path:
        return []
    return [path, *(f"{prefix}{path}" for prefix in _PREFIXES)]


def update(outcome: Outcome, now: datetime, counted: Counted) -> Document:
    """Return the update that enters an outcome. counted: the counters just before it, for `progress`; now: UTC."""
    added = {PATHS: outcome.file_path}
    if outcome.message_id:
        added[MESSAGES] = outcome.message_id
    return {
        "$push": {f"checkpoint.{outcome.kind.value}": dict(outcome.entry)},
        "$addToSet": added,
        "$inc": {"consumed_count": 1},
        "$set": {
            **progress(counted._replace(consumed=counted.consumed + 1)),
            "progress.filename": str(outcome.entry.get("file", "")),
            "updated_at": now,
        },
    }


def without_nulls(job_id: str) -> list[tuple[Document, Document]]:
    """Return filters and updates that take away what is null of the fields that an entry is put into: $push and $inc
    make a field that is not there, and refuse one that is null. Safe to repeat, and takes no entry away.
    """
    return [({"job_id": job_id, name: {"$type": "null"}}, {"$unset": {name: ""}}) for name in _ENTERED]


def counted(job: Mapping[str, Any]) -> Counted:
    """Read a job's counters; tolerates what somebody else wrote."""
    shown = job.get("progress")
    return Counted(
        _number(job.get("consumed_count")),
        _number(job.get("total_files")) or _number(job.get("published_count")),
        shown if isinstance(shown, Mapping) else {},
    )


def progress(counted: Counted) -> Document:
    """Return the fields of `progress` that follow from the counters."""
    share = min(100, 100 * counted.consumed // counted.total) if counted.total else 0
    total = {"progress.total": counted.total} if counted.total else {}
    return {"progress.current": counted.consumed, "progress.percentage": share, **total}


def is_settled(counted: Counted) -> bool:
    """Say whether `progress` is as the counters have it."""
    return all(counted.shown.get(name.rpartition(".")[2]) == value for name, value in progress(counted).items())


def settling(job_id: str, counted: Counted) -> tuple[Document, Document]:
    """Return the filter and the update that set `progress` right, unless somebody saved something meanwhile."""
    return {"job_id": job_id, "consumed_count": counted.consumed}, {"$set": progress(counted)}


def _number(value: object) -> int:
    return max(0, int(value)) if isinstance(value, int | float) and value == value and abs(value) < 1 << 53 else 0
