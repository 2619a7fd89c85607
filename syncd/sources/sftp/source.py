"""sftp:// source: any SSH server with SFTP version 3, read over a few pipelined sessions."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from syncd.core.errors import EntryGone, SourceError, SourceUnavailable, SourceVanished
from syncd.core.model import Fingerprint, Kind, Listing, RelPath, Wanted
from syncd.ports import FetchQueue, Outcome, Pace, Sink, SourceInfo
from syncd.sources import Unpaced
from syncd.sources.sftp.connecting import STALL_S, Connection, Link, Login, Refusals
from syncd.sources.sftp.fetching import Fetching
from syncd.sources.sftp.scanning import Scanning
from syncd.sources.sftp.wire import (
    ATTRS,
    CLOSE,
    HANDLE,
    LSTAT,
    OPENDIR,
    STAT,
    Reply,
    Session,
    SessionLost,
    parse_attributes,
    parse_handle,
    string,
)
from syncd.sources.sftp.work import Work, entry_error

PUMP_S = 0.2
LOSSES_MAX = 4
BACKOFF_S = (0.2, 1.0, 4.0, 10.0)
MAX_ENTRIES = 1_000_000

Result = TypeVar("Result")


class SftpSource:
    """A folder on an SFTP server as ports.Source.

    folder: as the server spells it; without a leading "/" it is relative to where the login lands. password: of the
    user, or with a key file the key's passphrase. connections: at most so many (0: two, one for looking and one for
    reading; a third would not make Python any faster). stall_s: a server that owes an answer and is silent for so long
    is given up.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int = 22,
        username: str,
        folder: str,
        key_file: Path | None,
        password: Callable[[], str] | None,
        known_hosts_file: Path,
        connections: int = 0,
        secret_hint: str = "",
        stall_s: float = STALL_S,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        login = Login(host, port, username, key_file, password, known_hosts_file, secret_hint)
        self.description = f"sftp://{username}@{login.where}/{folder.lstrip('/')}"
        self._where = login.where
        self._folder = folder.rstrip("/") if folder.strip("/") else folder[:1]
        self._max_entries = max_entries
        self._closed = threading.Event()
        self._pace: Pace = Unpaced()
        refusals = Refusals()
        looking = Link(login, refusals, stall_s)
        reading = looking if connections == 1 else Link(login, refusals, stall_s)
        self._links = (looking, reading)
        self._scanning = _Lane(looking, self._closed)
        self._fetching = _Lane(reading, self._closed)
        self._asking = _Lane(looking, self._closed)
        self._asking_lock = threading.Lock()

    def check(self) -> SourceInfo:
        """See ports.Source. SFTP tells no time."""
        root = string(self._locate(""))
        looked, opened = self._ask((STAT, root), (OPENDIR, root))
        if looked.kind != ATTRS:
            self._refuse_root(looked)
        if self._understand(parse_attributes, looked).kind is not Kind.DIRECTORY:
            raise SourceUnavailable(f"{self.description} is not a folder")
        if opened.kind != HANDLE:
            self._refuse_root(opened)
        self._ask((CLOSE, self._understand(parse_handle, opened)))
        return SourceInfo(self.description)

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        """See ports.Source."""
        return self._carry_out(Scanning(pending, self._locate, self._max_entries), self._scanning)

    def fetch(self, queue: FetchQueue, sink: Callable[[Wanted], Sink]) -> Iterator[Outcome]:
        """See ports.Source."""
        return self._carry_out(Fetching(queue, sink, self._locate, self._pace), self._fetching)

    def keep_pace(self, pace: Pace) -> None:
        """See ports.Source."""
        self._pace = pace

    def read(self, path: RelPath) -> Fingerprint:
        """See ports.Source."""
        (reply,) = self._ask((LSTAT, string(self._locate(path))))
        if reply.kind != ATTRS:
            raise self._understand(partial(entry_error, path=path), reply)
        attributes = self._understand(parse_attributes, reply)
        if attributes.kind is not Kind.FILE or attributes.fingerprint is None:
            raise EntryGone(f"{path!r} is not a file any more")
        return attributes.fingerprint

    def close(self) -> None:
        """See ports.Source."""
        self._closed.set()
        for link in self._links:
            link.close()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _locate(self, path: str) -> bytes:
        """Return the server's path of one below the root."""
        if not path:
            return (self._folder or ".").encode()
        if not self._folder:
            return path.encode()
        return (f"/{path}" if self._folder == "/" else f"{self._folder}/{path}").encode()

    def _carry_out(self, work: Work[Result], lane: _Lane) -> Iterator[Result]:
        """Do one call's work, over as many sessions as it takes."""
        orderly = False
        try:
            while not work.finished:
                try:
                    session = lane.session()
                    work.restart()
                    while not work.finished:
                        lane.require_open()
                        work.step(session, PUMP_S)
                        yield from work.take()
                    session.drain()
                except SessionLost as loss:
                    yield from work.take()
                    lane.lost(loss, progress=work.lost(loss))
                    yield from work.take()
            orderly = True
        finally:
            if not orderly:
                lane.discard()  # the end of the session closes whatever handles it has open

    def _ask(self, *requests: tuple[int, bytes]) -> list[Reply]:
        """Send a few requests and return their replies; a dead session is replaced once."""
        with self._asking_lock:
            try:
                return self._asking.ask(requests)
            except SessionLost:
                self._asking.lose()
            try:
                return self._asking.ask(requests)
            except SessionLost as loss:
                self._asking.lose()
                raise self._lost(loss) from loss

    def _understand(self, parse: Callable[[Reply], Result], reply: Reply) -> Result:
        try:
            return parse(reply)
        except (SessionLost, struct.error) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(f"the connection to {self._where} was lost: {error}")

    def _refuse_root(self, reply: Reply) -> None:
        """Raise what a reply about the root folder means: without it there is no source at all."""
        error = self._understand(partial(entry_error, path=self._folder), reply)
        if isinstance(error, EntryGone):
            raise SourceVanished(
                f"{self.description}: the server answers, but this folder is not there",
                hint="is the path right, and is the server's disk mounted?",
            ) from error
        raise SourceUnavailable(
            f"{self.description}: the folder cannot be listed: {error.message}",
            hint="let the SFTP user read and enter it",
        ) from error


