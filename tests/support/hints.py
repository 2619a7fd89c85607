"""A HintSource that is watched by a thread, and what it told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from syncd.core.model import RelPath
from syncd.ports import Hint, HintSource

TOLD_WITHIN_S = 15.0
CLOSED_WITHIN_S = 2.0


class Told:
    """Everything told so far; waits for more."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.error: Exception | None = None
        self.ended = False
        self._news = threading.Condition()

    def tell(self, hint: Hint) -> None:
        with self._news:
            self.hints.append(hint)
            self._news.notify_all()

    def run(self, source: HintSource) -> None:
        try:
            source.watch(self.tell)
        except Exception as error:
            self.error = error
        with self._news:
            self.ended = True
            self._news.notify_all()

    def mark(self) -> int:
        """Return a place in the story, for `since`."""
        return len(self.hints)

    def count(self, hints: int) -> None:
        """Wait until so many hints were told."""
        self._wait(lambda: len(self.hints) >= hints, f"{hints} hints")

    def everything(self, since: int = 0) -> None:
        """Wait for a Hint(None)."""
        self._wait(lambda: any(each.directories is None for each in self.hints[since:]), "a hint of everything")

    def of(self, *directories: str, since: int = 0) -> None:
        """Wait until every one of these directories was told, by its name or by "everything"."""

        def all_told() -> bool:
            told = self.hints[since:]
            if any(each.directories is None for each in told):
                return True
            return {RelPath(each) for each in directories} <= self.directories(since)

        self._wait(all_told, f"hints of {directories}")

    def directories(self, since: int = 0) -> set[RelPath]:
        """Return the directories that were told by name."""
        return {each for hint in self.hints[since:] for each in hint.directories or ()}

    def end(self) -> None:
        """Wait until watch() has returned or raised."""
        self._wait(lambda: self.ended, "the end of watch()")

    def _wait(self, condition: object, what: str) -> None:
        with self._news:
            came = self._news.wait_for(condition, TOLD_WITHIN_S)  # type: ignore[arg-type]
        assert came, f"{what} did not come; told: {self.hints[-20:]}, error: {self.error}"


@contextlib.contextmanager
def watching(source: HintSource) -> Iterator[Told]:
    """Watch in a thread as long as the block lasts; close() must end it in time."""
    told = Told()
    thread = threading.Thread(target=told.run, args=(source,), name="test-watch", daemon=True)
    thread.start()
    try:
        yield told
    finally:
        began = time.monotonic()
        source.close()
        thread.join(2 * CLOSED_WITHIN_S)
        took = time.monotonic() - began
    assert not thread.is_alive(), "close() did not end watch()"
    assert took < CLOSED_WITHIN_S, f"close() took {took:.1f} s"
