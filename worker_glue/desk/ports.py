"""What the operator's commands ask of MongoDB, NSQ and the mirrors, and the values that go between. No I/O.

All calls raise SyncdError (JobsAway, JobsRefused, PublishFailed, ApiUnreachable ...) and end by deadlines of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from syncd.core.resolution import Resolution

Tell = Callable[[str, int, int], None]
"""Is told how far long work is: what is done, how many, of how many (0: not known)."""


def quiet(_what: str, _done: int, _of: int) -> None:
    """Stand for a Tell that tells nobody."""


class Wish(NamedTuple):
    """What a task asks for. languages: ISO 639-1. provider None: the worker's default."""

    languages: tuple[str, ...] = ()
    handwriting: bool = False
    provider: str | None = None


class Line(NamedTuple):
    """One task of a job, as it is published and recorded. file_path: as the task spells it."""

    file_index: int
    file_path: str
    wish: Wish


class Entry(NamedTuple):
    """One result or error of a job, without its text. error None: a result. file_index None: it was recorded without.

    wish: what a result was asked for; None where the entry does not say (errors).
    """

    file_index: int | None
    file: str
    file_path: str
    error: str | None
    wish: Wish | None


class Standing(NamedTuple):
    """How a job is, by its counters. updated_at: ISO 8601 UTC, naive as the backend writes it; "" = not known."""

    job_id: str
    status: str
    total: int
    published: int
    consumed: int
    results: int
    errors: int
    updated_at: str = ""

    @property
    def open(self) -> int:
        """Tasks that have neither result nor error."""
        return max(max(self.published, self.total) - self.results - self.errors, 0)

    @property
    def complete(self) -> bool:
        """The backend's rule (CONTRACTS section 3)."""
        return self.consumed == self.published == self.results + self.errors

    def as_json(self) -> dict[str, Any]:
        """Return the object of `worker-glue job --json`."""
        told = self._asdict()
        told["total_files"] = told.pop("total")
        told["published_count"] = told.pop("published")
        told["consumed_count"] = told.pop("consumed")
        return {**told, "open": self.open, "complete": self.complete}


class SourceRow(NamedTuple):
    """Which bytes a result was made from. sha256 "": not recorded (an older worker)."""

    job_id: str
    file_index: int | None
    file_path: str
    sha256: str
    generation: int


class Paths(Protocol):
    """worker_glue.Resolver, as far as it is needed here."""

    def resolve(self, path: str) -> Resolution:
        """Say how a path is, now. Never raises for how it is."""


class Listing(Protocol):
    """Which files a mirror has."""

    def files(self, mirror: str, folder: str) -> Iterable[str]:
        """Yield the paths, relative to the mirror, of all files below a folder ("" = the mirror) that are held or were
        listed; in any order, perhaps twice, and perhaps with some that are neither.
        """


class Board(Protocol):
    """`bulk_jobs`, and the lists of tasks that submit keeps beside it."""

    def standing(self, job_id: str) -> Standing | None:
        """Return how a job is; None where there is none."""

    def recent(self, limit: int) -> Sequence[Standing]:
        """Return jobs, those that changed last first."""

    def create(self, job_id: str, total: int, extra: dict[str, Any]) -> None:
        """Make a job as the backend does, with all its tasks counted as published."""

    def entries(self, job_id: str) -> Iterable[Entry]:
        """Yield a job's results and errors, without texts."""

    def keep_lines(self, job_id: str, lines: Sequence[Line]) -> None:
        """Record the tasks of a job that is about to be made."""

    def lines(self, job_id: str) -> Sequence[Line]:
        """Return the recorded tasks of a job by file_index; none where it was not submitted here."""

    def sources(self, job_id: str | None) -> Iterable[SourceRow]:
        """Yield from which bytes results were made, of one job or all."""


class Press(Protocol):
    """Publishes tasks to nsqd."""

    def publish_many(self, bodies: Sequence[bytes]) -> object:
        """Return once nsqd has taken all of them (MPUB: all or none). Raises: PublishFailed."""
