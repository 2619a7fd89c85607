"""Conditions over time: one beginning and one end of each alert, whatever flickers. Pure.

A condition is told of once it has lasted (its after_s), and its end once it has been away for `hold_s`. One that comes
back within an hour needs twice as long to be over as the last time, up to an hour: so nothing can flood anybody.
Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from syncd.alerts.model import SHARED, Alert
from syncd.alerts.rules import Condition, Judgement

REMEMBERED_S = 3_600.0
QUIET_MAX_S = 3_600.0
QUIET_AGAIN_S = 30.0
"""The least time for which something that has come back must be away before that is told."""


class Watched(NamedTuple):
    """A condition that is there, or was lately. since: when it was first seen like this.

    begun: it has been told of. gone: since when it is away while it is begun, 0 = it is there. ended: when it was over
    last, 0 = never; flaps: how many times within an hour of each other.
    """

    condition: Condition
    since: float
    begun: bool = False
    gone: float = 0.0
    ended: float = 0.0
    flaps: int = 0

    def quiet_s(self, hold_s: float) -> float:
        """Return for how long it must be away to be over."""
        if not self.flaps:
            return hold_s
        return min(max(hold_s, QUIET_AGAIN_S) * 2.0 ** min(self.flaps, 20), QUIET_MAX_S)


def step(
    before: Mapping[str, Watched], judged: Judgement, now: float, hold_s: float, *, slept: bool = False
) -> dict[str, Watched]:
    """Return what is watched after one look.

    slept: it was not looked for a long time, so what lasts is counted from now on.
    """
    after: dict[str, Watched] = {}
    for key in {**before, **judged.conditions}:
        seen, known = judged.conditions.get(key), before.get(key)
        if known is None:
            found = None if seen is None else Watched(seen, now)
        else:
            found = _again(_restarted(known, now) if slept or now < known.since else known, seen, judged, now, hold_s)
        if found is not None:
            after[key] = _begin(found, judged, now) if seen is not None else found
    return after


def _restarted(known: Watched, now: float) -> Watched:
    """Count anew: time in which nobody looked, or that a clock jumped over, proves nothing."""
    return known._replace(since=known.since if known.begun else now, gone=now if known.gone else 0.0)


def _again(known: Watched, seen: Condition | None, judged: Judgement, now: float, hold_s: float) -> Watched | None:
    """Go on with what was watched before; None: forget it."""
    if known.condition.rule in judged.elsewhere:
        return None
    if seen is None and not judged.knows(known.condition):
        return known
    is_there = seen is not None and known.condition.mark in ("", seen.mark)  # "": taken over from another host
    if known.begun:
        return _present(known, seen) if is_there and seen is not None else _away(known, now, hold_s)
    if seen is None:
        return known._replace(since=0.0) if known.ended and now - known.ended < REMEMBERED_S else None
    rested = known.ended > known.since
    moved = seen.mark != known.condition.mark
    return known._replace(condition=seen, since=now if rested or moved else known.since)


def _present(known: Watched, seen: Condition) -> Watched:
    return known._replace(condition=seen, gone=0.0)


def _away(known: Watched, now: float, hold_s: float) -> Watched:
    """It is begun and not there (or has moved): it is over once that lasts."""
    gone = known.gone or now
    if now - gone < known.quiet_s(hold_s):
        return known._replace(gone=gone)
    again = known.ended and now - known.ended < REMEMBERED_S + known.quiet_s(hold_s)
    return known._replace(begun=False, gone=0.0, ended=now, flaps=known.flaps + 1 if again else 1)


def _begin(found: Watched, judged: Judgement, now: float) -> Watched:
    """Begin what has lasted; nothing of this host's own while it is away by plan, and its time counts from then on."""
    if found.begun or found.ended >= now:
        return found
    if judged.away and found.condition.rule not in SHARED:
        return found._replace(since=now)
    return found._replace(begun=True) if now - found.since >= found.condition.after_s else found


def alerts_of(watched: Mapping[str, Watched]) -> dict[str, Alert]:
    """Return the alerts that are on, by key."""
    return {key: _alert(key, each) for key, each in watched.items() if each.begun}


def _alert(key: str, each: Watched) -> Alert:
    told = each.condition
    since = datetime.fromtimestamp(each.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Alert(key, told.rule, told.about, told.text, told.remedy, since)
