"""Large pieces on their way into sinks: threads write and hash them while the next ones arrive.

Writing and SHA-256 cost more time than receiving and decrypting, and all of them work outside of Python's lock. Each
file keeps to one thread, which has its pieces in order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from syncd.ports import Sink

if TYPE_CHECKING:
    from syncd.sources.smb.reading import FileRead

WRITERS = 2

_Piece = tuple["FileRead", Sink, memoryview]
_Done = tuple["FileRead", memoryview, BaseException | None]


class Writer:
    """One thread, started with its first piece. owed: bytes of which Delivering.take() has not told yet."""

    def __init__(self, done: SimpleQueue[_Done]) -> None:
        self.owed = 0
        self._done = done
        self._todo: SimpleQueue[_Piece | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, piece: _Piece) -> None:
        """Write a piece, after those put before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="deliver", daemon=True)
            self._thread.start()
        self._todo.put(piece)

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


class Delivering:
    """Used by one thread, which owns all but the sinks' write(): that is called by the threads started in here.

    owed: bytes of which take() has not told yet. After a file's first error nothing more of it is written.
    """

    def __init__(self) -> None:
        self.owed = 0
        self._done: SimpleQueue[_Done] = SimpleQueue()
        self._writers = [Writer(self._done) for _ in range(WRITERS)]

    def put(self, file: FileRead, sink: Sink, kept: memoryview) -> None:
        """Write a piece, after those of its file put before; `kept` stays as it is until take() gives it back."""
        writer = file.writer
        if writer is None:
            writer = file.writer = min(self._writers, key=lambda each: each.owed)
        writer.owed += len(kept)
        self.owed += len(kept)
        writer.put((file, sink, kept))

    def take(self, wait_s: float | None) -> Iterator[_Done]:
        """Yield what was written, or refused by its sink; wait at most `wait_s` for the first (None: for all)."""
        while self.owed:
            try:
                file, kept, error = self._done.get(block=wait_s != 0, timeout=wait_s)
            except Empty:
                return
            self.owed -= len(kept)
            if file.writer is not None:
                file.writer.owed -= len(kept)
            yield file, kept, error
            if wait_s is not None:
                wait_s = 0

    def end(self) -> None:
        """Wait until nothing is written any more. Safe to repeat."""
        for writer in self._writers:
            writer.end()
