"""What is owed goes to MongoDB and to the dead topic: in which order, how often, and what holds up what."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import DiskFull, PublishFailed, SyncdError
from worker_glue.errors import JobsAway, JobsRefused
from worker_glue.model import Kind, Outcome, Task, TaskKey
from worker_glue.ports import JobLook, Saved
from worker_glue.store.delivery import REFUSALS_AT_ONCE, REFUSED_REMEMBERED, Pace, Sender
from worker_glue.store.memory import MemoryStore

BOUND_S = 20.0
QUICK = Pace(older_than_s=0.0, idle_s=0.01, pause_s=0.01, pause_max_s=0.05, refused_s=0.05)


class FakeJobs:
    """Takes what fits; `trouble` is asked first and may raise."""

    def __init__(self) -> None:
        self.saved: list[Outcome] = []
        self.tried: list[TaskKey] = []
        self.trouble: Callable[[Outcome], None] = lambda outcome: None
        self.no_job: set[str] = set()
        self.takes_bytes = 1_000

    def look(self, task: Task) -> JobLook:
        raise AssertionError

    def status(self, job_id: str) -> str | None:
        raise AssertionError

    def save(self, outcome: Outcome) -> Saved:
        self.tried.append(outcome.key)
        self.trouble(outcome)
        if outcome.key.job_id in self.no_job:
            return Saved.NO_JOB
        if len(str(outcome.entry)) > self.takes_bytes:
            return Saved.TOO_LARGE
        if any(outcome.key == saved.key for saved in self.saved):
            return Saved.DONE_BEFORE
        self.saved.append(outcome)
        return Saved.RECORDED


class FakePublisher:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.script: deque[Exception | None] = deque()

    def publish(self, topic: str, body: bytes, delay_s: float = 0) -> None:
        error = self.script.popleft() if self.script else None
        if error is not None:
            raise error
        self.sent.append((topic, body))


class Setting:
    """A sender and all that is around it."""

    def __init__(self, lock: Path, pace: Pace = QUICK) -> None:
        self.store = MemoryStore()
        self.jobs = FakeJobs()
        self.publisher = FakePublisher()
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.sender = Sender(
            self.store,
            self.jobs,
            self.publisher,
            lock,
            dead_topic="dead",
            dead=lambda outcome, saved: f"{saved.value} {outcome.key.file_index}".encode(),
            shorter=_shorter,
            say=lambda name, **fields: self.said.append((name, fields)),
            pace=pace,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for said, fields in self.said if said == name]

    @contextmanager
    def running(self) -> Iterator[threading.Event]:
        stop = threading.Event()
        thread = threading.Thread(target=self.sender.run, args=(stop,))
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(BOUND_S)
            assert not thread.is_alive()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "sender.lock"


@pytest.fixture
def setting(lock: Path) -> Setting:
    return Setting(lock)


def _shorter(outcome: Outcome) -> Outcome:
    return outcome._replace(kind=Kind.ERROR, entry={"error": "too large", **_blown(outcome)})


def _blown(outcome: Outcome) -> dict[str, str]:
    """What makes the error itself too large, in a job that is full to the brim."""
    return {"file": "x" * 2_000} if outcome.key.job_id == "brim" else {}


def key(number: int = 0, job: str = "job") -> TaskKey:
    return TaskKey(job, number, "a.jpg")


def result(task: TaskKey | None = None, text: str = "text") -> Outcome:
    return Outcome(task or key(), Kind.RESULT, "Bhushanji/a.jpg", "0123456789abcdef", {"text": text})


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- once around -----------------------------------------------------------------------------------------------------


def test_what_is_owed_is_recorded_the_oldest_first(setting: Setting) -> None:
    for number in range(3):
        setting.store.keep(result(key(number)))
    assert setting.sender.once() == 3
    assert [outcome.key.file_index for outcome in setting.jobs.saved] == [0, 1, 2]
    assert setting.store.counts().owed == 0
    assert setting.sender.once() == 0
    assert setting.said == []


def test_what_is_recorded_already_is_settled(setting: Setting) -> None:
    setting.jobs.saved.append(result())
    setting.store.keep(result())
    assert setting.sender.once() == 1
    assert setting.store.known(key()) is Saved.DONE_BEFORE


def test_what_is_young_is_its_workers_own_business(lock: Path) -> None:
    setting = Setting(lock, QUICK._replace(older_than_s=60.0))
    setting.store.keep(result())
    assert setting.sender.once() == 0
    assert setting.jobs.tried == []


def test_mongodb_away_keeps_it_owed_and_is_asked_once(setting: Setting) -> None:
    def away(outcome: Outcome) -> None:
        raise JobsAway("no answer")

    setting.jobs.trouble = away
    for number in range(3):
        setting.store.keep(result(key(number)))
    setting.store.bury(b"dead")
    with pytest.raises(JobsAway):
        setting.sender.once()
    assert setting.jobs.tried == [key(0)]
    assert setting.store.counts().owed == 3
    assert setting.publisher.sent == [("dead", b"dead")]


def test_a_result_that_is_too_large_becomes_one_short_error(setting: Setting) -> None:
    setting.store.keep(result(text="x" * 5_000))
    assert setting.sender.once() == 1
    assert [(saved.kind, saved.entry) for saved in setting.jobs.saved] == [(Kind.ERROR, {"error": "too large"})]
    assert setting.store.texts[key()].entry["text"] == "x" * 5_000
    assert setting.store.known(key()) is Saved.RECORDED
    assert setting.store.buried(9) == []
    assert len(setting.events("result.too_large")) == 1


def test_a_document_that_takes_not_even_that_goes_to_the_dead_topic(setting: Setting) -> None:
    setting.store.keep(result(key(5, "brim"), text="x" * 5_000))
    assert setting.sender.once() == 2
    assert setting.publisher.sent == [("dead", b"too_large 5")]
    assert setting.store.counts().owed == 0
    assert setting.store.texts[key(5, "brim")].entry["text"] == "x" * 5_000
    assert setting.events("result.not_recorded")[0]["why"] == "too_large"
    assert setting.sender.once() == 0


def test_killed_between_the_short_error_and_its_recording_it_goes_on_from_there(setting: Setting) -> None:
    setting.store.keep(result(key(5, "brim"), text="x" * 5_000))
    setting.store.script["settled"] = deque([DiskFull("full")])
    with pytest.raises(DiskFull):
        setting.sender.once()
    assert setting.sender.once() > 0
    assert setting.store.texts[key(5, "brim")].entry["text"] == "x" * 5_000
    assert {body for _, body in setting.publisher.sent} == {b"too_large 5"}


def test_an_unknown_job_goes_to_the_dead_topic(setting: Setting) -> None:
    setting.jobs.no_job.add("gone")
    setting.store.keep(result(key(3, "gone")))
    setting.store.keep(result(key(4)))
    assert setting.sender.once() == 3
    assert setting.publisher.sent == [("dead", b"no_job 3")]
    assert [saved.key for saved in setting.jobs.saved] == [key(4)]
    assert setting.store.counts().owed == 0


def test_what_nsqd_does_not_take_stays_buried(setting: Setting) -> None:
    setting.store.bury(b"one")
    setting.store.bury(b"two")
    setting.publisher.script.extend([None, PublishFailed("no OK")])
    setting.store.keep(result())
    with pytest.raises(PublishFailed):
        setting.sender.once()
    assert [body for _, body in setting.store.buried(9)] == [b"two"]
    assert len(setting.jobs.saved) == 1


def test_one_that_is_refused_holds_up_no_other(setting: Setting) -> None:
    poison = {key(0), key(1)}
    setting.jobs.trouble = _refuse(poison)
    for number in range(30):
        setting.store.keep(result(key(number)))
    for _ in range(5):
        setting.sender.once()
        if setting.store.counts().owed == 2:
            break
    assert {outcome.key for outcome in setting.store.owing(99, 0)} == poison
    with pytest.raises(JobsRefused):
        setting.sender.once()
    poison.clear()
    assert setting.sender.once() == 2


def test_more_refusals_than_are_remembered_hold_up_no_other(setting: Setting) -> None:
    poison = {key(number) for number in range(REFUSED_REMEMBERED + REFUSALS_AT_ONCE - 1)}
    setting.jobs.trouble = _refuse(poison)
    for number in range(REFUSED_REMEMBERED + 10):
        setting.store.keep(result(key(number)))
    for _ in range(REFUSED_REMEMBERED):
        try:
            setting.sender.once()
        except JobsRefused:
            continue
    assert {outcome.key for outcome in setting.store.owing(99, 0)} == poison


def test_a_refused_login_is_not_tried_for_every_outcome(setting: Setting) -> None:
    def refuse(outcome: Outcome) -> None:
        raise JobsRefused("login")

    setting.jobs.trouble = refuse
    for number in range(30):
        setting.store.keep(result(key(number)))
    with pytest.raises(JobsRefused):
        setting.sender.once()
    assert len(setting.jobs.tried) == REFUSALS_AT_ONCE


def test_a_fault_of_ours_costs_one_outcome_and_not_the_others(setting: Setting) -> None:
    def stumble(outcome: Outcome) -> None:
        if outcome.key == key(0):
            raise KeyError("file")

    setting.jobs.trouble = stumble
    for number in range(3):
        setting.store.keep(result(key(number)))
    assert setting.sender.once() == 2
    with pytest.raises(SyncdError, match="KeyError"):
        setting.sender.once()


def _refuse(poison: set[TaskKey]) -> Callable[[Outcome], None]:
    def refuse(outcome: Outcome) -> None:
        if outcome.key in poison:
            raise JobsRefused("no")

    return refuse


# --- the loop --------------------------------------------------------------------------------------------------------


def test_more_than_one_batch_is_sent_and_what_comes_later_too(setting: Setting) -> None:
    for number in range(100):
        setting.store.keep(result(key(number)))
    with setting.running():
        wait_for(lambda: setting.store.counts().owed == 0)
        setting.store.keep(result(key(100)))
        setting.store.bury(b"dead")
        wait_for(lambda: setting.store.counts().owed == 0 and setting.publisher.sent)
    assert len(setting.jobs.saved) == 101


def test_it_goes_on_by_itself_and_says_so_once(setting: Setting) -> None:
    failures = deque([JobsAway("no answer")] * 5)

    def away(outcome: Outcome) -> None:
        if failures:
            raise failures.popleft()

    setting.jobs.trouble = away
    setting.store.keep(result())
    with setting.running():
        wait_for(lambda: setting.store.counts().owed == 0)
    assert [fields["error"] for fields in setting.events("sender.failing")] == ["no answer"]
    assert len(setting.events("sender.recovered")) == 1


def test_nsqd_away_holds_up_nothing_for_mongodb(lock: Path) -> None:
    setting = Setting(lock, QUICK._replace(pause_s=60.0, pause_max_s=60.0))
    setting.publisher.script.extend([PublishFailed("no OK")] * 99)
    setting.store.bury(b"dead")
    with setting.running():
        wait_for(lambda: setting.events("sender.failing"))
        setting.store.keep(result())
        wait_for(lambda: setting.store.counts().owed == 0)
    assert setting.events("sender.failing")[0]["what"] == "buried"


def test_a_nudge_ends_a_long_wait(lock: Path) -> None:
    setting = Setting(lock, QUICK._replace(idle_s=600.0))
    with setting.running():
        wait_for(lambda: setting.events("sender.turn"))
        wait_for(lambda: "buried" in setting.store.calls)
        setting.store.keep(result())
        setting.sender.nudge()
        wait_for(lambda: setting.store.counts().owed == 0)


def test_nudges_do_not_hammer_at_a_server_that_is_away(lock: Path) -> None:
    setting = Setting(lock, QUICK._replace(pause_s=600.0, pause_max_s=600.0))

    def away(outcome: Outcome) -> None:
        raise JobsAway("no answer")

    setting.jobs.trouble = away
    setting.store.keep(result())
    with setting.running():
        wait_for(lambda: setting.events("sender.failing"))
        for _ in range(50):
            setting.sender.nudge()
            time.sleep(0.002)
    assert len(setting.jobs.tried) == 1


def test_to_stop_does_not_wait_for_all_that_is_owed(setting: Setting) -> None:
    for number in range(10):
        setting.store.keep(result(key(number)))
    stop = threading.Event()
    setting.jobs.trouble = lambda outcome: stop.set()
    setting.sender.run(stop)
    assert setting.store.counts().owed == 9


def test_a_store_that_fails_is_tried_again(setting: Setting) -> None:
    setting.store.script["owing"] = deque([DiskFull("full"), DiskFull("full")])
    setting.store.keep(result())
    with setting.running():
        wait_for(lambda: setting.store.counts().owed == 0)


# --- turns -----------------------------------------------------------------------------------------------------------


def test_one_of_a_host_sends_and_another_follows_it(lock: Path) -> None:
    one, two = Setting(lock), Setting(lock)
    with one.running() as stop_one:
        wait_for(lambda: one.events("sender.turn"))
        with two.running():
            two.store.keep(result())
            one.store.keep(result())
            wait_for(lambda: one.store.counts().owed == 0)
            assert two.jobs.tried == []
            stop_one.set()
            wait_for(lambda: two.store.counts().owed == 0)


def test_a_process_that_is_killed_leaves_its_turn(lock: Path) -> None:
    code = """
import sys, time, pathlib
from worker_glue.store.file import take
assert take(pathlib.Path(sys.argv[1])) is not None
print("mine", flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"mine\n"
    setting = Setting(lock)
    setting.store.keep(result())
    with setting.running():
        time.sleep(0.1)  # looks for its turn several times meanwhile
        assert setting.jobs.tried == []
        child.kill()
        child.wait()
        child.stdout.close()
        wait_for(lambda: setting.store.counts().owed == 0)


def test_a_lock_that_cannot_be_made_is_said_once(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "gone" / "sender.lock")
    with setting.running():
        wait_for(lambda: setting.events("sender.failing"))
        time.sleep(0.05)
    assert [fields["what"] for fields in setting.events("sender.failing")] == ["lock"]
