"""Files that somebody waits for: fetched ahead of all background work, each committed as soon as it is there.

One thread a mirror, with a connection of its own, so that a run in progress is not waited for; the run in turn takes no
new files while a wish is open (`busy`). Many wishes for one path cost one transfer. The thread ends, and its connection
with it, when nothing was wished for some time.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from syncd.core.errors import PlanRefused, SourceAuthFailed, SyncdError
from syncd.core.model import RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.core.resolution import Resolution, State
from syncd.core.wire import server_path
from syncd.engine.rules import MirrorRules
from syncd.engine.serving import RETRY_S, DemandPorts, Session, Urgency
from syncd.ports import Mirror

IDLE_S = 30.0
MAX_QUEUED = 10_000
FINAL_FAILURES = frozenset({Reason.DENIED, Reason.PATH_UNSAFE, Reason.PATH_COLLISION, Reason.LINK, Reason.CASE_TWIN})
"""Why a fetch failed, where asking again without a person's help is of no use."""


@dataclass(slots=True)
class _Wish:
    """One path that is wanted, and all who wait for it. asked_at: when the last of them came before it was served."""

    path: RelPath
    urgency: Urgency
    asked_at: float = field(default_factory=time.monotonic)
    waiting: list[Future[Resolution]] = field(default_factory=list)
    started: bool = False


