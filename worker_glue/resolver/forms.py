"""The forms in which files are asked for, over the few things that a resolver can do: for the real one and the fake."""

from __future__ import annotations

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from syncd.core.resolution import Resolution, State
from worker_glue.errors import LeaseLost, trouble
from worker_glue.ports import Hold
from worker_glue.resolver.holds import renewed

HOLD_TTL_S = 300.0
FILE_TTL_S = 900.0
_AGAIN_S = 0.05
FINAL = frozenset({State.REFUSED, State.AMBIGUOUS, State.NO_MIRROR})
"""What waiting does not change."""

Spelled = str | bytes | os.PathLike[str] | os.PathLike[bytes]
T = TypeVar("T")


def text_of(path: Spelled) -> str:
    """Return a path as plain text; bytes that are no UTF-8 become what is refused later. Raises TypeError."""
    if type(path) is str:
        return path
    found = os.fspath(path)
    return found.decode("utf-8", "surrogateescape") if isinstance(found, bytes) else str.__str__(found)


class Forms(ABC):
    """A resolver for its users. Thread-safe."""

    # -- what there is to know

    def resolve(self, path: Spelled) -> Resolution:
        """Say how a path is, now; nothing is fetched. Never raises for how it is. READY is a snapshot."""
        return self._resolve(text_of(path))

    def ensure(self, path: Spelled, timeout_s: float = 60.0) -> Resolution:
        """Have a path fetched ahead of everything else; how it is at the latest after timeout_s.

        MISSING: it has been looked for on the source since this call began; without a daemon nobody can, and the answer
        is UNAVAILABLE then.
        """
        return self._ensure(text_of(path), max(0.0, timeout_s))

    def hold(self, path: Spelled) -> Hold | Resolution:
        """Take a lease of HOLD_TTL_S on the version that is held now; the resolution where the path is not ready."""
        return self._hold(text_of(path), HOLD_TTL_S)

    @abstractmethod
    def prefetch(self, paths: Iterable[Spelled]) -> int:
        """Have files brought in the background, and return at once: how many of them are ready already.

        Without a daemon that is all that happens.
        """

    # -- what there is to use; these raise FileMissing, FileRefused or FileNotReady

    @contextlib.contextmanager
    def lease(self, path: Spelled, ttl_s: float = HOLD_TTL_S, *, wait_s: float = 0.0) -> Iterator[Hold]:
        """Give a version of a file that stays as it is; the caller renews it before ttl_s (at most 3600) are over.

        wait_s: have it fetched first, if need be, for so long at the most.
        Raises: LeaseLost at the end of a block that ended well, if the bytes did not stay: what was made of them does
                not count.
        """
        spelled = text_of(path)
        hold = self._wait_for(spelled, wait_s, lambda: self._hold(spelled, ttl_s))
        try:
            yield hold
        except BaseException:
            hold.release()
            raise
        if not hold.release():
            raise LeaseLost(f"{hold.server_path} did not stay as it was while it was in use", hint="do the work again")

    @contextlib.contextmanager
    def local_file(self, path: Spelled, wait_s: float = 0.0) -> Iterator[Path]:
        """Give the path of a verified file that stays as it is for the length of the block, however long that is.

        Raises: as lease().
        """
        with self.lease(path, FILE_TTL_S, wait_s=wait_s) as held, renewed(held, FILE_TTL_S / 3):
            yield Path(held.local_path)

    def open(self, path: Spelled, mode: str = "rb", *, wait_s: float = 0.0) -> BinaryIO:
        """Open a verified file for reading: no race lies between the check and the bytes. mode: "rb" only."""
        if mode != "rb":
            raise ValueError(f'files of a mirror are opened with mode "rb", not {mode!r}')
        spelled = text_of(path)
        return open(self._wait_for(spelled, wait_s, lambda: self._open(spelled)), "rb")

    @abstractmethod
    def close(self) -> None:
        """Let connections and handles go; safe to repeat. A later call connects anew."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _wait_for(self, spelled: str, wait_s: float, take: Callable[[], T | Resolution]) -> T:
        deadline = time.monotonic() + wait_s
        pause_s = 0.0
        while True:
            found = take()
            if not isinstance(found, Resolution):
                return found
            left_s = deadline - time.monotonic()
            if left_s <= 0 or (found.state in FINAL and found.state is not State.NO_MIRROR):
                raise trouble(spelled, found)
            answer = self._ensure(spelled, left_s)
            if answer.state is not State.READY:
                raise trouble(spelled, answer)
            time.sleep(min(pause_s, left_s))
            pause_s = _AGAIN_S  # ready, and in flux all the same: somebody is replacing it

    # -- what a resolver can do

    @abstractmethod
    def _resolve(self, spelled: str) -> Resolution: ...

    @abstractmethod
    def _ensure(self, spelled: str, timeout_s: float) -> Resolution: ...

    @abstractmethod
    def _hold(self, spelled: str, ttl_s: float) -> Hold | Resolution: ...

    @abstractmethod
    def _open(self, spelled: str) -> int | Resolution: ...
