"""Blocking calls of the Service, made in a few threads so that the server's loop stays free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from syncd.web.answers import BUSY, Refused

THREADS = 8
PATIENCE_S = 10.0
"""How long a call waits for a thread: each of the calls before it ends within 5 s, by the Service's contract."""

T = TypeVar("T")


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
        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise Refused(BUSY) from error
        done = self._submit(call)
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            if unwanted is not None:
                done.add_done_callback(lambda ended: _pass_on(ended, unwanted))
            raise

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        """Start a call; its thread counts as free when it really is, whoever has given up waiting."""
        loop = asyncio.get_running_loop()

        def free(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._free.release)

        done = self._pool.submit(call)
        done.add_done_callback(free)
        return done

    def close(self) -> None:
        """Take no more calls. Those that run end by themselves, within 5 s by the Service's contract."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _pass_on(ended: Future[T], unwanted: Callable[[T], object]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        unwanted(ended.result())
