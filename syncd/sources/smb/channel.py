"""One connection's data path: framing, message ids, credits, signatures, encryption, and replies handed to callbacks.

Everything is done by the thread that calls; there is no reader thread and no hand-over per message. Requests are queued
by send(), replies are parsed in place by receive(), which calls back for each. close() alone may come from any thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from struct import Struct

from syncd.sources.smb import packets
from syncd.sources.smb.crypto import TAG_SIZE, Sealer
from syncd.sources.smb.errors import (
    PENDING,
    ChannelLost,
    Meaning,
    broken,
    closed_by_peer,
    closed_by_us,
    lost_by,
    meaning_of,
    session_ended,
    stalled,
)
from syncd.sources.smb.limits import MIB, SmbLimits
from syncd.sources.smb.packets import (
    CREDIT_UNIT,
    FLAG_ASYNC,
    FLAG_RELATED,
    FLAG_SIGNED,
    HEADER_SIZE,
    NO_MESSAGE,
    PLAIN_ID,
    ProtocolError,
    pack_header,
    unpack_header,
)
from syncd.sources.smb.session import Link
from syncd.sources.smb.transport import wait_for

Callback = Callable[[int, memoryview, int, int], None]
"""Takes one final reply: its NTSTATUS, and where it lies: view[start:end], header first. Valid during the call only."""

_Waiting = tuple[int, Callback, int, float, int]
"""An unanswered request: command, callback, charge, when it was sent, and what had been received by then."""

Step = tuple[int, bytes, int, Callback]
"""One request: command, packed body, credit charge, who takes the reply."""

_CREDIT_TARGET = 8192
_CREDIT_STEP = 256
_FEWEST_CREDITS = 4
_BUFFER = MIB + MIB // 8  # a READ reply of 1 MiB, and more than _ROOM beyond it
_ROOM = MIB // 16
_FRAME_LIMIT = 4 * MIB
_MOST_SPARE = 32
_LENGTH = Struct(">I")
_PAD = b"\0" * 8
_UNSIGNED = b"\0" * 16


def wait_for_any(channels: Sequence[Channel], wait_s: float) -> tuple[list[Channel], float]:
    """Wait until one of the channels can go on, at most `wait_s`; return those that cannot, and how long it took."""
    poll = select.poll()
    numbers = [channel.poll(poll) for channel in channels]
    if -1 in numbers:
        return [], 0.0  # closed meanwhile: the next call on it says so
    began = time.monotonic()
    ready = {number for number, _ in poll.poll(wait_s * 1000)}
    silent = [channel for channel, number in zip(channels, numbers, strict=True) if number not in ready]
    return silent, time.monotonic() - began


class Channel:
    """A share of a server over one connection. Raises ChannelLost from send() and receive() when it ends."""

    def __init__(self, link: Link, limits: SmbLimits) -> None:
        self.where = link.where
        self.clock_offset_ns = link.clock_offset_ns
        self.dialect = link.dialect
        self.large_mtu = link.large_mtu
        unit = _FRAME_LIMIT // 2 if link.large_mtu else CREDIT_UNIT
        self.max_read = min(link.max_read, limits.read_size, unit)
        self.max_transact = min(link.max_transact, limits.query_size, unit)
        self.credits = link.credits
        self.most_credits = link.credits
        self.received = 0
        self.reused = False
        self.ask_s = limits.ask_s
        self.latency_s = 0.0
        self._owed = 0
        self._sock = link.sock
        self._session_id = link.session_id
        self._tree_id = link.tree_id
        self._signer = link.signer
        self._verifier = link.verifier
        self._sealer = link.sealer
        self._flags = FLAG_SIGNED if link.signer is not None else 0
        self._next_id = link.next_id
        self._stall_s = limits.stall_s
        self._waited_s = self._now = 0.0
        self._skipped_after = 4 * limits.bytes_in_flight
        self._waiting: dict[int, _Waiting] = {}
        self._patient: dict[int, _Waiting] = {}
        self._promised: set[int] = set()
        self._out = bytearray()
        self._view = memoryview(bytearray(_BUFFER))
        self._plain = memoryview(b"")
        self._spare: list[memoryview] = []
        self._start = self._end = self._whole = 0
        self._closed = False

    # --- state

    @property
    def in_flight(self) -> int:
        """Requests without their final reply."""
        return len(self._waiting) + len(self._patient)

    @property
    def closed(self) -> bool:
        """Whether shut() or close() was called."""
        return self._closed

    @property
    def sealed(self) -> bool:
        """Whether everything is encrypted."""
        return self._sealer is not None

    def charge(self, size: int) -> int:
        """Return the credits that a request with `size` bytes of payload or reply costs (3.1.5.2)."""
        return (max(size, 1) - 1) // CREDIT_UNIT + 1

    def can_send(self, charge: int) -> bool:
        """Return whether the credits cover `charge` now.

        When nothing is in flight that could bring more, what there is becomes what affordable() goes by. Raises
        ChannelLost when that is nothing at all.
        """
        if self.credits >= charge:
            return True
        if not self._waiting and len(self._promised) == len(self._patient):
            self.most_credits = self.credits
            if self.credits < _FEWEST_CREDITS:
                raise broken(self.where, f"it granted no more than {self.credits} credits")
        return False

    def affordable(self, credits_left_out: int) -> int:
        """Return the largest payload of one request when the server grants no more than it has so far."""
        return max(self.most_credits - credits_left_out, 1) * CREDIT_UNIT

    def idle_and_alive(self) -> bool:
        """Return whether an unused connection still is one: nothing to read, as no server speaks unasked."""
        return not self._closed and self.in_flight == 0 and not wait_for(self._sock, 0)

    # --- sending

    def send(self, steps: Sequence[Step], *, patient: bool = False) -> None:
        """Queue one request, or several as one related compound; flush() or receive() puts them on the wire.

        The caller sees to it that `credits` covers the sum of the charges. Hot: three steps for each small file.
        patient: the last reply may rightly take for ever, so its absence is no stall.
        """
        signer, waiting, large_mtu = self._signer, self._waiting, self.large_mtu
        tree, session, received, now = self._tree_id, self._session_id, self.received, time.monotonic()
        message_id, flags = self._next_id, self._flags
        ask = _CREDIT_STEP if self.most_credits < _CREDIT_TARGET else 0
        left = len(steps)
        out: list[bytes] = []
        for command, body, charge, callback in steps:
            left -= 1
            following, wanted = 0, charge
            if left:
                body += _PAD[: -len(body) & 7]
                following = HEADER_SIZE + len(body)
            else:
                wanted += ask
            head = pack_header(
                PLAIN_ID, 64, charge if large_mtu else 0, 0, command, wanted, flags, following, message_id, 0xFEFF,
                tree, session,
            )  # fmt: skip
            signature = _UNSIGNED if signer is None else signer(head + _UNSIGNED + body, message_id)
            out += (head, signature, body)
            waiting[message_id] = (command, callback, charge, now, received)
            message_id += charge
            flags |= FLAG_RELATED
        if patient:
            self._patient[message_id - charge] = waiting.pop(message_id - charge)
        charged = message_id - self._next_id
        self._next_id = message_id
        self.credits -= charged
        self._owed += charged
        frame = b"".join(out)
        if self._sealer is not None:
            frame = self._sealer.seal(frame)
        self._out += _LENGTH.pack(len(frame))
        self._out += frame

    def flush(self) -> None:
        """Put as much on the wire as it takes now."""
        if self._closed:
            raise ChannelLost(closed_by_us())
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except BlockingIOError:
                return
            except OSError as exc:
                raise self._lost(exc) from exc
            del self._out[:sent]

    # --- receiving

    def receive(self, wait_s: float) -> bool:
        """Send what is queued, take what has arrived and call back for each reply; wait at most `wait_s` for the first.

        Without requests in flight it does not wait.

        Returns whether anything arrived. Raises ChannelLost, also when nothing arrives for too long while requests are
        in flight; only time spent waiting in here counts.
        """
        self.flush()
        if not self._fill() and not (self.in_flight and self._wait(wait_s)):
            return False
        self._waited_s = 0.0
        self._now = time.monotonic()
        try:
            self._take_frames()
        except ProtocolError as exc:
            raise broken(self.where, str(exc)) from exc
        if self._waiting and self.received - next(iter(self._waiting.values()))[4] > self._skipped_after:
            raise broken(self.where, "it answers later requests and leaves one out")
        return True

    def _wait(self, wait_s: float) -> bool:
        if wait_s <= 0:
            return False
        silent, elapsed = wait_for_any([self], wait_s)
        if silent:
            self.silent_for(elapsed)
            return False
        self.flush()
        return self._fill()

    def silent_for(self, seconds: float) -> None:
        """Count time in which we waited and nothing came. Raises ChannelLost when that is too long."""
        if not self._waiting:
            self._waited_s = 0.0
            return
        self._waited_s += seconds
        if self._waited_s > self._stall_s:
            raise stalled(self.where, self._stall_s)
        if time.monotonic() - next(iter(self._waiting.values()))[3] > 3 * self._stall_s:
            raise stalled(self.where, 3 * self._stall_s)

    def poll(self, poll: select.poll) -> int:
        """Register with `poll` for what this channel waits for; return the file descriptor, -1 when it is closed."""
        number = self._sock.fileno()
        if number >= 0:
            poll.register(number, select.POLLIN | (select.POLLOUT if self._out else 0))
        return number

    def _fill(self) -> bool:
        """Read once from the socket; False when there is nothing. Not beyond the frame that has begun, if it is large.

        So a large frame begins at the front of the buffer and nothing has to be moved. The end stays free for a tag.
        """
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._view) - self._end < _ROOM:
            self._make_room()
        last = len(self._view) - TAG_SIZE
        if self._whole > _ROOM:
            last = min(last, self._start + self._whole)
        try:
            count = self._sock.recv_into(self._view[self._end : last])
        except BlockingIOError:
            return False
        except OSError as exc:
            raise self._lost(exc) from exc
        if count == 0:
            raise ChannelLost(closed_by_us()) if self._closed else closed_by_peer(self.where)
        self._end += count
        self.received += count
        return True

    def _make_room(self) -> None:
        """Move what is there to the front; where one frame fills the buffer, take a bigger one."""
        have = self._end - self._start
        if have and self._start == 0:
            grown = memoryview(bytearray(min(2 * len(self._view), _FRAME_LIMIT + MIB)))
            grown[:have] = self._view[:have]
            self._view = grown
        elif have:
            self._view[:have] = self._view[self._start : self._end]
        self._start, self._end = 0, have

    def _take_frames(self) -> None:
        """Handle each whole frame in the buffer (2.1)."""
        while self._end - self._start >= 4:
            (length,) = _LENGTH.unpack_from(self._view, self._start)
            if not HEADER_SIZE <= length <= _FRAME_LIMIT:
                raise ProtocolError(f"a frame of {length} bytes")
            first = self._start + 4
            last = first + length
            if last > self._end:
                self._whole = length + 4
                return
            self._start, self._whole = last, 0
            if self._sealer is None:
                self._take_chain(self._view, first, last)
            else:
                self._take_sealed(self._sealer, first, last)

    def _take_sealed(self, sealer: Sealer, first: int, last: int) -> None:
        if self._view[first : first + 4] != packets.SEALED_ID:
            raise ProtocolError("a reply in the clear in an encrypted session")
        if len(self._plain) < last - first:
            self._plain = self._buffer(last - first)
        self._take_chain(self._plain, 0, sealer.open(self._view, first, last, self._plain))

    # --- buffers

    def keep(self, view: memoryview, first: int, last: int) -> memoryview:
        """Return a reply's view[first:last] so that it stays valid after the call-back, until let_go().

        Without a copy where the reply is alone in its buffer, as large ones are.
        """
        if view is self._plain:
            self._plain = self._buffer(len(view))
        elif view is self._view and self._start == self._end:
            self._view = self._buffer(len(view))
            self._start = self._end = 0
        else:
            return memoryview(bytes(view[first:last]))
        return view[first:last]

    def let_go(self, kept: memoryview) -> None:
        """Use the buffer behind something kept again."""
        if isinstance(kept.obj, bytearray) and len(self._spare) < _MOST_SPARE:
            self._spare.append(memoryview(kept.obj))

    def _buffer(self, size: int) -> memoryview:
        """Return a buffer for at least `size` bytes."""
        while self._spare:
            spare = self._spare.pop()
            if len(spare) >= size:
                return spare
        return memoryview(bytearray(max(size, _BUFFER)))

    def _take_chain(self, view: memoryview, start: int, end: int) -> None:
        """Handle one reply, or the compounded ones of a frame. Hot: three replies for each small file."""
        verifier, waiting_for = self._verifier, self._waiting
        while True:
            status, command, granted, flags, following, message_id = unpack_header(view, start, end)
            last = start + following if following else end
            waiting = waiting_for.get(message_id) or self._patient.get(message_id)
            if message_id == NO_MESSAGE:
                pass  # an oplock break; we hold none, nobody waits for it (3.2.5.1.3: not signed)
            elif waiting is None or waiting[0] != command:
                raise ProtocolError("a reply that nobody asked for")
            elif status == PENDING and flags & FLAG_ASYNC:
                self.credits += granted  # interim, not signed; the final reply has the same message id (3.2.5.1.5)
                if message_id in self._patient:
                    self._promise(message_id)
            else:
                if verifier is not None:
                    if not flags & FLAG_SIGNED:
                        raise ProtocolError("a reply without a signature")
                    if not verifier(view[start:last], message_id):
                        raise ProtocolError("a reply with a wrong signature")
                self._account(waiting, message_id, granted)
                if status and meaning_of(status) is Meaning.SESSION_ENDED:
                    raise session_ended(status, self.where)
                waiting[1](status, view, start, last)
            if not following:
                return
            start = last

    def _promise(self, message_id: int) -> None:
        """Note the one interim reply that a patient request may have (3.3.4.2)."""
        if message_id in self._promised:
            raise ProtocolError("the same interim reply again")
        self._promised.add(message_id)

    def _account(self, answered: _Waiting, message_id: int, granted: int) -> None:
        if self._waiting.pop(message_id, None) is None:
            del self._patient[message_id]
            self._promised.discard(message_id)
        self.credits += granted
        total = self.credits + self._owed
        if total > self.most_credits:
            self.most_credits = total
        self._owed -= answered[2]
        self.latency_s = self._now - answered[3]

    # --- ending

    def _lost(self, exc: OSError) -> ChannelLost:
        return ChannelLost(closed_by_us()) if self._closed else lost_by(exc, self.where)

    def shut(self) -> None:
        """Make the thread that uses this channel fail soon; from any thread."""
        self._closed = True
        with contextlib.suppress(OSError):  # not connected any more
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; the server closes whatever was open on it. Safe to repeat."""
        self.shut()
        self._sock.close()
