"""What is owed goes to MongoDB, and what was buried to the dead topic, when the worker itself could not bring it there.

Sent twice is harmless: the guard in MongoDB lets one entry of a task in.
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from syncd.core.errors import SyncdError
from worker_glue.errors import JobsRefused
from worker_glue.model import Kind, Outcome, TaskKey
from worker_glue.ports import Jobs, Publisher, Saved, Store
from worker_glue.store.file import take, translated
from worker_glue.tasks.taken import NOT_TAKEN

OUTCOMES_AT_ONCE = 20
"""Each may be megabytes."""
BURIED_AT_ONCE = 20
REFUSED_REMEMBERED = 50
REFUSALS_AT_ONCE = 3
"""In a row: then it is not the outcomes that are refused."""
_SLICE_S = 0.5
"""So soon a wait ends after `stop` was set."""


class Say(Protocol):
    """Where events go: flow.Witness.event."""

    def __call__(self, name: str, **fields: object) -> None: ...


class Pace(NamedTuple):
    """How fast, in seconds.

    older_than_s: outcomes so young are still their worker's own business. idle_s: between two looks. pause_s: after a
    failure, doubling up to pause_max_s, jittered. refused_s: after MongoDB refused, which only a person mends.
    """

    older_than_s: float = 5.0
    idle_s: float = 2.0
    pause_s: float = 1.0
    pause_max_s: float = 60.0
    refused_s: float = 120.0


UNHURRIED = Pace()


class _Fault(SyncdError):
    """A mistake of ours."""


_HELD_BACK = (JobsRefused, _Fault)


class Sender:
    """Sends what is owed by a host. One thread: run(); any thread: send(), once(), nudge().

    Only one process of a host sends at a time: it holds the lock beside the store, which ends with it.
    """

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        publisher: Publisher,
        lock: Path,
        *,
        dead_topic: str,
        dead: Callable[[Outcome, Saved], bytes],
        shorter: Callable[[Outcome], Outcome],
        say: Say,
        pace: Pace = UNHURRIED,
    ) -> None:
        """lock: a file beside the store, made when there is none.

        dead: the message for the dead topic about an outcome whose job is unknown, or too full. shorter: the error in
        the place of a result that is too large.
        """
        self._store = store
        self._jobs = jobs
        self._publisher = publisher
        self._lock_path = lock
        self._dead_topic = dead_topic
        self._dead = dead
        self._shorter = shorter
        self._say = say
        self._pace = pace
        self._refused: set[TaskKey] = set()
        self._lock: int | None = None
        self._lock_failing = False
        self._nudged = threading.Event()
        self._stop = threading.Event()

    def send(self, outcome: Outcome) -> Saved:
        """Bring one outcome that is kept in the store to its end there: recorded, or given up, and settled.

        Raises: JobsAway, JobsRefused, StoreFailed, DiskFull; then it is still owed.
        """
        saved = self._jobs.save(outcome)
        if saved is Saved.TOO_LARGE and outcome.kind is Kind.RESULT:
            self._say("result.too_large", job_id=outcome.key.job_id, file=outcome.key.file)
            outcome = self._shorter(outcome)
            self._store.replace(outcome)
            saved = self._jobs.save(outcome)
        if saved in NOT_TAKEN:  # first: killed in between, there are two dead messages, not none
            self._store.bury(self._dead(outcome, saved))
            self._say(
                "result.not_recorded",
                job_id=outcome.key.job_id,
                file=outcome.key.file,
                why=saved.value,
                hint="there is no such job" if saved is Saved.NO_JOB else "its text is kept in the local store",
            )
        self._store.settled(outcome.key, saved)
        return saved

    def once(self) -> int:
        """Send what is owed and old enough, and what is buried, once around; return how much of it is done.

        Raises: the first of JobsAway, JobsRefused, PublishFailed, StoreFailed, DiskFull; what came before is done.
        """
        sent, troubles = 0, []
        for part in (self._send_owed, self._send_buried):
            try:
                sent += part()
            except SyncdError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]
        return sent

    def run(self, stop: threading.Event) -> None:
        """Send until stop is set, or wait meanwhile for the turn of this process."""
        parts = ((self._send_owed, "owed"), (self._send_buried, "buried"))
        lanes = [_Lane(work, what, self._pace, self._say) for work, what in parts]
        self._stop = stop
        try:
            while not stop.is_set():
                self._look(stop, lanes)
        finally:
            self._give_up_turn()

    def _look(self, stop: threading.Event, lanes: Sequence[_Lane]) -> None:
        """Send what is due, and wait for the next time."""
        nudged = self._nudged.is_set()
        self._nudged.clear()
        wait_s = self._pace.idle_s
        if self._has_turn():
            for lane in lanes:
                lane.go(stop, hurry=nudged)
            wait_s = min(lane.due for lane in lanes) - time.monotonic()
        self._wait(stop, wait_s)

    def nudge(self) -> None:
        """Look now: there is something new to send, or MongoDB answers again."""
        self._nudged.set()

    # --- what is sent

    def _send_owed(self) -> int:
        sent, in_a_row = 0, 0
        refusal: SyncdError | None = None
        for outcome in self._due():
            try:
                self._send_soundly(outcome)
            except _HELD_BACK as error:  # perhaps only this one: the others are not held up by it
                refusal, in_a_row = refusal or error, in_a_row + 1
                if len(self._refused) < REFUSED_REMEMBERED:
                    self._refused.add(outcome.key)
            else:
                sent, in_a_row = sent + 1, 0
                self._refused.discard(outcome.key)
            if in_a_row == REFUSALS_AT_ONCE or self._stop.is_set():
                break
        if refusal is not None and sent == 0:
            raise refusal
        return sent

    def _send_soundly(self, outcome: Outcome) -> None:
        """send(), and what is a fault of ours is held against this outcome, not against all."""
        try:
            self.send(outcome)
        except SyncdError:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise _Fault(f"a fault in the worker: {type(error).__name__} at {where.filename}:{where.lineno}") from error

    def _due(self) -> list[Outcome]:
        """Return what to send now; what was refused before comes last."""
        owing = self._store.owing(OUTCOMES_AT_ONCE + len(self._refused), self._pace.older_than_s)
        return sorted(owing, key=lambda outcome: outcome.key in self._refused)[:OUTCOMES_AT_ONCE]

    def _send_buried(self) -> int:
        sent = 0
        for number, body in self._store.buried(BURIED_AT_ONCE):
            self._publisher.publish(self._dead_topic, body)
            self._store.unbury(number)
            sent += 1
            if self._stop.is_set():
                break
        return sent

    # --- turns and waits

    def _has_turn(self) -> bool:
        if self._lock is None:
            try:
                with translated(self._lock_path):
                    self._lock = take(self._lock_path)
            except SyncdError as error:
                if not self._lock_failing:  # said once
                    self._say("sender.failing", what="lock", error=error.message, hint=error.hint)
                self._lock_failing = True
                return False
            self._lock_failing = False
            if self._lock is not None:
                self._say("sender.turn", lock=str(self._lock_path))
        return self._lock is not None

    def _give_up_turn(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for so long, or for a nudge or the end."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and not self._nudged.is_set() and (left := deadline - time.monotonic()) > 0:
            self._nudged.wait(min(_SLICE_S, left))


class _Lane:
    """One kind of thing to send, with waits of its own: nsqd being away holds up nothing for MongoDB."""

    def __init__(self, work: Callable[[], int], what: str, pace: Pace, say: Say) -> None:
        self._work = work
        self._what = what
        self._pace = pace
        self._say = say
        self._pause_s = pace.pause_s
        self._failing = ""
        self._tried = float("-inf")
        self.due = 0.0

    def go(self, stop: threading.Event, *, hurry: bool) -> None:
        """Send all there is, if it is time. hurry: it is, unless the last try failed a moment ago."""
        due = min(self.due, self._tried + self._pace.pause_s) if hurry else self.due
        if time.monotonic() < due:
            return
        try:
            while self._work() and not stop.is_set():
                self._well()
        except SyncdError as error:
            self._failed(error)
        else:
            self._well()
            self.due = time.monotonic() + self._pace.idle_s

    def _failed(self, error: SyncdError) -> None:
        wait_s = self._pace.refused_s if isinstance(error, _HELD_BACK) else self._pause_s
        self._tried = time.monotonic()
        self._pause_s = min(2 * self._pause_s, self._pace.pause_max_s)
        self.due = time.monotonic() + wait_s * random.uniform(0.5, 1.0)  # noqa: S311  (jitter)
        if self._failing != type(error).__name__:  # said once
            self._failing = type(error).__name__
            self._say("sender.failing", what=self._what, error=error.message, hint=error.hint)

    def _well(self) -> None:
        self._pause_s, self._tried = self._pace.pause_s, float("-inf")
        if self._failing:
            self._failing = ""
            self._say("sender.recovered", what=self._what)
