"""What the resolver answers (RULES section 4), and how it decides. Values and rules; the look-ups are the caller's.

decide() names the one file that a spelling means, or says why there is none; judge() says whether that file may be
served as far as the catalogue knows; only what is then verified on disk becomes ready().
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from shlex import quote
from typing import Any, Protocol

from syncd.core import paths
from syncd.core.model import LocalStat, RelPath, Unheld
from syncd.core.model import Look as Look  # it belongs to what decide() and judge() take
from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason, hint_for
from syncd.core.spelling import Reading, Readings, SpellingTable, malformed, variants
from syncd.core.wire import server_path

NEAR = 3
NEVER_LISTED_S, WAITS_S, FAILED_S, UNVERIFIED_S, UNAVAILABLE_S, HELD_BACK_S = 5.0, 2.0, 10.0, 1.0, 10.0, 60.0
"""When to ask again, by why it is not ready."""

PERMANENT = frozenset(reason for reason in Reason if reason.startswith("name_")) | {
    Reason.CASE_TWIN,
    Reason.UNICODE_TWIN,
    Reason.LINK,
    Reason.SPECIAL_FILE,
    Reason.DENIED,
    Reason.PATH_UNSAFE,
    Reason.PATH_COLLISION,
}
"""Why a listed file is not held, where nothing changes without a person's help."""

NOT_NOW = frozenset(
    {Reason.DISK_FULL, Reason.SOURCE_UNAVAILABLE, Reason.SOURCE_VANISHED, Reason.AUTH_FAILED, Reason.TIMEOUT}
)
"""Why a listed file is not held, where it is the source or the target that cannot be asked."""

COMES_AGAIN = frozenset({Reason.LOST, Reason.LOCAL_CHANGED, Reason.DAMAGED, Reason.CHANGED})
"""Why a listed file is not held any more, where it was, and is about to be fetched again."""

_RANK = itemgetter(0)
_new = tuple.__new__  # a third of what calling a named tuple's class costs, for what every answer takes
_VETOED = re.compile(r"(?:^|/)(?:\._[^/]*|\.DS_Store|Thumbs\.db)(?:/|$)", re.IGNORECASE | re.ASCII)


class State(StrEnum):
    """How a path is, for a worker that wants its file."""

    READY = "ready"
    FETCHING = "fetching"
    MISSING = "missing"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"
    UNAVAILABLE = "unavailable"
    NO_MIRROR = "no_mirror"


_READY = State.READY


