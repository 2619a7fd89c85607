"""Reading many files at once over one session.

A small file takes three round trips, pipelined with those of its neighbours: LSTAT; OPEN; then READ, FSTAT and CLOSE
together. A server must process the requests on one handle in the order they were sent (draft-ietf-secsh-filexfer-02,
section 6.1), so that FSTAT tells of the file after the READ.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from syncd.core.errors import EntryChanged, EntryUnreadable, SyncdError
from syncd.core.model import Fingerprint, Kind, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Failed, Fetched, FetchQueue, Outcome, Pace, Sink
from syncd.sources import QUEUE_POLL_S, failed, require_unchanged
from syncd.sources.sftp.wire import (
    ATTRS,
    CLOSE,
    DATA,
    EOF,
    FSTAT,
    HANDLE,
    LSTAT,
    OPEN,
    READ,
    STATUS,
    Attributes,
    Reply,
    Session,
    open_for_reading,
    parse_attributes,
    parse_content,
    parse_handle,
    parse_status,
    read_at,
    string,
)
from syncd.sources.sftp.work import Task, Work, entry_error

FILES_IN_FLIGHT = 128
BYTES_IN_FLIGHT = 8 << 20
FILE_WINDOW_BYTES = 4 << 20
OWED_BYTES_MAX = 16 << 20
ONE_MORE_EVERY_S = 1.0
SHORT_READS_FREE = 64
SLOW_AFTER_S = 600.0
PAID_AT_ONCE_BYTES = 1 << 16
HELD_STEP_S = 0.02
SLOWEST_BYTES_PER_S = 512


class Fetching(Work[Outcome]):
    """One call of fetch(). locate: path -> the server's path."""

    def __init__(
        self, queue: FetchQueue, sink: Callable[[Wanted], Sink], locate: Callable[[str], bytes], pace: Pace
    ) -> None:
        super().__init__(FILES_IN_FLIGHT)
        self._queue = queue
        self._no_more = False
        self._growing: deque[_Transfer] = deque()
        self._last_taken = 0.0
        self.sink = sink
        self.locate = locate
        self.pace = pace
        self.bytes_in_flight = 0
        self.owed = 0

    @property
    def exhausted(self) -> bool:
        return self._no_more

    def restart(self) -> None:
        super().restart()
        self._growing.clear()
        self.bytes_in_flight = 0

    def next_task(self) -> _Transfer | None:
        """Take the next file, unless enough is owed already.

        With large files in flight one more is still let in every second: it may be one that somebody waits for.
        """
        if self._no_more or self._held():
            return None
        now = time.monotonic()
        if self.owed >= OWED_BYTES_MAX and now - self._last_taken < ONE_MORE_EVERY_S:
            return None
        last = self._queue.closed  # asked before take(): what was put in before the close must not be left behind
        wanted = self._queue.take(0 if self.in_flight else QUEUE_POLL_S)
        if wanted is None:
            self._no_more = last
            return None
        self._last_taken = now
        left = wanted.fingerprint.size - wanted.offset
        self.owed += left
        paid = min(left, PAID_AT_ONCE_BYTES)  # before it is opened: its READ follows without asking again
        self.pace.charge(paid)
        return _Transfer(self, wanted, paid)

    def _held(self) -> bool:
        """Whether the pace forbids to ask for more now; sleeps a little where nothing in flight is to be waited for."""
        wait_s = self.pace.wait_s()
        if wait_s > 0 and not self.bytes_in_flight:
            time.sleep(min(wait_s, HELD_STEP_S))
        return wait_s > 0

    def grow(self, transfer: _Transfer) -> None:
        """A large file may ask for more."""
        self._growing.append(transfer)

    def ask_more(self) -> None:
        """Share the bytes in flight evenly among the large files: one READ each in turn."""
        while self._growing and self.bytes_in_flight < BYTES_IN_FLIGHT and not self._held():
            transfer = self._growing.popleft()
            if transfer.ask_next():
                self._growing.append(transfer)


