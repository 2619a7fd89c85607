"""What a channel holds, read once by a person's command: listed, or taken away."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from worker_glue.nsq.connection import PATIENCE, Patience
from worker_glue.nsq.consumer import Consumer
from worker_glue.nsq.where import Where
from worker_glue.ports import Delivery

AHEAD = 100
"""Messages that may come beyond those that are kept."""
LIMIT_MAX = 2_000
"""nsqd lets 2,500 messages be in flight on a connection."""


def drain(
    where: Where,
    topic: str,
    channel: str,
    handle: Callable[[Delivery], bool],
    *,
    limit: int = LIMIT_MAX,
    idle_s: float = 3.0,
    name: str = "",
    say: Callable[[str], None] | None = None,
    patience: Patience = PATIENCE,
) -> int:
    """Read up to `limit` messages (2,000 at most), until none has come for idle_s; returns how many were handled.

    handle: called with each, once, in the caller's thread; True finishes the message, False leaves it on the channel:
    it is kept meanwhile, so that it does not come again at once, and goes back at the end, one attempt older. What it
    raises ends the reading; what was not finished goes back. Raises ConfigError.
    """
    arrived: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    kept: dict[str, Delivery] = {}
    seen: set[str] = set()
    handled = 0
    with Consumer(
        topic, channel, where, arrived.put, in_flight=AHEAD, name=name, say=say, patience=patience
    ) as consumer:
        touched = time.monotonic()
        while handled < min(limit, LIMIT_MAX):
            try:
                delivery = arrived.get(timeout=idle_s)
            except queue.Empty:
                break
            if delivery.lost:
                continue
            if delivery.id in seen:  # a kept one whose connection had ended
                kept[delivery.id] = delivery
                continue
            seen.add(delivery.id)
            handled += 1
            if handle(delivery):
                delivery.finish()
            else:
                kept[delivery.id] = delivery
                consumer.set_in_flight((len(kept) + AHEAD) * max(1, len(consumer.state)))
            if time.monotonic() - touched > consumer.message_timeout_s / 3:
                touched = time.monotonic()
                for each in kept.values():
                    each.touch()
    return handled