class Demand:
    """Fetches single files of one mirror on demand. Any thread may ask; close() ends it."""

    def __init__(self, rules: MirrorRules, ports: DemandPorts, *, run_id: Callable[[], str]) -> None:
        self._rules = rules
        self._ports = ports
        self._run_id = run_id
        self._changed = threading.Condition()
        self._wishes: dict[RelPath, _Wish] = {}
        self._heap: list[tuple[int, int, RelPath]] = []
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._closed = False
        self.fetched_bytes = 0

    # -- asking

    def ensure(self, path: RelPath) -> Future[Resolution]:
        """Want a file now. The future ends with READY, or with an answer that waiting alone does not change."""
        future: Future[Resolution] = Future()
        with self._changed:
            if self._closed:
                future.set_result(self._answer(path, State.UNAVAILABLE, Reason.STOPPED, retry_after_s=RETRY_S))
                return future
            wish = self._wishes.get(path)
            if wish is None:
                wish = self._wishes[path] = _Wish(path, Urgency.ON_DEMAND)
                self._push(wish)
            elif not wish.started:
                wish.asked_at = time.monotonic()
                if wish.urgency is not Urgency.ON_DEMAND:
                    wish.urgency = Urgency.ON_DEMAND
                    self._push(wish)
            wish.waiting.append(future)
            self._wake()
        return future

    def prefetch(self, path: RelPath) -> bool:
        """Want a file soon; False when too many are wanted already (a run will fetch it)."""
        with self._changed:
            if self._closed or path in self._wishes or len(self._wishes) >= MAX_QUEUED:
                return False
            wish = self._wishes[path] = _Wish(path, Urgency.QUEUED)
            self._push(wish)
            self._wake()
        return True

    @property
    def busy(self) -> bool:
        """Whether a file that somebody waits for, or that the queue will ask for, has not come yet."""
        return bool(self._wishes)

    @property
    def queued(self) -> int:
        """How many files are wanted at the moment."""
        return len(self._wishes)

    def close(self, wait_s: float = 8.0) -> None:
        """End it: what has arrived is committed, everybody who still waits gets UNAVAILABLE. Safe to repeat."""
        with self._changed:
            self._closed = True
            session, thread = self._session, self._thread
            self._changed.notify_all()
        if session is not None:
            session.abort()
        if thread is not None:
            thread.join(wait_s)
        for path in list(self._wishes):
            self._end(path, self._answer(path, State.UNAVAILABLE, Reason.STOPPED, retry_after_s=RETRY_S))

    def _push(self, wish: _Wish) -> None:
        heapq.heappush(self._heap, (wish.urgency, next(self._serial), wish.path))

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"demand {self._rules.name}", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # -- the thread

    def _serve(self) -> None:
        while True:
            try:
                with self._ports.target() as mirror:
                    self._serve_session(mirror)
            except SyncdError as error:
                self._fail_all(error)
            except Exception as error:  # noqa: BLE001 - whoever waits gets an answer, and the next wish a new start
                self._ports.bug(error)
                self._fail_all(SyncdError(str(error), hint=hint_for(Reason.BUG)))
            with self._changed:
                if self._closed or not self._wishes:
                    self._thread = None
                    return

    def _serve_session(self, mirror: Mirror) -> None:
        """Serve wishes over one connection until none came for a while, or something ends it."""
        session = Session(self, self._rules, self._ports, mirror, self._run_id())
        with self._changed:
            self._session = session
            if self._closed:
                return
        try:
            session.open()
            while (wish := self._next()) is not None and not session.broken:
                session.serve(wish.path, wish.urgency, wish.asked_at)
        finally:
            with self._changed:
                self._session = None
            session.close()

    def _next(self) -> _Wish | None:
        """Wait for the most urgent wish; None when it is time to end."""
        deadline = time.monotonic() + IDLE_S
        with self._changed:
            while not self._closed and not (self._session and self._session.over):
                while self._heap:
                    urgency, _, path = heapq.heappop(self._heap)
                    wish = self._wishes.get(path)
                    if wish is not None and not wish.started and wish.urgency == urgency:
                        wish.started = True
                        return wish
                if time.monotonic() >= deadline and not self._wishes:
                    return None
                self._changed.wait(1.0)
        return None

    # -- the end of a wish

    def committed(self, path: RelPath) -> None:
        """Answer everybody who waits for a path: it was committed just now."""
        self._end(path, None)

    def failed(self, path: RelPath, reason: Reason, detail: str) -> None:
        """Answer everybody who waits for a path: it could not be fetched."""
        if reason in (Reason.DISK_FULL, Reason.SOURCE_UNAVAILABLE, Reason.TIMEOUT, Reason.STOPPED):
            answer = self._answer(path, State.UNAVAILABLE, reason, retry_after_s=RETRY_S)
        elif reason in FINAL_FAILURES:
            answer = self._answer(path, State.REFUSED, reason)
        else:
            answer = self._answer(path, State.FETCHING, reason, retry_after_s=RETRY_S)
        self._end(path, answer._replace(hint=answer.hint or detail))

    def is_waited_for(self, path: RelPath) -> bool:
        """Whether somebody waits for the answer about a path."""
        with self._changed:
            wish = self._wishes.get(path)
            return wish is not None and bool(wish.waiting)

    def settle(self, path: RelPath, answer: Resolution) -> None:
        """Answer everybody who waits for a path with what a look at the source gave."""
        self._end(path, answer)

    def _fail_all(self, error: SyncdError) -> None:
        for path in list(self._wishes):
            answer = self._answer(path, State.UNAVAILABLE, error.reason, retry_after_s=RETRY_S)
            if isinstance(error, (SourceAuthFailed, PlanRefused)):
                answer = answer._replace(retry_after_s=None)
            self._end(path, answer._replace(hint=error.hint or answer.hint))

    def _end(self, path: RelPath, answer: Resolution | None) -> None:
        with self._changed:
            wish = self._wishes.pop(path, None)
            waiting = wish.waiting if wish is not None else []
            self._changed.notify_all()
        if not waiting:
            return
        found = self._ports.resolve(path) if answer is None else answer
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(found)

    def _answer(self, path: RelPath, state: State, reason: Reason, *, retry_after_s: float | None = None) -> Resolution:
        name = self._rules.name
        return Resolution(
            state=state,
            mirror=name,
            path=path,
            server_path=server_path(name, path),
            reason=reason,
            hint=hint_for(reason, path),
            retry_after_s=retry_after_s,
        )
