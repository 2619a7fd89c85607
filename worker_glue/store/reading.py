"""The store as an operator's command reads it, beside running workers or without any; nothing is written."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from worker_glue.model import Counts, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store.file import open_reader, translated
from worker_glue.store.rows import Settled, pack_job, pack_key, settled, text_in, unpack, unpack_key

CHUNK = 500

_KEPT = "EXISTS (SELECT 1 FROM texts WHERE texts.task = {0}.task)"
_SETTLED = f"SELECT seq, task, brief, saved, at, worker, {_KEPT.format('settled')} FROM settled"  # noqa: S608
_OWED = "SELECT seq, task, brief, NULL, at, worker, 1 FROM owed"


class Reading:
    """A store that is only looked at. Thread-safe. Each chunk of rows is a short read of its own."""

    def __init__(self, path: Path) -> None:
        """Raises: StoreFailed, also where there is none."""
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection = open_reader(path)

    def settled(self, job_id: str | None = None) -> Iterator[Settled]:
        """Return what is left of the outcomes that MongoDB has answered in the last 30 days; of one job, or of all."""
        return self._listed(_SETTLED, job_id)

    def owed(self, job_id: str | None = None) -> Iterator[Settled]:
        """Return the outcomes that MongoDB has not answered yet, the oldest first, in the same form (saved is None)."""
        return self._listed(_OWED, job_id)

    def outcome_of(self, key: TaskKey) -> Outcome | None:
        """Return a task's outcome as it was made, while it is owed or where it was too large for MongoDB."""
        task = pack_key(key)
        for table in ("texts", "owed"):
            found = self._rows(f"SELECT outcome FROM {table} WHERE task = ?", task)  # noqa: S608  (names are ours)
            if found:
                return unpack(task, found[0][0])
        return None

    def text_of(self, key: TaskKey) -> str | None:
        """Return the whole text that OCR read of a task, where the store has it (see outcome_of)."""
        outcome = self.outcome_of(key)
        return None if outcome is None else text_in(outcome.entry)

    def counts(self) -> Counts:
        """Return how many outcomes are owed."""
        ((owed, oldest),) = self._rows("SELECT count(*), min(at) FROM owed")
        return Counts(owed, oldest)

    def buried(self) -> int:
        """Return how many messages wait for the dead topic."""
        return int(self._rows("SELECT count(*) FROM buried")[0][0])

    def failing(self, limit: int = 1_000) -> list[tuple[TaskKey, int, float]]:
        """Return tasks whose OCR began and came to no end: (task, how often, Unix time of the last start)."""
        query = "SELECT task, count(*), max(at) FROM starts GROUP BY task ORDER BY max(at) DESC LIMIT ?"
        rows = self._rows(query, limit)
        return [(unpack_key(task), times, at) for task, times, at in rows]

    def close(self) -> None:
        """Close the file; safe to repeat."""
        with self._lock, translated(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listed(self, query: str, job_id: str | None) -> Iterator[Settled]:
        of_job = "" if job_id is None else " AND job = ?"
        last, parameters = -1, () if job_id is None else (pack_job(job_id),)
        while rows := self._rows(f"{query} WHERE seq > ?{of_job} ORDER BY seq LIMIT {CHUNK}", last, *parameters):
            for last, task, told, saved, at, worker, kept in rows:  # noqa: B007  (where the next chunk begins)
                yield settled(task, told, Saved(saved) if saved else None, at, worker, text_kept=bool(kept))

    def _rows(self, query: str, *parameters: object) -> list[Any]:
        with self._lock, translated(self.path):
            return self._connection.execute(query, parameters).fetchall()
