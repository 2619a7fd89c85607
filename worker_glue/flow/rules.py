"""What follows from how a task's file is, and from how long the task waits. Pure."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from syncd.core.reasons import MEANING
from syncd.core.resolution import Resolution, State

PAUSED, CANCELLED = "paused", "cancelled"
"""`bulk_jobs.status` under which nothing is done (CONTRACTS section 3)."""

WAITING_SINCE = "waiting_since"
"""Extra field of a task that is passed on while it waits: Unix time since when."""

MISSING_AT = "missing_at"
"""Extra field of such a task whose file was looked for once in vain: when that was, ISO 8601."""

_FAR = 1e11
"""Beyond any time of a clock, and far below what a float holds."""
_WAITS = frozenset({State.FETCHING, State.UNAVAILABLE, State.MISSING})


def must_wait(found: Resolution) -> bool:
    """Say whether asking again may change the answer."""
    return found.state in _WAITS


def permanent(found: Resolution) -> str:
    """Return the error for a path whose state does not change by waiting."""
    meaning = "" if found.reason is None else MEANING[found.reason][0]
    match found.state:
        case State.AMBIGUOUS:
            return f"file path is ambiguous: it may mean {' or '.join(found.candidates) or 'files of several mirrors'}"
        case State.NO_MIRROR:
            return f"file not available: {meaning}"
        case _:
            return f"file refused: {meaning}"


def missing(found: Resolution) -> str:
    """Return the error for a path that was looked for in vain."""
    near = f"; perhaps {' or '.join(found.near)} is meant" if found.near else ""
    as_of = f" (looked twice, last at {found.listed_at})" if found.listed_at else ""
    return f"file missing: it is not on the share{as_of}{near}"


def waited_too_long(found: Resolution | None, waited_s: float) -> str:
    """Return the error for a task whose file did not come in time."""
    why = "" if found is None or found.reason is None else f": {MEANING[found.reason][0]}"
    return f"file not available after waiting {_hours(waited_s)}{why}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"


class Looks:
    """Counts live looks for one missing path: two of them, at least grace_s apart, make it missing for good.

    first: when the first one was, where it was taken before the message was passed on.
    """

    def __init__(self, grace_s: float, first: datetime | None = None) -> None:
        self._grace = timedelta(seconds=grace_s)
        self._first = first

    def enough(self, found: Resolution) -> bool:
        """Take note of one answer; any state but MISSING starts over."""
        at = _time(found.listed_at) if found.state is State.MISSING else None
        if at is None:
            self._first = None
            return False
        if self._first is None or at < self._first:  # or noted by a host whose clock is ahead
            self._first = at
            return False
        return at - self._first >= self._grace

    @property
    def first(self) -> datetime | None:
        """When the first look was, None = not yet."""
        return self._first

    @property
    def looked(self) -> bool:
        """Whether the first look has been taken."""
        return self._first is not None


def _time(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return None if at is None or at.tzinfo is None else at


def waiting_since(body: bytes) -> float | None:
    """Return since when (Unix time) a task waits, as the message itself says; None when it does not."""
    since = _fields(body).get(WAITING_SINCE)
    if isinstance(since, bool) or not isinstance(since, int | float):
        return None
    return float(since) if 0 < since < _FAR else None


def with_waiting_since(body: bytes, since: float) -> bytes:
    """Return the message with the time noted; all else stays as it came, byte for byte."""
    return _noted(body, WAITING_SINCE, round(since, 3))


def missing_at(body: bytes) -> datetime | None:
    """Return when a task's file was looked for in vain, as the message itself says; None when it does not."""
    return _time(_fields(body).get(MISSING_AT))


def with_missing_at(body: bytes, at: datetime | None) -> bytes:
    """Return the message with that time noted, None = nowhere was looked; all else stays as it came."""
    return (
        body
        if at is None and missing_at(body) is None
        else _noted(body, MISSING_AT, None if at is None else at.isoformat())
    )


def _noted(body: bytes, name: str, value: float | str | None) -> bytes:
    fields = _fields(body)
    if not fields or (name in fields and fields[name] == value):
        return body
    # of two equal keys readers take the last
    return b'%s, "%s": %s}' % (body.rstrip()[:-1].rstrip(), name.encode(), json.dumps(value).encode())


def _fields(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
