"""What tests of worker_glue's consumer share: deliveries as they come, and waiting for what is to happen."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.nsqd import NsqdServer
from worker_glue.nsq import Consumer, Patience, Where
from worker_glue.ports import Delivery

DEADLINE_S = 20.0
QUICK = {"msg-timeout": "1500ms", "max-msg-timeout": "3500ms"}
"""Options of an nsqd that takes back soon, on channels that it knew when it started; new ones it finds every 5 s."""
PATIENCE = Patience(connect_s=2.0, heartbeat_s=1, pause_s=0.1, pause_max_s=0.5)
TASKS, WORKERS = "bulk_ocr_file_tasks", "bulk_ocr_workers"


def until(condition: Callable[[], object], within_s: float = DEADLINE_S) -> None:
    """Wait for it."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.01)


class Taking(Consumer):
    """A consumer that puts what comes into a queue, and what it says into a list."""

    def __init__(self, where: Where, topic: str, channel: str = WORKERS, **options: Any) -> None:
        self.arrived: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.said: list[str] = []
        known: dict[str, Any] = {"in_flight": 21, "say": self.said.append, "patience": PATIENCE, "name": "tod-mac-1"}
        super().__init__(topic, channel, where, self.arrived.put, **known | options)

    def next(self, within_s: float = DEADLINE_S) -> Delivery:
        """Return the next delivery, which must come."""
        return self.arrived.get(timeout=within_s)

    def take(self, count: int) -> list[Delivery]:
        """Return the next deliveries, which must come."""
        return [self.next() for _ in range(count)]

    def nothing_within(self, seconds: float) -> bool:
        """Whether nothing comes for a while."""
        try:
            self.arrived.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    @property
    def connected(self) -> list[str]:
        """The addresses of nsqds that are connected."""
        return sorted(each.address for each in self.state if each.connected)


def counts(nsqd: NsqdServer, topic: str, channel: str = WORKERS) -> Mapping[str, int]:
    """Return a channel's depth, in_flight_count, deferred_count, requeue_count, timeout_count ..."""
    return nsqd.channels(topic)[channel]


def settled(nsqd: NsqdServer, topic: str, channel: str = WORKERS) -> bool:
    """Whether nothing is left of what came."""
    now = counts(nsqd, topic, channel)
    return now["depth"] == now["in_flight_count"] == now["deferred_count"] == 0
