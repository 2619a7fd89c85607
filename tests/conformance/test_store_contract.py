"""The contract of worker_glue.ports.Store: in memory, and in a file that several stores have open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker_glue.model import Counts, Kind, Outcome, TaskKey
from worker_glue.ports import Saved, Store
from worker_glue.store.memory import MemoryStore
from worker_glue.store.sqlite import SqliteStore

T0 = 1_770_000_000.0


class Clock:
    """Wall-clock time, as the test sets it."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    with SqliteStore(tmp_path / "worker" / "results.db", worker_id="host-1", clock=clock) as made:
        yield made


def key(number: int | None = 0, *, job: str = "job", file: str = "a.jpg") -> TaskKey:
    return TaskKey(job, number, file)


def result(task: TaskKey | None = None, text: str = "text", kind: Kind = Kind.RESULT) -> Outcome:
    entry = {"text": text, "file_info": {"size": 3}, "confidence": 0.5, "blocks": [1, None, True]}
    return Outcome(task or key(), kind, "Bhushanji/a.jpg", "0123456789abcdef", entry)


# --- starts ----------------------------------------------------------------------------------------------------------


def test_begin_returns_how_many_earlier_starts_came_to_no_end(store: Store) -> None:
    assert [store.begin(key()) for _ in range(3)] == [0, 1, 2]


def test_starts_are_counted_by_task(store: Store) -> None:
    others = [key(1), key(None), key(job="other"), key(file="b.jpg")]
    store.begin(key())
    assert [store.begin(other) for other in others] == [0, 0, 0, 0]


def test_forgive_takes_the_last_start_back(store: Store) -> None:
    store.begin(key())
    store.begin(key())
    store.forgive(key())
    assert store.begin(key()) == 1


def test_forgive_without_a_start_does_nothing(store: Store) -> None:
    store.forgive(key())
    assert store.begin(key()) == 0


def test_keep_ends_all_starts_of_the_task(store: Store) -> None:
    store.begin(key())
    store.begin(key())
    store.begin(key(1))
    store.keep(result())
    assert (store.begin(key()), store.begin(key(1))) == (0, 1)


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_owed_as_it_was(store: Store) -> None:
    assert store.owed(key()) is None
    assert store.keep(result()) == result()
    assert store.owed(key()) == result()
    assert store.owed(key(1)) is None


def test_the_first_outcome_of_a_task_stays(store: Store) -> None:
    store.keep(result(text="first"))
    assert store.keep(result(text="second", kind=Kind.ERROR)) == result(text="first")
    assert store.owed(key()) == result(text="first")
    assert store.counts().owed == 1


def test_two_tasks_of_one_file_have_an_outcome_each(store: Store) -> None:
    tasks = [key(0), key(1), key(None), key(job="j2"), key(file="b.jpg")]
    for number, task in enumerate(tasks):
        store.keep(result(task, str(number)))
    assert [outcome.entry["text"] for outcome in store.owing(10, 0)] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("odd", ["\ud800", "\x00", "é\u0301", "'; DROP TABLE owed; --", "", "|", "a" * 5_000, "你"])
def test_any_text_that_json_can_spell_is_kept(store: Store, odd: str) -> None:
    outcome = Outcome(TaskKey(odd, None, odd), Kind.ERROR, odd, odd, {odd: odd})
    store.begin(outcome.key)
    assert store.keep(outcome) == outcome
    assert list(store.owing(1, 0)) == [outcome]
    assert store.owed(outcome.key) == outcome


def test_any_number_that_json_can_spell_is_kept(store: Store) -> None:
    for index in (-1, 0, 2**63, -(2**80)):
        store.keep(result(key(index)))
        assert store.owed(key(index)) == result(key(index))


def test_a_text_of_megabytes_is_kept(store: Store) -> None:
    store.keep(result(text="शब्द " * 1_000_000))
    found = store.owed(key())
    assert found is not None
    assert len(found.entry["text"]) == 5_000_000


def test_settled_is_owed_no_more(store: Store) -> None:
    store.keep(result())
    store.settled(key(), Saved.RECORDED)
    assert store.owed(key()) is None
    assert store.counts() == Counts(0, None)
    assert list(store.owing(10, 0)) == []


@pytest.mark.parametrize("saved", list(Saved))
def test_settling_what_is_not_owed_does_nothing(store: Any, saved: Saved) -> None:
    store.settled(key(), saved)
    assert store.known(key()) is None
    store.keep(result())
    store.settled(key(), Saved.RECORDED)
    store.settled(key(), saved)
    assert store.known(key()) is Saved.RECORDED


