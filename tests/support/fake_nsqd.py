"""An nsqd that speaks just enough of the protocol to be wrong on purpose: one answer a publish, from a script.

with FakeNsqd("ok", "error-then-ok", "garbage") as server:
    NsqPublisher([server.address])
    server.accepted             # bodies to which it said OK first
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Self

OK = struct.pack(">ii", 6, 0) + b"OK"

ANSWERS = {
    "ok": OK,
    "error": struct.pack(">ii", 4 + 12, 1) + b"E_BAD_TOPIC ",
    "error-then-ok": struct.pack(">ii", 4 + 13, 1) + b"E_MPUB_FAILED" + OK,
    "two-oks": OK + OK,
    "other-text": struct.pack(">ii", 4 + 10, 0) + b"CLOSE_WAIT",
    "message": struct.pack(">iiqH16s", 4 + 26, 2, 0, 1, b"m" * 16),
    "garbage": b"HTTP/1.0 400 Bad Request\r\n\r\n",
    "huge-frame": struct.pack(">ii", 0x7FFFFFFF, 0) + b"x" * 1000,
    "negative-frame": struct.pack(">ii", -8, 0) + b"x" * 64,
    "short-frame": struct.pack(">i", 2) + b"OK",
    "unknown-frame": struct.pack(">ii", 6, 77) + b"OK",
    "truncated": OK[:7],
    "truncated-length": OK[:3],
    "close": b"",
    "reset": b"",
    "silence": b"",
}
ENDING = ("truncated", "truncated-length", "close", "reset")
"""After these the connection is ended."""


class FakeNsqd:
    """Listens on a free port of 127.0.0.1. After the script's last answer all are right.

    identify: how IDENTIFY is answered, by the same names ("ok": as nsqd does).
    """

    def __init__(self, *answers: str, identify: str = "right") -> None:
        self.accepted: list[bytes] = []
        self.received: list[list[bytes]] = []
        self.connections = 0
        self._answers = list(answers)
        self._identify = identify
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, name="fake-nsqd", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()[:2]
        return host, port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._talk, args=(client,), name="fake-nsqd-client", daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError), client.makefile("rb") as stream:
            stream.read(4)
            while line := stream.readline(10_000):
                self._command(client, stream, line.strip().decode())
        client.close()

    def _command(self, client: socket.socket, stream, line: str) -> None:
        word = line.split(" ")[0]
        if word == "IDENTIFY":
            stream.read(struct.unpack(">i", stream.read(4))[0])
            self._answer(client, self._identify)
        elif word == "MPUB":
            body = stream.read(struct.unpack(">i", stream.read(4))[0])
            bodies = _split(body)
            answer = self._answers.pop(0) if self._answers else "ok"
            self.received.append(bodies)
            if answer in ("ok", "two-oks"):
                self.accepted += bodies
            self._answer(client, answer)

    def _answer(self, client: socket.socket, answer: str) -> None:
        if answer == "right":
            body = json.dumps({"max_rdy_count": 2500, "version": "1.3.0"}).encode()
            client.sendall(struct.pack(">ii", 4 + len(body), 0) + body)
            return
        client.sendall(ANSWERS[answer])
        if answer == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer in ENDING:
            if answer != "reset":
                client.shutdown(socket.SHUT_RDWR)
            client.close()
            raise EOFError


def _split(body: bytes) -> list[bytes]:
    """Return the messages of an MPUB."""
    (count,) = struct.unpack_from(">i", body)
    bodies, at = [], 4
    for _ in range(count):
        (size,) = struct.unpack_from(">i", body, at)
        bodies.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return bodies
