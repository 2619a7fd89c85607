"""Announcements to nsqd: one batch in flight, believed only when nsqd said OK to it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import nsq

from syncd.core.errors import PublishFailed
from syncd.publish.nsq.link import (
    CLOSE_TIMEOUT_S,
    MESSAGE_BYTES_MAX,
    PATIENCE,
    Broken,
    Link,
    LoopThread,
    Nsqd,
    Patience,
    connected,
)

BATCH_BYTES_MAX = 4 << 20
"""nsqd's limits are 1 MiB a message and 5 MiB a command (`-max-msg-size`, `-max-body-size`)."""
BATCH_MESSAGES_MAX = 5_000


class NsqPublisher:
    """ports.Publisher on nsqd: one batch in flight, accepted only when nsqd said OK to it.

    addresses: tried in their order, from the one after that which failed last. Every publish() ends within
    3 x connect_s for each address and reply_s for each MPUB (one, up to 5,000 messages and 4 MiB).
    """

    def __init__(self, addresses: Sequence[tuple[str, int]], patience: Patience = PATIENCE) -> None:
        self.connections = 0
        self._addresses = [Nsqd(host, port) for host, port in addresses]
        self._patience = patience
        self._next = 0
        self._link: Link | None = None
        self._address = self._addresses[0]
        self._thread: LoopThread | None = None
        self._closed = False
        self._lock = threading.Lock()

    def publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        """See ports.Publisher."""
        commands = [nsq.mpub(topic, batch) for batch in _batches(bodies)]
        limit_s = 3 * self._patience.connect_s * len(self._addresses) + self._patience.reply_s * len(commands)
        try:
            self._start(self._send(commands)).result(limit_s + CLOSE_TIMEOUT_S)
        except concurrent.futures.CancelledError as error:
            raise _not_taken("the publisher was closed") from error
        except TimeoutError as error:  # only if the loop's thread hangs
            self.close()
            raise _not_taken(f"{self._address}: no end within {limit_s:.0f} s") from error

    def close(self) -> None:
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
        with self._lock:
            if self._closed:
                work.close()
                raise _not_taken("the publisher was closed")
            if self._thread is None:
                self._thread = LoopThread("publisher", self._drop_link)
            return self._thread.start(work)

    async def _send(self, commands: Sequence[bytes]) -> None:
        link = await self._usable()
        try:
            for command in commands:
                await link.ask(command)
        except Broken as error:
            self._next += 1
            raise _not_taken(f"{self._address}: {error}") from error

    async def _usable(self) -> Link:
        """Return the connection there is, or a new one to the first address that answers. Raises PublishFailed."""
        if self._link is not None:
            with contextlib.suppress(Broken):
                self._link.check()
                return self._link
        troubles = []
        for turn in range(len(self._addresses)):
            address = self._addresses[(self._next + turn) % len(self._addresses)]
            try:
                self._link = await connected(address, self._patience)
            except Broken as error:
                troubles.append(f"{address}: {error}")
                continue
            self._next += turn
            self._address = address
            self.connections += 1
            return self._link
        raise _not_taken("; ".join(troubles))

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.drop("the publisher was closed")


def _not_taken(why: str) -> PublishFailed:
    return PublishFailed(f"nsqd did not take the announcements: {why}", hint="syncd doctor")


def _batches(bodies: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut bodies into commands below nsqd's limits. Raises PublishFailed for a body that no command can hold."""
    batch: list[bytes] = []
    size = 0
    for body in bodies:
        if not 0 < len(body) <= MESSAGE_BYTES_MAX:
            raise PublishFailed(f"a message of {len(body):,} bytes cannot be sent: nsqd takes 1 to 1,048,576")
        if batch and (len(batch) == BATCH_MESSAGES_MAX or size + 4 + len(body) > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += 4 + len(body)
    if batch:
        yield batch
