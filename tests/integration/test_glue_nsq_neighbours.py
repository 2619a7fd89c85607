"""Next to an older worker on one channel, which finishes a message silently after five deliveries."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consuming import PATIENCE, QUICK, TASKS, WORKERS, Taking, settled, until
from tests.support.nsqd import NsqdServer, start_nsqd
from worker_glue.nsq import Producer, Where

ROUNDS = 7
"""More often than the older worker looks at a message."""
OLD_WORKER = """
import sys, logging, nsq
logging.disable(logging.CRITICAL)
kept = open(sys.argv[2], "a", buffering=1)

def handle(message):
    kept.write(message.body.decode() + "\\n")
    return True

nsq.Reader(message_handler=handle, nsqd_tcp_addresses=["127.0.0.1:" + sys.argv[1]], topic="bulk_ocr_file_tasks",
           channel="bulk_ocr_workers", max_in_flight=5, max_tries=5)
nsq.run()
"""


@pytest.fixture
def nsqd(tmp_path: Path) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path, options=QUICK) as server:
        server.make_channel(TASKS, WORKERS)
        server.restart()  # it looks at once after the channels that it knows, else every 5 s
        yield server


def old_worker_does(nsqd: NsqdServer, tmp_path: Path) -> list[str]:
    """Let an older worker empty the channel; return what it worked on."""
    done = tmp_path / "done"
    done.touch()
    worker = subprocess.Popen([sys.executable, "-c", OLD_WORKER, str(nsqd.tcp_port), str(done)])
    try:
        until(lambda: settled(nsqd, TASKS))
    finally:
        worker.kill()
        worker.wait(10)
    return done.read_text().split()


def test_one_that_only_waits_loses_no_task_to_it(nsqd: NsqdServer, tmp_path: Path) -> None:
    tasks = [f"task-{number}" for number in range(20)]
    nsqd.publish(TASKS, *(each.encode() for each in tasks))
    with Taking(Where([nsqd.address]), TASKS) as consumer, Producer([nsqd.address]) as producer:
        for turn in range(ROUNDS):
            waiting = consumer.take(len(tasks))
            if turn == 0:  # for longer than a message may go without a touch
                began = time.monotonic()
                while time.monotonic() - began < 2.0:
                    for delivery in waiting:
                        delivery.touch()
                    time.sleep(0.4)
            for delivery in waiting:
                assert delivery.attempts == 1, "waiting is no attempt"
                producer.publish(TASKS, delivery.body, 0.1)
                delivery.finish()
        until(lambda: nsqd.channels(TASKS)[WORKERS]["depth"] + consumer.in_hand >= len(tasks))
    assert sorted(old_worker_does(nsqd, tmp_path)) == sorted(tasks)


def test_one_that_requeues_would(nsqd: NsqdServer, tmp_path: Path) -> None:
    """So it does show: what was requeued more often than that is gone, without a word."""
    nsqd.publish(TASKS, b"task-0")
    with Taking(Where([nsqd.address]), TASKS, patience=PATIENCE) as consumer:
        for _ in range(5):
            consumer.next().requeue(0)
        consumer.next()
    assert old_worker_does(nsqd, tmp_path) == []
