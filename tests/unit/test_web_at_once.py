"""Calls in the loop's own thread: as long as none is slow, and only those that wait for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from syncd.core.lease import WouldWait
from syncd.web.answers import Answer
from syncd.web.api import Api, Call
from syncd.web.calls import BESIDE_S, SLOW_S, AtOnce, Calls
from tests.support.fake_service import FakeService

BODY = b'{"path": "Bhushanji/x.pdf", "ttl_s": 60}'


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> float:
        self.now += seconds
        return seconds


def test_after_a_slow_call_none_is_made_at_once_for_a_while() -> None:
    clock = Clock()
    calls = AtOnce(clock)
    assert calls.run(lambda: clock.sleep(SLOW_S)) == SLOW_S
    assert calls.run(lambda: clock.sleep(SLOW_S * 2)) == SLOW_S * 2
    with pytest.raises(WouldWait):
        calls.run(lambda: pytest.fail("made at once"))
    clock.sleep(BESIDE_S)
    assert calls.run(lambda: 1) == 1


def test_one_that_fails_slowly_is_slow_too() -> None:
    clock = Clock()
    calls = AtOnce(clock)

    def fail() -> None:
        clock.sleep(1)
        raise ValueError("slow")

    with pytest.raises(ValueError, match="slow"):
        calls.run(fail)
    with pytest.raises(WouldWait):
        calls.run(lambda: 1)


def test_a_lease_is_given_and_ended_at_once() -> None:
    service = FakeService()
    service.hold("x.pdf")
    api = Api(service, None, None, {}, lambda _: None)  # type: ignore[arg-type]
    found = ask(api, "POST", "/api/v1/leases", BODY)
    assert isinstance(found, Answer)
    assert (found.status, service.leases) == (201, 1)
    lease_id = dict(found.headers)["Location"].rpartition("/")[2]
    ended = ask(api, "DELETE", f"/api/v1/leases/{lease_id}")
    assert isinstance(ended, Answer)
    assert (ended.status, service.leases) == (200, 0)


def test_where_it_would_wait_a_thread_does() -> None:
    async def given() -> Answer:
        calls = Calls()
        try:
            service.slow_s["lease"] = 0.01
            answer = ask(Api(service, calls, None, {}, lambda _: None), "POST", "/api/v1/leases", BODY)  # type: ignore[arg-type]
            assert not isinstance(answer, Answer)
            return await answer
        finally:
            calls.close()

    service = FakeService()
    service.hold("x.pdf")
    assert asyncio.run(given()).status == 201
    assert (service.leases, service.calls["lease"]) == (1, 1)


def ask(api: Api, method: str, target: str, body: bytes = b"") -> Answer | Coroutine[Any, Any, Answer]:
    found = api.find(method, target)
    assert found.endpoint is not None
    return api.answer(found.endpoint, Call(found.name, "", {}, body))
