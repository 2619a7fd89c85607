"""One connection to the source for files that somebody waits for: each is looked at, fetched, and answered for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from typing import NamedTuple, Protocol

from syncd.core import paths
from syncd.core.errors import EntryGone, Scope, SyncdError
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

RETRY_S = 5.0
STAND_BY_S = 30.0
"""A connection to a stand-by serves no further wish after so long, so that the main server is asked again."""


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


class Answering(Protocol):
    """Who is told what becomes of a wish."""

    fetched_bytes: int

    def committed(self, path: RelPath) -> None:
        """The file was committed just now."""

    def failed(self, path: RelPath, reason: Reason, detail: str) -> None:
        """The file could not be fetched."""

    def is_waited_for(self, path: RelPath) -> bool:
        """Whether somebody waits for the answer."""

    def settle(self, path: RelPath, answer: Resolution) -> None:
        """A look at the source gave this answer."""


class _Told(Report):
    """A report that tells of each failure at once."""

    __slots__ = ("tell",)
    tell: Callable[[RelPath, Reason, str], None]

    def fail(self, path: RelPath | str, reason: Reason, detail: str = "", hint: str = "") -> None:  # noqa: ARG002
        self.failed += 1
        self.tell(RelPath(path), reason, detail)


class Session:
    """One connection to the source and one transfer over it."""

    def __init__(self, demand: Answering, rules: MirrorRules, ports: DemandPorts, mirror: Mirror, run_id: str) -> None:
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
        self._committer = committer
        self._transfer = Transfer(
            self._source, mirror, ports.catalogue, committer, space, self._report, settled=self._settled
        )
        self._stand_by_until: float | None = None

    @property
    def broken(self) -> bool:
        """Whether something ended the transfer."""
        return self._transfer.stopped

    @property
    def over(self) -> bool:
        """Whether it serves no further wish: something ended it, or it is time to ask the main server again."""
        expired = self._stand_by_until is not None and time.monotonic() > self._stand_by_until
        return self.broken or expired

    def open(self) -> None:
        """Connect. Raises SourceUnavailable, SourceAuthFailed."""
        stand_by = self._source.check().stand_by
        if stand_by is not None:
            self._stand_by_until = time.monotonic() + STAND_BY_S
            self._transfer.only_missing(stand_by.id)
            self._committer.only_missing = True

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

    def serve(self, path: RelPath, urgency: Urgency, asked_at: float) -> None:
        """Look at one path at the source and queue its fetch; answer at once where there is nothing to fetch.

        asked_at: when it was wished for last, by time.monotonic(): no answer is older.
        """
        try:
            fingerprint = self._source.read(path)
        except EntryGone:
            self._demand.settle(path, self._not_there(path, self._trail.follow(path, asked_at, None)))
        except SyncdError as error:
            if error.scope is not Scope.FILE:
                raise
            self._unopened(path, error, asked_at)
        else:
            known = self._ports.catalogue.record(path) is not None
            ending = None if known else self._trail.follow(path, asked_at, fingerprint)
            if ending is None:
                self._want(path, fingerprint, urgency)
            else:  # it can be opened so, but that is not how the server spells it
                self._demand.settle(path, self._not_there(path, ending))

    def _unopened(self, path: RelPath, error: SyncdError, asked_at: float) -> None:
        """Answer for a path that the server does not open: what no complete listing shows (a name with "?" in it, of
        which SMB servers do not even say that it is not there) is missing, or known by another name only."""
        ending = self._trail.follow(path, asked_at, None) if error.reason is Reason.UNREADABLE else None
        if ending is not None and ending.certain:
            self._demand.settle(path, self._not_there(path, ending))
        else:
            self._demand.failed(path, error.reason, error.message)

    def _want(self, path: RelPath, fingerprint: Fingerprint, urgency: Urgency) -> None:
        if self._is_twin(path):
            self._demand.failed(path, Reason.CASE_TWIN, "")
            return
        held = self._ports.catalogue.record(path)
        at_stand_by = self._stand_by_until is not None
        if held is not None and (at_stand_by or held.fingerprint == fingerprint) and self._is_intact(path):
            self._demand.committed(path)
            return
        if at_stand_by and self._waits_for_main(path, fingerprint):
            self._demand.failed(path, Reason.SOURCE_UNAVAILABLE, "")
            return
        reason = Reason.CHANGED if held is not None else arrival_reason(self._mirror, path)
        self._transfer.want(
            Fetch(path, fingerprint, reason=reason, held=held, adopt=reason is Reason.UNKNOWN_LOCAL, rank=urgency)
        )

    def _is_intact(self, path: RelPath) -> bool:
        record = self._ports.catalogue.record(path)
        here = self._mirror.stat_local(path)
        return record is not None and here is not None and here.kind is Kind.FILE and here.stat == record.local

    def _waits_for_main(self, path: RelPath, fingerprint: Fingerprint) -> bool:
        from syncd.engine.stand_by import waits_for_main

        return waits_for_main(self._ports.catalogue, path, fingerprint)

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
        if self._stand_by_until is not None:  # what a stand-by does not have may be on the main server
            gone = Reason.SOURCE_UNAVAILABLE
            return unknown._replace(
                state=State.UNAVAILABLE, reason=gone, hint=hint_for(gone, path), retry_after_s=RETRY_S
            )
        if ending is None:
            return unknown._replace(reason=Reason.GONE, hint=hint_for(Reason.GONE, path), retry_after_s=RETRY_S)
        reason = _refusal(path, ending)
        if reason is not None:
            return unknown._replace(state=State.REFUSED, reason=reason, hint=hint_for(reason, path))
        if not ending.certain:
            return unknown._replace(reason=Reason.LISTING_INCOMPLETE, retry_after_s=RETRY_S)
        return unknown._replace(
            state=State.MISSING,
            reason=Reason.NOT_LISTED,
            hint=hint_for(Reason.NOT_LISTED, path),
            listed_at=utc_text(self._ports.now_ns() - int(ending.age_s * 1e9)),
            near=tuple(server_path(self._rules.name, meant) for meant in self._near(path, ending)),
        )

    def _near(self, path: RelPath, ending: Ending) -> Sequence[RelPath]:
        """Return what somebody may mean who waits for a file that is not there; nobody waits for what a queue names."""
        if ending.near is not None:
            return [RelPath(ending.near + path[len(ending.at) :])]
        return self._ports.catalogue.near_names(path) if self._demand.is_waited_for(path) else []

    def _settled(self, fetch: Fetch) -> None:
        self._demand.committed(fetch.path)


def _refusal(path: RelPath, ending: Ending) -> Reason | None:
    """Say why what is listed in the place of a file is none; None where nothing is."""
    if ending.mangled:
        return Reason.NAME_MANGLED
    if ending.at != path or ending.kind is None:
        return None
    return Reason.FOLDER if ending.kind is Kind.DIRECTORY else Reason.SPECIAL_FILE
