"""What the worker's flow (worker_glue/flow) asks of its neighbours. Each Protocol's docstrings are the contract; every
adapter and every fake passes its conformance suite.

Errors: syncd.core.errors.SyncdError and the classes of worker_glue.errors. All calls are thread-safe and end by a
deadline of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from threading import Event
from typing import NamedTuple, Protocol

from syncd.core.resolution import Resolution
from worker_glue.model import Counts, OcrRequest, Outcome, Recognized, Task, TaskKey

# --- NSQ -------------------------------------------------------------------------------------------------------------


class Delivery(Protocol):
    """One message in flight. Any thread; after its end (finish, requeue, a broken connection) calls do nothing."""

    @property
    def id(self) -> str:
        """The message's id, 16 hexadecimal digits."""

    @property
    def body(self) -> bytes:
        """The body, byte for byte."""

    @property
    def attempts(self) -> int:
        """How often nsqd has delivered it, this time included."""

    @property
    def lost(self) -> bool:
        """Whether nsqd has it again, or will: the connection ended, or its time ran out."""

    @property
    def held_s(self) -> float:
        """Seconds since it arrived."""

    @property
    def hold_max_s(self) -> float:
        """Seconds after which nsqd takes it back whatever is touched (max-msg-timeout, as nsqd told; 15 min)."""

    def touch(self) -> None:
        """Reset its time-out."""

    def finish(self) -> None:
        """Tell nsqd that it is done with."""

    def requeue(self, delay_s: float) -> None:
        """Give it back, to be delivered after delay_s; without backing the reader off. It counts as an attempt."""


class Publisher(Protocol):
    """Sends to nsqd."""

    def publish(self, topic: str, body: bytes, delay_s: float = 0) -> None:
        """Return once nsqd has answered OK (DPUB with a delay, at most 3,600 s; PUB without).

        Raises: PublishFailed (transient) when it did not, or not in time; it may have taken it all the same.
        """


# --- MongoDB ---------------------------------------------------------------------------------------------------------


class JobLook(NamedTuple):
    """What is known of a task's job. status: None = there is no such job. open: the task has no entry yet."""

    status: str | None
    open: bool


class Saved(Enum):
    """What came of an outcome."""

    RECORDED = "recorded"
    DONE_BEFORE = "done_before"
    NO_JOB = "no_job"
    TOO_LARGE = "too_large"
    WRONG_FORM = "wrong_form"


class Jobs(Protocol):
    """`bulk_jobs` (CONTRACTS section 3, RULES section 6).

    Every call raises JobsAway (transient: no answer, no connection) or JobsRefused (a person has to act: login, rights,
    URI) when MongoDB does not do what is asked.
    """

    def look(self, task: Task) -> JobLook:
        """Say how a task's job is, and whether the task is still to be done. No documents are read whole."""

    def status(self, job_id: str) -> str | None:
        """Return a job's status, None where there is no such job."""

    def save(self, outcome: Outcome) -> Saved:
        """Record an outcome by one guarded update, acknowledged by a majority's journal. Safe to repeat.

        TOO_LARGE: the document takes nothing of this size any more; nothing was recorded.
        WRONG_FORM: it takes no entry at all, a field of it not being what the backend makes it; nothing was recorded.
        A field that is null counts as one that is not there.
        """


# --- the local store -------------------------------------------------------------------------------------------------


class Store(Protocol):
    """The host's durable store of outcomes and failures, shared by its workers. What it was told survives kill -9.

    Raises StoreFailed, DiskFull.
    """

    def begin(self, key: TaskKey) -> int:
        """Note, before OCR starts, that it starts; return how many earlier starts came to no end (0 at first).

        A start that is followed by neither forgive() nor keep() was a failure: it killed its worker, or failed.
        """

    def forgive(self, key: TaskKey) -> None:
        """Take the last begin() back: what ended the work was not the task's fault (stopped, paused, lease lost)."""

    def keep(self, outcome: Outcome) -> Outcome:
        """Store an outcome; the first of a task stays, as long as it is owed. Returns the one that is stored now.

        After settled() a further outcome of the task is owed anew: whether it is done is for MongoDB to say.
        """

    def replace(self, outcome: Outcome) -> None:
        """Put another outcome in the place of the one that was too large; the first one's text stays in the store."""

    def owed(self, key: TaskKey) -> Outcome | None:
        """Return the outcome of a task that MongoDB has not acknowledged yet."""

    def settled(self, key: TaskKey, saved: Saved) -> None:
        """MongoDB has answered: nothing is owed any more. What is needed for `stale` is kept, and the text of one that
        was too large."""

    def owing(self, limit: int, older_than_s: float) -> Sequence[Outcome]:
        """Return outcomes that have been owed for so long, the oldest first."""

    def full(self) -> str:
        """Say why no new work should begin while nothing is delivered (too much is owed, no room left); "" = none."""

    def counts(self) -> Counts:
        """Return how many are owed."""

    def bury(self, body: bytes) -> int:
        """Note a message for the dead topic that must not be lost; returns its number."""

    def buried(self, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return what is to be sent to the dead topic still: (number, body)."""

    def unbury(self, number: int) -> None:
        """nsqd has taken it."""


# --- files and OCR ---------------------------------------------------------------------------------------------------


class Hold(Protocol):
    """A version of a file that stays as it is while it is held (a lease)."""

    @property
    def local_path(self) -> str:
        """Where its bytes are, as this process sees them."""

    @property
    def server_path(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def generation(self) -> int: ...

    @property
    def size(self) -> int: ...

    def renew(self) -> bool:
        """Move its end; False when it is lost: what was made from it must not be recorded. Unreachable is not lost."""

    def release(self) -> bool:
        """End it; whether the bytes were as they should be to the end. Safe to repeat."""


class Files(Protocol):
    """Server paths -> verified local files: worker_glue.Resolver. Never raises for how a path is."""

    def resolve(self, path: str) -> Resolution:
        """Say how a path is, now; nothing is fetched."""

    def ensure(self, path: str, timeout_s: float) -> Resolution:
        """Have it fetched; how it is at the latest after timeout_s. A `missing` has been looked for on the source just
        now, and listed_at says when."""

    def hold(self, path: str) -> Hold | Resolution:
        """Take a lease on the version that is held now; the resolution where the path is not ready."""


class Recognizer(Protocol):
    """Runs an OCR engine so that a hung or dying one costs one task, not the worker."""

    @property
    def engine(self) -> str:
        """The engine's name."""

    @property
    def version(self) -> str:
        """The engine's version."""

    def recognize(self, request: OcrRequest, stop: Event, progress: Callable[[int, int], None]) -> Recognized:
        """Read a file. stop: ends it soon after it is set. progress: told pages done and known, from any thread.

        Raises: OcrRefused (permanent: what the file is), OcrFailed (transient: what happened), OcrStopped.
        """