class Resolution(NamedTuple):
    """One answer. Only READY has local_path, size, sha256 and generation.

    mirror, path: what the spelling means ("" while that is not known); server_path: mirror/path. reason: why it is not
    ready; hint: the operator's next step. retry_after_s: when asking again makes sense (None: not by itself).
    listed_at: the complete look at the source that this goes by (ISO 8601 UTC, "" = none). near: paths that may be
    meant, at most three; candidates: for AMBIGUOUS, the server paths of all readings.
    """

    state: State
    mirror: str = ""
    path: str = ""
    server_path: str = ""
    local_path: str | None = None
    size: int | None = None
    sha256: str | None = None
    generation: int | None = None
    reason: Reason | None = None
    hint: str = ""
    retry_after_s: float | None = None
    listed_at: str = ""
    near: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object of `POST /api/v1/resolve` (DESIGN 4.5)."""
        return {
            "state": self.state.value,
            "mirror": self.mirror or None,
            "path": self.path or None,
            "server_path": self.server_path or None,
            "local_path": self.local_path,
            "size": self.size,
            "sha256": self.sha256,
            "generation": self.generation,
            "reason": None if self.reason is None else self.reason.value,
            "hint": self.hint,
            "retry_after_s": self.retry_after_s,
            "listed_at": self.listed_at or None,
            "near": list(self.near),
            "candidates": list(self.candidates),
        }


# --- the decision ----------------------------------------------------------------------------------------------------


class Asked(Protocol):
    """What a decision asks for; cheap, since it is asked for each reading of a path."""

    def look(self, mirror: str, path: RelPath) -> Look:
        """Return what is known of a path."""

    def excludes(self, mirror: str, path: RelPath) -> bool:
        """Say whether the configuration leaves a path out."""

    def fault_above(self, mirror: str, path: RelPath) -> Unheld | None:
        """Return why a folder above a path was not listed, None when all were."""

    def near(self, mirror: str, path: RelPath) -> Sequence[RelPath]:
        """Return held paths that may be meant instead."""


class Candidate(NamedTuple):
    """The one file that a spelling means."""

    mirror: str
    path: RelPath
    look: Look

    def answer(self, state: State, reason: Reason, retry_after_s: float | None = None, hint: str = "") -> Resolution:
        """Return why it is not ready."""
        named = server_path(self.mirror, self.path) if self.mirror else ""
        return Resolution(
            state,
            self.mirror,
            self.path,
            named,
            reason=reason,
            hint=hint or hint_for(reason, named, self.mirror),
            retry_after_s=retry_after_s,
            listed_at=self.look.listed_at,
        )


NOBODY = Candidate("", RelPath(""), Look())
"""Stands for what a spelling means while that is not known."""


def decide(spelled: str, table: SpellingTable, asked: Asked, *, near: bool = True) -> Candidate | Resolution:
    """Return the one listed file that a spelling means, or the answer to a spelling that means none, or several.

    The most specific reading wins; a less specific one, or another form of the text, counts only once every mirror that
    a better one can fall in has been listed to its end. Any text whatever gets an answer. near: look for near names of
    what is missing, which takes a hundred times as long as the rest.
    """
    reason = malformed(spelled)
    if reason is not None:
        return NOBODY.answer(State.REFUSED, reason)
    first: Readings | None = None
    for text in variants(spelled):
        readings = table.read(text)
        first = first or readings
        if readings.crowded:
            return NOBODY.answer(State.REFUSED, Reason.PATH_MALFORMED)
        found = _probe(readings.readings, asked)
        if found is not None:
            return found
    return _unknown(first or Readings((), False, ()), asked, near)


def decide_in(mirror: str, path: RelPath, asked: Asked) -> Candidate | Resolution:
    """Return what decide() would for a path whose mirror is known."""
    reason = malformed(path) if path else None
    if reason is not None:
        return NOBODY.answer(State.REFUSED, reason)
    readings = [Reading(1, mirror, path)]
    return _probe(readings, asked) or _unknown(Readings(readings, False, path.split("/")), asked, near=True)


def places(spelled: str, table: SpellingTable, asked: Asked) -> Sequence[tuple[str, RelPath]]:
    """Return (mirror, path) of each place that a path may mean which names no mirror, and which no listing knows."""
    if malformed(spelled) is not None:
        return ()
    bare = [reading for reading in table.read(next(variants(spelled))).readings if reading.rank == 0]
    return [
        (mirror, path) for _, mirror, path in bare if path and _unfit(path) is None and not asked.excludes(mirror, path)
    ]


def judge(candidate: Candidate) -> Resolution | None:
    """Say why a listed file cannot be served; None when what is held is current and has only to be verified.

    Current is what the last complete look showed: a held file that was listed with other bytes, which have not come
    yet, is not. One that a look missed is: absence takes two.
    """
    _, _, look = candidate
    if look.unheld is not None:
        return _not_held(candidate, look.unheld.reason)
    if look.record is None:
        return candidate.answer(State.FETCHING, Reason.NEW, WAITS_S)
    if look.held_back:
        hint = f"syncd approve --mirror {quote(candidate.mirror)}"
        return candidate.answer(State.FETCHING, Reason.TOO_MANY_CHANGES, HELD_BACK_S, hint)
    return None


def ready(candidate: Candidate, target: str) -> Resolution:
    """Return the answer for a file that was verified just now. target: the mirror's folder, absolute."""
    mirror, path, look = candidate
    record = look.record
    if record is None:
        raise ValueError(f"{path} is not held")
    served, local = server_path(mirror, path), f"{target}/{path}"
    held = record.size, record.sha256, record.generation
    return _new(Resolution, (_READY, mirror, path, served, local, *held, None, "", None, look.listed_at, (), ()))


def unverified(candidate: Candidate, local: LocalStat | None) -> Resolution:
    """Return the answer for a held file whose local stat (None: nothing lies there) is not its record's."""
    return candidate.answer(State.FETCHING, Reason.LOST if local is None else Reason.LOCAL_CHANGED, UNVERIFIED_S)


def _not_held(candidate: Candidate, reason: Reason) -> Resolution:
    if reason in PERMANENT:
        return candidate.answer(State.REFUSED, reason)
    if reason in NOT_NOW:
        return candidate.answer(State.UNAVAILABLE, reason, UNAVAILABLE_S)
    return candidate.answer(
        State.FETCHING, reason, WAITS_S if reason is Reason.UNSETTLED or reason in COMES_AGAIN else FAILED_S
    )


# --- one text's readings ---------------------------------------------------------------------------------------------


def _probe(readings: Sequence[Reading], asked: Asked) -> Candidate | Resolution | None:
    """Return what these readings mean; None when none of them was listed, in mirrors that all have been."""
    if readings and (len(readings) == 1 or readings[0].rank > readings[1].rank):
        _, mirror, path = readings[0]
        look = asked.look(mirror, path)
        if path and look.file:
            return _new(Candidate, (mirror, path, look))  # nothing else can win: almost all files are found like this
    unlisted = folder = None
    for _, group in groupby(readings, key=_RANK):
        found = [Candidate(mirror, path, asked.look(mirror, path)) for _, mirror, path in group]
        files = [each for each in found if each.look.file and each.path]
        if files:
            if unlisted is None and len(files) == 1:
                unlisted = _may_still_come(found, asked) if len(found) > 1 else None
            if unlisted is not None:
                break
            return files[0] if len(files) == 1 else _ambiguous(files)
        unlisted = unlisted or _may_still_come(found, asked)
        folder = folder or next((each for each in found if each.look.folder or not each.path), None)
    if unlisted is not None:
        return _likeliest(readings, asked).answer(State.FETCHING, Reason.NEVER_LISTED, NEVER_LISTED_S)
    return None if folder is None else folder.answer(State.REFUSED, Reason.FOLDER)


