"""An SMB2 server of our own that speaks from after the handshake, knows the signing key and says whatever a test wants.

    server = HostileServer({"a.txt": b"hello"})
    with server, hostile_source(server) as source:
        ...

Its honest part serves a flat or nested tree from memory; a test overrides `reply()` (or hands in `spoil`) to lie.
The protocol is packed here independently of syncd.sources.smb.packets, so that both must be right to agree.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from syncd.sources.smb.crypto import Sealer, make_signer, make_verifier
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.session import Link
from syncd.sources.smb.source import SmbSource

KEY = bytes(range(16))
SESSION, TREE = 0x1122334455667788, 7
EPOCH = 116444736000000000
CREATE, CLOSE, READ, QUERY_DIRECTORY, QUERY_INFO = 5, 6, 8, 14, 16
NOT_FOUND, NO_MORE_FILES, END_OF_FILE, PENDING = 0xC0000034, 0x80000006, 0xC0000011, 0x103
SIGNED, RELATED, ASYNC = 8, 4, 2
DIRECTORY, ARCHIVE = 0x10, 0x20

Reply = tuple[int, bytes]
"""A status and a body."""


@dataclass
class Request:
    """One request of a compound. path: of the open it is about, also where the compound names it."""

    command: int
    message_id: int
    body: bytes
    path: str = ""
    charge: int = 1


@dataclass
class Quirks:
    """How the frames are put on the wire. split: one frame a reply instead of compounds; pending: interim first."""

    signed: bool = True
    split: bool = False
    pending: bool = False
    reverse: bool = False
    credits: int = 64
    sealed: bool = False
    clear_replies: bool = False
    wrong_signature: bool = False


def _server_mac(message: bytes, message_id: int) -> bytes:
    """AES-GMAC with the nonce of a reply ([MS-SMB2] 3.1.4.1)."""
    return AESGCM(KEY).encrypt(message_id.to_bytes(8, "little") + b"\1\0\0\0", b"", message)


def filetime(ns: int) -> int:
    return ns // 100 + EPOCH


@dataclass
class HostileServer:
    """Listens on a free loopback port; each connection is served by a thread. `mtime_ns` is every file's."""

    files: dict[str, bytes] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    spoil: Callable[[Request, Reply], Reply | None] | None = None
    mtime_ns: int = 1_700_000_000_123_456_700
    max_read: int = 1 << 20
    dialect: int = 0x0311
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in [self._accepting, *self._threads]:
            thread.join(5)

    # --- connections

    def link(self) -> Link:
        """Return what a successful set-up with this server would have given."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setblocking(False)
        sealed = self.quirks.sealed
        return Link(
            sock=sock, where=f"127.0.0.1:{self.port}", dialect=self.dialect, session_id=SESSION, tree_id=TREE,
            signer=None if sealed else make_signer(self.dialect, 2, KEY),
            verifier=None if sealed else make_verifier(self.dialect, 2, KEY),
            sealer=Sealer(2, KEY, KEY, SESSION) if sealed else None,
            next_id=3, credits=self.quirks.credits, large_mtu=True, max_read=self.max_read, max_transact=1 << 20,
            clock_offset_ns=0,
        )  # fmt: skip

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        opens: dict[bytes, _Open] = {}
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as stream:
            while head := stream.read(4):
                frame = stream.read(int.from_bytes(head, "big"))
                self._answer(sock, frame, opens)

    # --- frames

    def _answer(self, sock: socket.socket, frame: bytes, opens: dict[bytes, _Open]) -> None:
        if self.quirks.sealed:
            room, plain = bytearray(frame) + bytes(16), bytearray(len(frame))
            opened = Sealer(2, KEY, KEY, SESSION).open(memoryview(room), 0, len(frame), memoryview(plain))
            frame = bytes(plain[:opened])
        messages: list[tuple[Request, Reply]] = []
        handle, failed, at, following = b"", 0, 0, 1
        while following:
            following = struct.unpack_from("<I", frame, at + 20)[0]
            charge, command = struct.unpack_from("<H4xH", frame, at + 6)
            message_id = struct.unpack_from("<Q", frame, at + 24)[0]
            body = frame[at + 64 : at + following if following else len(frame)]
            request = Request(command, message_id, body, charge=max(charge, 1))
            self.requests.append(request)
            if command == CREATE:
                reply, handle = self._create(request, opens)
                failed = reply[0]
            elif failed:
                reply = (failed, ERROR)
            else:
                reply = self._about_open(request, opens, handle)
            if self.spoil is not None:
                spoiled = self.spoil(request, reply)
                if spoiled is None:
                    return
                reply = spoiled
            messages.append((request, reply))
            at += following
        self._send(sock, messages)

    def _send(self, sock: socket.socket, messages: list[tuple[Request, Reply]]) -> None:
        quirks = self.quirks
        if quirks.pending:
            for request, _ in messages:
                self._put(sock, [_packed(request, (PENDING, ERROR), 0, 0, flags=1 | ASYNC)], signed=False)
        if quirks.reverse:
            messages.reverse()
        groups = [[each] for each in messages] if quirks.split or quirks.reverse else [messages]
        for group in groups:
            last = len(group) - 1
            out = []
            for index, (request, reply) in enumerate(group):
                size = 64 + len(reply[1])
                following = (size + 7) // 8 * 8 if index < last else 0
                out.append(_packed(request, reply, following, request.charge + quirks.credits // 8))
            self._put(sock, out, signed=quirks.signed)

    def _put(self, sock: socket.socket, messages: list[bytes], *, signed: bool) -> None:
        out = []
        for message in messages:
            if signed and not self.quirks.sealed:
                message = (
                    message[:16] + struct.pack("<I", struct.unpack_from("<I", message, 16)[0] | SIGNED) + message[20:]
                )
                message_id = struct.unpack_from("<Q", message, 24)[0]
                signature = _server_mac(message, message_id)
                if self.quirks.wrong_signature:
                    signature = bytes(16)
                message = message[:48] + signature + message[64:]
            out.append(message)
        frame = b"".join(out)
        if self.quirks.sealed and not self.quirks.clear_replies:
            frame = Sealer(2, KEY, KEY, SESSION).seal(frame)
        sock.sendall(struct.pack(">I", len(frame)) + frame)

    # --- the honest part

    def _create(self, request: Request, opens: dict[bytes, _Open]) -> tuple[Reply, bytes]:
        offset, length = struct.unpack_from("<HH", request.body, 44)
        path = request.body[offset - 64 : offset - 64 + length].decode("utf-16-le")
        request.path = path
        prefix = f"{path}\\" if path else ""
        is_folder = path == "" or any(name.startswith(prefix) for name in self.files)
        if not is_folder and path not in self.files:
            return (NOT_FOUND, ERROR), b""
        handle = struct.pack("<QQ", len(opens) + 1, request.message_id)
        opens[handle] = _Open(path, is_folder)
        size = 0 if is_folder else len(self.files[path])
        stamp = filetime(self.mtime_ns)
        body = struct.pack(
            "<HBBIQQQQQQII16sII", 89, 0, 0, 1, stamp, stamp, stamp, stamp, size, size,
            DIRECTORY if is_folder else ARCHIVE, 0, handle, 0, 0,
        )  # fmt: skip
        return (0, body), handle

    def _about_open(self, request: Request, opens: dict[bytes, _Open], related: bytes) -> Reply:
        at = {CLOSE: 8, READ: 16, QUERY_DIRECTORY: 8, QUERY_INFO: 24}[request.command]
        handle = request.body[at : at + 16]
        if handle == b"\xff" * 16:
            handle = related
        open_ = opens.get(handle)
        if open_ is None:
            return (0xC0000128, ERROR)
        request.path = open_.path
        if request.command == CLOSE:
            del opens[handle]
            return (0, self._closed(open_))
        if request.command == READ:
            return self._read(request, open_)
        if request.command == QUERY_INFO:
            return (0, _output(self._all_information(open_)))
        if open_.listed:
            return (NO_MORE_FILES, ERROR)
        open_.listed = True
        return (0, _output(directory(self._entries(open_.path))))

    def _closed(self, open_: _Open) -> bytes:
        stamp = filetime(self.mtime_ns)
        size = 0 if open_.is_folder else len(self.files[open_.path])
        return struct.pack("<HHIQQQQQQI", 60, 1, 0, stamp, stamp, stamp, stamp, size, size, ARCHIVE)

    def _read(self, request: Request, open_: _Open) -> Reply:
        length, offset = struct.unpack_from("<IQ", request.body, 4)
        content = self.files[open_.path][offset : offset + length]
        if not content:
            return (END_OF_FILE, ERROR)
        return (0, struct.pack("<HBBIII", 17, 80, 0, len(content), 0, 0) + content)

    def _all_information(self, open_: _Open) -> bytes:
        stamp = filetime(self.mtime_ns)
        size = 0 if open_.is_folder else len(self.files[open_.path])
        name = f"\\{open_.path}".encode("utf-16-le")
        kind = DIRECTORY if open_.is_folder else ARCHIVE
        return (
            struct.pack("<QQQQII", stamp, stamp, stamp, stamp, kind, 0)
            + struct.pack("<QQIBBH", size, size, 1, 0, open_.is_folder, 0)
            + struct.pack("<QIIQIII", 42, 0, 0, 0, 0, 0, len(name))
            + name
        )

    def _entries(self, folder: str) -> list[bytes]:
        prefix = f"{folder}\\" if folder else ""
        found: dict[str, bytes] = {}
        for number, (path, content) in enumerate(self.files.items()):
            if not path.startswith(prefix):
                continue
            name, _, below = path[len(prefix) :].partition("\\")
            found[name] = entry(
                name.encode("utf-16-le"), size=0 if below else len(content), attributes=DIRECTORY if below else ARCHIVE,
                file_id=100 + number, mtime=filetime(self.mtime_ns),
            )  # fmt: skip
        return [entry(".".encode("utf-16-le"), attributes=DIRECTORY), entry("..".encode("utf-16-le")), *found.values()]


@dataclass
class _Open:
    path: str
    is_folder: bool
    listed: bool = False


ERROR = struct.pack("<HBBI", 9, 0, 0, 0) + b"\0"


def _packed(request: Request, reply: Reply, following: int, granted: int, flags: int = 1) -> bytes:
    status, body = reply
    header = struct.pack(
        "<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, request.charge, status, request.command, granted, flags, following,
        request.message_id, 0, TREE, SESSION, bytes(16),
    )  # fmt: skip
    message = header + body
    return message + bytes(-len(message) % 8) if following else message


def _output(buffer: bytes) -> bytes:
    return struct.pack("<HHI", 9, 72, len(buffer)) + buffer


def entry(
    name: bytes,
    *,
    size: int = 0,
    attributes: int = ARCHIVE,
    file_id: int = 1,
    mtime: int = EPOCH,
    name_length: int = -1,
) -> bytes:
    """Pack one FileIdFullDirectoryInformation without its NextEntryOffset."""
    length = len(name) if name_length < 0 else name_length
    return (
        struct.pack("<IQQQQqqIIIIq", 0, mtime, mtime, mtime, mtime, size, size, attributes, length, 0, 0, file_id)
        + name
    )


def directory(entries: list[bytes]) -> bytes:
    """Chain entries made by entry()."""
    out = b""
    for index, each in enumerate(entries):
        padding = bytes(-(len(each) + 4) % 8) if index < len(entries) - 1 else b""
        following = len(each) + 4 + len(padding) if index < len(entries) - 1 else 0
        out += struct.pack("<I", following) + each + padding
    return out


class _Established:
    login_refused = False

    def __init__(self, server: HostileServer) -> None:
        self._server = server

    def run(self) -> Link:
        return self._server.link()

    def abort(self) -> None:
        """Nothing to wait for."""


QUICK = SmbLimits(stall_s=2.0, ask_s=2.0, reconnect_s=2.0, losses=2)


@contextlib.contextmanager
def hostile_source(server: HostileServer, limits: SmbLimits = QUICK) -> Iterator[SmbSource]:
    """Give a source that is already logged in to the server."""
    source = SmbSource(host="127.0.0.1", port=server.port, share="share", username="u", limits=limits)
    source._pool._establish = lambda: _Established(server)  # type: ignore[assignment,return-value]
    try:
        yield source
    finally:
        source.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.01)
