"""What a channel holds, read once by a person's command: listed, or taken away."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

from worker_glue.nsq.connection import PATIENCE, Patience
from worker_glue.nsq.consumer import Consumer
from worker_glue.nsq.where import Where
from worker_glue.ports import Delivery

AHEAD = 100
"""Messages that may come beyond those that are kept."""
LIMIT_MAX = 2_000
"""nsqd lets 2,500 messages be in flight on a connection."""


class Letter:
    """One message while its channel is read."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.finished = False

    @property
    def id(self) -> str:
        return self.delivery.id

    @property
    def body(self) -> bytes:
        return self.delivery.body

    @property
    def attempts(self) -> int:
        """How often nsqd has delivered it, this time included."""
        return self.delivery.attempts

    def finish(self) -> None:
        """Take it away."""
        self.finished = True
        self.delivery.finish()

    def requeue(self, _delay_s: float = 0) -> None:
        """Leave it: as if nothing were said, it goes back once the reading ends, and not before; else it came again."""


def drain(
    where: Where,
    topic: str,
    channel: str,
    *,
    limit: int = LIMIT_MAX,
    idle_s: float = 3.0,
    name: str = "",
    say: Callable[[str], None] | None = None,
    patience: Patience = PATIENCE,
) -> Iterator[Letter]:
    """Yield up to `limit` messages (2,000 at most), each once, until none has come for idle_s.

    What is not finished by the end stays on the channel, one attempt older. Raises ConfigError.
    """
    arrived: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    letters: dict[tuple[str, bytes], Letter] = {}  # two nsqds may give two messages the same id
    with Consumer(topic, channel, where, arrived.put, in_flight=AHEAD, name=name, say=say, patience=patience) as source:
        touched = time.monotonic()
        while len(letters) < min(limit, LIMIT_MAX):
            try:
                delivery = arrived.get(timeout=idle_s)
            except queue.Empty:
                return
            message = delivery.id, delivery.body
            known = letters.get(message)
            if known is None:
                letter = letters[message] = Letter(delivery)
                yield letter
            elif known.finished:  # nsqd did not learn of it
                delivery.finish()
            else:
                known.delivery = delivery
            kept = [each for each in letters.values() if not each.finished]
            source.set_in_flight((len(kept) + AHEAD) * max(1, len(source.state)))
            if time.monotonic() - touched > source.message_timeout_s / 3:
                touched = time.monotonic()
                for each in kept:
                    each.delivery.touch()
