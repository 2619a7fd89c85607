"""ports.Store in memory, for tests of what uses it. It passes the same contract, but for kill -9."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from worker_glue.model import Counts, Outcome, TaskKey
from worker_glue.ports import Saved
from worker_glue.store.sqlite import BOUNDS, Bounds


class MemoryStore:
    """A fake with knobs. calls: names of all calls, in order. script: what is raised, call by call.

    `store.script["keep"] = deque([None, DiskFull("full")])`: the first keep() goes well, the second does not, all
    further ones do.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.calls: list[str] = []
        self.script: dict[str, deque[Exception | None]] = {}
        self.texts: dict[TaskKey, Outcome] = {}
        self.why_full = ""
        self._clock = clock
        self._lock = threading.RLock()
        self._starts: dict[TaskKey, int] = {}
        self._owed: dict[TaskKey, tuple[float, Outcome]] = {}
        self._replaced: set[TaskKey] = set()
        self._settled: dict[TaskKey, Saved] = {}
        self._buried: dict[int, bytes] = {}
        self._number = 0

    def begin(self, key: TaskKey) -> int:
        """Note a start; return how many earlier ones came to no end."""
        with self._lock:
            self._called("begin")
            before = self._starts.get(key, 0)
            self._starts[key] = before + 1
            return before

    def forgive(self, key: TaskKey) -> None:
        """Take the last begin() back; nothing where there is none."""
        with self._lock:
            self._called("forgive")
            self._starts[key] = max(0, self._starts.get(key, 0) - 1)

    def keep(self, outcome: Outcome) -> Outcome:
        """Store an outcome unless one of its task is owed."""
        with self._lock:
            self._called("keep")
            self._starts.pop(outcome.key, None)
            return self._owed.setdefault(outcome.key, (self._clock(), _as_stored(outcome)))[1]

    def replace(self, outcome: Outcome) -> None:
        """Put an outcome in the place of the one owed, whose text stays."""
        with self._lock:
            self._called("replace")
            self._keep_text(outcome.key)
            at = self._owed[outcome.key][0] if outcome.key in self._owed else self._clock()
            self._owed[outcome.key] = at, _as_stored(outcome)
            self._replaced.add(outcome.key)

    def owed(self, key: TaskKey) -> Outcome | None:
        """Return what is owed of a task."""
        with self._lock:
            self._called("owed")
            return self._owed[key][1] if key in self._owed else None

    def settled(self, key: TaskKey, saved: Saved) -> None:
        """MongoDB has answered; without effect where nothing is owed."""
        with self._lock:
            self._called("settled")
            if key not in self._owed:
                return
            if saved in (Saved.TOO_LARGE, Saved.WRONG_FORM):
                self._keep_text(key)
            if not (saved is Saved.DONE_BEFORE and self._settled.get(key) is Saved.RECORDED):
                self._settled[key] = saved
            del self._owed[key]
            self._replaced.discard(key)

    def known(self, key: TaskKey) -> Saved | None:
        """Return what MongoDB answered on a task."""
        with self._lock:
            self._called("known")
            return self._settled.get(key)

    def owing(self, limit: int, older_than_s: float) -> Sequence[Outcome]:
        """Return what has been owed for so long, the oldest first."""
        with self._lock:
            self._called("owing")
            now = self._clock()
            old = [outcome for at, outcome in self._owed.values() if at <= now - older_than_s or at > now]
            return old[:limit]

    def counts(self) -> Counts:
        """Return how many are owed."""
        with self._lock:
            self._called("counts")
            return Counts(len(self._owed), min((at for at, _ in self._owed.values()), default=None))

    def bury(self, body: bytes) -> int:
        """Note a message for the dead topic; returns its number."""
        with self._lock:
            self._called("bury")
            self._number += 1
            self._buried[self._number] = body
            return self._number

    def buried(self, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return what is to be sent still, the oldest first."""
        with self._lock:
            self._called("buried")
            return list(self._buried.items())[:limit]

    def unbury(self, number: int) -> None:
        """nsqd has taken it."""
        with self._lock:
            self._called("unbury")
            self._buried.pop(number, None)

    def full(self, bounds: Bounds = BOUNDS) -> str:
        """Say why no new work should begin: why_full, or that more is owed than the bound."""
        with self._lock:
            self._called("full")
            return self.why_full or (f"{len(self._owed)} results are owed" if len(self._owed) > bounds.owed else "")

    def close(self) -> None:
        """Nothing to close."""

    def _called(self, name: str) -> None:
        self.calls.append(name)
        script = self.script.get(name)
        error = script.popleft() if script else None
        if error is not None:
            raise error

    def _keep_text(self, key: TaskKey) -> None:
        if key in self._owed and key not in self._replaced:
            self.texts[key] = self._owed[key][1]


def _as_stored(outcome: Outcome) -> Outcome:
    """Return a copy that shares nothing with the caller's, as from a file."""
    return outcome._replace(entry=json.loads(json.dumps(outcome.entry)))
