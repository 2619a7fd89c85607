"""Server paths -> verified local files, over all mirrors of this host: core.resolution decides, this looks.

A few small reads of the catalogue and one open of the file; nothing is written and the source is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from syncd.core.errors import Scope, SyncdError
from syncd.core.model import LocalStat, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.core.resolution import (
    NOBODY,
    UNAVAILABLE_S,
    UNVERIFIED_S,
    Candidate,
    Look,
    Resolution,
    State,
    decide,
    decide_in,
    judge,
    places,
    ready,
    unverified,
)
from syncd.core.spelling import Spellings, SpellingTable


class Facts(Protocol):
    """What is asked of one mirror's catalogue. Any thread. Raises CatalogueError."""

    def look_up(self, path: RelPath) -> Look:
        """Return what is known of one path."""

    def fault_above(self, path: RelPath) -> Unheld | None:
        """Return why a folder above a path was not listed to its end, None when all were."""

    def near_names(self, path: RelPath) -> Sequence[RelPath]:
        """Return held paths that may be meant by a path that is not known."""


class OpenMirror(Protocol):
    """What is asked of one mirror's folder."""

    def stat_open(self, path: RelPath) -> LocalStat | None:
        """Open a file without following links; its descriptor's stat, None when it is not there."""


class KnownMirror(NamedTuple):
    """One mirror, as the resolver sees it.

    excludes: says whether the configuration leaves a path out. use: gives the open folder for the length of a block;
    raises TargetMissing and the like. target: where the folder is, absolute.
    """

    name: str
    spellings: Spellings
    facts: Facts
    excludes: Callable[[RelPath], bool]
    use: Callable[[], AbstractContextManager[OpenMirror]]
    target: str


class Resolver:
    """Resolves paths. Immutable and thread-safe: where mirrors come or go, a new one is made.

    suspect: told of a held file that is not as its record says, so that it is re-hashed; returns at once.
    """

    def __init__(self, mirrors: Sequence[KnownMirror], suspect: Callable[[str, RelPath], None]) -> None:
        self._mirrors = {mirror.name: mirror for mirror in mirrors}
        self._table = SpellingTable([mirror.spellings for mirror in mirrors])
        self._suspect = suspect

    def resolve(self, spelled: str, *, near: bool = True) -> Resolution:
        """Say what a spelling means and how it is. Never raises for what a text or a file is like.

        READY is a snapshot: the stat of a descriptor opened just now is the record's, and the record is what the last
        complete look at the source showed. near: name what may be meant by what is missing (milliseconds).
        Raises: CatalogueError.
        """
        found = decide(spelled, self._table, self, near=near)
        return self._settle(found, lambda: decide(spelled, self._table, self, near=near))

    def resolve_in(self, mirror: str, path: RelPath) -> Resolution:
        """Say how a path of a mirror is; NO_MIRROR where there is no such mirror. Raises: CatalogueError."""
        if mirror not in self._mirrors:
            return NOBODY.answer(State.NO_MIRROR, Reason.NO_MIRROR)
        return self._settle(decide_in(mirror, path, self), lambda: decide_in(mirror, path, self))

    def places(self, spelled: str) -> Sequence[tuple[str, RelPath]]:
        """Return where a file may lie that is spelled without its mirror, and that no listing knows: (mirror, path)."""
        return places(spelled, self._table, self)

    def _settle(self, found: Candidate | Resolution, again: Callable[[], Candidate | Resolution]) -> Resolution:
        """Verify what a path means; one that fails is looked at again: it may have been replaced meanwhile."""
        answer, suspicious = self._judged(found)
        if suspicious:
            answer, suspicious = self._judged(again())
        if suspicious:
            self._suspect(answer.mirror, RelPath(answer.path))
        return answer

    def _judged(self, found: Candidate | Resolution) -> tuple[Resolution, bool]:
        """Return the answer, and whether it is that a held file is not as its record says."""
        if isinstance(found, Resolution):
            return found, False
        answer = judge(found)
        if answer is not None:
            return self._fetchable(found, answer), False
        answer = self._verified(found)
        return answer, answer.state is State.FETCHING

    def _verified(self, found: Candidate) -> Resolution:
        """READY, or why the file that is held cannot be served as it lies."""
        mirror = self._mirrors[found.mirror]
        try:
            with mirror.use() as opened:
                try:
                    local = opened.stat_open(found.path)
                except SyncdError as error:
                    if error.scope is not Scope.FILE:
                        raise
                    return found.answer(State.FETCHING, error.reason, UNVERIFIED_S)
        except SyncdError as error:
            return _unavailable(found, error)
        if found.look.record is not None and local == found.look.record.local:
            return ready(found, mirror.target)
        return unverified(found, local)

    def _fetchable(self, found: Candidate, answer: Resolution) -> Resolution:
        """Turn FETCHING into UNAVAILABLE where a target that was there is not: nothing can arrive."""
        if answer.state is State.FETCHING and found.look.listed_at:
            try:
                with self._mirrors[found.mirror].use():
                    pass
            except SyncdError as error:
                return _unavailable(found, error)
        return answer

    # -- what core.resolution asks

    def look(self, mirror: str, path: RelPath) -> Look:
        """Return what is known of a path."""
        return self._mirrors[mirror].facts.look_up(path)

    def excludes(self, mirror: str, path: RelPath) -> bool:
        """Say whether the configuration leaves a path out."""
        return self._mirrors[mirror].excludes(path)

    def fault_above(self, mirror: str, path: RelPath) -> Unheld | None:
        """Return why a folder above a path was not listed."""
        return self._mirrors[mirror].facts.fault_above(path)

    def near(self, mirror: str, path: RelPath) -> Sequence[RelPath]:
        """Return held paths that may be meant instead."""
        return self._mirrors[mirror].facts.near_names(path)


def _unavailable(found: Candidate, error: SyncdError) -> Resolution:
    return found.answer(State.UNAVAILABLE, error.reason, UNAVAILABLE_S, error.hint)
