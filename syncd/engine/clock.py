"""The clocks that the engine goes by, and how a time is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Clock(NamedTuple):
    """The clocks of a run: wall time in ns, and a sleep."""

    now_ns: Callable[[], int] = time.time_ns
    sleep: Callable[[float], None] = time.sleep


def utc_text(now_ns: int) -> str:
    """Return a time as ISO 8601 UTC with seconds."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
