"""What an operator does with a job that there is: look, publish again what it lacks, try its errors anew."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any, NamedTuple

from syncd.core.errors import ConfigError
from worker_glue.desk.gathering import gather, refuse_troubles
from worker_glue.desk.ports import Board, Entry, Line, Listing, Paths, Press, Standing, Tell, Wish, quiet
from worker_glue.desk.publishing import Published, launch, lines_of, new_job_id, publish
from worker_glue.desk.remaining import gap, rederive, without_entry

CANCELLED = "cancelled"


class Missing(NamedTuple):
    """The tasks of a job without entry. listed: the job has a list, so `lines` are they; else only numbers are known.

    exact: whether the numbers are these and no fewer.
    """

    listed: bool
    lines: Sequence[Line]
    numbers: Sequence[int]
    open: int
    exact: bool

    def as_json(self) -> dict[str, Any]:
        """Return `missing` of `worker-glue job --missing --json`."""
        tasks = [{"file_index": line.file_index, "file_path": line.file_path} for line in self.lines]
        return {
            "count": self.open,
            "listed": self.listed,
            "exact": self.exact,
            "file_indexes": list(self.numbers),
            "tasks": tasks,
        }


def standing_of(job_id: str, board: Board) -> Standing:
    """Return how a job is. Raises: ConfigError when there is none."""
    standing = board.standing(job_id)
    if standing is None:
        raise ConfigError(f"there is no job {job_id}", hint="worker-glue job")
    return standing


def missing(standing: Standing, board: Board) -> Missing:
    """Return the tasks without entry."""
    lines = board.lines(standing.job_id)
    if lines:
        left = without_entry(lines, board.entries(standing.job_id))
        return Missing(True, left, [line.file_index for line in left], len(left), True)
    unknown = gap(standing, board.entries(standing.job_id))
    return Missing(False, (), unknown.numbers, unknown.open, unknown.exact)


def requeue(standing: Standing, board: Board, press: Press, tell: Tell = quiet) -> int:
    """Publish again the tasks without entry of a job that was submitted here; how many.

    One that is still queued, or in work, comes twice then, and is recorded once.
    Raises: ConfigError when the job has no list, or is cancelled; publishing.Stopped.
    """
    _refuse_cancelled(standing)
    left = missing(standing, board)
    if not left.listed:
        job = standing.job_id
        raise ConfigError(
            f"job {job} was not made by worker-glue submit: which tasks it lacks is recorded nowhere",
            hint=f"worker-glue job {quote(job)} --requeue --folder FOLDER   (the folder that it was made of)",
        )
    return publish(standing.job_id, left.lines, standing.total, press, tell)


def requeue_from(
    standing: Standing,
    folders: Sequence[str],
    board: Board,
    press: Press,
    paths: Paths,
    listing: Listing,
    tell: Tell = quiet,
) -> int:
    """Publish again what a job of the backend lacks, put together from the folder that it was made of; how many.

    Raises: ConfigError when that is not possible without guessing; publishing.Stopped.
    """
    _refuse_cancelled(standing)
    gathered = gather(folders, paths, listing, tell)
    refuse_troubles(gathered, "Nothing was published.")
    entries = list(board.entries(standing.job_id))
    meant = {entry.file_path: paths.resolve(entry.file_path).server_path for entry in entries}
    known = {spelled: path for spelled, path in meant.items() if path}
    files = [each.path for each in (*gathered.files, *gathered.left_out)]
    return publish(standing.job_id, rederive(standing, entries, known, files), standing.total, press, tell)


def retry_errors(standing: Standing, board: Board, press: Press, tell: Tell = quiet) -> Published | None:
    """Make a new job of the paths that failed in this one, each once; None when none did.

    Each is asked for as before; where that is not known, as the job's results were.
    """
    entries = list(board.entries(standing.job_id))
    failed = sorted(
        (entry for entry in entries if entry.error is not None),
        key=lambda entry: (entry.file_index is None, entry.file_index or 0),
    )
    if not failed:
        return None
    asked = {line.file_index: line.wish for line in board.lines(standing.job_id)}
    usual = next((entry.wish for entry in entries if entry.wish is not None), Wish())
    wishes: dict[str, Wish] = {}
    for entry in failed:
        wishes.setdefault(entry.file_path, _wish(entry, asked, usual))
    lines = lines_of(list(wishes), list(wishes.values()))
    return launch(new_job_id(), lines, board, press, tell, {"retry_of": standing.job_id})


def _wish(entry: Entry, asked: dict[int, Wish], usual: Wish) -> Wish:
    if entry.file_index is not None and entry.file_index in asked:
        return asked[entry.file_index]
    return entry.wish or usual


def _refuse_cancelled(standing: Standing) -> None:
    if standing.status == CANCELLED:
        raise ConfigError(
            f"job {standing.job_id} is cancelled: workers drop its tasks",
            hint="make a new one: worker-glue submit FOLDER --languages CODES",
        )
