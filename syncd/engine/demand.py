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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from syncd.core import paths
from syncd.core.errors import EntryGone, PlanRefused, Scope, SourceAuthFailed, SyncdError
from syncd.core.model import Fingerprint, Kind, RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.core.resolution import Resolution, State
from syncd.core.wire import server_path
from syncd.engine.backlog import Fetch
from syncd.engine.clock import utc_text
from syncd.engine.commit import Committer
from syncd.engine.report import Report
from syncd.engine.rules import MirrorRules
from syncd.engine.scan import arrival_reason
from syncd.engine.space import Space
from syncd.engine.trail import Ending, Trail
from syncd.engine.transfer import Transfer
from syncd.ports import Mirror, MirrorCatalogue, Source

IDLE_S = 30.0
MAX_QUEUED = 10_000
RETRY_S = 5.0
FINAL_FAILURES = frozenset({Reason.DENIED, Reason.PATH_UNSAFE, Reason.PATH_COLLISION, Reason.LINK, Reason.CASE_TWIN})
"""Why a fetch failed, where asking again without a person's help is of no use."""


class Urgency(IntEnum):
    """How soon a file is wanted: somebody waits for it; the queue is about to ask for it."""

    ON_DEMAND = 0
    QUEUED = 1


class DemandPorts(NamedTuple):
    """What demand works with.

    target: opens the mirror, shared with other work (raises TargetMissing and the like). open_source: a connection of
    its own; may raise SourceAuthFailed without trying. resolve: answers once a file has been committed. writing: the
    lock of everybody who commits to this mirror. now_ns: wall clock. bug: told of what nobody foresaw.
    """

    target: Callable[[], AbstractContextManager[Mirror]]
    open_source: Callable[[], Source]
    catalogue: MirrorCatalogue
    resolve: Callable[[RelPath], Resolution]
    writing: threading.RLock
    now_ns: Callable[[], int]
    bug: Callable[[BaseException], None] = lambda _: None


@dataclass(slots=True)
class _Wish:
    """One path that is wanted, and all who wait for it."""

    path: RelPath
    urgency: Urgency
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
        self._session: _Session | None = None
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
            elif wish.urgency is not Urgency.ON_DEMAND:
                wish.urgency = Urgency.ON_DEMAND
                if not wish.started:
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
        session = _Session(self, self._rules, self._ports, mirror, self._run_id())
        with self._changed:
            self._session = session
            if self._closed:
                return
        try:
            session.open()
            while (wish := self._next()) is not None and not session.broken:
                session.serve(wish.path, wish.urgency)
        finally:
            with self._changed:
                self._session = None
            session.close()

    def _next(self) -> _Wish | None:
        """Wait for the most urgent wish; None when it is time to end."""
        deadline = time.monotonic() + IDLE_S
        with self._changed:
            while not self._closed and not (self._session and self._session.broken):
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


class _Told(Report):
    """A report that tells of each failure at once."""

    __slots__ = ("tell",)
    tell: Callable[[RelPath, Reason, str], None]

    def fail(self, path: RelPath | str, reason: Reason, detail: str = "") -> None:
        self.failed += 1
        self.tell(RelPath(path), reason, detail)


