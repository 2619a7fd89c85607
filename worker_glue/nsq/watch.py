"""FileReady v1 events from a topic: read from every nsqd that may be dialled, each once."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from worker_glue.novelty import Novelty
from worker_glue.nsq.consumer import Consumer
from worker_glue.nsq.readers import Reading
from worker_glue.nsq.where import Where
from worker_glue.ports import Delivery

IN_FLIGHT = 100
WAITING_MAX = 4 * IN_FLIGHT
"""What a reader that is slow has not seen for long comes again meanwhile; more is left for later."""
_END = object()


class Watch:
    """FileReady v1 events from a topic, as worker_glue.watch() gives them: iterator and context manager.

    One thread iterates; stop() from any. ignored: bodies that were no FileReady v1.
    """

    def __init__(self, channel: str, topic: str, where: Where, say: Callable[[str], None] | None = None) -> None:
        self.ignored = 0
        self._novelty = Novelty()
        self._unread: Delivery | None = None
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._consumer = Consumer(topic, channel, where, self._take, in_flight=IN_FLIGHT, say=say)

    @property
    def state(self) -> Sequence[Reading]:
        """How it is with each nsqd."""
        return self._consumer.state

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next event, waiting for it; StopIteration after stop()."""
        while True:
            event = self.next_within(3600.0)
            if event is not None:
                return event
            if self._stopped.is_set():
                raise StopIteration

    def next_within(self, seconds: float) -> dict[str, Any] | None:
        """Return the next event; None when none came in time or stop() was called. The one before counts as read."""
        self._finish_last()
        deadline = time.monotonic() + seconds
        while not self._stopped.is_set():
            try:
                message = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if message is _END:
                return None
            event = _file_ready(message.body)
            if event is not None and self._novelty.is_new(event):
                self._unread = message
                return event
            self.ignored += event is None
            message.finish()
        return None

    def stop(self) -> None:
        """End the iteration; from any thread, safe to repeat. What was not read goes back to the channel."""
        self._stopped.set()
        self._arrived.put(_END)
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._finish_last()
        self.stop()

    def _finish_last(self) -> None:
        if self._unread is not None:
            message, self._unread = self._unread, None
            message.finish()

    def _take(self, delivery: Delivery) -> None:
        if self._arrived.qsize() < WAITING_MAX:
            self._arrived.put(delivery)


def _file_ready(body: bytes) -> dict[str, Any] | None:
    """Return a FileReady v1; None for any other body. Fields that are not known are passed on."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("v") != 1 or type(event.get("generation")) is not int:
        return None
    texts = ("event", "id", "host", "mirror", "path", "server_path", "sha256")
    return event if all(isinstance(event.get(name), str) for name in texts) else None
