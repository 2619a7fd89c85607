"""Which tasks of a job have neither result nor error. Pure.

A job that was submitted here has a list of its tasks. The backend keeps none: then only numbers can be told, and the
tasks are put together from a folder, where that is possible without guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from syncd.core.errors import ConfigError
from syncd.core.shown import counted, is_or_are
from worker_glue.desk.ports import Entry, Line, Standing, Wish
from worker_glue.model import basename


class Gap(NamedTuple):
    """What a job without a list lacks. open: how many tasks; numbers: file_index of no entry.

    exact: it is these. Else there are more: an error of an older worker has no number, and of two entries that were
    put together from a folder one may have another's.
    """

    open: int
    numbers: Sequence[int]
    exact: bool


def without_entry(lines: Sequence[Line], entries: Iterable[Entry]) -> list[Line]:
    """Return the tasks of a list that have no entry. An entry without number counts for the first task of its path."""
    keys: set[tuple[int, str]] = set()
    paths: dict[str, int] = {}
    for entry in entries:
        if entry.file_index is None:
            paths[entry.file_path] = paths.get(entry.file_path, 0) + 1
        else:
            keys.add((entry.file_index, entry.file))
    left = []
    for line in lines:
        if (line.file_index, basename(line.file_path)) in keys:
            continue
        if paths.get(line.file_path):
            paths[line.file_path] -= 1
            continue
        left.append(line)
    return left


def gap(standing: Standing, entries: Iterable[Entry]) -> Gap:
    """Return which numbers of a job have no entry."""
    numbers = [entry.file_index for entry in entries]
    total = max(standing.total, standing.published)
    left = sorted(set(range(total)).difference(number for number in numbers if number is not None))
    open_tasks = max(total - len(numbers), 0)
    return Gap(open_tasks, left, len(left) == open_tasks)


def rederive(
    standing: Standing, entries: Sequence[Entry], server_paths: Mapping[str, str], folder: Sequence[str]
) -> list[Line]:
    """Return the lost tasks of a job that the backend published, put together from the folder that it was made of.

    server_paths: each entry's path, as it is spelled -> the file it means; folder: the server paths of its files now.
    A number only has to be free, and each file to have one: so which of them gets which does not matter. What matters
    is that the tasks spell their paths as the lost ones did, that there are as many as lack, and that what was asked
    for is known; else this is refused.
    Raises: ConfigError, which says what is not known.
    """
    left = gap(standing, entries)
    done = {server_paths.get(entry.file_path, entry.file_path) for entry in entries}
    files = [path for path in folder if path not in done]
    if len(files) != left.open:
        there = counted(len(files), "file")
        lack = f"{left.open} of its tasks {is_or_are(left.open)} without entry"
        raise _cannot(f"{lack}, and the folder has {there} without one")
    front = _front(entries, server_paths)
    wish = _wish(entries)
    return [Line(index, front + path, wish) for index, path in zip(left.numbers, files, strict=False)]


def _wish(entries: Sequence[Entry]) -> Wish:
    """Return what the job's tasks ask for. A result names who read it, also where the task left that open."""
    wishes = {entry.wish for entry in entries if entry.wish is not None}
    asked = {wish._replace(provider=None) for wish in wishes}
    if len(asked) != 1:
        raise _cannot("its tasks ask for various things" if asked else "no result tells what languages were asked for")
    return wishes.pop() if len(wishes) == 1 else asked.pop()


def _front(entries: Sequence[Entry], server_paths: Mapping[str, str]) -> str:
    """Return what the job's paths have in front of the server path."""
    fronts = set()
    for entry in entries:
        meant = server_paths.get(entry.file_path)
        if meant is None or not entry.file_path.endswith(meant):
            raise _cannot(f"how it spells its paths is not clear from {entry.file_path!r}")
        fronts.add(entry.file_path.removesuffix(meant))
    if len(fronts) != 1:
        raise _cannot(
            "it has no entry yet to see from how it spells its paths" if not fronts else "it spells variously"
        )
    return fronts.pop()


def _cannot(why: str) -> ConfigError:
    return ConfigError(
        f"the backend keeps no list of a job's tasks, and this job's cannot be put together: {why}",
        hint="make a job of its own of the folder: worker-glue submit FOLDER --languages CODES",
    )
