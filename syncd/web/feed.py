"""The long poll of the event feed: who waits costs no thread, and who asks the same shares the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from syncd.web.calls import Calls
from syncd.web.port import Service

GATHER_S = 0.05
"""New events of this long wake the waiting once: a big run has thousands in a second."""


class Feed:
    """The events of a Service, for many callers. open() and everything else in the loop's thread."""

    def __init__(self, service: Service, calls: Calls) -> None:
        self._service = service
        self._calls = calls
        self._asked: dict[tuple[int, int], asyncio.Task[dict[str, Any]]] = {}
        self._news = asyncio.Event()
        self._waking = False
        self._unsubscribe: Callable[[], None] | None = None

    def open(self) -> None:
        """Start to listen for new events."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            if not self._waking:  # a stale False costs one call too many, a stale True is a wake-up still to come
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._gather)

        self._unsubscribe = self._service.on_event(tell)

    def close(self) -> None:
        """Stop listening; safe to repeat."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    async def after(self, since: int, limit: int, timeout_s: float) -> dict[str, Any]:
        """Return the events after `since`, waiting up to timeout_s for the first one.

        since -1 does not wait: it asks where the feed is.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            news = self._news  # taken before asking, so that what comes meanwhile is not slept through
            found = await self._ask(since, limit)
            left_s = deadline - asyncio.get_running_loop().time()
            if found["events"] or found["gap"] or since < 0 or left_s <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await news.wait()

    async def _ask(self, since: int, limit: int) -> dict[str, Any]:
        """Ask the Service; whoever asks the same before the next wake-up shares the answer."""
        key = (since, limit)
        task = self._asked.get(key)
        if task is None or task.done():
            task = self._asked[key] = asyncio.create_task(self._calls.run(lambda: self._service.events(since, limit)))
            task.add_done_callback(lambda ended: self._forget(key, ended))
        return await asyncio.shield(task)

    def _forget(self, key: tuple[int, int], ended: asyncio.Task[dict[str, Any]]) -> None:
        if self._asked.get(key) is ended:
            del self._asked[key]
        if not ended.cancelled():
            ended.exception()  # seen, also where all who asked have hung up

    def _gather(self) -> None:
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_later(GATHER_S, self._wake)

    def _wake(self) -> None:
        self._waking = False
        self._asked.clear()  # those calls may have begun before the news: nobody new shares them
        news, self._news = self._news, asyncio.Event()
        news.set()
