"""Which files OCR will find, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from syncd.core.resolution import State
from worker_glue.desk.gathering import Chosen, Gathered, is_folder, locate, meaning
from worker_glue.desk.ports import Line, Paths, Tell, quiet
from worker_glue.tasks.parse import JOB_ID_MAX


class Group(StrEnum):
    """How files stand, as `check` counts them."""

    READY = "ready"
    TO_FETCH = "to_fetch"
    MISSING = "missing"
    REFUSED = "refused"


_GROUPS = {
    State.READY: Group.READY,
    State.FETCHING: Group.TO_FETCH,
    State.UNAVAILABLE: Group.TO_FETCH,
    State.MISSING: Group.MISSING,
    State.NO_MIRROR: Group.MISSING,
    State.REFUSED: Group.REFUSED,
    State.AMBIGUOUS: Group.REFUSED,
}


class Checked(NamedTuple):
    """How the files stand. troubles: names that are no documents. done: tasks of a job that need their file no more."""

    files: Sequence[Chosen]
    troubles: Sequence[str] = ()
    done: int = 0

    def of(self, group: Group) -> list[Chosen]:
        """Return the files of one group."""
        return [each for each in self.files if _GROUPS[each.found.state] is group]

    @property
    def counts(self) -> dict[str, int]:
        """How many files are in each group."""
        return {group.value: len(self.of(group)) for group in Group}

    @property
    def bytes_ready(self) -> int:
        """Bytes of the files that are ready."""
        return sum(each.found.size or 0 for each in self.files)

    @property
    def all_ready(self) -> bool:
        """Whether OCR finds everything."""
        return not self.troubles and all(each.found.state is State.READY for each in self.files)

    def as_json(self) -> dict[str, Any]:
        """Return the object of `worker-glue check --json`: all that is not ready is listed."""
        return {
            **self.counts,
            "done": self.done,
            "bytes_ready": self.bytes_ready,
            "files": [as_json(each) for each in self.files if each.found.state is not State.READY],
            "troubles": list(self.troubles),
        }


def as_json(chosen: Chosen) -> dict[str, Any]:
    """Return one file as --json tells it."""
    found = chosen.found
    return {
        "path": chosen.path,
        "state": found.state.value,
        "group": _GROUPS[found.state].value,
        "reason": None if found.reason is None else found.reason.value,
        "why": "" if found.state is State.READY else meaning(found),
        "hint": found.hint,
        "near": list(found.near),
        "candidates": list(found.candidates),
    }


def of_gathered(gathered: Gathered) -> Checked:
    """Check what folders and files came to."""
    named = [Chosen(each.word, each.found) for each in gathered.troubles if each.found is not None]
    troubles = [each.why for each in gathered.troubles if each.found is None]
    return Checked((*gathered.files, *gathered.left_out, *named), troubles)


def of_lines(lines: Sequence[Line], done: int, paths: Paths, tell: Tell = quiet) -> Checked:
    """Check the files of a job's open tasks. done: how many tasks need no file any more."""
    files = []
    for count, line in enumerate(lines, 1):
        files.append(Chosen(line.file_path, paths.resolve(line.file_path)))
        tell("resolve", count, len(lines))
    return Checked(files, done=done)


def again(checked: Checked, paths: Paths, tell: Tell = quiet) -> Checked:
    """Look again at what was not ready."""
    files = []
    for count, each in enumerate(checked.files, 1):
        ready = each.found.state is State.READY
        files.append(each if ready else Chosen(each.path, locate(each.path, paths)))
        tell("resolve", count, len(checked.files))
    return checked._replace(files=files)


def may_be_job(word: str, paths: Paths) -> bool:
    """Say whether a word may be a job's id: it is no path that means anything here."""
    if "/" in word or "\\" in word or len(word) > JOB_ID_MAX:
        return False
    found = paths.resolve(word)
    return not is_folder(found) and found.state is not State.READY
