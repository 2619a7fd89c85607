"""An OCR worker as there are: pynsq's Reader with max_tries 5, which ends a message in silence after that.

    python -m tests.support.old_worker NSQD_PORT < URI     # every file is there for it; "given up ID" is printed

It records as CONTRACTS section 3 says that existing workers do.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import nsq
import tornado.ioloop
from pymongo import MongoClient

from tests.support.backend import CHANNEL, TOPIC

MAX_TRIES = 5


def record(jobs: object, task: dict[str, object]) -> None:
    """Save one result by the existing workers' guarded update."""
    path = str(task["file_path"])
    now = datetime.now(UTC).replace(tzinfo=None)
    result = {
        "file": path.rpartition("/")[2],
        "file_path": path,
        "file_index": task["file_index"],
        "status": "success",
        "text": "by an old worker",
        "full_text": "by an old worker",
        "processed_at": now.isoformat(),
        "metadata": {"processing_time": 0.0, "worker_id": "old"},
    }
    jobs.update_one(  # type: ignore[attr-defined]
        {"job_id": task["job_id"], "checkpoint.processed_files": {"$ne": path}},
        {
            "$push": {"checkpoint.results": result, "checkpoint.processed_files": path},
            "$inc": {"consumed_count": 1},
            "$set": {"updated_at": now},
        },
    )


def main() -> None:
    """Work until ended."""
    port = sys.argv[1]
    client: MongoClient[dict[str, object]] = MongoClient(sys.stdin.readline().strip(), directConnection=True)
    jobs = client["gvpocr"]["bulk_jobs"]

    def handle(message: nsq.Message) -> bool:
        record(jobs, json.loads(message.body))
        return True

    class Reader(nsq.Reader):
        def giving_up(self, message: nsq.Message) -> None:
            print(f"given up {message.id.decode()}", flush=True)

    Reader(
        topic=TOPIC,
        channel=CHANNEL,
        message_handler=handle,
        nsqd_tcp_addresses=[f"127.0.0.1:{port}"],
        max_tries=MAX_TRIES,
    )
    tornado.ioloop.IOLoop.current().start()


if __name__ == "__main__":
    main()
