"""Change hints of a file:// source (syncd.ports.HintSource), as the operating system tells them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from syncd.core.errors import SourceUnavailable
from syncd.core.model import RelPath
from syncd.ports import Hint
from syncd.watching.following import Following, Pace, Unwatchable

_PACE = Pace(quiet_s=0.05, longest_s=0.25, most=1_000)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0


class LocalWatch:
    """Watches a folder of this machine, whole; focus() changes nothing. Links below the root are not followed.

    shared: tells the type of a file system that other machines write to as well (None for a local one): of their
    changes the operating system says nothing.
    """

    def __init__(self, root: Path, shared: Callable[[Path], str | None] | None = None) -> None:
        self._root = root
        self._shared = shared
        self._kind: str | None = None
        self._closed = threading.Event()
        self._following: Following | None = None
        self._state = "off: not begun"

    @property
    def state(self) -> str:
        """See ports.HintSource."""
        state = self._following.state if self._following is not None else self._state
        if state == "on" and self._kind:
            return f"partly: what other machines change on this {self._kind} file system is not told"
        return state

    def focus(self, directories: Sequence[RelPath]) -> None:
        """See ports.HintSource; everything is watched closely already."""

    def watch(self, tell: Callable[[Hint], None]) -> None:
        """See ports.HintSource."""
        self._following = following = Following(self._root, lambda paths: tell(Hint(paths)), _PACE, folders=True)
        pause_s = _FIRST_PAUSE_S
        while not self._closed.is_set():
            try:
                self._kind = self._shared(self._root) if self._shared is not None else None
                following.run()
            except Unwatchable as error:
                if error.lasting:
                    hint = "changes are found on schedule meanwhile"
                    raise SourceUnavailable(f"{self._root} cannot be watched: {error.why}", hint=hint) from error
                self._closed.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """See ports.HintSource."""
        self._closed.set()
        if self._following is not None:
            self._following.close()
