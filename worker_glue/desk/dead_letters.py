"""The dead topic, for an operator: list what is in it, or publish those tasks again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from syncd.core.errors import SyncdError
from syncd.core.reasons import Reason
from worker_glue.desk.ports import Board, Press
from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.model import basename
from worker_glue.tasks.dead import DeadTask, read_dead


class Unreadable(SyncdError):
    """The dead topic could not be read."""

    transient = True
    exit_code = 10
    reason = Reason.SOURCE_UNAVAILABLE


class Letter(Protocol):
    """One message of the dead topic, in flight."""

    @property
    def body(self) -> bytes: ...

    def finish(self) -> None:
        """It is done with."""

    def requeue(self, delay_s: float) -> None:
        """It stays."""


class Replayed(NamedTuple):
    """What came of a replay. published: tasks; kept: messages that stay (another job's, or never a task).

    settled: of the published, those whose job has their entry already: workers drop them.
    """

    published: int
    kept: int
    settled: int


def as_json(dead: DeadTask) -> dict[str, Any]:
    """Return one message as `worker-glue job --dead --json` tells it."""
    return {
        "job_id": dead.job_id,
        "file_index": dead.file_index,
        "file_path": dead.file_path,
        "reason": dead.reason,
        "error": dead.error,
        "attempts": dead.attempts,
        "host": dead.host,
        "worker_id": dead.worker_id,
        "at": dead.at,
        "task": bool(dead.body),
    }


def of_job(dead: DeadTask, job_id: str) -> bool:
    """Say whether a message is one of a job's. job_id "": any."""
    return not job_id or dead.job_id == job_id


def listed(letters: Iterable[Letter], job_id: str = "") -> list[DeadTask]:
    """Return what the dead topic holds, of one job or all; every message stays."""
    found = []
    for letter in letters:
        found.append(read_dead(letter.body))
        letter.requeue(0)
    return [dead for dead in found if of_job(dead, job_id)]


def replay(letters: Iterable[Letter], press: Press, settled: Callable[[DeadTask], bool], job_id: str = "") -> Replayed:
    """Publish the tasks in the dead topic again. Each leaves it once nsqd has said OK to its copy, not before.

    settled: whether a task has its entry. Raises: PublishFailed; what was not published stays.
    """
    published = kept = in_vain = 0
    for letter in letters:
        dead = read_dead(letter.body)
        if not dead.body or not of_job(dead, job_id):
            letter.requeue(0)
            kept += 1
            continue
        press.publish_many([dead.body])
        letter.finish()
        published += 1
        in_vain += settled(dead)
    return Replayed(published, kept, in_vain)


class Settled:
    """Says whether a dead task has its entry in its job, as far as MongoDB tells. Each job's entries are read once."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._keys: dict[str, set[tuple[int | None, str]]] = {}

    def __call__(self, dead: DeadTask) -> bool:
        """Say whether a replay would do nothing."""
        keys = self._keys.get(dead.job_id)
        if keys is None:
            keys = set()
            with contextlib.suppress(JobsAway, JobsRefused):  # a remark only: the replay goes on without it
                keys = _keys(self._board, dead.job_id)
            self._keys[dead.job_id] = keys
        name = dead.file_path if dead.file_index is None else basename(dead.file_path)
        return (dead.file_index, name) in keys


def _keys(board: Board, job_id: str) -> set[tuple[int | None, str]]:
    keys: set[tuple[int | None, str]] = set()
    for entry in board.entries(job_id):
        keys.add((entry.file_index, entry.file))
        keys.add((None, entry.file_path))
    return keys


def by_reason(found: Sequence[DeadTask]) -> dict[str, int]:
    """Count messages by reason, the most frequent first."""
    counts: dict[str, int] = {}
    for dead in found:
        counts[dead.reason or "unknown"] = counts.get(dead.reason or "unknown", 0) + 1
    return dict(sorted(counts.items(), key=lambda each: -each[1]))
