"""A worker has few messages in hand where work takes long: what it holds, no idle neighbour can begin with."""

from __future__ import annotations

from syncd.core.resolution import State
from tests.support.flow_desk import Desk, until
from worker_glue.flow.appetite import Appetite
from worker_glue.flow.limits import Limits

LIMITS = Limits("tesseract")


def asked(appetite: Appetite) -> list[int]:
    told: list[int] = []
    appetite.begin(told.append)
    return told


def test_pages_that_take_seconds_are_asked_for_one_ahead_and_quick_ones_by_the_room() -> None:
    appetite = Appetite(LIMITS)
    assert appetite.messages == 2
    told = asked(appetite)
    for _ in range(10):
        appetite.worked(5.0)
    assert told == [2]
    for _ in range(60):
        appetite.worked(0.001)
    assert told[-1] == LIMITS.in_flight == 21
    assert told == sorted(told)


def test_what_waits_for_its_file_takes_no_place_of_what_is_ready() -> None:
    appetite = Appetite(LIMITS)
    told = asked(appetite)
    for waiting in (*range(1, 21), *range(19, -1, -1)):
        appetite.waiting(waiting)
    assert told == [*range(2, 22), *range(20, 1, -1)]


def test_a_worker_asks_for_more_while_tasks_wait() -> None:
    with Desk() as desk:
        told = asked(desk.worker.appetite)
        desk.job("job", 1)
        desk.files.states["B/late.jpg"] = State.FETCHING
        late = desk.give("B/late.jpg", 0)
        until(lambda: told[-1] == 3)
        desk.files.states["B/late.jpg"] = State.READY
        assert late.wait() == ("finish", 0)
        until(lambda: desk.worker.appetite.messages > 3)
        assert told[1] == 3, "for the one that waited; then what was done so quickly makes it hungry"


def test_tasks_are_quick_once_they_have_shown_it() -> None:
    appetite = Appetite(LIMITS)
    assert not appetite.is_quick
    appetite.worked(0.01)
    assert appetite.is_quick
    for _ in range(20):
        appetite.worked(3.0)
    assert not appetite.is_quick
