"""When this machine is to be held awake: while there is work in hand that gets on. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.core.named import NamedTuple

GRACE_S = 15.0
"""It is held so much longer: the next file, or the next task, mostly comes within moments."""
PATIENCE_S = 7_200.0
"""Work that has not got on for so long holds it no more: a job that is stuck must not empty a battery."""


class Work(NamedTuple):
    """What is in hand at one look.

    doing: in words, for people; nothing = nothing is. done: figures that rise while work gets on, by any name; one that
    falls, or was not there before, tells nothing.
    """

    doing: Sequence[str] = ()
    done: Mapping[str, float] = {}


class Wakefulness:
    """Decides at each look whether to hold. Times are monotonic seconds (asleep they may stand still). One thread.

    gave_up: work is in hand, and has not got on for too long; over when it does, or ends.
    """

    def __init__(self, grace_s: float = GRACE_S, patience_s: float = PATIENCE_S) -> None:
        self.gave_up = False
        self.patience_s = patience_s
        self._grace_s = grace_s
        self._working = False
        self._got_on_at = 0.0
        self._until = float("-inf")
        self._done: Mapping[str, float] = {}

    def look(self, work: Work, now: float) -> bool:
        """Say whether this machine is to be held awake now."""
        gets_on = any(figure > self._done.get(name, figure) for name, figure in work.done.items())
        begins = bool(work.doing) and not self._working
        self._done, self._working = work.done, bool(work.doing)
        if gets_on or begins:
            self._got_on_at = now
        self.gave_up = self._working and now - self._got_on_at >= self.patience_s
        if self.gave_up:
            self._until = float("-inf")
        elif self._working:
            self._until = now + self._grace_s
        return now < self._until
