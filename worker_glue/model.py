"""The values that travel through a worker: a task, what OCR read, and the one outcome of the task. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class TaskKey(NamedTuple):
    """What makes a task (RULES section 6): two tasks may resolve to one file, and both need their entry.

    file_index: None where the message had none; then `file` is the raw path, else its last component.
    """

    job_id: str
    file_index: int | None
    file: str

    def __str__(self) -> str:
        return f"{self.job_id}|{'' if self.file_index is None else self.file_index}|{self.file}"


class Task(NamedTuple):
    """One OCR task, as the backend published it (CONTRACTS section 2).

    file_path: as the message spelled it, which is what MongoDB gets. mode: single or chain. passed_since: Unix time
    since which workers pass it on because they cannot do it; None on first sight. body: the message, byte for byte.
    """

    job_id: str
    file_path: str
    file_index: int | None
    languages: tuple[str, ...]
    handwriting: bool
    mode: str
    provider: str | None
    passed_since: float | None
    body: bytes

    @property
    def basename(self) -> str:
        """The last component, as results and errors name the file."""
        return basename(self.file_path)

    @property
    def key(self) -> TaskKey:
        """What makes this task."""
        return TaskKey(self.job_id, self.file_index, self.file_path if self.file_index is None else self.basename)


def basename(path: str) -> str:
    """Return the last component of a path in any of the forms that tasks use."""
    separator = "/" if "/" in path else "\\"
    return path.rstrip(separator).rpartition(separator)[2]


# --- what OCR read ---------------------------------------------------------------------------------------------------


class Word(NamedTuple):
    """One word, and where it stands on its page: pixels from the top left corner, as the page was read (upright).

    confidence: 0 to 1. block: words of one block have the same number.
    """

    text: str
    x: int
    y: int
    width: int
    height: int
    confidence: float
    block: int


class Page(NamedTuple):
    """One page. number: from 1. width, height: pixels. confidence: 0 to 1, its words' mean; None without words."""

    number: int
    text: str
    confidence: float | None
    words: tuple[Word, ...]
    width: int
    height: int


class Recognized(NamedTuple):
    """All that an engine read in one file. engine, version: who read it. detected_language: ISO 639-1, "" = unknown."""

    pages: tuple[Page, ...]
    engine: str
    version: str
    detected_language: str = ""

    @property
    def text(self) -> str:
        """The pages' texts, an empty line between two."""
        return "\n\n".join(page.text for page in self.pages)


class OcrRequest(NamedTuple):
    """What an engine is asked to read. path: a local file that stays as it is meanwhile. languages: ISO 639-1."""

    path: str
    languages: tuple[str, ...] = ()
    handwriting: bool = False


# --- the outcome -----------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """Which array of `checkpoint` an outcome goes to."""

    RESULT = "results"
    ERROR = "errors"


class Outcome(NamedTuple):
    """The one result or error of a task: what is stored locally first, and then in MongoDB by the guarded update.

    message_id: of the NSQ message that was worked on. entry: the object that is pushed, JSON all through.
    """

    key: TaskKey
    kind: Kind
    file_path: str
    message_id: str
    entry: Mapping[str, Any]


class Counts(NamedTuple):
    """Results owed by this host: how many, and since when the oldest is owed (Unix time, None = none)."""

    owed: int
    oldest: float | None


class SourceOf(NamedTuple):
    """Which bytes an outcome was made from."""

    server_path: str
    sha256: str
    generation: int
    size: int


NOBODYS = SourceOf("", "", 0, 0)
"""Stands for the source of an outcome that was not made from any bytes."""

Entries = Sequence[Mapping[str, Any]]
