"""An SFTP server that answers as a test tells it to, over paramiko's server side; honest where it is told nothing.

    with HostileSftp({"/root/a.jpg": b"..."}) as server:
        server.misbehave = lambda request, honest: [] if request.kind == READ else honest
        SftpSource(host=server.host, port=server.port, username=server.username, password=lambda: server.password, ...)

The password is made at run time. Folders follow from the files' paths.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import paramiko

from syncd.sources.sftp import wire
from tests.support.sshd import write_key

MTIME_S = 1_600_000_000
FOLDER_MODE = stat.S_IFDIR | 0o755
FILE_MODE = stat.S_IFREG | 0o644


class Request(NamedTuple):
    """One request of the client: its type, its id, the rest, and the path it is about ("" where it has none)."""

    kind: int
    number: int
    body: bytes
    path: str


Misbehave = Callable[[Request, list[bytes]], list[bytes]]
"""Gets a request and the honest answer to it (whole packets); returns what is sent instead."""


def packet(kind: int, number: int, body: bytes = b"") -> bytes:
    """Return a whole reply as it goes over the wire."""
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def status(number: int, code: int, message: bytes = b"as told") -> bytes:
    return packet(wire.STATUS, number, struct.pack(">I", code) + wire.string(message) + wire.string(b"en"))


def attributes(size: int, mode: int, mtime_s: int = MTIME_S) -> bytes:
    return struct.pack(">IQIII", 1 | 4 | 8, size, mode, mtime_s, mtime_s)


def names(number: int, entries: list[tuple[bytes, bytes]]) -> bytes:
    """Return a NAME reply with these (name, attributes)."""
    body = b"".join(wire.string(name) + wire.string(b"") + packed for name, packed in entries)
    return packet(wire.NAME, number, struct.pack(">I", len(entries)) + body)


class HostileSftp:
    """Serves `files` (absolute path -> content) on a free loopback port."""

    def __init__(self, files: dict[str, bytes], directory: Path) -> None:
        self.files = files
        self.host = "127.0.0.1"
        self.username = "tester"
        self.password = secrets.token_urlsafe(18)
        self.logins: list[bool] = []
        self.misbehave: Misbehave = lambda _, honest: honest
        self.open_handles: dict[bytes, str] = {}
        self.sessions = 0
        self._next_handle = 0
        self._listed: set[bytes] = set()
        self._key_file = directory / "hostile_host_key"
        public = write_key(self._key_file)
        self._listener = socket.create_server((self.host, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.known_hosts_file = directory / "hostile_known_hosts"
        self.known_hosts_file.write_text(f"[{self.host}]:{self.port} {public}\n")
        self._transports: list[paramiko.Transport] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self._transports:
            transport.close()
        for thread in self._threads:
            thread.join(10)

    def drop_connections(self) -> None:
        for transport in self._transports:
            transport.close()

    def _run(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(end)
            transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(self._key_file)))
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(event=threading.Event(), server=_Door(self))

    def serve(self, channel: paramiko.Channel) -> None:
        """Answer one SFTP session until it ends."""
        self.sessions += 1
        with contextlib.suppress(OSError, EOFError, struct.error, paramiko.SSHException):
            while True:
                (length,) = struct.unpack(">I", _exactly(channel, 4))
                body = _exactly(channel, length)
                request = self._parse(body)
                with self._lock:
                    honest = self._answer(request)
                for piece in self.misbehave(request, honest):
                    channel.sendall(piece)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.close()

    def _parse(self, body: bytes) -> Request:
        kind, (number,), rest = body[0], struct.unpack_from(">I", body, 1), body[5:]
        path = ""
        if kind in (wire.STAT, wire.LSTAT, wire.OPEN, wire.OPENDIR):
            path = rest[4 : 4 + struct.unpack_from(">I", rest)[0]].decode()
        elif kind in (wire.FSTAT, wire.READ, wire.READDIR, wire.CLOSE):
            path = self.open_handles.get(rest[4 : 4 + struct.unpack_from(">I", rest)[0]], "")
        return Request(kind, number, rest, path)

    def _answer(self, request: Request) -> list[bytes]:
        number = request.number
        match request.kind:
            case wire.INIT:
                return [struct.pack(">IBI", 5, wire.VERSION, 3)]
            case wire.STAT | wire.LSTAT | wire.FSTAT:
                found = self._attributes(request.path)
                return [packet(wire.ATTRS, number, found) if found else status(number, wire.NO_SUCH_FILE)]
            case wire.OPEN | wire.OPENDIR:
                if self._attributes(request.path) is None:
                    return [status(number, wire.NO_SUCH_FILE)]
                self._next_handle += 1
                handle = f"{'d' if request.kind == wire.OPENDIR else 'f'}{self._next_handle}".encode()
                self.open_handles[handle] = request.path
                return [packet(wire.HANDLE, number, wire.string(handle))]
            case wire.READ:
                return [self._read(request)]
            case wire.READDIR:
                return [self._names(request)]
            case wire.CLOSE:
                self.open_handles.pop(request.body[4:], None)
                return [status(number, wire.OK)]
            case _:
                return [status(number, 8)]

    def _attributes(self, path: str) -> bytes | None:
        if path in self.files:
            return attributes(len(self.files[path]), FILE_MODE)
        inside = any(each.startswith(path.rstrip("/") + "/") for each in self.files)
        return attributes(4096, FOLDER_MODE) if inside else None

    def _read(self, request: Request) -> bytes:
        offset, count = struct.unpack(">QI", request.body[-12:])
        piece = self.files[request.path][offset : offset + count]
        return packet(wire.DATA, request.number, wire.string(piece)) if piece else status(request.number, wire.EOF)

    def _names(self, request: Request) -> bytes:
        """List everything at the first READDIR of a handle; then the end."""
        handle = request.body[4:]
        if handle in self._listed:
            return status(request.number, wire.EOF)
        self._listed.add(handle)
        prefix = request.path.rstrip("/") + "/"
        found = sorted({each[len(prefix) :].split("/")[0] for each in self.files if each.startswith(prefix)})
        return names(request.number, [(each.encode(), self._attributes(prefix + each) or b"") for each in found])


class _Door(paramiko.ServerInterface):
    """Lets in who knows the password; counts the attempts."""

    def __init__(self, server: HostileSftp) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        good = username == self._server.username and secrets.compare_digest(password, self._server.password)
        self._server.logins.append(good)
        return paramiko.common.AUTH_SUCCESSFUL if good else paramiko.common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self._server._run(self._server.serve, channel)
        return True


def _exactly(channel: paramiko.Channel, count: int) -> bytes:
    pieces = []
    while count:
        piece = channel.recv(count)
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
