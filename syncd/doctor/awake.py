"""Whether this machine can be held awake, as `[host] keep_awake` wants it; and how a Mac's sleep is to be seen then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd.awake import Way, attempt, ways
from syncd.doctor import mac
from syncd.doctor.checks import Check, ok, warn


def check_sleep(*, wanted: bool) -> list[Check]:
    """Look at how this machine sleeps, and, where keep_awake is set, whether it can be held. Takes a moment."""
    return [*(mac.check_sleep(held=wanted) if mac.is_mac() else ()), *check_awake(wanted=wanted)]


def check_awake(*, wanted: bool, find: Callable[[], Sequence[Way]] = ways) -> list[Check]:
    """Hold this machine for a moment; nothing where nobody wants it held."""
    if not wanted:
        return []
    way, why = attempt(find)
    if way is None:
        todo = "set keep_awake = false in [host]; or have the machine not sleep by itself while it is to work"
        return [warn("keep awake", f"this machine cannot be held awake while work is in hand: {why}", todo)]
    seen = f"{way.name} holds this machine from {way.what} while work is in hand"
    if way.what == "idle":
        seen += "; a desktop that puts it to sleep by itself is not stopped (no session of yours at the machine)"
    return [ok("keep awake", seen)]
