"""Change hints of a source in memory: the reference for ports.HintSource, with knobs for tests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from syncd.core.errors import SourceAuthFailed, SourceUnavailable
from syncd.core.model import RelPath
from syncd.ports import Hint
from syncd.sources.memory import MemorySource

_LOOK_S = 0.02


class MemoryWatch:
    """Tells of every edit of a MemorySource. focused: what focus() last asked for.

    Knobs: cannot_tell (why this source has no hints), lose() (a connection; the source's `down` keeps it lost), and
    hint(), for a hint that no edit stands behind. The source's refuse_login holds here too.
    """

    def __init__(self, source: MemorySource) -> None:
        self.focused: tuple[RelPath, ...] = ()
        self.cannot_tell = ""
        self._source = source
        self._news = threading.Condition()
        self._owed: deque[Hint] = deque()
        self._lost = False
        self._closed = False
        self._state = "off: not begun"

    @property
    def state(self) -> str:
        """See ports.HintSource."""
        return self._state

    # --- knobs

    def hint(self, *directories: str) -> None:
        """Tell of these directories; of everything when there are none."""
        self._owe(Hint(frozenset(map(RelPath, directories)) if directories else None))

    def lose(self) -> None:
        """Lose the connection: what was not told yet never is, and everything is told once it is there again."""
        with self._news:
            self._lost = True
            self._owed.clear()
            self._news.notify_all()

    # --- ports.HintSource

    def watch(self, tell: Callable[[Hint], None]) -> None:
        """See ports.HintSource."""
        edited = self._edited
        self._source.listeners.append(edited)
        try:
            while self._connect():
                tell(Hint(None))
                self._follow(tell)
        finally:
            self._source.listeners.remove(edited)

    def focus(self, directories: Sequence[RelPath]) -> None:
        """See ports.HintSource."""
        self.focused = tuple(directories)

    def close(self) -> None:
        """See ports.HintSource."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    # --- inside

    def _edited(self, directory: str) -> None:
        self._owe(Hint(frozenset([RelPath(directory)])))

    def _owe(self, hint: Hint) -> None:
        with self._news:
            self._owed.append(hint)
            self._news.notify_all()

    def _connect(self) -> bool:
        """Wait until the source is up; False once closed."""
        with self._news:
            while self._source.down and not self._closed:
                self._state = "off: the source in memory is down"
                self._news.wait(_LOOK_S)
            if self._closed:
                self._state = "off: closed"
                return False
            self._raise_if_hopeless()
            self._lost = False
            self._state = "on"
            return True

    def _raise_if_hopeless(self) -> None:
        if self._source.refuse_login:
            self._state = "off: the source in memory refuses the login"
            self._source.refused_logins += not self._source.refused_logins  # the same secret is not tried again
            raise SourceAuthFailed("the source in memory refuses the login")
        if self.cannot_tell:
            self._state = f"off: {self.cannot_tell}"
            raise SourceUnavailable(self.cannot_tell)

    def _follow(self, tell: Callable[[Hint], None]) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._owed or self._lost or self._closed)
                if self._lost or self._closed:
                    return
                hint = self._owed.popleft()
            tell(hint)
