"""Waiting for a task's file: at once when it is there, else under touch in the waiting room, never for ever."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from syncd.core.resolution import Resolution, State
from worker_glue.flow import rules
from worker_glue.flow.endings import Ended, PassOn
from worker_glue.flow.hand import Hand, Phase
from worker_glue.flow.limits import Limits
from worker_glue.flow.witness import Witness
from worker_glue.ports import Files

ASK_MIN_S, ASK_MAX_S = 0.25, 15.0
LISTED_AT_S = 1.1
"""The time of a look is told in whole seconds."""


class Failure(Exception):
    """The task ends in an error. dead: it was transient, so the dead topic gets it too."""

    def __init__(self, error: str, reason: str, *, dead: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.reason = reason
        self.dead = dead


class Room:
    """Counts the tasks that wait, so that those that are ready always find a message slot. changed: told the count."""

    def __init__(self, size: int, changed: Callable[[int], None] = lambda _: None) -> None:
        self._size = size
        self._changed = changed
        self._lock = threading.Lock()
        self.waiting = 0

    @contextmanager
    def place(self, hand: Hand, full_delay_s: float, *, paused: bool = False) -> Iterator[None]:
        """Wait in here; where there is no room, the task is passed on for a short while.

        paused: it waits for its job, which is not counted as waiting for its file.
        """
        with self._lock:
            if self.waiting >= self._size:
                body = hand.task.body
                if not paused:
                    body = rules.with_waiting_since(body, rules.waiting_since(body) or time.time())
                raise Ended(PassOn(body, full_delay_s * random.uniform(0.8, 1.2)))  # noqa: S311  (spreads load)
            self.waiting += 1
            self._changed(self.waiting)
        before, hand.phase = hand.phase, Phase.WAITING
        try:
            yield
        finally:
            hand.phase = before
            with self._lock:
                self.waiting -= 1
                self._changed(self.waiting)


class FileWait:
    """Brings the file of a task. check: raises Ended when the task is not to be worked on any more."""

    def __init__(self, files: Files, room: Room, limits: Limits, witness: Witness) -> None:
        self._files = files
        self._room = room
        self._limits = limits
        self._witness = witness

    def ready(self, hand: Hand, check: Callable[[Hand], None]) -> Resolution:
        """Return the resolution of a file that is there.

        Raises: Failure (it cannot be had), Ended (passed on: the room is full, or it waited as long as it may here).
        """
        path = hand.task.file_path
        found = self._files.resolve(path)
        if found.state is State.NO_MIRROR:  # or a folder that is newer than any listing, named without its mirror
            found = self._files.ensure(path, self._limits.ensure_s)
        if found.state is State.READY:
            return found
        self._refuse(found)
        began = time.monotonic()
        with self._room.place(hand, self._limits.room_full_delay_s):
            found = self._wait(hand, check)
        self._witness.observe("wait_file", time.monotonic() - began)
        return found

    def _wait(self, hand: Hand, check: Callable[[Hand], None]) -> Resolution:
        since = rules.waiting_since(hand.task.body)
        came_late = since is not None and time.time() - since > self._limits.wait_for_source_s
        since = since or time.time()
        looks = rules.Looks(self._limits.missing_grace_s, rules.missing_at(hand.task.body))
        while True:
            timeout_s = max(ASK_MIN_S, min(self._limits.ensure_s, self._limits.hold_left_s(hand.delivery)))
            found = self._files.ensure(hand.task.file_path, timeout_s)
            if found.state is State.READY:
                return found
            self._refuse(found)
            if looks.enough(found):
                raise Failure(rules.missing(found), "missing")
            waited_s = time.time() - since
            if came_late:
                raise Failure(rules.waited_too_long(found, waited_s), "waited_too_long", dead=True)
            if waited_s > self._limits.wait_for_source_s:
                body = rules.with_waiting_since(hand.task.body, since)
                raise Ended(PassOn(body, self._limits.pass_on_delay_s))
            hand.missing_at = looks.first
            hand.sleep(min(self._pause(found, looks), self._limits.hold_left_s(hand.delivery)))
            check(hand)

    def _pause(self, found: Resolution, looks: rules.Looks) -> float:
        if looks.looked:
            return self._limits.missing_grace_s + LISTED_AT_S
        return min(max(found.retry_after_s or ASK_MAX_S, ASK_MIN_S), ASK_MAX_S)

    def _refuse(self, found: Resolution) -> None:
        if found.state is not State.READY and not rules.must_wait(found):
            raise Failure(rules.permanent(found), str(found.reason or found.state))
