"""One answer from looks at several sources."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from syncd.core.resolution import Resolution, State
from syncd.daemon.somewhere import somewhere

NOBODYS = Resolution(State.NO_MIRROR)
LATER, EARLIER = "2026-02-01T10:00:05Z", "2026-02-01T10:00:00Z"


def looks(count: int) -> list[Future[Resolution]]:
    return [Future() for _ in range(count)]


@pytest.mark.parametrize(
    ("found", "now", "state"),
    [
        ((State.MISSING, State.MISSING), State.NO_MIRROR, State.NO_MIRROR),
        ((State.MISSING, State.READY), State.READY, State.READY),
        ((State.UNAVAILABLE, State.READY), State.READY, State.READY),
        ((State.READY, State.READY), State.AMBIGUOUS, State.AMBIGUOUS),
        ((State.MISSING, State.UNAVAILABLE), State.NO_MIRROR, State.UNAVAILABLE),
        ((State.FETCHING, State.MISSING), State.MISSING, State.FETCHING),
        ((State.REFUSED,), State.NO_MIRROR, State.REFUSED),
        ((State.REFUSED, State.MISSING), State.NO_MIRROR, State.NO_MIRROR),
    ],
)
def test_what_all_looks_come_to(found: tuple[State, ...], now: State, state: State) -> None:
    wishes = looks(len(found))
    answer = somewhere(wishes, NOBODYS, lambda: Resolution(now))
    for wish, each in zip(wishes, found, strict=True):
        assert not answer.done()
        wish.set_result(Resolution(each))
    assert answer.result(0).state is state


def test_missing_is_as_old_as_the_oldest_look() -> None:
    wishes = looks(2)
    answer = somewhere(wishes, NOBODYS, lambda: Resolution(State.MISSING))
    for wish, listed_at in zip(wishes, (LATER, EARLIER), strict=True):
        wish.set_result(Resolution(State.MISSING, listed_at=listed_at))
    assert answer.result(0).listed_at == EARLIER


def test_with_nowhere_to_look_it_is_as_it_was() -> None:
    assert somewhere([], NOBODYS, lambda: Resolution(State.READY)).result(0) is NOBODYS


def test_who_hangs_up_takes_all_looks_back_and_what_fails_is_told() -> None:
    wishes = looks(2)
    assert somewhere(wishes, NOBODYS, lambda: NOBODYS).cancel()
    assert all(wish.cancelled() for wish in wishes)

    def fails() -> Resolution:
        raise ZeroDivisionError

    wishes = looks(1)
    answer = somewhere(wishes, NOBODYS, fails)
    wishes[0].set_result(NOBODYS)
    with pytest.raises(ZeroDivisionError):
        answer.result(0)
