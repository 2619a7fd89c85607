"""ports.Store in one SQLite file, for all workers of a host: processes, and threads of each."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from worker_glue.model import Counts, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store.commits import Commits
from worker_glue.store.file import open_reader, translated
from worker_glue.store.rows import brief, pack, pack_job, pack_key, unpack

DAY_S = 86_400.0
KEPT_S = 30 * DAY_S
"""What is left of settled outcomes, and starts that came to no end."""
KEPT_ROWS = 200_000
TEXTS_KEPT = 10_000
"""Texts of outcomes that were too large for MongoDB. Not by age: users are told that they are here."""
SWEEP_EVERY_S = 3_600.0
VACUUM_PAGES = 4_096

_KEEP = """INSERT INTO owed (task, job, worker, at, size, brief, outcome) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (task) DO NOTHING"""
_REPLACE = """INSERT INTO owed (task, job, worker, at, size, brief, outcome, replaced) VALUES (?, ?, ?, ?, ?, ?, ?, 1)
ON CONFLICT (task) DO UPDATE SET size = excluded.size, brief = excluded.brief, outcome = excluded.outcome, replaced = 1
"""
_KEEP_TEXT = """INSERT INTO texts (task, at, outcome) SELECT task, ?, outcome FROM owed WHERE task = ? AND replaced = 0
ON CONFLICT (task) DO UPDATE SET at = excluded.at, outcome = excluded.outcome"""
_SETTLE = """INSERT INTO settled (task, job, worker, at, saved, brief)
SELECT task, job, worker, ?, ?, brief FROM owed WHERE task = ?
ON CONFLICT (task) DO UPDATE SET worker = excluded.worker, at = excluded.at, saved = excluded.saved,
    brief = excluded.brief
