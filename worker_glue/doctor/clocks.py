"""How far the clocks of the other machines are from this one's, in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncd.core.clocks import APART_S, HARM, HARM_S, NTP, Apart, largest
from worker_glue.doctor.checks import Check, fail, ok, warn


def checks(found: Sequence[Apart]) -> Iterator[Check]:
    """Judge the farthest of the clocks that were compared with ours."""
    far = largest(found)
    if far is None:
        return
    seen = f"{far}, the farthest of {len(found)} compared" if len(found) > 1 else str(far)
    if abs(far.offset_s) > HARM_S:
        yield fail("largest difference", f"{seen}: {HARM}", NTP)
    elif abs(far.offset_s) > APART_S:
        yield warn("largest difference", f"{seen}: times in tasks and results will not fit together", NTP)
    else:
        yield ok("largest difference", seen)


def compared(apart: Apart) -> Check:
    """Make the check of one clock; whether its distance does harm, checks() says."""
    if abs(apart.offset_s) > APART_S:
        return warn("clock", str(apart), NTP)
    return ok("clock", str(apart))
