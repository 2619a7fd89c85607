"""How outcomes lie in the store: values to bytes and back. Pure.

Everything is ASCII JSON: a task may spell what UTF-8 cannot carry (a lone surrogate), and SQLite keeps UTF-8 only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from worker_glue.errors import StoreFailed
from worker_glue.model import Kind, Outcome, TaskKey
from worker_glue.ports import Saved

_LEVEL = 1
"""Of zlib: text halves at least, and a megabyte takes 10 ms."""
_TEXTS = ("full_text", "text")


class Settled(NamedTuple):
    """What is kept of an outcome that MongoDB has answered, and what is known of one that it has not.

    saved: its answer; None = owed still. at: Unix time of the answer, or since when it is owed. sha256, generation: of
    the bytes it was made from ("" and 0 where it was made from none). worker: who made it. text_kept: whether the
    store has its whole text.
    """

    key: TaskKey
    kind: Kind
    file_path: str
    server_path: str
    sha256: str
    generation: int
    saved: Saved | None
    at: float
    worker: str
    text_kept: bool


@lru_cache(256)
def pack_key(key: TaskKey) -> str:
    """Return what tasks are told apart by; asked for at each step of a task."""
    return json.dumps(list(key))


def unpack_key(packed: str) -> TaskKey:
    """Return the key that was packed."""
    try:
        return TaskKey(*json.loads(packed))
    except (ValueError, TypeError) as error:
        raise unreadable(error) from error


def pack_job(job_id: str) -> str:
    """Return what jobs are told apart by."""
    return json.dumps(job_id)


def pack(outcome: Outcome) -> bytes:
    """Return an outcome's bytes; its key is kept beside them."""
    whole = [outcome.kind.value, outcome.file_path, outcome.message_id, outcome.entry]
    return zlib.compress(json.dumps(whole).encode("ascii"), _LEVEL)


def unpack(task: str, packed: bytes) -> Outcome:
    """Return the outcome of a packed key and a packed outcome."""
    try:
        kind, file_path, message_id, entry = json.loads(zlib.decompress(packed))
        return Outcome(unpack_key(task), Kind(kind), file_path, message_id, entry)
    except (zlib.error, ValueError, TypeError) as error:
        raise unreadable(error) from error


def brief(outcome: Outcome) -> str:
    """Return what is worth keeping once the outcome itself is in MongoDB, as JSON."""
    entry = outcome.entry
    source = [str(entry.get("source_path") or ""), str(entry.get("source_sha256") or ""), _generation(entry)]
    return json.dumps([outcome.kind.value, outcome.file_path, *source])


def settled(task: str, told: str, saved: Saved | None, at: float, worker: str, *, text_kept: bool) -> Settled:
    """Return a row of history from what brief() kept."""
    try:
        kind, file_path, server_path, sha256, generation = json.loads(told)
        row = Kind(kind), file_path, server_path, sha256, generation
    except (ValueError, TypeError) as error:
        raise unreadable(error) from error
    return Settled(unpack_key(task), *row, saved, at, worker, text_kept)


def text_in(entry: Mapping[str, Any]) -> str | None:
    """Return an entry's whole text; None where it has none."""
    return next((entry[name] for name in _TEXTS if isinstance(entry.get(name), str)), None)


def unreadable(error: Exception) -> StoreFailed:
    """Return the error for a row that nobody of ours can have written."""
    return StoreFailed(f"the store of results holds what was never written there: {error}", hint=DAMAGED_HINT)


def _generation(entry: Mapping[str, Any]) -> int:
    number = entry.get("source_generation")
    return number if isinstance(number, int) else 0


DAMAGED_HINT = (
    "results may lie in it that MongoDB has not taken: stop the workers, copy the file and its -wal and -shm away,"
    " remove them, start again; then `worker-glue job JOB --missing` names the tasks to do once more"
)