class _Transfer(Task):
    """One file. Bytes reach the sink in order; `delivered` survives the loss of a session."""

    def __init__(self, work: Fetching, wanted: Wanted, paid: int) -> None:
        super().__init__()
        self._paid = paid
        self._work = work
        self._wanted = wanted
        self._size = wanted.fingerprint.size
        self._delivered = wanted.offset
        self._sink: Sink | None = None
        self._careful = False
        self._short_reads = 0

    def begin(self, session: Session) -> None:
        self._session = session
        self._handle = b""
        self._began_s = time.monotonic()
        self._began_at = self._asked = self._delivered
        self._early: dict[int, bytes] = {}
        self._growing = False
        self._closing = False
        self._after: Fingerprint | None = None
        session.ask(LSTAT, string(self._work.locate(self._wanted.path)), self._looked)

    def give_up(self, error: EntryUnreadable) -> None:
        self._end(Failed(self._wanted, error))

    # --- opening -----------------------------------------------------------------------------------------------------

    def _looked(self, reply: Reply) -> None:
        """LSTAT first: version 3 cannot open without following links, and the open of a FIFO would block the server."""
        try:
            self._unchanged(reply)
        except SyncdError as error:
            self._fail(error)
        else:
            self._session.ask(OPEN, open_for_reading(self._work.locate(self._wanted.path)), self._opened)

    def _opened(self, reply: Reply) -> None:
        if reply.kind != HANDLE:
            self._fail(entry_error(reply, self._wanted.path))
            return
        self._handle = parse_handle(reply)
        left = self._size - self._delivered
        if left <= self._session.read_bytes and not self._careful:
            if left > 0:
                self._ask_read(self._delivered, left)
            self._look_and_close()
        else:
            self._session.ask(FSTAT, self._handle, self._looked_before)

    def _looked_before(self, reply: Reply) -> None:
        """Before a large file's first byte: what was opened is what LSTAT saw, and nobody put a link in between."""
        try:
            self._unchanged(reply)
        except SyncdError as error:
            self._fail(error)
        else:
            self._growing = True
            self._work.grow(self)

    def _unchanged(self, reply: Reply) -> Fingerprint:
        """Return the fingerprint that a reply tells. Raises EntryChanged when it is not the one listed."""
        if reply.kind != ATTRS:
            raise entry_error(reply, self._wanted.path)
        attributes: Attributes = parse_attributes(reply)
        found = attributes.fingerprint
        if attributes.kind is not Kind.FILE or found is None:
            raise EntryChanged(f"{self._wanted.path!r} is not a file any more")
        require_unchanged(self._wanted.path, self._wanted.fingerprint, found)
        return found

    # --- reading -----------------------------------------------------------------------------------------------------

    def ask_next(self) -> bool:
        """Ask for the next piece; False when nothing more may be asked for now."""
        if self.done or self._asked >= self._size or self._asked - self._delivered >= FILE_WINDOW_BYTES:
            self._growing = False
            return False
        longest = self._work.pace.piece(self._session.read_bytes)
        self._ask_read(self._asked, min(longest, self._size - self._asked))
        return True

    def _ask_read(self, offset: int, count: int) -> None:
        self._asked = max(self._asked, offset + count)
        self._work.pace.charge(max(count - self._paid, 0))
        self._paid = max(self._paid - count, 0)
        self._work.bytes_in_flight += count
        self._session.ask(READ, read_at(self._handle, offset, count), partial(self._got, offset, count))

    def _got(self, offset: int, count: int, reply: Reply) -> None:
        self._work.bytes_in_flight -= count
        if self.done:
            return
        try:
            if reply.kind == DATA:
                content = parse_content(reply)
                self._expect_rest(offset, count, len(content))
                self._accept(offset, content)
            elif reply.kind == STATUS and parse_status(reply)[0] == EOF:
                raise EntryChanged(f"{self._wanted.path!r} ended after {offset} of {self._size} bytes")
            else:
                raise entry_error(reply, self._wanted.path)
        except SyncdError as error:
            self._fail(error)
        else:
            self._go_on()

    def _expect_rest(self, offset: int, count: int, came: int) -> None:
        """A server may answer a READ with fewer bytes than asked for: ask for the rest, within bounds."""
        if not 0 < came <= count:
            raise EntryUnreadable(f"{self._wanted.path!r}: the server sent {came} bytes where {count} were asked for")
        elapsed_s = time.monotonic() - self._began_s
        if elapsed_s > SLOW_AFTER_S and self._delivered - self._began_at < elapsed_s * SLOWEST_BYTES_PER_S:
            raise EntryUnreadable(f"{self._wanted.path!r}: the server hardly sends it", reason=Reason.TIMEOUT)
        if came == count:
            return
        self._short_reads += 1
        if self._short_reads > SHORT_READS_FREE + self._size // 4096:
            raise EntryUnreadable(f"{self._wanted.path!r}: the server sends it in tiny pieces")
        if self._closing:
            self._careful = True  # its CLOSE is on the way already: read on when that is through
        else:
            self._ask_read(offset + came, count - came)

    def _accept(self, offset: int, content: memoryview) -> None:
        if offset != self._delivered:
            self._early[offset] = bytes(content)
            return
        self._write(content)
        while self._early and (early := self._early.pop(self._delivered, None)) is not None:
            self._write(memoryview(early))

    def _write(self, content: memoryview) -> None:
        self._open_sink().write(content)
        self._delivered += len(content)
        self._work.owed -= len(content)
        self.moved = True

    def _open_sink(self) -> Sink:
        if self._sink is None:
            self._sink = self._work.sink(self._wanted)
        return self._sink

    def _go_on(self) -> None:
        if self._delivered == self._size:
            if not self._closing:
                self._look_and_close()
            elif self._after is not None:
                self._finish(self._after)
        elif not self._growing and not self._closing and self._asked < self._size:
            self._growing = True
            self._work.grow(self)

    # --- ending ------------------------------------------------------------------------------------------------------

    def _look_and_close(self) -> None:
        self._closing = True
        self._session.ask(FSTAT, self._handle, self._looked_after)
        self._session.ask(CLOSE, self._handle, self._closed)

    def _looked_after(self, reply: Reply) -> None:
        if self.done:
            return
        try:
            self._after = self._unchanged(reply)
            if self._delivered >= self._size:
                self._finish(self._after)
        except SyncdError as error:
            self._fail(error)

    def _closed(self, _reply: Reply) -> None:
        if self._careful and not self.done:
            self.begin(self._session)

    def _finish(self, after: Fingerprint) -> None:
        self._open_sink()  # a file of no bytes has a sink too
        self._end(Fetched(self._wanted, after))

    def _fail(self, error: SyncdError) -> None:
        """End with an error; one that stops more than this file is raised, and the session ends with the call."""
        if self.done:
            return
        outcome = failed(self._wanted, error)
        if self._handle and not self._closing:
            self._session.ask(CLOSE, self._handle, self._closed)
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self._work.owed -= self._size - self._delivered
        self._work.end(self, outcome)
