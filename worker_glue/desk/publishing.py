"""From lines to tasks on NSQ, and to the job that counts them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Any, NamedTuple

from syncd.core.errors import ConfigError, PublishFailed
from syncd.core.shown import counted
from worker_glue.desk.ports import Board, Line, Press, Tell, Wish, quiet
from worker_glue.tasks.parse import JOB_ID_MAX, new_task

BATCH, BATCH_BYTES = 500, 1 << 20
"""Tasks, and bytes, that go to nsqd at once: far below its limit of 5 MiB."""


SAME_SHOWN = 20


class Stopped(PublishFailed):
    """nsqd took only a part of a job's tasks. published: how many it said OK to; it may have taken a batch more."""

    def __init__(self, message: str, published: int, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.published = published
        self.exit_code = 10


class Published(NamedTuple):
    """A job that was made."""

    job_id: str
    total: int


def new_job_id() -> str:
    """Return an id as the backend makes them."""
    return str(uuid.uuid4())


def lines_of(paths: Sequence[str], wishes: Sequence[Wish]) -> list[Line]:
    """Return numbered tasks, one a path."""
    return [Line(index, path, wish) for index, (path, wish) in enumerate(zip(paths, wishes, strict=True))]


def launch(
    job_id: str,
    lines: Sequence[Line],
    board: Board,
    press: Press,
    tell: Tell = quiet,
    extra: dict[str, Any] | None = None,
) -> Published:
    """Make a job and publish its tasks. extra: further fields of its document.

    First the list of tasks, then the job with all of them counted as published, then the tasks: so no task comes to a
    worker before its job is there, the job is not complete before all its tasks are, and what is lost on the way can be
    found out.
    Raises: ConfigError when there is a job of this id, or a path comes twice; Stopped.
    """
    if not job_id.isprintable() or not 0 < len(job_id) <= JOB_ID_MAX or job_id.startswith("-"):
        said = f"a job's id has 1 to {JOB_ID_MAX} characters, all printable, and does not begin with -"
        raise ConfigError(said, hint="leave --job away")
    _refuse_same(lines)
    if board.standing(job_id) is not None:
        raise ConfigError(f"there is a job {job_id} already", hint=f"worker-glue job {quote(job_id)}")
    board.keep_lines(job_id, lines)
    board.create(job_id, len(lines), extra or {})
    publish(job_id, lines, len(lines), press, tell)
    return Published(job_id, len(lines))


def _refuse_same(lines: Sequence[Line]) -> None:
    """Refuse a path that comes twice: both tasks would share one entry, and the job would never be complete."""
    numbers: dict[str, int] = {}
    same = [line for line in lines if numbers.setdefault(line.file_path, line.file_index) != line.file_index]
    if same:
        problems = [
            f"{line.file_path!r}: tasks {numbers[line.file_path]} and {line.file_index}" for line in same[:SAME_SHOWN]
        ]
        count = "a path comes" if len(same) == 1 else f"{len(same)} paths come"
        raise ConfigError(f"{count} twice in one job, which has one entry a path", problems=problems)


def publish(job_id: str, lines: Sequence[Line], total: int, press: Press, tell: Tell = quiet) -> int:
    """Publish tasks of a job that there is; how many. total: of all its tasks. Raises: Stopped."""
    done = 0
    bodies = (task_body(job_id, line, total) for line in lines)
    for batch in batches(bodies):
        try:
            press.publish_many(batch)
        except PublishFailed as error:
            raise Stopped(
                f"job {job_id}: {done} of {counted(len(lines), 'task')} are published, then: {error.message}",
                done,
                hint=f"when nsqd is back: worker-glue job {quote(job_id)} --requeue",
            ) from error
        done += len(batch)
        tell("publish", done, len(lines))
    return done


def task_body(job_id: str, line: Line, total: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> bytes:
    """Return a task's message."""
    wish = line.wish
    return new_task(
        job_id,
        line.file_path,
        line.file_index,
        total,
        now=now(),
        languages=wish.languages,
        handwriting=wish.handwriting,
        provider=wish.provider,
    )


def batches(bodies: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield messages in batches that nsqd takes at once."""
    batch: list[bytes] = []
    size = 0
    for body in bodies:
        if batch and (len(batch) == BATCH or size + len(body) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += len(body)
    if batch:
        yield batch
