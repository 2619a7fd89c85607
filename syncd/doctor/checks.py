"""What a check is, and how long one may take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from syncd.core.clocks import Apart
from syncd.core.errors import SourceUnavailable, SyncdError

T = TypeVar("T")

_GRACE_S = 0.5


class Level(StrEnum):
    """How a check came out; WARN does not make doctor fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything may take, in seconds, and how much of a source is looked at.

    whole_s bounds all of doctor; a mirror that is not done by then is shown as far as it came. sample_s: no further
    folder is asked for after it; listing_s: then the listing is given up.
    """

    resolve_s: float = 5.0
    connect_s: float = 6.0
    setup_s: float = 10.0
    stall_s: float = 6.0
    answer_s: float = 6.0
    hops_s: float = 35.0
    check_s: float = 15.0
    sample_s: float = 8.0
    listing_s: float = 15.0
    target_s: float = 10.0
    whole_s: float = 45.0
    folders: int = 200
    entries: int = 50_000


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, how it is, what was seen, and what to do about it ("" = nothing).

    apart: of a check that compared another clock with ours.
    """

    name: str
    status: Level
    seen: str
    todo: str = ""
    apart: Apart | None = None

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status.value, "seen": self.seen, "todo": self.todo}


def ok(name: str, seen: str) -> Check:
    """Make the check of something that is as it should be."""
    return Check(name, Level.OK, seen)


def warn(name: str, seen: str, todo: str = "") -> Check:
    """Make the check of something that works, but that a person should know about."""
    return Check(name, Level.WARN, seen, todo)


def fail(name: str, seen: str, todo: str = "") -> Check:
    """Make the check of something that does not work."""
    return Check(name, Level.FAIL, seen, todo)


def failed(name: str, error: SyncdError) -> Check:
    """Make the check of something that ended with `error`."""
    return fail(name, error.message, error.hint)


def skipped(names: Iterable[str], because: str) -> list[Check]:
    """Make the checks that were not tried, and say why."""
    return [warn(name, f"not tried: {because}") for name in names]


@dataclass(slots=True)
class Group:
    """The checks of one mirror, or (mirror "") of something else, which `about` names in one word.

    about: "host", "mirror", "nsqd", "nsqlookupd", "mongodb", "service" or "daemon". title: the same for people.
    """

    mirror: str
    title: str
    checks: list[Check] = field(default_factory=list)
    about: str = "host"

    def as_json(self) -> list[dict[str, Any]]:
        about = "mirror" if self.mirror and self.about == "host" else self.about
        return [{"group": about, "mirror": self.mirror or None, **check.as_json()} for check in self.checks]


def worst(groups: Iterable[Group]) -> Level:
    """Return the gravest status among all checks."""
    found = {check.status for group in groups for check in group.checks}
    return next((level for level in (Level.FAIL, Level.WARN) if level in found), Level.OK)


def size(count: int) -> str:
    """Return bytes as people read them (units of 1000)."""
    value = float(count)
    units = ["B", "KB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 9.95 else f"{value:.1f} {units[0]}"


class TimedOut(SourceUnavailable):
    """A hop did not end by its deadline."""


def within(limit_s: float, work: Callable[[], T], stop: Callable[[], None] | None = None) -> T:
    """Return what work() returns, or raise what it raises, by the deadline.

    work() runs in a thread of its own: a call into a dead mount cannot be interrupted, only left behind. After limit_s
    seconds stop() is called, which may make it end; if it then still does not, it is left behind.
    Raises: TimedOut.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def go() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # noqa: BLE001 (handed to the caller, whatever it is)
            raised.append(error)

    thread = threading.Thread(target=go, name="check", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        if stop is not None:
            stop()
            thread.join(_GRACE_S)
        if not returned:
            raise TimedOut(f"no answer within {limit_s:.0f} s")
    if raised:
        raise raised[0]
    return returned[0]