WHERE excluded.saved <> 'done_before' OR settled.saved <> 'recorded'"""
_FORGIVE = "DELETE FROM starts WHERE seq = (SELECT max(seq) FROM starts WHERE task = ? AND process = ?)"


class Bounds(NamedTuple):
    """With more than this owed, no new work is begun.

    owed: outcomes. owed_bytes: as they are stored. free_bytes: to be left on the file system.
    """

    owed: int = 100_000
    owed_bytes: int = 1 << 30
    free_bytes: int = 256 << 20


BOUNDS = Bounds()


class SqliteStore:
    """What MongoDB has not acknowledged yet, what failed, and what goes to the dead topic. Thread-safe.

    begin, keep, replace and bury are synced before they return. forgive, settled and unbury survive kill -9 and are
    synced with the next of those: a power cut may bring back what they removed, and then it is sent, or counted, twice.
    Open it in each process anew. Calls wait at most about 10 s for other processes.
    """

    def __init__(self, path: Path, *, worker_id: str, clock: Callable[[], float] = time.time) -> None:
        """Open or make the store; the folder is made too. Raises: StoreFailed, DiskFull."""
        self.path = path
        self._worker = worker_id
        self._clock = clock
        self._process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._commits = Commits(path)
        self._reading = threading.Lock()
        self._reader = open_reader(path)
        self._swept = float("-inf")

    # --- starts

    def begin(self, key: TaskKey) -> int:
        """Note a start; return how many earlier ones came to no end."""
        task, now = pack_key(key), self._clock()

        def work(db: sqlite3.Connection) -> int:
            row = task, self._worker, os.getpid(), self._process, now
            before = db.execute("SELECT count(*) FROM starts WHERE task = ?", (task,)).fetchone()
            db.execute("INSERT INTO starts (task, worker, pid, process, at) VALUES (?, ?, ?, ?, ?)", row)
            return int(before[0])

        return self._commits.run(work)

    def forgive(self, key: TaskKey) -> None:
        """Take this process's last begin() of the task back; nothing where there is none."""
        row = pack_key(key), self._process
        self._commits.run(lambda db: db.execute(_FORGIVE, row), durable=False)

    # --- outcomes

    def keep(self, outcome: Outcome) -> Outcome:
        """Store an outcome unless one of its task is owed; the task's starts have come to an end.

        One of a task that was settled is owed anew: whether MongoDB still has the first is for MongoDB to say.
        """
        row = self._row(outcome)

        def work(db: sqlite3.Connection) -> bytes | None:
            db.execute("DELETE FROM starts WHERE task = ?", row[:1])
            if db.execute(_KEEP, row).rowcount:
                return None
            return bytes(db.execute("SELECT outcome FROM owed WHERE task = ?", row[:1]).fetchone()[0])

        there = self._commits.run(work)
        return outcome if there is None else unpack(row[0], there)

    def replace(self, outcome: Outcome) -> None:
        """Put an outcome in the place of the one owed, whose text stays; a further one replaces without keeping."""
        row = self._row(outcome)

        def work(db: sqlite3.Connection) -> None:
            db.execute(_KEEP_TEXT, (self._clock(), row[0]))
            db.execute(_REPLACE, row)

        self._commits.run(work)

    def owed(self, key: TaskKey) -> Outcome | None:
        """Return what is owed of a task."""
        task = pack_key(key)
        found = self._rows("SELECT outcome FROM owed WHERE task = ?", task)
        return unpack(task, found[0][0]) if found else None

    def settled(self, key: TaskKey, saved: Saved) -> None:
        """MongoDB has answered; without effect where nothing is owed."""
        task, now = pack_key(key), self._clock()

        def work(db: sqlite3.Connection) -> None:
            if saved in (Saved.TOO_LARGE, Saved.WRONG_FORM):
                db.execute(_KEEP_TEXT, (now, task))
            db.execute(_SETTLE, (now, saved.value, task))
            db.execute("DELETE FROM owed WHERE task = ?", (task,))
            self._sweep(db, now)

        self._commits.run(work, durable=False)

    def known(self, key: TaskKey) -> Saved | None:
        """Return what MongoDB answered on a task, for 30 days; None where nothing is known."""
        found = self._rows("SELECT saved FROM settled WHERE task = ?", pack_key(key))
        return Saved(found[0][0]) if found else None

    def owing(self, limit: int, older_than_s: float) -> Sequence[Outcome]:
        """Return what has been owed for so long, the oldest first; also what a clock set back dates in the future."""
        now = self._clock()
        query = "SELECT task, outcome FROM owed WHERE at <= ? OR at > ? ORDER BY seq LIMIT ?"
        return [unpack(task, packed) for task, packed in self._rows(query, now - older_than_s, now, limit)]

    def counts(self) -> Counts:
        """Return how many are owed."""
        ((owed, oldest),) = self._rows("SELECT count(*), min(at) FROM owed")
        return Counts(owed, oldest)

    # --- the dead topic

    def bury(self, body: bytes) -> int:
        """Note a message for the dead topic; returns its number."""
        row = self._clock(), body
        statement = "INSERT INTO buried (at, body) VALUES (?, ?)"
        return self._commits.run(lambda db: int(db.execute(statement, row).lastrowid or 0))

    def buried(self, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return what is to be sent still, the oldest first."""
        query = "SELECT number, body FROM buried ORDER BY number LIMIT ?"
        return [(number, bytes(body)) for number, body in self._rows(query, limit)]

    def unbury(self, number: int) -> None:
        """nsqd has taken it."""
        self._commits.run(lambda db: db.execute("DELETE FROM buried WHERE number = ?", (number,)), durable=False)

    # --- room

    def full(self, bounds: Bounds = BOUNDS) -> str:
        """Say why no new work should begin; "" = there is room. Milliseconds with 100,000 owed. Raises: StoreFailed."""
        with translated(self.path):
            room = os.statvfs(self.path.parent)
        free = room.f_bavail * room.f_frsize
        if free < bounds.free_bytes:
            return f"{free >> 20} MiB are free at {self.path.parent}, {bounds.free_bytes >> 20} MiB are to stay free"
        ((owed, size),) = self._rows("SELECT count(*), total(size) FROM owed")
        if owed > bounds.owed or size > bounds.owed_bytes:
            return f"{owed} results ({int(size) >> 20} MiB) are owed to MongoDB"
        return ""

    def close(self) -> None:
        """Close the file; safe to repeat."""
        with self._reading, translated(self.path):
            self._reader.close()
        self._commits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside

    def _row(self, outcome: Outcome) -> tuple[str, str, str, float, int, str, bytes]:
        """Return the columns of `owed`; the work on megabytes is done here, outside of any transaction."""
        packed, task, job = pack(outcome), pack_key(outcome.key), pack_job(outcome.key.job_id)
        return task, job, self._worker, self._clock(), len(packed), brief(outcome), packed

    def _rows(self, query: str, *parameters: object) -> list[Any]:
        with self._reading, translated(self.path):
            return self._reader.execute(query, parameters).fetchall()

    def _sweep(self, db: sqlite3.Connection, now: float) -> None:
        """Now and then remove what is old, or too many, and give room back to the file system."""
        if abs(now - self._swept) < SWEEP_EVERY_S:
            return
        self._swept = now
        for table in ("starts", "settled"):
            db.execute(f"DELETE FROM {table} WHERE at < ?", (now - KEPT_S,))  # noqa: S608  (names are ours)
        for table, order, rows in (("settled", "at", KEPT_ROWS), ("texts", "seq", TEXTS_KEPT)):
            others = f"SELECT seq FROM {table} ORDER BY {order} DESC LIMIT -1 OFFSET {rows}"  # noqa: S608
            db.execute(f"DELETE FROM {table} WHERE seq IN ({others})")  # noqa: S608
        db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
