"""A real API server over a FakeService, and raw talk to it. Leaving it fails the test when it left something behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncd.client.address import SocketAddress, TcpAddress
from syncd.client.api import ApiClient
from syncd.client.errors import ApiUnreachable
from syncd.web.peers import Limits
from syncd.web.server import ApiServer
from tests.support.fake_service import FakeService

TOKEN = "open-sesame"
PATIENCE_S = 20.0
NO_DESCRIPTORS = Path("/proc/self/fd")


@dataclass
class Served:
    """A server, what it serves, and what went wrong inside of it."""

    service: FakeService
    server: ApiServer
    folder: Path
    token: str = TOKEN
    bugs: list[BaseException] = field(default_factory=list)

    @property
    def socket_path(self) -> Path:
        return self.folder / "run" / "syncd.sock"

    @property
    def port(self) -> int:
        assert self.server.port is not None
        return self.server.port

    def client(self, timeout_s: float = PATIENCE_S) -> ApiClient:
        return ApiClient(SocketAddress(self.socket_path), timeout_s)

    def tcp_client(self) -> ApiClient:
        token_file = self.folder / "token"
        token_file.write_text(self.token + "\n")
        return ApiClient(TcpAddress("127.0.0.1", self.port, token_file), PATIENCE_S)

    def connect(self, kind: str = "unix") -> socket.socket:
        """Return a raw connection; the caller closes it."""
        if kind == "tcp":
            return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(PATIENCE_S)
        made.connect(str(self.socket_path))
        return made

    def say(self, request: bytes, kind: str = "unix") -> bytes:
        """Send bytes over a new connection, and return all that comes until the server closes it."""
        with self.connect(kind) as raw:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                raw.sendall(request)
            return read_all(raw)

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None, kind: str = "unix"
    ) -> tuple[int, dict[str, str], bytes]:
        """Make one request over a new connection; return status, headers (names in lower case) and body."""
        host = f"127.0.0.1:{self.server.port}" if kind == "tcp" else "localhost"
        lines = {"Host": host, "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        return parse(self.say(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body, kind))

    def ask_tcp(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """The same over TCP with the right token, unless headers say otherwise."""
        named = {"Authorization": f"Bearer {TOKEN}"} | {n.replace("_", "-"): value for n, value in headers.items()}
        return self.ask(method, target, body, named, "tcp")

    def is_well(self) -> bool:
        """Say whether somebody new is answered at once."""
        with self.client() as api, contextlib.suppress(ApiUnreachable):
            return api.resolve("Bhushanji/there.pdf").sha256 is not None
        return False


@contextlib.contextmanager
def serving(*, tcp: bool = True, limits: Limits | None = None, hosts: tuple[str, ...] = ()) -> Iterator[Served]:
    """Serve; afterwards no thread, descriptor, listener or file of the server is left, and no bug was met."""
    before = descriptors()
    threads = set(threading.enumerate())
    with tempfile.TemporaryDirectory(prefix="api-", dir="/tmp") as folder:
        service = FakeService()
        service.hold("there.pdf", b"%PDF")
        served = Served(service, None, Path(folder))  # type: ignore[arg-type]
        served.server = ApiServer(
            service,
            served.socket_path,
            listen=("127.0.0.1", 0) if tcp else None,
            token=lambda: served.token,
            allowed_hosts=hosts,
            on_bug=served.bugs.append,
            limits=limits,
        )
        served.server.start()
        try:
            yield served
        finally:
            served.server.close()
        assert not served.socket_path.exists()
        assert served.bugs == []
        assert service.listeners == 0
    eventually(lambda: set(threading.enumerate()) <= threads, "a thread is left")
    eventually(lambda: descriptors() <= before, "a descriptor is left")


def descriptors() -> int:
    """Return how many descriptors this process has open; 0 where that cannot be told."""
    return len(os.listdir(NO_DESCRIPTORS)) if NO_DESCRIPTORS.is_dir() else 0


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds; fail with `what` when it does not for a long time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def read_all(raw: socket.socket) -> bytes:
    """Return what comes until the other end closes, orderly or not."""
    got = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(1 << 16):
            got += piece
    return bytes(got)


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take the first answer apart; status 0 when there is none."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        return 0, {}, b""
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split(" ")[1]), headers, body


def error_in(body: bytes) -> dict[str, Any]:
    """Return the error that an answer carries."""
    found: dict[str, Any] = json.loads(body)["error"]
    return found
