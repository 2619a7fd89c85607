"""Work that goes on over a session and survives its loss: tasks in flight, tasks waiting, results.

A task that was in flight when a connection broke starts again on the next one. Should a task itself be what breaks the
connection, it is found by letting suspects run alone, and given up, so that the others get through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

from syncd.core.errors import EntryDenied, EntryGone, EntryUnreadable, SyncdError
from syncd.sources.sftp.wire import (
    CONNECTION_LOST,
    NO_CONNECTION,
    NO_SUCH_FILE,
    PERMISSION_DENIED,
    STATUS,
    Reply,
    Session,
    SessionLost,
    parse_status,
)

LOSSES_BEFORE_ALONE = 2
LOSSES_MAX = 4

Result = TypeVar("Result")


def entry_error(reply: Reply, path: str) -> SyncdError:
    """Translate a reply that is not the one asked for: the table of SFTP status codes (draft, section 7)."""
    if reply.kind != STATUS:
        return EntryUnreadable(f"{path!r}: the server answered with a reply of the wrong type ({reply.kind})")
    code, message = parse_status(reply)
    if code == NO_SUCH_FILE:
        return EntryGone(f"{path!r} is not there any more")
    if code == PERMISSION_DENIED:
        return EntryDenied(f"{path!r} may not be read", hint="let the SFTP user read it on the server")
    if code in (NO_CONNECTION, CONNECTION_LOST):
        raise SessionLost(f"the server lost its own connection: {message}")
    return EntryUnreadable(f"{path!r}: the server says {message or 'failure'!r} (SFTP status {code})")


class Task(ABC):
    """One file or folder on its way."""

    def __init__(self) -> None:
        self.losses = 0
        self.moved = False
        self.done = False

    @abstractmethod
    def begin(self, session: Session) -> None:
        """Ask for the first things; also after a loss, with a new session."""

    @abstractmethod
    def give_up(self, error: EntryUnreadable) -> None:
        """End the task with this error."""


class Work(ABC, Generic[Result]):
    """Tasks of one call of scan() or fetch(). Used by one thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._live: dict[Task, None] = {}
        self._waiting: deque[Task] = deque()
        self._results: list[Result] = []
        self._progress = False

    @abstractmethod
    def next_task(self) -> Task | None:
        """Return something new to begin, None when there is nothing now; waits only while nothing is in flight."""

    @abstractmethod
    def ask_more(self) -> None:
        """Let the tasks in flight ask for what they may have next."""

    @property
    @abstractmethod
    def exhausted(self) -> bool:
        """Whether next_task() will never give anything again."""

    @property
    def finished(self) -> bool:
        return not self._live and not self._waiting and self.exhausted

    @property
    def in_flight(self) -> int:
        return len(self._live)

    def restart(self) -> None:
        """A new session follows; nothing asked before will be answered."""
        self._progress = False

    def lost(self, loss: SessionLost) -> bool:
        """Put what was in flight back in line, first what came first; return whether anything had got on meanwhile."""
        progress = self._progress or any(task.moved for task in self._live)
        for task in self._live:
            task.losses = 0 if task.moved else task.losses + 1
            task.moved = False
        suspects = list(self._live)
        self._live.clear()
        for task in reversed(suspects):
            if task.losses < LOSSES_MAX:
                self._waiting.appendleft(task)
            else:
                task.give_up(EntryUnreadable(f"the connection broke {LOSSES_MAX} times over it; last: {loss}"))
        return progress

    def take(self) -> list[Result]:
        """Return the results since the last call."""
        results, self._results = self._results, []
        return results

    def step(self, session: Session, wait_s: float) -> None:
        """Begin what there is room for, then wait at most `wait_s` for replies. Raises SessionLost."""
        self._fill(session)
        self.ask_more()
        if session.outstanding:
            session.pump(wait_s)

    def _fill(self, session: Session) -> None:
        while len(self._live) < self._limit:
            running = next(iter(self._live), None)
            if running is not None and _alone(running):
                return
            if self._waiting:
                if running is not None and _alone(self._waiting[0]):
                    return
                task: Task | None = self._waiting.popleft()
            else:
                task = self.next_task()
            if task is None:
                return
            self._live[task] = None
            task.begin(session)

    def end(self, task: Task, result: Result) -> None:
        """Take a task out of flight, with its result."""
        task.done = True
        self._live.pop(task, None)
        self._results.append(result)
        if task.losses < LOSSES_MAX:
            self._progress = True


def _alone(task: Task) -> bool:
    return task.losses >= LOSSES_BEFORE_ALONE
