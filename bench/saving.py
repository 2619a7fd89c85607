"""What it costs on the wire to record a result, at the 1st and at the 5,000th of one job: bytes, counted at a proxy.

Every byte between MongoJobs and a server with MongoDB's protocol passes the proxy. The results between two that are
counted are put into the document in one go, past the proxy: the server keeps them all, as after saving each. How long a
save takes is not measured, since FerretDB, which stands for MongoDB here, reads and writes a document whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import BenchError
from tests.support.faultproxy import Direction, FaultProxy
from tests.support.mongo import KINDS, MongoServer, start_mongo
from worker_glue.jobs import records
from worker_glue.jobs.link import Patience
from worker_glue.jobs.mongo import NEAR_THE_END, MongoJobs
from worker_glue.model import Outcome, Page, Recognized, SourceOf, Task
from worker_glue.ports import Saved
from worker_glue.tasks import entries

POINTS = (1, 10, 100, 1_000, 2_500, 5_000)
QUICK_POINTS = (1, 10, 100, 200)
JOB_ID = "6f0c1a52-0d1f-4f0e-9f3e-1d2c3b4a5968"
NOW = datetime(2026, 2, 1, 10, 0, 0, 125000, tzinfo=UTC)
TEXT = "These are some thirty words of a letter, in English or in Hindi, as a page has them. " * 4
PATIENCE = Patience(connect_s=30.0, call_s=300.0)
HEARTBEAT_BYTES = 1_000
"""What the driver's own question, once a minute, may add to one point."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes on the wire for one result. look: asking whether its task is open, before OCR; save: recording it."""

    number: int
    look_sent: int
    look_received: int
    save_sent: int
    save_received: int

    @property
    def bytes(self) -> tuple[int, int, int, int]:
        return (self.look_sent, self.look_received, self.save_sent, self.save_received)


@dataclass(frozen=True, slots=True)
class Curve:
    """Results of one job by their number. last: the job's last, after which `progress` is looked at once more."""

    database: str
    entry_bytes: int
    points: list[Traffic] = field(default_factory=list)
    last: Traffic | None = None

    @property
    def reached(self) -> bool:
        """Whether the bytes are the same at each point, but for what the driver asks the server once a minute."""
        found = [sum(each.bytes) for each in self.points]
        return max(found) - min(found) <= HEARTBEAT_BYTES

    def as_json(self) -> dict[str, Any]:
        columns = ("number", "look_sent", "look_received", "save_sent", "save_received")
        rows = [*self.points, *([self.last] if self.last is not None else [])]
        points = [{name: getattr(each, name) for name in columns} for each in rows]
        return {"database": self.database, "entry_bytes": self.entry_bytes, "same": self.reached, "points": points}


def measure(folder: Path, points: tuple[int, ...] = POINTS) -> Curve:
    """Return the curve. folder: takes the server's files."""
    kind = KINDS[-1]  # mongod where it is on PATH
    total = points[-1] + NEAR_THE_END + 1
    with start_mongo(kind, folder) as server, FaultProxy(server.address) as proxy:
        counted: Counter[Direction] = Counter()
        proxy.mutate = lambda _, way, piece: counted.update({way: len(piece)}) or piece
        jobs = MongoJobs(lambda: server.uri(port=proxy.port), patience=PATIENCE)
        try:
            _begin(server, total)
            jobs.status(JOB_ID)  # the connection, and the login, are another matter
            curve = Curve(kind, len(str(dict(_result(1).entry)).encode()))
            for number in points:
                curve.points.append(_counted(server, jobs, counted, number))
            return Curve(kind, curve.entry_bytes, curve.points, _counted(server, jobs, counted, total))
        finally:
            jobs.close()


def _begin(server: MongoServer, total: int) -> None:
    with server.client() as db:
        db[records.COLLECTION].insert_one(records.job_document(JOB_ID, total, NOW))


def _counted(server: MongoServer, jobs: MongoJobs, counted: Counter[Direction], number: int) -> Traffic:
    """Bring the job to where this result is the next, and record it."""
    _fill(server, number - 1)
    task, outcome = _task(number), _result(number)
    counted.clear()
    open_ = jobs.look(task).open
    look = counted[Direction.TO_SERVER], counted[Direction.TO_CLIENT]
    counted.clear()
    saved = jobs.save(outcome)
    save = counted[Direction.TO_SERVER], counted[Direction.TO_CLIENT]
    if not open_ or saved is not Saved.RECORDED:
        raise BenchError(f"result {number} was not recorded: {saved.value}")
    return Traffic(number, *look, *save)


def _fill(server: MongoServer, until: int) -> None:
    """Have the first `until` results in the job's document."""
    outcomes = [_result(number) for number in range(1, until + 1)]
    checkpoint = {
        "results": [dict(outcome.entry) for outcome in outcomes],
        "errors": [],
        "processed_files": [outcome.file_path for outcome in outcomes],
        "processed_message_ids": [outcome.message_id for outcome in outcomes],
    }
    with server.client() as db:
        change = {"$set": {"checkpoint": checkpoint, "consumed_count": until, "progress.current": until}}
        db[records.COLLECTION].update_one({"job_id": JOB_ID}, change)


def _task(number: int) -> Task:
    return Task(JOB_ID, f"Bhushanji/eng-typed/{number:06}.pdf", number, ("en",), False, "single", None, None, b"")


def _result(number: int) -> Outcome:
    read = Recognized((Page(1, TEXT, 0.9, (), 2480, 3508),), "null", "1")
    source = SourceOf("", f"{number:064x}", 1_770_000_000_123, 1_000_000)
    return entries.result(
        _task(number),
        read,
        source,
        message_id=f"{number:016x}",
        worker_id="tod-mac-1",
        took_s=1.5,
        retries=0,
        now=NOW,
    )
