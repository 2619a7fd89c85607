"""What the engine needs to know of one mirror's settings, as a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from syncd.core.filters import Filters
from syncd.core.guard import Caps
from syncd.core.model import RelPath


def _no_floor(total_bytes: int) -> int:
    return 0 * total_bytes


class MirrorRules(NamedTuple):
    """One mirror's rules.

    source_id: which server the fingerprints are from (no secrets). floor: bytes to keep free, from the disk's size.
    rank: fetch order class of a path, lower first. marker: a path that must exist at the source ("" = none).
    """

    name: str
    source_id: str
    filters: Filters = Filters()
    caps: Caps = Caps()
    settle_s: float = 2.0
    trash_days: int = 7
    floor: Callable[[int], int] = _no_floor
    rank: Callable[[RelPath], int] = lambda path: 0 * len(path)
    marker: str = ""


class RunOptions(NamedTuple):
    """How one run was asked for. only: paths or folders; nothing outside them is looked at, nothing is retired."""

    dry_run: bool = False
    only: tuple[RelPath, ...] = ()