class _Lane:
    """The session of one kind of call, kept between calls and replaced when lost. Used by one thread at a time."""

    def __init__(self, link: Link, closed: threading.Event) -> None:
        self._link = link
        self._closed = closed
        self._session: Session | None = None
        self._connection: Connection | None = None
        self._losses = 0

    def require_open(self) -> None:
        if self._closed.is_set():
            raise SourceUnavailable("the source was closed")

    def session(self) -> Session:
        """Return the session; after a loss, wait a little and connect anew, a few times.

        Raises: SourceUnavailable (at once when there was no loss before), SourceAuthFailed.
        """
        self.require_open()
        while self._session is None:
            try:
                self._session, self._connection = self._link.session()
            except SourceUnavailable as error:
                if not 0 < self._losses < LOSSES_MAX:
                    raise
                self._wait(error)
        return self._session

    def lost(self, loss: SessionLost, *, progress: bool) -> None:
        """Give up the session. Raises SourceUnavailable after LOSSES_MAX of them in a row without any progress."""
        self.lose()
        self.require_open()
        self._losses = 0 if progress else self._losses
        error = SourceUnavailable(f"the connection was lost {LOSSES_MAX} times in a row; last: {loss}")
        if self._losses >= LOSSES_MAX:
            raise error from loss
        self._wait(error)

    def _wait(self, error: SourceError) -> None:
        self._losses += 1
        if self._closed.wait(BACKOFF_S[self._losses - 1] * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter
            raise error

    def ask(self, requests: Sequence[tuple[int, bytes]]) -> list[Reply]:
        """Send a few requests and wait for their replies. Raises SessionLost."""
        session = self.session()
        replies: dict[int, Reply] = {}
        for number, (kind, body) in enumerate(requests):
            session.ask(kind, body, partial(replies.__setitem__, number))
        session.drain()
        return [replies[number] for number in range(len(requests))]

    def discard(self) -> None:
        """End the session, and with it every handle that the server holds for it."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def lose(self) -> None:
        """Give up the session and the connection under it (first: over a stalled one nothing can be said any more)."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._link.drop(connection)
        self.discard()
