"""FileReady v1 events from a topic: read from every nsqd that may be dialled, each once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import nsq

from syncd.client.lookupd import LookupFailed, look_up
from syncd.config.values import addresses
from syncd.core.dialling import HostPort, dialled, host_port, map_line
from syncd.core.errors import ConfigError
from worker_glue.novelty import Novelty
from worker_glue.nsq.connection import IN_FLIGHT, THREAD, Broken, Connection, in_thread, resolved

LOOKUP_EVERY_S = 60.0
PAUSE_S = 0.5
PAUSE_MAX_S = 60.0
CLOSE_TIMEOUT_S = 5.0
GIVE_BACK_S = 0.05
"""For messages on their way: a connection that is closed over unread bytes is reset, and takes the requeues along."""
WAITING_MAX = 4 * IN_FLIGHT
_END = object()


def addresses_in_environment(env: Mapping[str, str] = os.environ) -> tuple[Sequence[HostPort], Sequence[HostPort]]:
    """Return what NSQD_ADDRESS and NSQLOOKUPD_ADDRESSES name. Raises ConfigError when they name nothing usable."""
    nsqd, lookupd = env.get("NSQD_ADDRESS", ""), env.get("NSQLOOKUPD_ADDRESSES", "")
    if not nsqd.strip() and not lookupd.strip():
        problem = "no nsqd to read from: neither NSQD_ADDRESS nor NSQLOOKUPD_ADDRESSES is set"
        raise ConfigError(problem, hint="NSQD_ADDRESS=127.0.0.1:4150")
    try:
        return _listed(nsqd, 4150), _listed(lookupd, 4161)
    except ValueError as error:
        raise ConfigError(f"the address of NSQ in the environment cannot be used: {error}") from error


def _listed(text: str, port: int) -> Sequence[HostPort]:
    return addresses([each.strip() for each in text.split(",") if each.strip()], port)


class Where(NamedTuple):
    """Where messages are read from. nsqd: always; lookupd: asked for more, every lookup_every_s.

    address_map, allow_direct: what to dial for an address that nsqlookupd tells (core.dialling).
    """

    nsqd: Sequence[HostPort]
    lookupd: Sequence[HostPort] = ()
    address_map: Mapping[str, HostPort] = {}
    allow_direct: bool = False
    lookup_every_s: float = LOOKUP_EVERY_S

    def dial(self, told: HostPort) -> HostPort | None:
        """Return what to dial for an address that nsqlookupd told; None: it is not to be dialled."""
        return dialled(told, self.address_map, proxied=bool(self.nsqd), allow_direct=self.allow_direct)


class Watch:
    """FileReady v1 events from a topic, as worker_glue.watch() gives them: iterator and context manager.

    One thread iterates; stop() from any. ignored: bodies that were no FileReady v1.
    """

    def __init__(self, channel: str, topic: str, where: Where, say: Callable[[str], None] | None = None) -> None:
        if not where.nsqd and not where.lookupd:
            raise ConfigError("no nsqd to read from")
        if not (nsq.valid_topic_name(topic) and nsq.valid_channel_name(channel)):
            raise ConfigError(f'"{topic}" and "{channel}" are not both names as NSQ takes them')
        self.ignored = 0
        self._novelty = Novelty()
        self._unread: nsq.Message | None = None
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        say = say or logging.getLogger("worker_glue").warning
        self._readers = _Readers(topic, channel, where, self._arrived.put, say)

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
            self._readers.finish(message)
        return None

    def stop(self) -> None:
        """End the iteration; from any thread, safe to repeat. What was not read goes back to the channel."""
        self._stopped.set()
        self._arrived.put(_END)
        self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._finish_last()
        self.stop()

    def _finish_last(self) -> None:
        if self._unread is not None:
            message, self._unread = self._unread, None
            self._readers.finish(message)


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


# --- connections -----------------------------------------------------------------------------------------------------


class _Readers:
    """One connection to each nsqd, in a loop's thread, made again for ever; nsqlookupd is asked now and then.

    put: gets each message, in the loop's thread. say: gets what hinders, each trouble once.
    """

    def __init__(
        self, topic: str, channel: str, where: Where, put: Callable[[nsq.Message], None], say: Callable[[str], None]
    ) -> None:
        self._subscribe = nsq.protocol.subscribe(topic, channel)
        self._topic = topic
        self._where = where
        self._put = put
        self._say = say
        self._wanted: set[HostPort] = set(where.nsqd)
        self._followed: dict[HostPort, asyncio.Task[None]] = {}
        self._connections: set[Connection] = set()
        self._waiting: dict[bytes, nsq.Message] = {}
        self._said: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def finish(self, message: nsq.Message) -> None:
        """Tell nsqd that a message is done with; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: the message goes back to the channel
            self._loop.call_soon_threadsafe(self._finish, message)

    def close(self) -> None:
        """End all connections and the thread; safe to repeat."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_TIMEOUT_S)

    # --- the loop's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.create_task(self._discover())
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._wind_up())
            self._loop.close()

    async def _wind_up(self) -> None:
        await asyncio.sleep(0)  # what finish() left to do
        if self._waiting:
            self._give_back()
            await asyncio.sleep(GIVE_BACK_S)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # what the connections' closing has still to do

    def _give_back(self) -> None:
        """Requeue what was not read, for the channel's other readers: nsqd would wait for its time-out otherwise."""
        for connection in self._connections:
            connection.send_rdy(0)
        for message in self._waiting.values():
            if not message.has_responded():
                message.requeue(delay=0, backoff=False)

    async def _discover(self) -> None:
        """Follow what is to be read from, for ever."""
        while True:
            self._wanted = set(self._where.nsqd).union(*[await self._told_by(each) for each in self._where.lookupd])
            for address in self._wanted - self._followed.keys():
                self._followed[address] = asyncio.create_task(self._follow(address))
            await asyncio.sleep(self._where.lookup_every_s * random.uniform(0.8, 1.2))  # noqa: S311  (jitter)

    async def _told_by(self, lookupd: HostPort) -> set[HostPort]:
        """Return what is to be dialled of what nsqlookupd tells; while it does not answer, what was before."""
        try:
            found = await in_thread(lambda: look_up(lookupd, self._topic))
        except LookupFailed as error:
            self._tell(host_port(lookupd), error.message)
            return self._wanted
        self._tell(host_port(lookupd), "")
        for told in found.nsqds:
            if self._where.dial(told) is None:
                line = map_line(told, self._where.nsqd[0])
                self._tell(host_port(told), f"nsqd at {host_port(told)} is not dialled; to read from it, add: {line}")
        return {dial for told in found.nsqds if (dial := self._where.dial(told)) is not None}

    async def _follow(self, address: HostPort) -> None:
        """Read from one nsqd, as long as it is wanted."""
        pause_s = PAUSE_S
        while address in self._wanted:
            began = time.monotonic()
            try:
                await self._read(address)
            except Broken as error:
                self._tell(host_port(address), f"nsqd at {host_port(address)}: {error}")
            lasted = time.monotonic() - began > PAUSE_MAX_S
            pause_s = PAUSE_S if lasted else min(2 * pause_s, PAUSE_MAX_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311  (jitter)
        del self._followed[address]

    async def _read(self, address: HostPort) -> None:
        connection = Connection(await resolved(*address), address[1], self._take)
        try:
            await connection.subscribe(self._subscribe)
            self._connections.add(connection)
            self._tell(host_port(address), "")
            await connection.until_broken()
        finally:
            self._connections.discard(connection)
            connection.drop("done")

    def _take(self, message: nsq.Message) -> None:
        """Queue a message, once, also if nsqd sends it again meanwhile; too many are left for later."""
        known = message.id in self._waiting
        if known or len(self._waiting) < WAITING_MAX:
            self._waiting[message.id] = message
        if not known and message.id in self._waiting:
            self._put(message)

    def _finish(self, message: nsq.Message) -> None:
        latest = self._waiting.pop(message.id, message)
        if not latest.has_responded():
            latest.finish()

    def _tell(self, of: str, trouble: str) -> None:
        """Say what hinders, once; that it is over is said by nobody."""
        if self._said.get(of, "") != trouble:
            self._said[of] = trouble
            if trouble:
                self._say(trouble)
