"""What the engine needs to know of one mirror's settings, as a value."""

from __future__ import annotations

import threading
from collections.abc import Callable

from syncd.core.filters import Filters
from syncd.core.guard import Caps
from syncd.core.model import RelPath
from syncd.core.named import NamedTuple

HINT_SETTLE_S = 0.5
"""After a hint a file counts as settled sooner (RULES section 1)."""


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
    """How one run was asked for.

    only: paths or folders; nothing outside them is looked at, nothing is retired. hinted: directories that a hint
    named; these alone are listed (and folders below them that are new), nothing is retired. replaced_before: how many
    held files were replaced after hints since the last whole run: the guard counts them in.
    """

    dry_run: bool = False
    only: tuple[RelPath, ...] = ()
    hinted: tuple[RelPath, ...] = ()
    replaced_before: int = 0

    @property
    def whole(self) -> bool:
        """Whether the run looks at the whole source, so that it may conclude that something is gone."""
        return not (self.only or self.hinted)


class Sharing(NamedTuple):
    """What a run shares with other work on the same mirror at the same time (on-demand fetches, leases, checks).

    writing: held while final names change and facts are committed. yielding: says that somebody waits for a file, so
    that the run takes no new ones.
    """

    writing: threading.RLock
    yielding: Callable[[], bool]
