"""Clocks: ours against a server's, where its protocol tells the time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime

from syncd.config import MirrorSettings
from syncd.core.clocks import APART_S, HARM, HARM_S, NTP, Apart, largest
from syncd.doctor.checks import Check, fail, ok, warn
from syncd.ports import SourceInfo

_SECOND_S = 1.0
_STAMPS = "times in tasks, results and reports are each machine's own, and will not fit together"


def check_clock(info: SourceInfo, mirror: MirrorSettings) -> list[Check]:
    """Compare with a source's clock: settling goes by the server's, told from ours by this difference."""
    if not info.clock_offset_ns:
        return []
    meaning = (
        f"settle ({mirror.settle_s:g} s) goes by the server's clock; what another machine stamps may settle too early"
    )
    return [compare(info.clock_offset_ns / 1e9, "the server's", meaning)]


def compare(offset_s: float, whose: str, meaning: str = _STAMPS) -> Check:
    """Make the check of a clock that is `offset_s` ahead of ours. Whether that does harm, largest_of() says."""
    apart = Apart(whose, offset_s)
    if abs(offset_s) <= APART_S:
        return replace(ok("clock", str(apart)), apart=apart)
    return replace(warn("clock", f"{apart}: {meaning}", NTP), apart=apart)


def largest_of(checks: Iterable[Check]) -> list[Check]:
    """Judge the farthest of all the clocks that these checks compared with ours, in one line."""
    name = "largest difference"
    found = [check.apart for check in checks if check.apart is not None]
    far = largest(found)
    if far is None:
        return []
    seen = f"{far}, the farthest of {len(found)} compared" if len(found) > 1 else str(far)
    if abs(far.offset_s) > HARM_S:
        return [fail(name, f"{seen}: {HARM}", NTP)]
    return [ok(name, seen) if abs(far.offset_s) <= APART_S else warn(name, f"{seen}: {_STAMPS}", NTP)]


def offset_of_date(header: str, asked_at: float, answered_at: float) -> float | None:
    """Return how far the clock behind an HTTP Date header is ahead of ours, in seconds; None when it cannot be told.

    asked_at, answered_at: Unix times. The header counts whole seconds, so the answer is exact to half a second.
    """
    try:
        told = parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return told + _SECOND_S / 2 - (asked_at + answered_at) / 2


def offset_of(told: datetime, asked_at: float, answered_at: float) -> float:
    """Return how far a clock that told an aware time is ahead of ours, in seconds."""
    return told.timestamp() - (asked_at + answered_at) / 2


def now() -> float:
    """Return our clock as Unix time; what is compared with others' is the clock on the wall, not a stopwatch."""
    return time.time()
