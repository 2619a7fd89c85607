"""The transport under smbprotocol's set-up: deadlines, bounds, and a word on whoever answers in place of a server."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from typing import Any

from syncd.core.errors import SourceError, SourceUnavailable
from syncd.sources.smb import packets
from syncd.sources.smb.errors import PENDING

_FRAME_LIMIT = 1 << 20
_SMALLEST_FRAME = 32
_SIGNED_COMMANDS = frozenset({packets.TREE_CONNECT, packets.IOCTL, packets.ECHO})
_LOOK_S = 0.25

OLD_HINT = "the server must speak SMB 2.1 or newer"
_OTHER_HINT = "check the port in the mirror's source: it must be the SMB server's"
_CLOSED_HINT = "check the port; a server that speaks only SMB1 does this too. syncd doctor tells more"


class Transport:
    """What smbprotocol.transport.Tcp is to a Connection, with deadlines, bounds and signatures asked for.

    recv() never raises: a failure is kept in `failure`, the end is b"", and smbprotocol's reader thread ends cleanly.
    """

    def __init__(self, addresses: list[Any], where: str, deadline: float, connect_s: float) -> None:
        self._addresses = addresses
        self._where = where
        self._deadline = deadline
        self._connect_s = connect_s
        self._sock: socket.socket | None = None
        self._last = False
        self._ended = False
        self._interim = False
        self._lock = threading.Lock()
        self._closed = False
        self.connected = False
        self.failure: SourceError | None = None
        self.negotiated: packets.Negotiated | None = None
        self.negotiated_at_ns = 0
        self.session_flags = 0
        self.closed_early = False
        self.peer = ""

    # --- what smbprotocol calls

    def connect(self) -> None:
        """Connect to the first address that answers. Raises OSError."""
        until = min(time.monotonic() + self._connect_s, self._deadline)
        error: OSError = TimeoutError()
        for family, kind, protocol, _, address in self._addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                self._connect_one(sock, address, until)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as exc:
                sock.close()
                error = exc
                continue
            self._sock, self.peer, self.connected = sock, str(address[0]), True
            return
        raise error

    def send(self, header: Any) -> None:
        """Send one message, framed (2.1)."""
        payload = header if isinstance(header, bytes) else header.pack()
        if self._sock is None or not self.connected:
            raise ConnectionError("not connected")
        self._sock.settimeout(max(self._deadline - time.monotonic(), 0.1))
        self._sock.sendall(struct.pack(">I", len(payload)) + payload)

    def recv(self, timeout: float) -> bytes:  # noqa: ARG002
        """Return the next message, b"" at the end."""
        if self._ended:
            return b""
        frame = self._frame()
        if frame:
            self._note(frame)
        if self.failure is not None:
            self.connected = False
            return b""
        self._ended = self._last and not self._interim
        return frame

    def close(self) -> None:
        """Close the socket, unless it was released. By smbprotocol's reader thread, or when that has ended."""
        self.shut()
        with self._lock:
            sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    # --- what we call

    def shut(self) -> None:
        """Wake whoever waits for the socket, for good; from any thread."""
        with self._lock:
            self._closed = True
            self.connected = False
            if self._sock is not None:
                with contextlib.suppress(OSError):  # not connected (any more): there is nobody to wake
                    self._sock.shutdown(socket.SHUT_RDWR)

    def end_after_next(self) -> None:
        """Let the message after this call be the last that smbprotocol reads, or the one after an interim reply."""
        self._last = True

    def release(self) -> socket.socket:
        """Give the socket away, non-blocking. Raises ConnectionError when it was closed meanwhile."""
        with self._lock:
            sock, self._sock = self._sock, None
        if sock is None:
            raise ConnectionError("closed")
        sock.setblocking(False)
        return sock

    # --- inside

    def _connect_one(self, sock: socket.socket, address: Any, until: float) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        while code in {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY}:
            if self._closed or time.monotonic() >= until:
                raise TimeoutError
            if wait_for(sock, _LOOK_S, to_send=True):
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                break
        if code:
            raise OSError(code, os.strerror(code))

    def _fail(self, text: str, hint: str = "") -> bytes:
        if self.failure is None:
            self.failure = SourceUnavailable(text, hint=hint)
        self.connected = False
        return b""

    def _frame(self) -> bytes:
        head = self._exactly(4, first=True)
        if not head:
            return b""
        length = int.from_bytes(head[1:], "big")
        if head[0] != 0 or not _SMALLEST_FRAME <= length <= _FRAME_LIMIT:
            return self._not_smb(head + self._soon(60))
        magic = self._exactly(4)
        if magic == packets.SMB1_ID:
            return self._fail(f"{self._where} speaks only SMB1, which is not safe to use", OLD_HINT)
        if magic and magic not in {packets.PLAIN_ID, packets.SEALED_ID}:
            return self._not_smb(head + magic + self._soon(60))
        rest = self._exactly(length - 4) if magic else b""
        return magic + rest if rest else b""

    def _not_smb(self, start: bytes) -> bytes:
        said = start.split(b"\n")[0][:40].decode("ascii", "replace").strip()
        shown = "".join(char if char.isprintable() else "?" for char in said)
        return self._fail(
            f'something else than an SMB server answers at {self._where} (it says "{shown}")', _OTHER_HINT
        )

    def _soon(self, count: int) -> bytes:
        """Whatever comes of a peer's greeting within a moment, to show it."""
        sock = self._sock
        if sock is None or not wait_for(sock, _LOOK_S):
            return b""
        try:
            return sock.recv(count)
        except OSError:
            return b""

    def _exactly(self, count: int, *, first: bool = False) -> bytes:
        sock = self._sock
        buffer = bytearray()
        while sock is not None and len(buffer) < count:
            left = self._deadline - time.monotonic()
            try:
                sock.settimeout(max(left, 0.001))
                piece = sock.recv(count - len(buffer)) if left > 0 else None
            except TimeoutError:
                piece = None
            except OSError:
                piece = b""
            if piece is None:
                return self._fail(f"{self._where} accepts connections but does not answer", _OTHER_HINT)
            if not piece:
                self.closed_early = first and not buffer and not self._closed
                return self._fail(_closed_text(self._where, self.closed_early), _CLOSED_HINT)
            buffer += piece
        return bytes(buffer)

    def _note(self, frame: bytes) -> None:
        """Keep what smbprotocol drops, and refuse what it lets pass: unsigned replies after the login."""
        if frame[:4] == packets.SEALED_ID:
            return
        view = memoryview(frame)
        try:
            status, command, _, flags, _, _ = packets.unpack_header(view, 0, len(view))
            if command == packets.NEGOTIATE and status == 0:
                self.negotiated = packets.unpack_negotiate(view, 0, len(view))
                self.negotiated_at_ns = time.time_ns()
        except packets.ProtocolError as exc:
            self._fail(f"{self._where} broke the protocol: {exc}")
            return
        if command == packets.SESSION_SETUP and status == 0 and len(frame) >= 68:
            self.session_flags = int.from_bytes(frame[66:68], "little")
        self._interim = status == PENDING and flags & packets.FLAG_ASYNC != 0
        if command in _SIGNED_COMMANDS and not self._interim and not flags & packets.FLAG_SIGNED:
            self._fail(
                f"{self._where} sent a reply without a signature", "something between here and the server may interfere"
            )


def _closed_text(where: str, at_start: bool) -> str:
    return f"{where} closed the connection {'without an answer' if at_start else 'in the middle of an answer'}"


def wait_for(sock: socket.socket, timeout_s: float, *, to_send: bool = False) -> bool:
    """Wait until the socket has something to read (or can also be written to); False when the time is over."""
    poll = select.poll()
    try:
        poll.register(sock, select.POLLIN | (select.POLLOUT if to_send else 0))
    except ValueError:
        return True  # closed meanwhile: the next call on it says so
    return bool(poll.poll(max(timeout_s, 0) * 1000))
