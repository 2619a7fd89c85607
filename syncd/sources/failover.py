"""Several servers as one source: the first that can be asked when it is checked, and from then on that one alone."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Protocol, TypeVar

from syncd.core.errors import SourceAuthFailed, SourceUnavailable, SourceVanished, StandByRefused, SyncdError
from syncd.core.model import Fingerprint, Listing, RelPath, Wanted
from syncd.core.named import NamedTuple
from syncd.core.stand_by import StandBy, Unavailable, down_for_s, in_order, moves_on, none_available, said
from syncd.ports import Fetched, FetchQueue, Outcome, Pace, Sink, Source, SourceInfo

T = TypeVar("T")


class Server(NamedTuple):
    """One of a mirror's servers. name: as people know it (no secrets). open: builds its source, connects nothing."""

    name: str
    id: str
    open: Callable[[], Source]


class Refusals(Protocol):
    """Remembers that stand-bys refused the login."""

    def check(self) -> None:
        """Raise SourceAuthFailed while trying again would be the same."""

    def note(self, error: SyncdError | None) -> None:
        """Remember a refusal."""


class _NoRefusals:
    def check(self) -> None:
        """Nothing is remembered: whoever runs once tries once."""

    def note(self, error: SyncdError | None) -> None:
        """Nothing is remembered."""


Moved = Callable[[StandBy | None], None]
"""Told when another server is in use than before: a stand-by, or the main one again (None)."""


