"""SFTP version 3 on the wire: packing requests, parsing replies, and one pipelined session over a channel.

Protocol facts: draft-ietf-secsh-filexfer-02 ("the draft"), and OpenSSH's PROTOCOL file for limits@openssh.com. No SSH
here: a session works over anything that sends and receives bytes.
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from syncd.core.model import Fingerprint, Kind

INIT, VERSION, OPEN, CLOSE, READ, LSTAT, FSTAT, OPENDIR, READDIR, STAT = 1, 2, 3, 4, 5, 7, 8, 11, 12, 17
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, NO_CONNECTION, CONNECTION_LOST = 0, 1, 2, 3, 6, 7

READ_BYTES_MIN = 32_768  # every server takes reads of this size: draft, section 3
READ_BYTES_MAX = 261_120  # OpenSSH's own limit: a reply of 256 KiB
REPLY_BYTES_MAX = 1 << 20
RECEIVE_BYTES = 1 << 20
UNANSWERED_MAX = 65_536
SECOND_NS = 1_000_000_000

_LIMITS = b"limits@openssh.com"
_HEAD = struct.Struct(">IBI")
_U32 = struct.Struct(">I")
_READ_TAIL = struct.Struct(">QI")
_FLAG_SIZE, _FLAG_OWNER, _FLAG_MODE, _FLAG_TIMES, _FLAG_EXTENDED = 1, 2, 4, 8, 0x8000_0000


class SessionLost(Exception):
    """The session cannot go on: dropped, stalled, or the peer does not speak the protocol. Internal to the adapter."""


class Attributes(NamedTuple):
    """What a server said of a file; None = it did not say. mtime_s: whole seconds, unsigned."""

    size: int | None
    mode: int | None
    mtime_s: int | None

    @property
    def kind(self) -> Kind:
        """Links and special files are OTHER; so is what carries no mode."""
        if self.mode is None:
            return Kind.OTHER
        if stat.S_ISREG(self.mode):
            return Kind.FILE
        return Kind.DIRECTORY if stat.S_ISDIR(self.mode) else Kind.OTHER

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Version 3 knows neither file ids nor change times. None when size or time is missing."""
        if self.size is None or self.mtime_s is None:
            return None
        return Fingerprint(self.size, self.mtime_s * SECOND_NS, 0, 0)


class Named(NamedTuple):
    """One entry of a READDIR reply; the name is the server's bytes."""

    name: bytes
    attributes: Attributes


class Reply(NamedTuple):
    """One reply: its type, and its body after the request id."""

    kind: int
    body: memoryview


Then = Callable[[Reply], None]


class Pipe(Protocol):
    """What a session needs of a channel. TimeoutError after the time of settimeout(), OSError when it broke."""

    def sendall(self, s: bytes) -> None: ...
    def recv(self, nbytes: int) -> bytes: ...
    def settimeout(self, timeout: float | None) -> None: ...
    def close(self) -> None: ...


# --- packing and parsing ---------------------------------------------------------------------------------------------


def string(value: bytes) -> bytes:
    """Pack a string: its length and its bytes."""
    return _U32.pack(len(value)) + value


def open_for_reading(path: bytes) -> bytes:
    """Pack the body of an OPEN: SSH_FXF_READ, no attributes (draft, section 6.3)."""
    return string(path) + b"\0\0\0\1\0\0\0\0"


def read_at(handle: bytes, offset: int, count: int) -> bytes:
    """Pack the body of a READ; `handle` is packed already."""
    return handle + _READ_TAIL.pack(offset, count)


def parse_status(reply: Reply) -> tuple[int, str]:
    """Return code and message of a STATUS reply (the message is the peer's: cut to a line)."""
    (code,) = _U32.unpack_from(reply.body)
    message = bytes(reply.body[8:208]).decode("utf-8", "replace") if len(reply.body) > 8 else ""
    return code, message.partition("\n")[0]


def parse_handle(reply: Reply) -> bytes:
    """Return a HANDLE reply's handle, packed as it goes into requests. At most 256 bytes: draft, section 6.2."""
    handle = bytes(reply.body)
    if not 4 < len(handle) <= 260 or _U32.unpack_from(handle)[0] != len(handle) - 4:
        raise SessionLost("the server sent a malformed handle")
    return handle


def parse_content(reply: Reply) -> memoryview:
    """Return the bytes of a DATA reply; they are valid only during the callback."""
    (count,) = _U32.unpack_from(reply.body)
    if count != len(reply.body) - 4:
        raise SessionLost("the server sent a malformed DATA reply")
    return reply.body[4:]


def parse_attributes(reply: Reply) -> Attributes:
    """Return the attributes of an ATTRS reply."""
    return _attributes(reply.body, 0)[0]


def parse_names(reply: Reply) -> list[Named]:
    """Return the entries of a NAME reply."""
    body = bytes(reply.body)
    (count,) = _U32.unpack_from(body)
    found: list[Named] = []
    at = 4
    for _ in range(count):
        name, at = _string(body, at)
        _, at = _string(body, at)  # the "long name", a line for people
        attributes, at = _attributes(body, at)
        found.append(Named(name, attributes))
    return found


def _string(body: bytes | memoryview, at: int) -> tuple[bytes, int]:
    (length,) = _U32.unpack_from(body, at)
    end = at + 4 + length
    if end > len(body):
        raise SessionLost("the server sent a string that is longer than its reply")
    return bytes(body[at + 4 : end]), end


