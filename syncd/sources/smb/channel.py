"""One connection's data path: framing, message ids, credits, signatures, encryption, and replies handed to callbacks.

Everything is done by the thread that calls; there is no reader thread and no hand-over per message. Requests are queued
by send(), replies are parsed in place by receive(), which calls back for each. close() alone may come from any thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from struct import Struct

from syncd.core.model import Fingerprint
from syncd.sources.smb.asked import Callback, Step, Waiting, Whole, WholeFile
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
from syncd.sources.smb.frames import FRAME_LIMIT, Frames
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.packets import (
    CREDIT_UNIT,
    FLAG_ASYNC,
    FLAG_RELATED,
    FLAG_SIGNED,
    HEADER_SIZE,
    NO_MESSAGE,
    PLAIN_ID,
    SIGNATURE_AT,
    ProtocolError,
    pack_header,
    to_ns,
    unpack_header,
)
from syncd.sources.smb.session import Link
from syncd.sources.smb.transport import wait_for
from syncd.sources.smb.whole import CLOSE_AT, WholePacker, unpack_whole

__all__ = ["Callback", "Channel", "Step", "WholeFile", "wait_for_any"]

_CREDIT_TARGET = 8192
_CREDIT_STEP = 256
_FEWEST_CREDITS = 4
_LENGTH = Struct(">I")
_SIGNATURE = Struct("16s")
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
        unit = FRAME_LIMIT // 2 if link.large_mtu else CREDIT_UNIT
        self.max_read = min(link.max_read, limits.read_size, unit)
        self.max_transact = min(link.max_transact, limits.query_size, unit)
        self.credits = link.credits
        self.most_credits = link.credits
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
        self._waiting: dict[int, Waiting] = {}
        self._wholes: dict[int, Whole] = {}
        self._patient: dict[int, Waiting] = {}
        self._promised: set[int] = set()
        self._out = bytearray()
        self._frames = Frames(link.sealer)
        self.keep, self.let_go = self._frames.keep, self._frames.let_go
        self._packer = WholePacker(link.tree_id, link.session_id, self._flags, large_mtu=link.large_mtu)
        self._closed = False

    # --- state

    @property
    def in_flight(self) -> int:
        """Requests without their final reply."""
        return len(self._waiting) + len(self._wholes) + len(self._patient)

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
        if not (self._waiting or self._wholes) and len(self._promised) == len(self._patient):
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
        tree, session, received, now = self._tree_id, self._session_id, self._frames.received, time.monotonic()
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
        self._charge(message_id - self._next_id)
        self._put(b"".join(out))

    def send_whole(self, file: WholeFile, as_listed: Fingerprint, path: str, charge: int) -> None:
        """Queue CREATE, READ and CLOSE of a small file as one compound; charge: READ's; `credits` covers it and 2 more.

        Hot: for each small file.
        """
        message_id, signer = self._next_id, self._signer
        more = _CREDIT_STEP if self.most_credits < _CREDIT_TARGET else 0
        opening, rest = self._packer.pack(path.encode("utf-16-le"), as_listed[0], charge, more, message_id)
        if signer is None:
            self._put(opening + rest)
        else:
            out, read_id = self._out, message_id + 1
            out += _LENGTH.pack(len(opening) + len(rest))
            at = len(out) + SIGNATURE_AT
            out += opening
            out += rest
            _SIGNATURE.pack_into(out, at, signer(opening, message_id))
            at += len(opening)
            _SIGNATURE.pack_into(out, at, signer(rest[:CLOSE_AT], read_id))
            _SIGNATURE.pack_into(out, at + CLOSE_AT, signer(rest[CLOSE_AT:], read_id + charge))
        self._wholes[message_id] = (file, as_listed, charge, time.monotonic(), self._frames.received)
        self._charge(charge + 2)

    def _charge(self, charged: int) -> None:
        self._next_id += charged
        self.credits -= charged
        self._owed += charged

    def _put(self, frame: bytes) -> None:
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
        for waiting in (self._waiting, self._wholes):
            if waiting and self._frames.received - next(iter(waiting.values()))[4] > self._skipped_after:
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
        oldest = [next(iter(waiting.values()))[3] for waiting in (self._waiting, self._wholes) if waiting]
        if not oldest:
            self._waited_s = 0.0
            return
        self._waited_s += seconds
        if self._waited_s > self._stall_s:
            raise stalled(self.where, self._stall_s)
        if time.monotonic() - min(oldest) > 3 * self._stall_s:
            raise stalled(self.where, 3 * self._stall_s)

    def poll(self, poll: select.poll) -> int:
        """Register with `poll` for what this channel waits for; return the file descriptor, -1 when it is closed."""
        number = self._sock.fileno()
        if number >= 0:
            poll.register(number, select.POLLIN | (select.POLLOUT if self._out else 0))
        return number

    def _fill(self) -> bool:
        """Read once from the socket; False when there is nothing."""
        try:
            count = self._frames.fill(self._sock)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise self._lost(exc) from exc
        if count == 0:
            raise ChannelLost(closed_by_us()) if self._closed else closed_by_peer(self.where)
        return True

    def _take_frames(self) -> None:
        """Handle each whole frame that has arrived."""
        take = self._frames.take
        while (frame := take()) is not None:
            view, start, end = frame
            if not (self._wholes and self._take_whole(view, start, end)):
                self._take_chain(view, start, end)

    def _take_whole(self, view: memoryview, start: int, end: int) -> bool:
        """Handle the replies to a small file's compound if they are as wished; else leave them to _take_chain().

        Hot: for each small file. Nothing is changed before all of them have proven to be signed by the server.
        """
        found = unpack_whole(view, start, end)
        if found is None:
            return False
        message_id, charge, granted, second, third, first, last, mtime, size, signed = found
        whole = self._wholes.get(message_id)
        if whole is None:
            return False
        file, as_listed, charged, sent, _ = whole
        if charge != charged or not size == last - first == as_listed[0] or to_ns(mtime) != as_listed[1]:
            return False
        verifier = self._verifier
        if verifier is not None:
            if not signed:
                raise ProtocolError("a reply without a signature")
            read_id = message_id + 1
            if not (
                verifier(view[start:second], message_id)
                and verifier(view[second:third], read_id)
                and verifier(view[third:end], read_id + charge)
            ):
                raise ProtocolError("a reply with a wrong signature")
        del self._wholes[message_id]
        self.credits += granted
        self._owed -= charge + 2
        total = self.credits + self._owed
        if total > self.most_credits:
            self.most_credits = total
        self.latency_s = self._now - sent
        file.take_whole(view[first:last])
        return True

    def _expand(self) -> None:
        """Wait for each reply of the small files' compounds on its own, in the order in which they were sent."""
        waiting = list(self._waiting.items())
        for message_id, (file, _, _, sent, received) in self._wholes.items():
            for command, _, charge, callback in file.steps():
                waiting.append((message_id, (command, callback, charge, sent, received)))
                message_id += charge
        self._wholes.clear()
        self._waiting.clear()
        self._waiting.update(sorted(waiting, key=lambda each: each[1][3]))

    def _take_chain(self, view: memoryview, start: int, end: int) -> None:
        """Handle one reply, or the compounded ones of a frame. Hot: three replies for each small file."""
        verifier, waiting_for = self._verifier, self._waiting
        while True:
            status, command, granted, flags, following, message_id = unpack_header(view, start, end)
            last = start + following if following else end
            waiting = waiting_for.get(message_id) or self._patient.get(message_id)
            if waiting is None and self._wholes and message_id != NO_MESSAGE:
                self._expand()
                waiting = waiting_for.get(message_id)
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

    def _account(self, answered: Waiting, message_id: int, granted: int) -> None:
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
