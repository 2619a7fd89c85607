"""Telling MongoDB how a worker is, for status pages on any machine; nothing waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from syncd.core.errors import SyncdError
from worker_glue.errors import JobsRefused

EVERY_S = 30.0
"""How often `sync_workers` is told of a worker."""


def tell(
    beat: Callable[[], None],
    gone: Callable[[], None],
    stop: threading.Event,
    say: Callable[..., Any],
    every_s: float = EVERY_S,
) -> None:
    """Tell until stopped, then that it is gone. say: told of a refusal, once each: no task has to come to show it."""
    said = ""
    while not stop.is_set():
        refused = _refusal(beat)
        if refused is not None and refused.message != said:
            say("mongo.refused", error=refused.message, hint=refused.hint)
        said = "" if refused is None else refused.message
        stop.wait(every_s)
    _refusal(gone)


def _refusal(call: Callable[[], None]) -> JobsRefused | None:
    """Call; that MongoDB is away is told by others."""
    try:
        call()
    except JobsRefused as refused:
        return refused
    except SyncdError:
        return None
    return None
