"""What each worker is doing, for status pages on any machine.

sync_workers   _id: HOST/WORKER; host, worker_id, state, task, since, pid, version, engine, done, failed, and whatever
               else it tells; at: last heard of, by MongoDB's clock
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker_glue.jobs.link import Documents, Link

COLLECTION = "sync_workers"
WORKERS_MAX = 10_000


class Heartbeats:
    """Writes one document a worker. host: its id or name, the same each time. Raises JobsAway, JobsRefused."""

    def __init__(self, link: Link, host: str) -> None:
        self._link = link
        self._host = host

    def beat(self, worker: Mapping[str, Any]) -> None:
        """Tell how a worker is; it is found by its worker_id."""
        key = {"_id": self._key(str(worker["worker_id"]))}
        fields = {"host": self._host, **{name: value for name, value in worker.items() if name not in ("_id", "at")}}
        change = {"$set": fields, "$currentDate": {"at": True}}

        def work(db: Documents) -> None:
            db[COLLECTION].update_one(key, change, upsert=True)

        self._link.call(work)

    def gone(self, worker_id: str) -> None:
        """A worker ended in order: it is not shown any more."""

        def work(db: Documents) -> None:
            db[COLLECTION].delete_one({"_id": self._key(worker_id)})

        self._link.call(work)

    def workers(self) -> list[dict[str, Any]]:
        """Return all workers of all hosts, as they told."""
        return self._link.call(lambda db: list(db[COLLECTION].find().sort("_id", 1).limit(WORKERS_MAX)))

    def _key(self, worker_id: str) -> str:
        return f"{self._host}/{worker_id}"