def _attributes(body: bytes | memoryview, at: int) -> tuple[Attributes, int]:
    """Parse ATTRS: flags, then only the fields that the flags name (draft, section 5)."""
    (flags,) = _U32.unpack_from(body, at)
    at += 4
    size = mode = mtime_s = None
    if flags & _FLAG_SIZE:
        (size,) = struct.unpack_from(">Q", body, at)
        at += 8
    if flags & _FLAG_OWNER:
        at += 8
    if flags & _FLAG_MODE:
        (mode,) = _U32.unpack_from(body, at)
        at += 4
    if flags & _FLAG_TIMES:
        _, mtime_s = struct.unpack_from(">II", body, at)
        at += 8
    if flags & _FLAG_EXTENDED:
        (count,) = _U32.unpack_from(body, at)
        at += 4
        for _ in range(2 * count):
            _, at = _string(body, at)
    return Attributes(size, mode, mtime_s), at


# --- session ---------------------------------------------------------------------------------------------------------


class Session:
    """One SFTP session: many requests in flight, each reply handed to the callback given with its request.

    Used by one thread. Requests are sent at the next pump(), all in one piece. Every failure is SessionLost.
    """

    def __init__(self, pipe: Pipe, stall_s: float) -> None:
        """Shake hands. stall_s: with requests in flight and nothing heard for so long, the session is lost."""
        self._pipe = pipe
        self._stall_s = stall_s
        self._silent_s = 0.0
        self._next_id = 1
        self._then: dict[int, Then] = {}
        self._unsent: list[bytes] = []
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 4
        self._tells_limits = False
        self.read_bytes = READ_BYTES_MIN
        self._greet()

    @property
    def outstanding(self) -> int:
        """Requests without a reply yet."""
        return len(self._then)

    def ask(self, kind: int, body: bytes, then: Then) -> None:
        """Queue one request; `then` gets its reply."""
        number = self._next_id
        self._next_id = number % 0xFFFF_FFFF + 1
        self._then[number] = then
        self._unsent.append(_HEAD.pack(5 + len(body), kind, number) + body)

    def pump(self, wait_s: float) -> None:
        """Send what is queued and hand out what has come; waits at most `wait_s` for something to come."""
        self._send()
        started = time.monotonic()
        piece = self._receive(wait_s)
        if piece is None:
            self._silent_s += time.monotonic() - started
            if self._then and self._silent_s >= self._stall_s:
                raise SessionLost(f"the server did not answer for {self._stall_s:g} s")
            return
        self._silent_s = 0.0
        self._pieces.append(piece)
        self._have += len(piece)
        if self._have >= self._need:
            self._hand_out()

    def drain(self) -> None:
        """Wait until every request was answered."""
        while self._then:
            self.pump(self._stall_s)

    def close(self) -> None:
        """End the session and with it every handle the server holds for it; safe to repeat."""
        self._pipe.close()

    def _send(self) -> None:
        if not self._unsent:
            return
        if self._next_id - next(iter(self._then)) > UNANSWERED_MAX:
            raise SessionLost("the server leaves a request without an answer")
        try:
            self._pipe.settimeout(self._stall_s)
            self._pipe.sendall(b"".join(self._unsent))
        except OSError as error:
            raise SessionLost(f"the connection broke while sending: {error or type(error).__name__}") from error
        self._unsent.clear()

    def _receive(self, wait_s: float) -> bytes | None:
        try:
            self._pipe.settimeout(wait_s)
            piece = self._pipe.recv(RECEIVE_BYTES)
        except TimeoutError:
            return None
        except OSError as error:
            raise SessionLost(f"the connection broke: {error or type(error).__name__}") from error
        if not piece:
            raise SessionLost("the server closed the connection")
        return piece

    def _hand_out(self) -> None:
        """Cut what has come into replies. Pieces are joined only once a whole reply is there: none is copied often."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        view = memoryview(data)
        at, end = 0, len(data)
        self._need = 4
        while end - at >= 4:
            (length,) = _U32.unpack_from(data, at)
            if not 5 <= length <= REPLY_BYTES_MAX:
                raise SessionLost(f"the server sent garbage (a reply of {length} bytes)")
            if end - at < 4 + length:
                self._need = 4 + length
                break
            self._hand_out_one(view[at + 4 : at + 4 + length])
            at += 4 + length
        self._pieces = [data[at:]] if at < end else []
        self._have = end - at

    def _hand_out_one(self, packet: memoryview) -> None:
        then = self._then.pop(_U32.unpack_from(packet, 1)[0], None)
        if then is None:
            raise SessionLost("the server sent a reply that nobody asked for")
        try:
            then(Reply(packet[0], packet[5:]))
        except struct.error as error:
            raise SessionLost("the server sent a reply that is cut short") from error

    def _greet(self) -> None:
        """Exchange versions; ask OpenSSH for its real limit of a READ, which saves requests."""
        self._unsent.append(struct.pack(">IBI", 5, INIT, 3))
        self._then[3] = self._welcome  # a VERSION carries the version where a reply carries its id: draft, section 4
        self._next_id = 4
        self.drain()
        if self._tells_limits:
            self.ask(EXTENDED, string(_LIMITS), self._learn_limits)
            self.drain()

    def _welcome(self, reply: Reply) -> None:
        if reply.kind != VERSION:
            raise SessionLost("the server does not speak SFTP version 3")
        at = 0
        while at < len(reply.body):
            name, at = _string(reply.body, at)
            _, at = _string(reply.body, at)
            self._tells_limits |= name == _LIMITS

    def _learn_limits(self, reply: Reply) -> None:
        """limits@openssh.com answers with four 64-bit numbers: packet, read, write, open handles (0 = no limit)."""
        if reply.kind == EXTENDED_REPLY:
            _, longest, _, _ = struct.unpack_from(">QQQQ", reply.body)
            self.read_bytes = max(READ_BYTES_MIN, min(READ_BYTES_MAX, longest or READ_BYTES_MAX))
