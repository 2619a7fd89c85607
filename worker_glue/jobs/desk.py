"""What operators' commands ask of `bulk_jobs`: jobs made, counted and listed. No text of a result is ever fetched.

bulk_jobs   as the backend has it
sync_tasks  _id: JOB_ID/FIRST; job_id, first, tasks: those of a job that was made here, TASKS_A_DOCUMENT from number
            `first` on (the backend keeps no list of a job's tasks, and without one nobody can publish again what a
            queue lost)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from worker_glue.jobs import records
from worker_glue.jobs.link import Documents, Link
from worker_glue.model import Kind

TASKS = "sync_tasks"
TASKS_A_DOCUMENT = 2_000
JOBS_MAX = 1_000
_STANDING = ("job_id", "status", "total_files", "published_count", "consumed_count", "updated_at")
_IN_BOTH = ("file_index", "file", "file_path")
_IN_RESULTS = ("languages", "handwriting", "provider")
_OF_SOURCES = ("file_index", "file_path", "source_sha256", "source_generation")


class JobProgress(NamedTuple):
    """How far a job is. total, published, consumed: tasks, by the job's counters; 0 where it does not say.

    results, errors: entries of each kind. updated: None if unknown.
    """

    job_id: str
    status: str
    total: int
    published: int
    consumed: int
    results: int
    errors: int
    updated: datetime | None

    @property
    def complete(self) -> bool:
        """Whether the backend's rule for completion holds."""
        return self.consumed == self.published == self.results + self.errors


class Entry(NamedTuple):
    """One result or error of a job, without its text. file_index: None where it was recorded without.

    error: None for a result. languages, handwriting, provider: what a result says of them; unknown for errors.
    """

    kind: Kind
    file_index: int | None
    file: str
    file_path: str
    error: str | None
    languages: tuple[str, ...] = ()
    handwriting: bool = False
    provider: str | None = None


class EntrySource(NamedTuple):
    """Which bytes a result was made from. sha256 "", generation 0: not recorded (an older worker)."""

    job_id: str
    file_index: int | None
    file_path: str
    sha256: str
    generation: int


