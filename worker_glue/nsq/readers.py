"""One connection to each nsqd that has a topic, in a loop's thread, made again for ever."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import nsq

from syncd.client.lookupd import LookupFailed, look_up
from syncd.core.dialling import HostPort, host_port, map_line, nearest
from syncd.core.errors import ConfigError
from worker_glue.nsq.connection import (
    THREAD,
    Broken,
    Connection,
    Introduction,
    Patience,
    Receiver,
    in_thread,
    resolved,
)
from worker_glue.nsq.where import Where

STEADY_S = 5.0
"""A connection that lasted so long starts over with the shortest pause."""
GIVE_BACK_S = 0.05
"""For messages on their way: a connection that is closed over unread bytes is reset, and takes the requeues along."""
CLOSE_TIMEOUT_S = 5.0


class Reading(NamedTuple):
    """How it is with one nsqd. since: Unix time of the last change. trouble: why it is not connected, "" = it is."""

    address: str
    connected: bool
    since: float
    trouble: str


class Owner(Receiver, Protocol):
    """Whose readers these are."""

    def give_back(self) -> None:
        """Requeue what is in hand, and from now on what arrives."""


class Readers:
    """Reads one channel of a topic for its owner, who is called in the loop's thread. in_flight: in all, at least one a
    connection. say: gets what hinders, each trouble once, and that it is over.
    """

    def __init__(
        self,
        names: tuple[str, str],
        where: Where,
        owner: Owner,
        *,
        in_flight: int,
        introduction: Introduction,
        patience: Patience,
        say: Callable[[str], None],
    ) -> None:
        self._topic, channel = names
        _check(where, *names)
        self._subscribe = nsq.protocol.subscribe(self._topic, channel)
        self._where = where
        self._owner = owner
        self._in_flight = in_flight
        self._introduction = introduction
        self._patience = patience
        self._say = say
        self._told: dict[HostPort, set[HostPort]] = {}
        self._followed: dict[HostPort, asyncio.Task[None]] = {}
        self._connections: dict[Connection, None] = {}
        self._states: dict[HostPort, Reading] = {}
        self._said: dict[str, str] = {}
        self._owed: deque[tuple[Connection, bytes]] = deque()
        self._woken = False
        self._ending = False
        self._stopped = False
        self._give_back_s = CLOSE_TIMEOUT_S
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)

    # --- from any thread

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    @property
    def addresses(self) -> Sequence[HostPort]:
        """Return what is dialled: as configured, and as nsqlookupd tells."""
        return list(self._states)

    @property
    def states(self) -> Sequence[Reading]:
        """How it is with each nsqd."""
        return list(self._states.values())

    @property
    def connections(self) -> Sequence[Connection]:
        """Those that read at the moment."""
        return list(self._connections)

    def tell(self, connection: Connection, command: bytes) -> None:
        """Send a command; what many threads tell goes together."""
        self._owed.append((connection, command))
        if not self._woken:
            self._woken = True
            self._call(self._send_owed)

    def set_in_flight(self, count: int) -> None:
        """Have so many messages in flight, in all; 0 = no new ones."""
        self._call(self._share, count)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Give back what is in hand, end all connections and the thread; safe to repeat."""
        self._give_back_s = timeout_s
        self._call(self._stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s + CLOSE_TIMEOUT_S)

    def _call(self, work: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nsqd has everything back
            self._loop.call_soon_threadsafe(work, *arguments)

    # --- the loop's thread

    def _stop(self) -> None:
        """Stop the loop once: a second stop would end the winding up, and what is in hand would not be given back."""
        if not self._stopped:
            self._stopped = True
            self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._follow_all()
            for lookupd in self._where.lookupd:
                self._loop.create_task(self._discover(lookupd))
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._wind_up())
            self._loop.close()

    async def _wind_up(self) -> None:
        self._send_owed()
        self._ending = True
        self._share(0)
        self._owner.give_back()
        self._send_owed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._give_back_s):
                await asyncio.gather(*[each.leave() for each in self._connections])
                if self._connections:
                    await asyncio.sleep(GIVE_BACK_S)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # what the connections' closing has still to do

    def _send_owed(self) -> None:
        self._woken = False  # before the queue is emptied: who adds to it later wakes us again
        commands: dict[Connection, list[bytes]] = {}
        while self._owed:
            connection, command = self._owed.popleft()
            commands.setdefault(connection, []).append(command)
        for connection, owed in commands.items():
            connection.tell(b"".join(owed))

    def _share(self, in_flight: int | None = None) -> None:
        """Share what may be in flight over the connections."""
        self._in_flight = self._in_flight if in_flight is None else in_flight
        whole, rest = divmod(0 if self._ending else self._in_flight, max(1, len(self._connections)))
        for number, connection in enumerate(self._connections):
            least = 1 if self._in_flight and not self._ending else 0
            connection.ready(max(least, whole + (number < rest)))

    @property
    def _wanted(self) -> set[HostPort]:
        """What is to be read from: as configured, and as each nsqlookupd told last."""
        return set(self._where.nsqd).union(*self._told.values())

    async def _discover(self, lookupd: HostPort) -> None:
        """Follow what one nsqlookupd tells, for ever; one that hangs delays no other."""
        while True:
            self._told[lookupd] = await self._told_by(lookupd)
            self._follow_all()
            await asyncio.sleep(self._where.lookup_every_s * random.uniform(0.8, 1.2))  # noqa: S311  (jitter)

    def _follow_all(self) -> None:
        for address in self._wanted - self._followed.keys():
            self._note(address, connected=False, trouble="not connected yet")
            self._followed[address] = self._loop.create_task(self._follow(address))

    async def _told_by(self, lookupd: HostPort) -> set[HostPort]:
        """Return what is to be dialled of what nsqlookupd tells; while it does not answer, what it told before."""
        try:
            found = await in_thread(lambda: look_up(lookupd, self._topic))
        except LookupFailed as error:
            self._tell(host_port(lookupd), error.message)
            return self._told.get(lookupd, set())
        self._tell(host_port(lookupd), "")
        for told in found.nsqds:
            if self._where.dial(told) is None:
                line = map_line({host_port(told): nearest(told, self._where.nsqd)})
                self._tell(host_port(told), f"nsqd at {host_port(told)} is not dialled; to read from it, add: {line}")
        return {dial for told in found.nsqds if (dial := self._where.dial(told)) is not None}

    async def _follow(self, address: HostPort) -> None:
        """Read from one nsqd, as long as it is wanted."""
        pause_s = self._patience.pause_s
        while address in self._wanted:
            began = time.monotonic()
            try:
                await self._read(address)
            except Broken as error:
                self._note(address, connected=False, trouble=str(error))
                self._tell(host_port(address), f"nsqd at {host_port(address)}: {error}")
            lasted = time.monotonic() - began > STEADY_S + self._patience.connect_s
            pause_s = self._patience.pause_s if lasted else min(2 * pause_s, self._patience.pause_max_s)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311  (jitter)
        del self._followed[address]
        self._states.pop(address, None)

    async def _read(self, address: HostPort) -> None:
        host = await resolved(*address, self._patience.connect_s)
        connection = Connection(host, address[1], self._owner, self._introduction, self._patience)
        try:
            await connection.subscribe(self._subscribe)
            self._connections[connection] = None
            self._share()
            self._note(address, connected=True)
            self._tell(host_port(address), "", f"nsqd at {host_port(address)}: connected again")
            await connection.until_broken()
        finally:
            self._connections.pop(connection, None)
            connection.drop("done")
            self._share()

    def _note(self, address: HostPort, *, connected: bool, trouble: str = "") -> None:
        before = self._states.get(address)
        since = before.since if before is not None and before.connected == connected else time.time()
        self._states[address] = Reading(host_port(address), connected, since, trouble)

    def _tell(self, of: str, trouble: str, over: str = "") -> None:
        """Say what hinders, once, and that it is over."""
        if self._said.get(of, "") != trouble:
            self._said[of] = trouble
            if trouble or over:
                self._say(trouble or over)


def _check(where: Where, topic: str, channel: str) -> None:
    if not where.nsqd and not where.lookupd:
        raise ConfigError("no nsqd to read from")
    if not (nsq.valid_topic_name(topic) and nsq.valid_channel_name(channel)):
        raise ConfigError(f'"{topic}" and "{channel}" are not both names as NSQ takes them')
