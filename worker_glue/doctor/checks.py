"""What a check is, and how long one may take. The form is that of syncd's own doctor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from syncd.core.errors import SyncdError

LIMIT_S = 25.0
"""What one group of checks may take; then it is left behind, and said so."""


class Level(StrEnum):
    """How a check came out; WARN does not make doctor fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(NamedTuple):
    """One check: what was looked at, how it is, what was seen, and what to do about it ("" = nothing)."""

    name: str
    status: Level
    seen: str
    todo: str = ""


class Group(NamedTuple):
    """The checks of one hop. about: in one word; title: for people."""

    about: str
    title: str
    checks: Sequence[Check]

    def as_json(self) -> list[dict[str, Any]]:
        """Return the checks as --json prints them."""
        return [{"group": self.about, **check._asdict(), "status": check.status.value} for check in self.checks]


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
    """Make the check of something that ended with an error."""
    problems = [problem for problem in getattr(error, "problems", ()) if problem != error.message]
    return fail(name, "; ".join([error.message, *problems]), error.hint)


def group(about: str, title: str, look: Callable[[], Iterable[Check]], limit_s: float = LIMIT_S) -> Group:
    """Return the checks that look() makes, as far as it came by the deadline.

    It runs in a thread of its own: a call into a dead mount cannot be interrupted, only left behind.
    """
    made: list[Check] = []
    ended: list[Check] = []

    def go() -> None:
        try:
            for check in look():  # one by one: those before a stall are shown
                made.append(check)  # noqa: PERF402
        except SyncdError as error:
            ended.append(failed(about, error))
        except OSError as error:
            ended.append(fail(about, f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")))
        except Exception as error:  # noqa: BLE001  (one check's mistake must not hide the other checks)
            ended.append(fail(about, f"this check is broken: {type(error).__name__}: {error}", "tell the developers"))

    thread = threading.Thread(target=go, name="check", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        ended.append(fail(about, f"no answer within {limit_s:g} s"))
    return Group(about, title, [*made, *ended])


def worst(groups: Iterable[Group]) -> Level:
    """Return the gravest status among all checks."""
    found = {check.status for each in groups for check in each.checks}
    return next((level for level in (Level.FAIL, Level.WARN) if level in found), Level.OK)