def test_an_outcome_after_the_task_was_settled_is_owed_anew(store: Any) -> None:
    """Whether MongoDB has it still (a job may have been made anew) is for MongoDB to say."""
    store.keep(result(text="first"))
    store.settled(key(), Saved.RECORDED)
    assert store.keep(result(text="second")) == result(text="second")
    assert store.owed(key()) == result(text="second")
    store.settled(key(), Saved.DONE_BEFORE)
    assert store.known(key()) is Saved.RECORDED


def test_replace_puts_another_in_its_place(store: Store) -> None:
    store.keep(result(text="long"))
    store.keep(result(key(1)))
    store.replace(result(text="short", kind=Kind.ERROR))
    assert [outcome.entry["text"] for outcome in store.owing(10, 0)] == ["short", "text"]
    store.settled(key(), Saved.RECORDED)
    assert store.owed(key()) is None


def test_replace_of_what_is_not_owed_keeps_it(store: Store) -> None:
    store.replace(result())
    assert store.owed(key()) == result()


# --- what is owed ----------------------------------------------------------------------------------------------------


def test_owing_tells_the_oldest_first_and_no_more_than_asked(store: Store, clock: Clock) -> None:
    for number in (2, 0, 1):
        store.keep(result(key(number)))
        clock.now += 1
    assert [outcome.key.file_index for outcome in store.owing(2, 0)] == [2, 0]


def test_owing_tells_what_is_old_enough(store: Store, clock: Clock) -> None:
    store.keep(result(key(0)))
    clock.now += 4
    store.keep(result(key(1)))
    clock.now += 2
    assert [outcome.key.file_index for outcome in store.owing(10, 5)] == [0]
    assert [outcome.key.file_index for outcome in store.owing(10, 2)] == [0, 1]


def test_a_clock_set_back_keeps_nothing_from_being_sent(store: Store, clock: Clock) -> None:
    store.keep(result())
    clock.now -= 86_400
    assert [outcome.key for outcome in store.owing(10, 5)] == [key()]


def test_replacing_does_not_make_it_younger(store: Store, clock: Clock) -> None:
    store.keep(result())
    clock.now += 10
    store.replace(result(text="short"))
    assert len(store.owing(10, 5)) == 1
    assert store.counts() == Counts(1, T0)


def test_counts_tell_how_many_and_since_when(store: Store, clock: Clock) -> None:
    assert store.counts() == Counts(0, None)
    store.keep(result(key(0)))
    clock.now += 7
    store.keep(result(key(1)))
    assert store.counts() == Counts(2, T0)
    store.settled(key(0), Saved.RECORDED)
    assert store.counts() == Counts(1, T0 + 7)


# --- the dead topic --------------------------------------------------------------------------------------------------


def test_what_is_buried_stays_until_it_is_unburied(store: Store) -> None:
    bodies = [b"one", b"", bytes(range(256)), b"one"]
    numbers = [store.bury(body) for body in bodies]
    assert len(set(numbers)) == 4
    assert list(store.buried(10)) == list(zip(numbers, bodies, strict=True))
    assert list(store.buried(2)) == [(numbers[0], b"one"), (numbers[1], b"")]
    store.unbury(numbers[0])
    store.unbury(numbers[0])
    assert [number for number, _ in store.buried(10)] == numbers[1:]


def test_numbers_of_the_buried_are_not_used_again(store: Store) -> None:
    first = store.bury(b"one")
    store.unbury(first)
    assert store.bury(b"two") != first


# --- many at once ----------------------------------------------------------------------------------------------------


def test_of_many_threads_exactly_one_has_the_outcome_that_stays(store: Store) -> None:
    kept: list[Outcome] = []
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(store.begin(key()))
        kept.append(store.keep(result(text=str(number))))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 12
    assert {outcome.entry["text"] for outcome in kept} == {kept[0].entry["text"]}
    assert store.owed(key()) == kept[0]
    assert store.counts().owed == 1


def test_every_thread_gets_its_own_answer(store: Store) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(20):
            task = key(100 * number + turn)
            if store.begin(task) != 0 or store.begin(task) != 1:
                wrong.append(task)
            if store.keep(result(task, f"{task}")).entry["text"] != f"{task}":
                wrong.append(task)
            store.settled(task, Saved.RECORDED)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.counts().owed == 0
