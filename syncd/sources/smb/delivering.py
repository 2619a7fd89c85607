"""Large pieces on their way into sinks: one thread writes and hashes them while the next ones arrive.

Writing and SHA-256 cost as much time as receiving and decrypting, and all of them work outside of Python's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from syncd.ports import Sink

if TYPE_CHECKING:
    from syncd.sources.smb.reading import FileRead

_Piece = tuple["FileRead", Sink, memoryview]
_Done = tuple["FileRead", memoryview, BaseException | None]


class Delivering:
    """Used by one thread, which owns all but the sinks' write(): that is called by the thread started in here.

    owed: bytes of which take() has not told yet. After a file's first error nothing more of it is written.
    """

    def __init__(self) -> None:
        self.owed = 0
        self._todo: SimpleQueue[_Piece | None] = SimpleQueue()
        self._done: SimpleQueue[_Done] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, file: FileRead, sink: Sink, kept: memoryview) -> None:
        """Write a piece, after those put before; `kept` stays as it is until take() gives it back."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="deliver", daemon=True)
            self._thread.start()
        self.owed += len(kept)
        self._todo.put((file, sink, kept))

    def take(self, wait_s: float | None) -> Iterator[_Done]:
        """Yield what was written, or refused by its sink; wait at most `wait_s` for the first (None: for all)."""
        while self.owed:
            try:
                done = self._done.get(block=wait_s != 0, timeout=wait_s)
            except Empty:
                return
            self.owed -= len(done[1])
            yield done
            if wait_s is not None:
                wait_s = 0

    def end(self) -> None:
        """Wait until nothing is written any more. Safe to repeat."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._todo.put(None)
            thread.join()

    def _write_all(self) -> None:
        refused: dict[FileRead, BaseException] = {}
        while (piece := self._todo.get()) is not None:
            file, sink, kept = piece
            error = refused.get(file)
            if error is None:
                try:
                    sink.write(kept)
                except BaseException as exc:  # noqa: BLE001 - told by take(), in the thread that reads
                    error = refused[file] = exc
            self._done.put((file, kept, error))
