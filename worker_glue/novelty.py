"""Telling what is new from what has been had: announcements come at least once, and not always in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

REMEMBERED = 100_000


class Novelty:
    """Remembers the newest announcement of each file of each host; the least recent ones are forgotten at a bound.

    A forgotten file's old announcement would be taken for new: what a reader does with one must bear that anyway.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._newest: OrderedDict[tuple[str, str, str], tuple[int, str]] = OrderedDict()

    def is_new(self, event: Mapping[str, Any]) -> bool:
        """Say whether this announcement tells something new, and remember it if it does."""
        key = (event["host"], event["mirror"], event["path"])
        had = self._newest.get(key)
        coming = (event["generation"], event["id"])
        if had is not None and (coming[0] < had[0] or coming == had):
            return False
        self._newest[key] = coming
        self._newest.move_to_end(key)
        if len(self._newest) > self._remembered:
            self._newest.popitem(last=False)
        return True
