"""The long poll never sleeps through an event, in whatever order is asked and told; and calls share few threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from syncd.web.answers import Refused
from syncd.web.calls import Calls
from syncd.web.feed import GATHER_S, Feed
from tests.support.fake_service import FakeService

PATIENCE_S = 20.0


class Slow(FakeService):
    """Its first answer about events is held back until `gate` opens; then it is old."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.began = threading.Event()

    def events(self, since: int, limit: int) -> dict[str, Any]:
        found = super().events(since, limit)
        if not self.began.is_set():
            self.began.set()
            assert self.gate.wait(PATIENCE_S)
        return found


def with_feed(service: FakeService, test: Callable[[Feed], Any]) -> None:
    async def run() -> None:
        calls = Calls()
        feed = Feed(service, calls)
        feed.open()
        try:
            await test(feed)
        finally:
            feed.close()
            calls.close()

    asyncio.run(run())
    assert service.listeners == 0


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_S)


def test_an_event_that_comes_while_the_service_is_asked() -> None:
    service = Slow()

    async def test(feed: Feed) -> None:
        poll = asyncio.create_task(feed.after(0, 10, 2 * PATIENCE_S))
        await until(service.began)
        service.hold("news.pdf")
        await asyncio.sleep(3 * GATHER_S)  # the wake-up is over
        service.gate.set()
        async with asyncio.timeout(PATIENCE_S):
            assert (await poll)["events"]

    with_feed(service, test)


def test_who_comes_after_an_event_does_not_share_an_older_answer() -> None:
    service = Slow()

    async def test(feed: Feed) -> None:
        early = asyncio.create_task(feed.after(0, 10, 2 * PATIENCE_S))
        await until(service.began)
        service.hold("news.pdf")
        await asyncio.sleep(3 * GATHER_S)
        late = asyncio.create_task(feed.after(0, 10, 2 * PATIENCE_S))
        async with asyncio.timeout(PATIENCE_S):
            assert (await late)["events"]  # although the first call still hangs
        service.gate.set()
        async with asyncio.timeout(PATIENCE_S):
            assert (await early)["events"]

    with_feed(service, test)


def test_who_asks_the_same_shares_one_call() -> None:
    service = Slow()

    async def test(feed: Feed) -> None:
        polls = [asyncio.create_task(feed.after(0, 10, 0)) for _ in range(50)]
        await until(service.began)
        service.gate.set()
        await asyncio.gather(*polls)
        assert service.calls["events"] == 1

    with_feed(service, test)


def test_one_who_hangs_up_does_not_take_the_shared_call_away() -> None:
    service = Slow()

    async def test(feed: Feed) -> None:
        first, second = (asyncio.create_task(feed.after(-1, 10, 0)) for _ in range(2))
        await until(service.began)
        first.cancel()
        service.gate.set()
        assert (await second)["next"] == 0

    with_feed(service, test)


def test_a_call_that_fails_fails_for_all_who_share_it_and_is_asked_again() -> None:
    service = FakeService()
    service.fail["events"] = RuntimeError("once")

    async def test(feed: Feed) -> None:
        results = await asyncio.gather(*(feed.after(0, 10, 0) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, RuntimeError) for each in results)
        service.fail.clear()
        assert (await feed.after(0, 10, 0))["events"] == []

    with_feed(service, test)


def test_a_burst_wakes_the_waiting_a_few_times() -> None:
    service = FakeService()

    async def test(feed: Feed) -> None:
        poll = asyncio.create_task(feed.after(500, 10, PATIENCE_S))
        await asyncio.sleep(0.1)
        for number in range(501):
            service.hold(f"{number}.pdf")
        assert (await poll)["events"]
        assert service.calls["events"] < 50

    with_feed(service, test)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_calls_wait_for_a_thread_and_give_up() -> None:
    gate, running = threading.Event(), []

    def call() -> bool:
        running.append(1)
        return gate.wait(PATIENCE_S)

    async def run() -> None:
        calls = Calls(threads=2, patience_s=0.2)
        held = [asyncio.create_task(calls.run(call)) for _ in range(2)]
        while len(running) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(Refused, match="too many") as caught:
            await calls.run(lambda: True)
        assert caught.value.refusal.status == 503
        gate.set()
        assert await asyncio.gather(*held) == [True, True]
        assert await calls.run(lambda: 7) == 7
        calls.close()

    asyncio.run(run())


def test_a_thread_is_not_free_before_its_call_has_ended() -> None:
    gate, running = threading.Event(), []

    def call() -> None:
        running.append(1)
        gate.wait(PATIENCE_S)

    async def run() -> None:
        calls = Calls(threads=1, patience_s=0.2)
        first = asyncio.create_task(calls.run(call))
        while not running:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(Refused):
            await calls.run(call)
        gate.set()
        await asyncio.sleep(0.1)
        await calls.run(call)
        assert len(running) == 2
        calls.close()

    asyncio.run(run())


def test_what_nobody_waits_for_any_more_is_handed_on() -> None:
    gate, late = threading.Event(), []

    async def run() -> None:
        calls = Calls(threads=1)
        task = asyncio.create_task(calls.run(lambda: gate.wait(PATIENCE_S), unwanted=late.append))
        await asyncio.sleep(0.05)
        task.cancel()
        gate.set()
        while not late:
            await asyncio.sleep(0.01)
        calls.close()

    asyncio.run(run())
    assert late == [True]
