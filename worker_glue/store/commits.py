"""Group commit: what the threads of one process write in the same moment goes into one transaction, synced once."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from worker_glue.errors import StoreFailed
from worker_glue.store.file import open_writer, translated

BATCH = 64
"""Calls in one transaction; other processes wait meanwhile."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]


class _Call:
    """One caller's part of a transaction, and what came of it."""

    __slots__ = ("done", "durable", "error", "value", "work")

    def __init__(self, work: Work, *, durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.done = False
        self.value: Any = None
        self.error: Exception | None = None


class Commits:
    """The writing connection of one process. Any thread: whoever comes first commits for all that wait by then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_writer(path)
        self._pid = os.getpid()
        self._waiting: deque[_Call] = deque()
        self._writing = threading.Lock()
        self._syncs = True

    def run(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Do `work` in a transaction, all of it or nothing; return what it returns, after the commit.

        durable: survives a power cut; otherwise kill -9 only, which costs no sync.
        Raises: StoreFailed, DiskFull, and what work raises.
        """
        if os.getpid() != self._pid:
            raise StoreFailed("this store was opened by another process", hint="open it after the fork")
        call = _Call(work, durable=durable)
        self._waiting.append(call)
        with self._writing:
            while not call.done:
                self._commit([self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))])
        if call.error is not None:
            raise call.error
        return call.value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        with self._writing, translated(self._path):
            self._connection.close()

    def _commit(self, calls: list[_Call]) -> None:
        try:
            self._transact(calls)
        except StoreFailed as error:  # locked, damaged, not writable: it is so for each of them
            for call in calls:
                _end(call, StoreFailed(error.message, hint=error.hint))
        except Exception as error:  # noqa: BLE001  (each caller gets its own back)
            if len(calls) == 1:
                _end(calls[0], error)
                return
            for call in calls:  # no room for one is room for another, and nobody fails for another's mistake
                self._commit([call])
        except BaseException:
            for call in calls:
                _end(call, StoreFailed("interrupted; it is not known whether it was kept"))
            raise

    def _transact(self, calls: list[_Call]) -> None:
        with translated(self._path):
            self._sync(any(call.durable for call in calls))
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                values = [call.work(self._connection) for call in calls]
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        for call, value in zip(calls, values, strict=True):
            call.value, call.done = value, True

    def _sync(self, wanted: bool) -> None:
        """Have the next commit synced, or only handed to the system; a sync covers all commits before it.

        See https://sqlite.org/pragma.html#pragma_synchronous, WAL mode.
        """
        if wanted != self._syncs:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if wanted else 'NORMAL'}")
            self._syncs = wanted


def _end(call: _Call, error: Exception) -> None:
    if not call.done:
        call.error, call.done = error, True