class _Session:
    """One connection to the source and one transfer over it."""

    def __init__(self, demand: Demand, rules: MirrorRules, ports: DemandPorts, mirror: Mirror, run_id: str) -> None:
        self._demand = demand
        self._rules = rules
        self._ports = ports
        self._mirror = mirror
        self._report = _Told(rules.name, run_id)
        self._report.tell = demand.failed
        batch = f"{utc_text(ports.now_ns()).replace('-', '').replace(':', '')}-{run_id}"
        committer = Committer(
            mirror, ports.catalogue, self._report, batch, lambda: ports.now_ns() // 1_000_000, ports.writing
        )
        self._source = ports.open_source()
        self._trail = Trail(self._source)
        space = Space(mirror, rules.floor, ports.now_ns)
        self._transfer = Transfer(
            self._source, mirror, ports.catalogue, committer, space, self._report, settled=self._settled
        )

    @property
    def broken(self) -> bool:
        """Whether something ended the transfer."""
        return self._transfer.stopped

    def open(self) -> None:
        """Connect. Raises SourceUnavailable, SourceAuthFailed."""
        self._source.check()

    def abort(self) -> None:
        """Make the thread that serves end soon; from any thread."""
        self._transfer.abort()

    def close(self) -> None:
        """Wait for what is in flight, then end the connection. Raises what ended the transfer."""
        try:
            self._transfer.finish()
        finally:
            self._source.close()
            self._demand.fetched_bytes += self._report.bytes

    def serve(self, path: RelPath, urgency: Urgency) -> None:
        """Look at one path at the source and queue its fetch; answer at once where there is nothing to fetch."""
        try:
            fingerprint = self._source.read(path)
        except EntryGone:
            self._demand.settle(path, self._not_there(path, self._trail.follow(path, fresh=True)))
        except SyncdError as error:
            if error.scope is not Scope.FILE:
                raise
            self._unopened(path, error)
        else:
            ending = self._trail.follow(path) if self._ports.catalogue.record(path) is None else None
            if ending is None:
                self._want(path, fingerprint, urgency)
            else:  # it can be opened so, but that is not how the server spells it
                self._demand.settle(path, self._not_there(path, ending))

    def _unopened(self, path: RelPath, error: SyncdError) -> None:
        """Answer for a path that the server does not open: what no complete listing shows (a name with "?" in it, of
        which SMB servers do not even say that it is not there) is missing, or known by another name only."""
        ending = self._trail.follow(path, fresh=True) if error.reason is Reason.UNREADABLE else None
        if ending is not None and ending.certain:
            self._demand.settle(path, self._not_there(path, ending))
        else:
            self._demand.failed(path, error.reason, error.message)

    def _want(self, path: RelPath, fingerprint: Fingerprint, urgency: Urgency) -> None:
        if self._is_twin(path):
            self._demand.failed(path, Reason.CASE_TWIN, "")
            return
        held = self._ports.catalogue.record(path)
        if held is not None and held.fingerprint == fingerprint and self._is_intact(path):
            self._demand.committed(path)
            return
        reason = Reason.CHANGED if held is not None else arrival_reason(self._mirror, path)
        self._transfer.want(
            Fetch(path, fingerprint, reason=reason, held=held, adopt=reason is Reason.UNKNOWN_LOCAL, rank=urgency)
        )

    def _is_intact(self, path: RelPath) -> bool:
        record = self._ports.catalogue.record(path)
        here = self._mirror.stat_local(path)
        return record is not None and here is not None and here.kind is Kind.FILE and here.stat == record.local

    def _is_twin(self, path: RelPath) -> bool:
        """Say whether another held name would be the same local file, where the file system folds names."""
        traits = self._mirror.traits
        if not (traits.folds_case or traits.folds_unicode):
            return False
        directory, name = paths.split(path)
        folded = paths.fold(name, case=traits.folds_case, form=traits.folds_unicode)
        held = self._ports.catalogue.held_in(directory).records
        return name not in held and any(
            paths.fold(other, case=traits.folds_case, form=traits.folds_unicode) == folded for other in held
        )

    def _not_there(self, path: RelPath, ending: Ending | None) -> Resolution:
        """Answer for a path that cannot be opened, or does not lead to a file: only a complete listing says missing."""
        unknown = Resolution(State.FETCHING, self._rules.name, path, server_path(self._rules.name, path))
        if ending is None:
            return unknown._replace(reason=Reason.GONE, hint=hint_for(Reason.GONE, path), retry_after_s=RETRY_S)
        reason = _refusal(path, ending)
        if reason is not None:
            return unknown._replace(state=State.REFUSED, reason=reason, hint=hint_for(reason, path))
        if not ending.certain:
            return unknown._replace(reason=Reason.LISTING_INCOMPLETE, retry_after_s=RETRY_S)
        near = () if ending.near is None else (RelPath(ending.near + path[len(ending.at) :]),)
        return unknown._replace(
            state=State.MISSING,
            reason=Reason.NOT_LISTED,
            hint=hint_for(Reason.NOT_LISTED, path),
            listed_at=utc_text(self._ports.now_ns()),
            near=tuple(server_path(self._rules.name, meant) for meant in near),
        )

    def _settled(self, fetch: Fetch) -> None:
        self._demand.committed(fetch.path)


def _refusal(path: RelPath, ending: Ending) -> Reason | None:
    """Say why what is listed in the place of a file is none; None where nothing is."""
    if ending.mangled:
        return Reason.NAME_MANGLED
    if ending.at != path or ending.kind is None:
        return None
    return Reason.FOLDER if ending.kind is Kind.DIRECTORY else Reason.SPECIAL_FILE