def _may_still_come(found: Sequence[Candidate], asked: Asked) -> Candidate | None:
    """Return a candidate whose mirror has never been listed to its end, so that it may turn out to be there."""
    for each in found:
        mirror, path, look = each
        if not look.listed_at and not look.file and path and _unfit(path) is None and not asked.excludes(mirror, path):
            return each
    return None


def _ambiguous(files: Sequence[Candidate]) -> Resolution:
    meant = tuple(server_path(mirror, path) for mirror, path, _ in files)
    return NOBODY.answer(State.AMBIGUOUS, Reason.AMBIGUOUS)._replace(candidates=meant)


def _likeliest(readings: Sequence[Reading], asked: Asked) -> Candidate:
    """Return which of the most specific readings is meant as far as can be told; NOBODY when it cannot.

    That in whose mirror the path's folder is known; else the one that no complete look denies.
    """
    best = [
        Candidate(mirror, path, asked.look(mirror, path))
        for rank, mirror, path in readings
        if rank == readings[0].rank and path
    ]
    if len(best) > 1:
        nearness = [_nearness(each, asked) for each in best]
        best = [each for each, near in zip(best, nearness, strict=True) if near == max(nearness)]
    if len(best) > 1:
        best = [each for each in best if not each.look.listed_at]
    return best[0] if len(best) == 1 else NOBODY


def _nearness(candidate: Candidate, asked: Asked) -> int:
    mirror, path, _ = candidate
    above = paths.split(path)[0]
    if not above:
        return 0
    return 2 * asked.look(mirror, above).folder or int(_knows_top(candidate, asked))


def _knows_top(candidate: Candidate, asked: Asked) -> bool:
    mirror, path, _ = candidate
    return asked.look(mirror, RelPath(path.partition("/")[0])).folder


def _unknown(readings: Readings, asked: Asked, near: bool) -> Resolution:
    """Answer for a spelling that no listing knows, in mirrors that have all been listed."""
    if not readings.readings:
        if readings.absolute:
            return NOBODY.answer(State.REFUSED, Reason.OUTSIDE)
        return NOBODY.answer(State.NO_MIRROR, Reason.NO_MIRROR)
    fit: list[Reading] = []
    refusals: list[Resolution] = []
    for reading in readings.readings:
        candidate = Candidate(reading.mirror, reading.path, Look())
        reason = _unfit(reading.path) or _excluded(candidate, asked)
        if reason is None:
            fit.append(reading)
        else:
            refusals.append(candidate.answer(State.REFUSED, reason))
    return _missing(fit, readings, asked, near) if fit else refusals[0]


def _missing(fit: Sequence[Reading], readings: Readings, asked: Asked, near: bool) -> Resolution:
    best = [Candidate(mirror, path, Look()) for rank, mirror, path in fit if rank == fit[0].rank]
    for mirror, path, _ in best:
        fault = asked.fault_above(mirror, path)
        if fault is not None:
            return _not_held(Candidate(mirror, path, asked.look(mirror, path)), fault.reason)
    if fit[0].rank == 0 and len(readings.parts) > 1 and not any(_knows_top(each, asked) for each in best):
        return NOBODY.answer(State.NO_MIRROR, Reason.NO_MIRROR)
    meant = _likeliest(fit, asked)
    listed_at = meant.look.listed_at or min(asked.look(mirror, path).listed_at for mirror, path, _ in best)
    answer = meant.answer(State.MISSING, Reason.NOT_LISTED)._replace(listed_at=listed_at)
    if not near:
        return answer
    alike = [server_path(mirror, found) for mirror, path, _ in best for found in asked.near(mirror, path)]
    return answer._replace(near=tuple(alike[:NEAR]))


def _unfit(path: RelPath) -> Reason | None:
    """Say why no mirror can hold a file of this path."""
    if len(path) > paths.MAX_PATH_BYTES // 4 and len(path.encode()) > paths.MAX_PATH_BYTES:
        return Reason.NAME_TOO_LONG
    return next((reason for name in path.split("/") if (reason := paths.refuse_name(name)) is not None), None)


def _excluded(candidate: Candidate, asked: Asked) -> Reason | None:
    mirror, path, _ = candidate
    if not asked.excludes(mirror, path):
        return None
    return Reason.VETOED if _VETOED.search(path) else Reason.EXCLUDED
