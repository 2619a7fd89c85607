"""The desk's view of MongoDB, over jobs.desk.JobDesk; and of the local store, where there is no MongoDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from itertools import chain, islice
from shlex import quote
from typing import TYPE_CHECKING, Any

from syncd.core.errors import ConfigError
from worker_glue.desk import lines as kept_lines
from worker_glue.desk.ports import Entry, Line, SourceRow, Standing, Wish
from worker_glue.model import Kind

if TYPE_CHECKING:
    from worker_glue.jobs.desk import Entry as RecordedEntry
    from worker_glue.jobs.desk import JobDesk, JobProgress
    from worker_glue.store.reading import Reading


class MongoBoard:
    """ports.Board over MongoDB."""

    def __init__(self, desk: JobDesk) -> None:
        self._desk = desk

    def standing(self, job_id: str) -> Standing | None:
        """See ports.Board."""
        found = self._desk.progress(job_id)
        return None if found is None else _standing(found)

    def recent(self, limit: int) -> Sequence[Standing]:
        """See ports.Board."""
        return [_standing(found) for found in islice(self._desk.recent(limit), limit)]

    def create(self, job_id: str, total: int, extra: dict[str, Any]) -> None:
        """See ports.Board. Raises: ConfigError when somebody has made a job of this id meanwhile."""
        if not self._desk.create(job_id, total, extra):
            raise ConfigError(f"there is a job {job_id} already", hint=f"worker-glue job {quote(job_id)}")

    def entries(self, job_id: str) -> Iterator[Entry]:
        """See ports.Board."""
        return (_entry(each) for each in self._desk.entries(job_id))

    def keep_lines(self, job_id: str, lines: Sequence[Line]) -> None:
        """See ports.Board."""
        self._desk.keep_tasks(job_id, kept_lines.documents(lines))

    def lines(self, job_id: str) -> Sequence[Line]:
        """See ports.Board."""
        return kept_lines.read(self._desk.kept_tasks(job_id))

    def sources(self, job_id: str | None) -> Iterator[SourceRow]:
        """See ports.Board."""
        return (SourceRow(*each) for each in self._desk.sources(job_id))


def sources_here(store: Reading, job_id: str | None) -> Iterable[SourceRow]:
    """Yield from which bytes the results of this host were made, as its own store knows it for 30 days."""
    for each in chain(store.settled(job_id), store.owed(job_id)):
        if each.kind is Kind.RESULT:
            yield SourceRow(each.key.job_id, each.key.file_index, each.file_path, each.sha256, each.generation)


def _standing(found: JobProgress) -> Standing:
    updated = "" if found.updated is None else found.updated.astimezone(UTC).replace(tzinfo=None).isoformat()
    counts = found.total, found.published, found.consumed, found.results, found.errors
    return Standing(found.job_id, found.status, *counts, updated)


def _entry(found: RecordedEntry) -> Entry:
    wish = None if found.kind is Kind.ERROR else Wish(found.languages, found.handwriting, found.provider)
    return Entry(found.file_index, found.file, found.file_path, found.error, wish)
