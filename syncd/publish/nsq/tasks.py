"""A look ahead into the queue of tasks: which files are about to be asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Callable, Sequence

import nsq

from syncd.publish.nsq.link import HEARTBEAT_S, PATIENCE, Broken, LoopThread, Nsqd, Patience, connected

IN_FLIGHT = 100
PAUSE_S = 1.0
PAUSE_MAX_S = 60.0
PATH_LENGTH_MAX = 8_192
WORKERS_CHANNEL = "bulk_ocr_workers"
_SURROGATE = re.compile("[\ud800-\udfff]")


class TaskPeek:
    """Tells which files the queue of tasks is about to ask for, by an ephemeral channel of our own on its topic.

    Every message there is finished at once, so that nothing accumulates, and the workers' channel gets each of them
    all the same. That channel is made first where it is not there: what a topic without any channel has kept goes to
    the first that comes, which must not be ours. Connections are made again for ever, with pauses, until close().

    seen: called in a thread of ours with each task's file_path, as the task spells it; returns at once, never raises.
    host_id: makes the channel's name; two hosts that shared one would each see a part.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        topic: str,
        host_id: str,
        seen: Callable[[str], None],
        *,
        workers_channel: str = WORKERS_CHANNEL,
        patience: Patience = PATIENCE,
    ) -> None:
        self._patience = patience
        self._addresses = [Nsqd(host, port) for host, port in addresses]
        self._topic = topic
        self._channel = f"syncd-{re.sub(r'[^A-Za-z0-9]', '', host_id)[:12]}#ephemeral"
        self._workers_channel = workers_channel
        self._seen = seen
        self._troubles = dict.fromkeys(self._addresses, "not connected yet")
        self._thread: LoopThread | None = None

    def start(self) -> None:
        """Begin to look; returns at once."""
        if self._thread is None:
            self._thread = LoopThread("tasks", lambda: None)
            for address in self._addresses:
                self._thread.start(self._follow(address))

    @property
    def state(self) -> str:
        """Say in a few words how it goes: "on", "off: why", "partly: why"; for status."""
        troubles = [f"{address}: {why}" for address, why in self._troubles.items() if why]
        if not troubles:
            return "on"
        return f"{'off' if len(troubles) == len(self._addresses) else 'partly'}: {'; '.join(troubles)}"

    def close(self) -> None:
        """End all connections; safe to repeat."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    async def _follow(self, address: Nsqd) -> None:
        """Read from one nsqd, for ever."""
        pause_s = PAUSE_S
        while True:
            try:
                await self._provide_workers_channel(address)
                await self._read(address)
            except Broken as error:
                was_on = not self._troubles[address]
                self._troubles[address] = str(error)
                pause_s = PAUSE_S if was_on else min(2 * pause_s, PAUSE_MAX_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311  (jitter, not a secret)

    async def _provide_workers_channel(self, address: Nsqd) -> None:
        """Subscribe to the workers' channel, which makes it, and leave it without taking a message."""
        link = await connected(address, self._patience, _ignore)
        try:
            await link.ask(nsq.protocol.subscribe(self._topic, self._workers_channel))
        finally:
            link.drop("done")

    async def _read(self, address: Nsqd) -> None:
        link = await connected(address, self._patience, self._take)
        try:
            await link.ask(nsq.protocol.subscribe(self._topic, self._channel))
            link.send_rdy(IN_FLIGHT)
            self._troubles[address] = ""
            while not link.ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):
                        await link.ended.wait()
                link.check()
        finally:
            link.drop("done")

    def _take(self, message: nsq.Message) -> None:
        message.finish()
        path = _file_path(message.body)
        if path is not None:
            self._seen(path)


def _ignore(_message: nsq.Message) -> None:
    """Leave a message to whoever nsqd gives it to next."""


def _file_path(body: bytes) -> str | None:
    """Return what a task asks for; None for a body that is no task."""
    try:
        task = json.loads(body)
        path = task["file_path"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(path, str) or not 0 < len(path) <= PATH_LENGTH_MAX:
        return None
    return path if path.isascii() or not _SURROGATE.search(path) else None
