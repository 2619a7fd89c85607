"""Reading files over one channel: small ones in one round trip each, large ones in ranges, all of them interleaved.

A small file is CREATE + READ + CLOSE as one related compound. A large one is CREATE and its first READ, further READs
pipelined within a window and put in order, then CLOSE. CLOSE's size and times against CREATE's and the listing's are
the check that the file did not change while it was read; CREATE's against the listing's, that it is still that file.
Large pieces are written and hashed by a thread of their own, while the next ones arrive (delivering.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from syncd.core.errors import EntryChanged, EntryUnreadable, Scope, SyncdError
from syncd.core.model import Wanted
from syncd.core.reasons import Reason
from syncd.ports import Failed, Fetched, Outcome, Pace, Sink
from syncd.sources.smb import packets
from syncd.sources.smb.channel import Channel, Step
from syncd.sources.smb.delivering import Delivering
from syncd.sources.smb.errors import END_OF_FILE, Meaning, entry_error, meaning_of, timed_out
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.packets import CLOSE, CREATE, READ, pack_close, pack_create, pack_read, to_ns

_ACCESS = packets.FILE_READ_DATA | packets.FILE_READ_ATTRIBUTES
_OPTIONS = packets.OPTION_FILE | packets.OPTION_REPARSE
_NO_FILE = packets.ATTRIBUTE_DIRECTORY | packets.ATTRIBUTE_REPARSE | packets.ATTRIBUTE_DEVICE
_CLOSE_IT = pack_close()
_BUSY_TRIES = 5
_FEWEST_FILES = 8
_SLOW_S, _QUICK_S = 0.5, 0.2  # above the server's best
_LOOK_S = 0.05
_LARGE = 1 << 18
"""From so many bytes on handing a piece to another thread costs less than it brings."""


class FileRead:
    """One wanted file on its way, over as many connections as it takes.

    retry: done for now, but to be begun again. stop: what the sink raised that ends more than this file.
    given_up: it was in flight too often when a connection broke. delivered: the sink has the bytes before this offset;
    owed: so many more are with the thread that writes.
    """

    __slots__ = (
        "_closed", "_ctime", "_lane", "_make_sink", "_mtime", "_sink", "_stash", "busy", "closing", "delivered",
        "error", "given_up", "handle", "losses", "next", "owed", "path", "pending", "retry", "stop", "wanted",
    )  # fmt: skip

    _lane: ReadLane  # since begin()

    def __init__(self, wanted: Wanted, path: str, make_sink: Callable[[Wanted], Sink]) -> None:
        self.wanted = wanted
        self.path = path
        self.delivered = wanted.offset
        self.owed = 0
        self.losses = 0
        self.busy = 0
        self.given_up = False
        self.stop: BaseException | None = None
        self._make_sink = make_sink
        self._sink: Sink | None = None

    def _reset(self) -> None:
        """Forget everything that belongs to one connection."""
        self.next = self.delivered
        self.pending = 0
        self.closing = False
        self.handle: bytes | None = None
        self.error: SyncdError | None = None
        self.retry = False
        self._mtime = self._ctime = -1
        self._closed: packets.Closed | None = None
        self._stash: dict[int, memoryview] = {}

    # --- what the lane calls

    def begin(self, lane: ReadLane, inline: int) -> list[Step]:
        """Return the requests to start with, for at most `inline` bytes; CLOSE is among them if these are all."""
        self._reset()
        self._lane = lane
        size, offset = self.wanted.fingerprint.size, self.delivered
        first = min(size - offset, inline)
        steps: list[Step] = [(CREATE, pack_create(self.path, _ACCESS, _OPTIONS), 1, self._on_create)]
        if first > 0:
            on_range = partial(self._on_range, offset, first)
            steps.append((READ, pack_read(first, offset), lane.channel.charge(first), on_range))
            self.next = offset + first
            self.pending = 1
        if self.next >= size:
            steps.append((CLOSE, _CLOSE_IT, 1, self._on_close))
            self.closing = True
        return steps

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
        if attributes & _NO_FILE:
            self.error = self._no_file(attributes)
        elif size != wanted.size or to_ns(self._mtime) != wanted.mtime_ns:
            self.error = self._changed("since it was listed")

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
        if self.owed or last - first >= _LARGE:
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


class ReadLane:
    """The files in flight on one channel; fewer while the server is slow to answer."""

    def __init__(self, channel: Channel, limits: SmbLimits, delivering: Delivering, pace: Pace) -> None:
        self.channel = channel
        self._pace = pace
        self._delivering = delivering
        self.files: dict[FileRead, None] = {}
        self.done: list[FileRead] = []
        self.delivered = 0
        self._limits = limits
        self._unclosed: list[FileRead] = []
        self._large: dict[FileRead, None] = {}
        self._bytes = 0
        self._most_files = limits.files_in_flight
        self._most_bytes = limits.bytes_in_flight
        self._paced_at = self._crowded_at = 0.0
        self._best_s = float("inf")
        self._careful = False

    @property
    def has_room(self) -> bool:
        """Whether another file may be started."""
        return len(self.files) < self._most_files and self.has_bytes

    @property
    def has_bytes(self) -> bool:
        """Whether more bytes may be asked for: those asked for and those not yet written are bounded together."""
        return self._bytes + self._delivering.owed < self._most_bytes

    def try_start(self, file: FileRead) -> bool:
        """Send the first requests of a file; False when the credits do not allow that now."""
        channel = self.channel
        inline = min(self._longest(file), channel.affordable(2))
        first = min(file.wanted.fingerprint.size - file.delivered, inline)
        if not channel.can_send(2 + channel.charge(first)):
            return False
        steps = file.begin(self, inline)
        self.files[file] = None
        self._bytes += first
        if not file.closing:
            self._large[file] = None
        channel.send(steps)
        self._pace.charge(first)
        return True

    def feed(self) -> None:
        """Close what is to be closed, then ask for further ranges of the large files, the oldest file first.

        As far as window and credits go.
        """
        channel = self.channel
        while self._unclosed and channel.can_send(1):
            file = self._unclosed.pop()
            if file.handle is not None:
                channel.send([file.closing_step(file.handle)])
        affordable = channel.affordable(0)
        for file in self._large:
            longest = min(self._longest(file), affordable)
            while file.handle is not None and file.unread > 0 and self.has_bytes and self._pace.wait_s() <= 0:
                length = min(file.unread, longest)
                ahead = file.next + length - file.delivered
                if ahead > self._limits.file_window or not channel.can_send(channel.charge(length)):
                    break
                self._bytes += length
                channel.send([file.range(file.handle, length)])
                self._pace.charge(length)

    def _longest(self, file: FileRead) -> int:
        """Shorter READs for a file that was in flight when a connection broke: something must get through."""
        most = self._pace.piece(self.channel.max_read)
        return max(most >> file.losses, min(most, packets.CREDIT_UNIT))

    def came(self, file: FileRead, length: int) -> None:
        """A range was answered."""
        self._bytes -= length
        self.advance(file)

    def hand_over(self, file: FileRead, sink: Sink, kept: memoryview) -> None:
        """Let a piece be written by the other thread; settle() tells the file."""
        file.owed += len(kept)
        self._delivering.put(file, sink, kept)

    def settle(self, wait_s: float | None = 0.0) -> None:
        """Tell files what has been written of them; wait at most `wait_s` for the first (None: for all)."""
        for file, kept, error in self._delivering.take(wait_s):
            file.written(len(kept), error)
            self.channel.let_go(kept)
            if file in self.files:
                self.advance(file)

    @property
    def must_settle(self) -> bool:
        """Whether nothing more comes from the server before something is written."""
        return self._delivering.owed > 0 and self.channel.in_flight == 0

    def advance(self, file: FileRead) -> None:
        """Close a file that has all its bytes or failed; it is done when the server holds no handle of it."""
        if file.closing or file.pending or file.owed or file.unread > 0:
            return
        self._large.pop(file, None)
        if file.handle is not None:
            file.closing = True
            self._unclosed.append(file)
            return
        del self.files[file]
        file.judge()
        self.done.append(file)

    def pace(self, now: float) -> None:
        """Fit the amounts in flight to how long the server takes to answer, so that nobody queues behind us.

        What counts is how much longer than at its best: the way there and back is nobody's queue.
        """
        latency = self.channel.latency_s
        if now - self._paced_at < max(latency, _LOOK_S):
            return
        self._paced_at = now
        self._best_s = min(self._best_s, latency)
        if latency > self._best_s + _SLOW_S:
            self._halve()
        elif latency < self._best_s + _QUICK_S:
            self._grow()

    def crowded(self, now: float) -> None:
        """The server has not enough for all that is asked of it: ask for half as much, once for all such answers."""
        if now - self._crowded_at < max(self.channel.latency_s, _LOOK_S):
            return
        self._crowded_at = self._paced_at = now
        self._careful = True
        self._halve()

    def _halve(self) -> None:
        self._most_files = max(self._most_files // 2, _FEWEST_FILES)
        self._most_bytes = max(self._most_bytes // 2, 2 * self.channel.max_read)

    def _grow(self) -> None:
        """Twice as much; by an eighth where the server said once that it was too much."""
        files, size = self._most_files, self._most_bytes
        self._most_files = min(files + (max(files // 8, 1) if self._careful else files), self._limits.files_in_flight)
        self._most_bytes = min(size + (size // 8 if self._careful else size), self._limits.bytes_in_flight)