class Standing:
    """What is remembered of one mirror's servers from one use to the next. Thread-safe."""

    def __init__(
        self,
        moved: Moved = lambda _: None,
        refusals: Refusals | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refusals: Refusals = refusals or _NoRefusals()
        self._moved = moved
        self._clock = clock
        self._lock = threading.Lock()
        self._down: dict[str, tuple[float, Unavailable]] = {}
        self._times: Counter[str] = Counter()
        self._in_use = ""

    def in_order(self, servers: Sequence[Server]) -> list[Server]:
        """Return the servers in the order in which they are tried now."""
        with self._lock:
            until = [self._down[each.id][0] if each.id in self._down else 0.0 for each in servers]
        return [servers[n] for n in in_order(until, self._clock())]

    def note_down(self, server: Server, error: SyncdError) -> Unavailable:
        """A server could not be asked: for a while it comes after all others."""
        found = Unavailable(server.name, error.message, error.hint, isinstance(error, SourceVanished))
        with self._lock:
            self._times[server.id] += 1
            self._down[server.id] = self._clock() + down_for_s(self._times[server.id]), found
        return found

    def note_up(self, server: Server, stand_by: StandBy | None) -> None:
        """A server was asked, and answered. stand_by: None of the main one."""
        with self._lock:
            self._down.pop(server.id, None)
            self._times.pop(server.id, None)
            before, self._in_use = self._in_use, stand_by.id if stand_by is not None else ""
        if before != self._in_use:
            self._moved(stand_by)

    def wrong_with(self, servers: Sequence[Server]) -> str:
        """Say why these servers are not in use."""
        with self._lock:
            return said([self._down[each.id][1] for each in servers if each.id in self._down])

    def forget(self) -> None:
        """Ask all servers again in their order: a person wants a run, or the main server gave a sign of life."""
        with self._lock:
            self._down.clear()
            self._times.clear()


class FailoverSource:
    """A mirror's servers as ports.Source. check() chooses one; scan(), fetch() and read() are that one's.

    servers: the main one first. What a stand-by lists carries no file ids and change times: they would be taken for the
    main server's.
    """

    def __init__(self, servers: Sequence[Server], standing: Standing) -> None:
        self._servers = servers
        self._standing = standing
        self._lock = threading.Lock()
        self._chosen: tuple[Server, Source] | None = None
        self._stand_by: StandBy | None = None
        self._refusal: SourceAuthFailed | None = None
        self._pace: Pace | None = None
        self._closed = False

    def check(self) -> SourceInfo:
        """See ports.Source. Raises SourceUnavailable, which names them all, when none of the servers can be asked."""
        if self._chosen is not None:
            return self._chosen[1].check()._replace(stand_by=self._stand_by)
        if self._refusal is not None:
            raise self._refusal  # a password is tried once
        tried = []
        for server in self._standing.in_order(self._servers):
            try:
                return self._take(server)
            except SyncdError as error:
                if isinstance(error, SourceAuthFailed):
                    self._refusal = self._refused(server, error)
                    raise self._refusal from error
                if self._closed or not moves_on(error):
                    raise
                tried.append(self._standing.note_down(server, error))
        raise none_available(tried)

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        """See ports.Source."""
        return self._watched(self._source().scan(pending), _without_ids)

    def fetch(self, queue: FetchQueue, sink: Callable[[Wanted], Sink]) -> Iterator[Outcome]:
        """See ports.Source."""
        return self._watched(self._source().fetch(queue, sink), _outcome_without_ids)

    def read(self, path: RelPath) -> Fingerprint:
        """See ports.Source."""
        try:
            found = self._source().read(path)
        except SourceUnavailable as error:
            self._lost(error)
            raise
        return found if self._stand_by is None else found._replace(ctime_ns=0, file_id=0)

    def keep_pace(self, pace: Pace) -> None:
        """See ports.Source."""
        self._pace = pace
        if self._chosen is not None:
            self._chosen[1].keep_pace(pace)

    def close(self) -> None:
        """See ports.Source."""
        with self._lock:
            self._closed = True
            chosen = self._chosen
        if chosen is not None:
            chosen[1].close()

    # -- inside

    def _take(self, server: Server) -> SourceInfo:
        """Use this server if it answers."""
        number = self._servers.index(server)
        if number:
            self._standing.refusals.check()
        source = server.open()
        if self._pace is not None:
            source.keep_pace(self._pace)
        with self._lock:
            if self._closed:
                raise SourceUnavailable("the source was closed")
            self._chosen = server, source
        try:
            info = source.check()
        except BaseException:
            self._chosen = None
            source.close()
            raise
        why = self._standing.wrong_with(self._servers[:number])
        self._stand_by = StandBy(server.name, server.id, why) if number else None
        self._standing.note_up(server, self._stand_by)
        return info._replace(stand_by=self._stand_by)

    def _refused(self, server: Server, error: SourceAuthFailed) -> SourceAuthFailed:
        """Say of a login that a stand-by refused how it came to be asked; it does not concern the main server."""
        number = self._servers.index(server)
        if not number:
            return SourceAuthFailed(error.message, hint=error.hint)
        self._standing.refusals.note(error)
        wrong = self._standing.wrong_with(self._servers[:number])
        return StandByRefused(f"{error.message} (a stand-by, asked since {wrong})", hint=error.hint)

    def _source(self) -> Source:
        if self._chosen is None:
            self.check()
        if self._chosen is None:
            raise SourceUnavailable("the source was closed")
        return self._chosen[1]

    def _watched(self, items: Iterator[T], without_ids: Callable[[T], T]) -> Iterator[T]:
        """Pass on what comes; a server that is lost meanwhile comes after the others next time."""
        with closing(_of(items)) as given:
            try:
                if self._stand_by is None:
                    yield from given
                else:
                    for item in given:
                        yield without_ids(item)
            except SourceUnavailable as error:
                self._lost(error)
                raise

    def _lost(self, error: SourceUnavailable) -> None:
        if self._chosen is not None and not self._closed:
            self._standing.note_down(self._chosen[0], error)


def _of(items: Iterator[T]) -> Generator[T]:
    """Make an iterator one that can be closed, and with it what it goes over."""
    yield from items


def _without_ids(listing: Listing) -> Listing:
    entries = [entry._replace(ctime_ns=0, file_id=0) for entry in listing.entries]
    return listing._replace(entries=entries)


def _outcome_without_ids(outcome: Outcome) -> Outcome:
    if isinstance(outcome, Fetched):
        return outcome._replace(after=outcome.after._replace(ctime_ns=0, file_id=0))
    return outcome
