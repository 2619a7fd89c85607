"""Blocking calls of the Service, made in a few threads so that the server's loop stays free."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from syncd.core.lease import WouldWait
from syncd.web.answers import BUSY, Refused

THREADS = 8
PATIENCE_S = 10.0
"""How long a call waits for a thread: each of the calls before it ends within 5 s, by the Service's contract."""

T = TypeVar("T")
SLOW_S = 0.05
BESIDE_S = 2.0
"""After a call at once that took longer than SLOW_S, so long all are made in a thread: the disk is slow just now."""


class AtOnce:
    """Calls that are made in the loop's own thread: to hand one to another and back takes longer than most (measured:
    0.2 ms beside 0.15). They do not wait for anybody; when one is slow all the same, others are made beside the loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._from = float("-inf")

    def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. Raises: WouldWait (it is to be made in a thread), what `call` raises."""
        began = self._clock()
        if began < self._from:
            raise WouldWait("the last one was slow")
        try:
            return call()
        finally:
            now = self._clock()
            if now - began > SLOW_S:
                self._from = now + BESIDE_S


class Calls:
    """A bounded thread pool. Used from the loop's thread only."""

    def __init__(self, threads: int = THREADS, patience_s: float = PATIENCE_S) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="api-call")
        self._free = asyncio.Semaphore(threads)
        self._patience_s = patience_s

    async def run(self, call: Callable[[], T], *, unwanted: Callable[[T], object] | None = None) -> T:
        """Return what `call` returns, from another thread.

        unwanted: gets the result when nobody waits for it any more (this coroutine was cancelled meanwhile).
        Raises: Refused (503) when no thread becomes free in time; what `call` raises.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._free.acquire()
            except TimeoutError as error:
                raise Refused(BUSY) from error
        else:
            await self._free.acquire()  # at once
        made = _Call(call, unwanted, self._free.release)
        try:
            self._pool.submit(made.run)
        except BaseException:
            self._free.release()
            raise
        return await made.result()

    def close(self) -> None:
        """Take no more calls. Those that run end by themselves, within 5 s by the Service's contract."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Call(Generic[T]):
    """One call on its way to a thread and back: the loop is woken once, to take the result and to count the thread as
    free, which it really is then, whoever has given up waiting.
    """

    def __init__(self, call: Callable[[], T], unwanted: Callable[[T], object] | None, free: Callable[[], None]) -> None:
        self._call = call
        self._unwanted = unwanted
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[T] = self._loop.create_future()
        self._lock = threading.Lock()
        self._given_up = False
        self._came: list[T] = []

    async def result(self) -> T:
        try:
            return await self._waiting
        except asyncio.CancelledError:
            with self._lock:
                self._given_up = True
                came, self._came = self._came, []
            for result in came:
                self._pass_on(result)
            raise

    def run(self) -> None:
        """Make the call; in a thread of the pool."""
        error: BaseException | None = None
        try:
            result = self._call()
        except BaseException as raised:  # noqa: BLE001 (handed to whoever waits)
            error = raised
        else:
            with self._lock:
                given_up = self._given_up
                if not given_up:
                    self._came.append(result)
            if given_up:
                self._pass_on(result)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._hand_over, error)

    def _hand_over(self, error: BaseException | None) -> None:
        self._free()
        if self._waiting.done():
            return
        if error is not None:
            self._waiting.set_exception(error)
        else:
            with self._lock:
                self._waiting.set_result(self._came[0])

    def _pass_on(self, result: T) -> None:
        if self._unwanted is not None:
            self._unwanted(result)