class JobDesk:
    """Asks and writes through a Link, one bounded call at a time. Raises JobsAway, JobsRefused."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def create(self, job_id: str, total: int, extra: Mapping[str, Any] | None = None) -> bool:
        """Make a job as the backend would; False when there is one of that id. extra: further fields."""
        fields = records.job_document(job_id, total, datetime.now(UTC), extra)
        return self._put(records.COLLECTION, {"job_id": job_id}, fields)

    def keep_tasks(self, job_id: str, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Record the tasks of a job that is about to be made, in their order. Safe to repeat."""
        for first in range(0, len(tasks), TASKS_A_DOCUMENT):
            part = [dict(task) for task in tasks[first : first + TASKS_A_DOCUMENT]]
            key = {"_id": f"{job_id}/{first}"}
            self._put(TASKS, key, {"job_id": job_id, "first": first, "tasks": part})

    def kept_tasks(self, job_id: str) -> list[dict[str, Any]]:
        """Return the recorded tasks of a job; none where it was not made here."""
        firsts = self._link.call(
            lambda db: [part["first"] for part in db[TASKS].find({"job_id": job_id}, {"first": 1})]
        )
        return [task for first in sorted(firsts) for task in self._part(f"{job_id}/{first}")]

    def progress(self, job_id: str) -> JobProgress | None:
        """Return how far a job is; None without such a job."""
        ends = [f"checkpoint.{kind.value}.file_index" for kind in Kind]
        job = self._one(job_id, (*_STANDING, *ends))  # FerretDB lacks $size: the smallest field, and counted here
        return None if job is None else _progress(job)

    def recent(self, limit: int = JOBS_MAX) -> Iterator[JobProgress]:
        """Yield jobs, those that changed last first; one call a job."""
        shown = {"_id": 0, "job_id": 1}

        def work(db: Documents) -> list[dict[str, Any]]:
            return list(db[records.COLLECTION].find({}, shown).sort("updated_at", -1).limit(limit))

        for job_id in (job.get("job_id") for job in self._link.call(work)):
            if isinstance(job_id, str) and (found := self.progress(job_id)) is not None:
                yield found

    def entries(self, job_id: str) -> Iterator[Entry]:
        """Yield all entries of a job, results first, each in the order in which they were recorded."""
        results = [f"checkpoint.results.{name}" for name in (*_IN_BOTH, *_IN_RESULTS)]
        errors = [f"checkpoint.errors.{name}" for name in (*_IN_BOTH, "error")]
        job = self._one(job_id, (*results, *errors)) or {}
        for kind in Kind:
            yield from (_entry(kind, each) for each in _array(job, kind))

    def sources(self, job_id: str | None = None) -> Iterator[EntrySource]:
        """Yield what results were made from, of one job or of all; one call a job."""
        for each in [job_id] if job_id is not None else self._job_ids():
            job = self._one(each, [f"checkpoint.results.{name}" for name in _OF_SOURCES]) or {}
            yield from (_source(each, result) for result in _array(job, Kind.RESULT))

    def _job_ids(self) -> list[str]:
        found = self._link.call(lambda db: list(db[records.COLLECTION].find({}, {"_id": 0, "job_id": 1})))
        return [job["job_id"] for job in found if isinstance(job.get("job_id"), str)]

    def _part(self, key: str) -> list[dict[str, Any]]:
        part = self._link.call(lambda db: db[TASKS].find_one({"_id": key}, {"tasks": 1}))
        return [] if part is None else list(part["tasks"])

    def _one(self, job_id: str, names: Sequence[str]) -> dict[str, Any] | None:
        """Return a job with these fields alone, so that everything else stays on the server."""
        shown = {"_id": 0, **dict.fromkeys(names, 1)}
        return self._link.call(lambda db: db[records.COLLECTION].find_one({"job_id": job_id}, shown))

    def _put(self, collection: str, key: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
        """Insert a document unless one with this key is there."""
        rest = {name: value for name, value in fields.items() if name not in key}

        def work(db: Documents) -> bool:
            return db[collection].update_one(key, {"$setOnInsert": rest}, upsert=True).upserted_id is not None

        return self._link.call(work)


# --- what others wrote, read with tolerance


def _progress(job: Mapping[str, Any]) -> JobProgress:
    total, published, consumed = (_number(job.get(f"{name}")) for name in _STANDING[2:5])
    results, errors = (len(_array(job, kind)) for kind in Kind)
    updated = job.get("updated_at")
    moment = updated if isinstance(updated, datetime) else None
    return JobProgress(
        _text(job.get("job_id")), _text(job.get("status")), total, published, consumed, results, errors, moment
    )


def _entry(kind: Kind, entry: Mapping[str, Any]) -> Entry:
    languages, provider = entry.get("languages"), entry.get("provider")
    return Entry(
        kind,
        _index(entry),
        _text(entry.get("file")),
        _text(entry.get("file_path")),
        _text(entry.get("error")) if kind is Kind.ERROR else None,
        tuple(each for each in languages if isinstance(each, str)) if isinstance(languages, list) else (),
        entry.get("handwriting") is True,
        provider if isinstance(provider, str) else None,
    )


def _source(job_id: str, result: Mapping[str, Any]) -> EntrySource:
    sha256, generation = _text(result.get("source_sha256")), _number(result.get("source_generation"))
    return EntrySource(job_id, _index(result), _text(result.get("file_path")), sha256, generation)


def _array(job: Mapping[str, Any], kind: Kind) -> list[Mapping[str, Any]]:
    checkpoint = job.get("checkpoint")
    array = checkpoint.get(kind.value) if isinstance(checkpoint, Mapping) else None
    return [each for each in array if isinstance(each, Mapping)] if isinstance(array, list) else []


def _index(entry: Mapping[str, Any]) -> int | None:
    index = entry.get("file_index")
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
