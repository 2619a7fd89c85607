"""Reading one file over a channel, among others (lane.py): a small one in one round trip, a large one in ranges.

A small file is CREATE + READ + CLOSE as one related compound; its three replies are taken at once where they are as
they should be, else one by one, like all others. A large file is CREATE and its first READ, further READs pipelined
within a window and put in order, then CLOSE. CLOSE's size and times against CREATE's and the listing's are
the check that the file did not change while it was read; CREATE's against the listing's, that it is still that file.
Where a file goes on after a lost connection, or from an earlier run's partial, its id against the listing's too.
Large pieces are written and hashed by threads of their own, while the next ones arrive (delivering.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from syncd.core.errors import EntryChanged, EntryUnreadable, Scope, SyncdError
from syncd.core.model import Wanted
from syncd.core.reasons import Reason
from syncd.ports import Failed, Fetched, Outcome, Sink
from syncd.sources.smb import packets
from syncd.sources.smb.channel import Step
from syncd.sources.smb.errors import END_OF_FILE, Meaning, entry_error, meaning_of, timed_out
from syncd.sources.smb.packets import (
    CLOSE,
    CREATE,
    QUERY_INFO,
    READ,
    pack_close,
    pack_create,
    pack_query_info,
    pack_read,
    to_ns,
)
from syncd.sources.smb.whole import ACCESS, NO_FILE, OPTIONS, SMALL

if TYPE_CHECKING:
    from syncd.sources.smb.delivering import Writer
    from syncd.sources.smb.lane import ReadLane

_CLOSE_IT = pack_close()
_ASK_ID = pack_query_info(packets.ALL_INFORMATION, 8192)
_BUSY_TRIES = 5


class FileRead:
    """One wanted file on its way, over as many connections as it takes.

    retry: done for now, but to be begun again. stop: what the sink raised that ends more than this file.
    given_up: it was in flight too often when a connection broke. begun: it was asked for before.
    delivered: the sink has the bytes before this offset; owed: so many more are with `writer`, the thread that
    writes them.
    """

    __slots__ = (
        "_closed", "_ctime", "_lane", "_make_sink", "_mtime", "_sink", "_stash", "begun", "busy", "closing",
        "delivered", "error", "given_up", "handle", "losses", "next", "owed", "path", "pending", "retry", "stop",
        "wanted", "writer",
    )  # fmt: skip

    _lane: ReadLane  # since begin() or begin_whole()

    def __init__(self, wanted: Wanted, path: str, make_sink: Callable[[Wanted], Sink]) -> None:
        self.wanted = wanted
        self.path = path
        self.delivered = wanted.offset
        self.owed = 0
        self.losses = 0
        self.busy = 0
        self.given_up = self.begun = self.retry = False
        self.error: SyncdError | None = None
        self.stop: BaseException | None = None
        self.writer: Writer | None = None
        self._make_sink = make_sink
        self._sink: Sink | None = None

    def _reset(self) -> None:
        """Forget everything that belongs to one connection."""
        self.next = self.delivered
        self.pending = 0
        self.closing = False
        self.handle: bytes | None = None
        self.error = None
        self.retry = False
        self._mtime = self._ctime = -1
        self._closed: packets.Closed | None = None
        self._stash: dict[int, memoryview] = {}

    # --- what the lane calls

    def begin(self, lane: ReadLane, inline: int) -> list[Step]:
        """Return the requests to start with, for at most `inline` bytes; CLOSE is among them if these are all."""
        self._reset()
        self.begun = True
        self._lane = lane
        size, offset = self.wanted.fingerprint.size, self.delivered
        first = min(size - offset, inline)
        steps: list[Step] = [(CREATE, pack_create(self.path, ACCESS, OPTIONS), 1, self._on_create)]
        if offset:
            steps.append((QUERY_INFO, _ASK_ID, 1, self._on_id))
            self.pending += 1
        if first > 0:
            on_range = partial(self._on_range, offset, first)
            steps.append((READ, pack_read(first, offset), lane.channel.charge(first), on_range))
            self.next = offset + first
            self.pending += 1
        if self.next >= size:
            steps.append((CLOSE, _CLOSE_IT, 1, self._on_close))
            self.closing = True
        return steps

    def begin_whole(self, lane: ReadLane) -> None:
        """Note that all of it was asked for: its replies go to take_whole(), or to those whom steps() tells."""
        self.begun = True
        self._lane = lane

    def steps(self) -> list[Step]:
        """See channel.WholeFile."""
        return self.begin(self._lane, self.wanted.fingerprint.size)

    def range(self, handle: bytes, length: int) -> Step:
        """Return the request for the next range."""
        offset = self.next
        self.next += length
        self.pending += 1
        body = pack_read(length, offset, handle)
        return (READ, body, self._lane.channel.charge(length), partial(self._on_range, offset, length))

    def closing_step(self, handle: bytes) -> Step:
        """Return the request that closes the file."""
        body = pack_close(handle)
        self.handle = None
        return (CLOSE, body, 1, self._on_close)

    @property
    def unread(self) -> int:
        """Bytes that no range has been asked for yet; 0 once something went wrong or it is closed."""
        if self.error or self.stop or self.retry or self._closed:
            return 0
        return self.wanted.fingerprint.size - self.next

    def lost(self, allowed: int, how: str) -> None:
        """The connection broke while this was in flight: fail it after too many times, else it may begin again."""
        self.losses += 1
        self._reset()
        if self.losses > allowed:
            self.given_up = True
            self.error = timed_out(self.wanted.path, how)

    # --- replies

    def _on_create(self, status: int, view: memoryview, start: int, end: int) -> None:
        if status:
            self._fail_with(status)
            return
        self._mtime, self._ctime, size, attributes, self.handle = packets.unpack_create(view, start, end)
        wanted = self.wanted.fingerprint
        if attributes & NO_FILE:
            self.error = self._no_file(attributes)
        elif size != wanted.size or to_ns(self._mtime) != wanted.mtime_ns:
            self.error = self._changed("since it was listed")

    def _on_id(self, status: int, view: memoryview, start: int, end: int) -> None:
        """Another file of the same size and time: what the sink has and what follows would be of two files."""
        self.pending -= 1
        known = self.wanted.fingerprint.file_id
        if not status and known and self.error is None:
            first, last = packets.unpack_output(view, start, end, "QUERY_INFO")
            if packets.unpack_all_information(view, first, last).file_id not in (0, known):
                self.error = self._changed("since it was listed")
        self._lane.came(self, 0)

    def _on_range(self, offset: int, length: int, status: int, view: memoryview, start: int, end: int) -> None:
        self.pending -= 1
        if self.error is not None or self.stop is not None:
            pass
        elif status:
            self._fail_with(status)
        else:
            first, last = packets.unpack_read(view, start, end)
            if last - first > length:
                raise packets.ProtocolError("a READ reply with more than was asked for")
            if last == first:
                self._fail_with(END_OF_FILE)
            elif offset == self.delivered + self.owed:
                self._deliver(view, first, last)
                if last - first < length:
                    self._ask_again(self.delivered + self.owed)
                elif self._stash:
                    self._deliver_stashed()
            elif last - first < length:
                self._ask_again(self.delivered + self.owed)
            else:
                self._stash[offset] = self._lane.channel.keep(view, first, last)
        self._lane.came(self, length)

    def _on_close(self, status: int, view: memoryview, start: int, end: int) -> None:
        self.closing = False
        if status == 0:
            self.handle = None
            if self.error is None and self.stop is None:
                self._closed = packets.unpack_close(view, start, end)
                if self._ctime < 0:
                    raise packets.ProtocolError("a CLOSE reply before that of CREATE")
        elif self.error is None:
            self._fail_with(status)
        self._lane.advance(self)

    def take_whole(self, content: memoryview) -> None:
        """See channel.WholeFile. Hot: for each small file."""
        sink = self._sink or self._open_sink()
        if sink is not None:
            try:
                sink.write(content)
            except SyncdError as exc:
                self._refused(exc)
            else:
                self._has(len(content))
        self._lane.came_whole(self)

    # --- deciding

    def judge(self) -> None:
        """Compare what was read with what was wanted, once it is closed and nothing is owed any more."""
        if self._closed is None or self.error is not None or self.stop is not None:
            return
        queried, mtime, ctime, size = self._closed
        if self.delivered < self.wanted.fingerprint.size:
            self.retry = True  # the server gave less than asked for, yet not at the end: go on in ranges
        elif not queried:
            self.error = EntryUnreadable(f'"{self.wanted.path}": the server does not tell its size and time at the end')
        elif mtime != self._mtime or ctime != self._ctime or size != self.wanted.fingerprint.size:
            self.error = self._changed("while it was read")
        elif self._sink is None:
            self._open_sink()  # a file of no bytes has its sink made too

    def _no_file(self, attributes: int) -> SyncdError:
        if attributes & packets.ATTRIBUTE_REPARSE:
            text = f'"{self.wanted.path}" is a link or junction, which syncd does not follow'
            return EntryUnreadable(text, reason=Reason.LINK)
        return EntryChanged(f'"{self.wanted.path}" is no regular file any more')

    def _changed(self, when: str) -> SyncdError:
        return EntryChanged(f'"{self.wanted.path}" changed {when}', hint="it is fetched again by the next run")

    def _fail_with(self, status: int) -> None:
        if meaning_of(status) is Meaning.BUSY and self.busy < _BUSY_TRIES:
            self.busy += 1
            self.retry = True
            self._lane.crowded(time.monotonic())
        if self.error is None:
            self.error = entry_error(status, self.wanted.path)

    def _ask_again(self, offset: int) -> None:
        """The server gave less than asked for: what follows `offset` is asked for anew, later replies are dropped."""
        self._stash.clear()
        self.next = offset

    # --- delivering

    def _open_sink(self) -> Sink | None:
        """Make the sink, before the first byte; None when making it failed, which is noted."""
        try:
            self._sink = self._make_sink(self.wanted)
        except SyncdError as exc:
            self._refused(exc)
        return self._sink

    def _deliver(self, view: memoryview, first: int, last: int) -> None:
        sink = self._sink or self._open_sink()
        if sink is None:
            return
        if self.owed or last - first >= SMALL:
            self._lane.hand_over(self, sink, self._lane.channel.keep(view, first, last))
            return
        try:
            sink.write(view[first:last])
        except SyncdError as exc:
            self._refused(exc)
            return
        self._has(last - first)

    def written(self, length: int, error: BaseException | None) -> None:
        """The thread that writes is done with a piece: it is in the sink, or the sink raised `error`."""
        self.owed -= length
        if error is None:
            self._has(length)
        else:
            self._refused(error)

    def _has(self, length: int) -> None:
        self.delivered += length
        self.losses = self.busy = 0
        self._lane.delivered += length

    def _refused(self, exc: BaseException) -> None:
        if isinstance(exc, SyncdError) and exc.scope is Scope.FILE:
            self.error = exc
        else:
            self.stop = exc

    def _deliver_stashed(self) -> None:
        sink = self._sink
        while self.error is None and self.stop is None and sink is not None:
            kept = self._stash.pop(self.delivered + self.owed, None)
            if kept is None:
                return
            self._lane.hand_over(self, sink, kept)

    def outcome(self) -> Outcome:
        """Return what became of it, once nothing of it is in flight and the server holds no handle of ours."""
        if self.error is not None:
            return Failed(self.wanted, self.error)
        return Fetched(self.wanted, self.wanted.fingerprint)  # _judge() found size and mtime equal
