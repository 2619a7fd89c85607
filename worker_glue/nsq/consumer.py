"""Messages of one channel, each for as long as its work takes."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import nsq

from syncd.core.dialling import HostPort
from worker_glue import ports
from worker_glue.nsq.connection import MESSAGE_TIMEOUT_S, PATIENCE, Connection, Introduction, Patience
from worker_glue.nsq.readers import CLOSE_TIMEOUT_S, Readers, Reading
from worker_glue.nsq.where import Where

DELAY_MAX_S = 3_600.0
"""nsqd's own limit by default; it cuts longer ones to its own."""

_finish, _requeue, _touch = nsq.protocol.finish, nsq.protocol.requeue, nsq.protocol.touch


class Consumer:
    """Reads one channel from every nsqd that may be dialled (Where), until close(); thread-safe.

    Nothing is ever given up: a message that nobody finishes comes again, however often. A requeue slows nothing but its
    own message. An error of one message ends no connection; what ends it is made again for ever, with pauses.

    take: called with each ports.Delivery in a thread of ours; must return at once. in_flight: messages in hand at most,
    in all, at least one an nsqd. message_timeout_s: asked of nsqd, None = its own. name: what nsqd's statistics show.
    say: gets what hinders, each trouble once. Raises ConfigError.
    """

    def __init__(
        self,
        topic: str,
        channel: str,
        where: Where,
        take: Callable[[ports.Delivery], None],
        *,
        in_flight: int,
        message_timeout_s: float | None = None,
        name: str = "",
        say: Callable[[str], None] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        say = say or logging.getLogger("worker_glue").warning
        self._in_flight = in_flight
        self._resting = False
        self._asked_s = message_timeout_s or MESSAGE_TIMEOUT_S
        self._hands = _Hands(take, say)
        self._readers = Readers(
            (topic, channel),
            where,
            self._hands,
            in_flight=in_flight,
            introduction=Introduction(name, message_timeout_s=message_timeout_s),
            patience=patience,
            say=say,
        )
        self._hands.readers = self._readers
        self._readers.start()

    # --- for whoever works

    @property
    def message_timeout_s(self) -> float:
        """After which nsqd takes back what is not touched, as the nsqds in use answered: the least of them."""
        return min((each.message_timeout_s for each in self._readers.connections), default=self._asked_s)

    @property
    def in_hand(self) -> int:
        """How many messages have come and were not ended yet."""
        return self._hands.count

    @property
    def addresses(self) -> Sequence[HostPort]:
        """The nsqds that are dialled now."""
        return self._readers.addresses

    @property
    def state(self) -> Sequence[Reading]:
        """How it is with each nsqd."""
        return self._readers.states

    def rest(self) -> None:
        """Let no new messages come; what is in hand stays, and what is on its way still comes."""
        self._resting = True
        self._readers.set_in_flight(0)

    def go_on(self) -> None:
        """Let messages come again."""
        self._resting = False
        self._readers.set_in_flight(self._in_flight)

    def set_in_flight(self, count: int) -> None:
        """Have so many messages in hand at most; also while resting, for afterwards."""
        self._in_flight = count
        if not self._resting:
            self._readers.set_in_flight(count)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Give back at once what was not ended, and end all connections; safe to repeat."""
        self._readers.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Hands:
    """The messages in hand, by connection and id. A delivery that is not here any more has no say."""

    def __init__(self, take: Callable[[ports.Delivery], None], say: Callable[[str], None]) -> None:
        self._take = take
        self._say = say
        self._closing = False
        self._lock = threading.Lock()
        self._hands: dict[Connection, dict[bytes, _Delivery]] = {}
        self.readers: Readers

    # --- from any thread

    @property
    def count(self) -> int:
        with self._lock:
            return sum(map(len, self._hands.values()))

    def tell(self, delivery: _Delivery, command: bytes, *, ends: bool) -> None:
        """Pass on what a delivery says, unless it has been ended."""
        with self._lock:
            hand = self._hands.get(delivery.connection, {})
            if hand.get(delivery.key) is not delivery:
                return
            if ends:
                del hand[delivery.key]
        self.readers.tell(delivery.connection, command)

    # --- for the readers, in the loop's thread

    def arrived(self, connection: Connection, id_: bytes, attempts: int, body: bytes) -> None:
        delivery = _Delivery(self, connection, id_, attempts, body)
        with self._lock:
            closing = self._closing
            hand = self._hands.setdefault(connection, {})
            before = hand.get(id_)
            if before is not None:  # its time was up, and nsqd has sent it again
                before.over = True
            if not closing:
                hand[id_] = delivery
        if closing:
            connection.tell(_requeue(id_, 0))
            return
        try:
            self._take(delivery)
        except Exception as error:  # noqa: BLE001  (one message must not end the thread; it comes again)
            self._say(f"message {delivery.id} was not taken: {error!r}")

    def refused(self, connection: Connection, id_: bytes) -> None:
        with self._lock:
            delivery = self._hands.get(connection, {}).pop(id_, None)
            if delivery is not None:
                delivery.over = True

    def gone(self, connection: Connection) -> None:
        with self._lock:
            for delivery in self._hands.pop(connection, {}).values():
                delivery.over = True

    def give_back(self) -> None:
        with self._lock:
            self._closing = True
            in_hand = [delivery for hand in self._hands.values() for delivery in hand.values()]
        for delivery in in_hand:
            delivery.requeue(0)
            delivery.over = True


class _Delivery:
    """ports.Delivery. key: the id as nsqd spells it. over: nsqd has it again."""

    __slots__ = ("_arrived_at", "_hands", "_until", "attempts", "body", "connection", "key", "over")

    def __init__(self, hands: _Hands, connection: Connection, id_: bytes, attempts: int, body: bytes) -> None:
        self._hands = hands
        self.connection = connection
        self.key = id_
        self.attempts = attempts
        self.body = body
        self.over = False
        self._arrived_at = time.monotonic()
        self._until = self._arrived_at + connection.message_timeout_s

    @property
    def id(self) -> str:
        return self.key.decode("ascii", "replace")

    @property
    def lost(self) -> bool:
        self.over = self.over or time.monotonic() >= self._until
        return self.over

    @property
    def held_s(self) -> float:
        return time.monotonic() - self._arrived_at

    @property
    def hold_max_s(self) -> float:
        return self.connection.hold_max_s

    def touch(self) -> None:
        if not self.lost:
            end = self._arrived_at + self.hold_max_s
            self._until = min(time.monotonic() + self.connection.message_timeout_s, end)
            self._hands.tell(self, _touch(self.key), ends=False)

    def finish(self) -> None:
        """Also once its time is up: nsqd may have it still."""
        self._end(_finish(self.key))

    def requeue(self, delay_s: float) -> None:
        milliseconds = int(1000 * min(max(delay_s, 0.0), DELAY_MAX_S))
        self._end(_requeue(self.key, milliseconds))

    def _end(self, command: bytes) -> None:
        if not self.lost:
            self._until = math.inf
        self._hands.tell(self, command, ends=True)
