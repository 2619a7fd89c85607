"""HostileServer that is also asked for changes: it keeps the requests, and answers when and what a test says."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.support.hostile_smb import ASYNC, ERROR, PENDING, HostileServer, Reply, Request, _packed

CHANGE_NOTIFY, ECHO = 15, 13


@dataclass
class Asked:
    """One CHANGE_NOTIFY that waits for its answer."""

    sock: socket.socket
    request: Request

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def tree(self) -> bool:
        return bool(self.request.body[2] & 1)


@dataclass
class NotifyingServer(HostileServer):
    """answers: whether ECHO is answered at all. interims: how often the interim reply to a CHANGE_NOTIFY is sent."""

    answers: bool = True
    interims: int = 1
    asked: list[Asked] = field(default_factory=list)
    _held: threading.Lock = field(default_factory=threading.Lock)

    def outstanding(self, path: str, *, tree: bool | None = None) -> list[Asked]:
        with self._held:
            return [each for each in self.asked if each.path == path and tree in (None, each.tree)]

    def answer(self, asked: Asked, status: int = 0, buffer: bytes = b"") -> None:
        """Give the final reply to one request."""
        body = struct.pack("<HHI", 9, 72, len(buffer)) + buffer if status == 0 else ERROR
        with self._held:
            self.asked.remove(asked)
        self._put(
            asked.sock, [_packed(asked.request, (status, body), 0, 1, flags=1 | ASYNC)], signed=self.quirks.signed
        )

    def _about_open(self, request: Request, opens: dict[bytes, Any], related: bytes) -> Reply:
        if request.command == ECHO:
            return (0, struct.pack("<HH", 4, 0))
        if request.command == CHANGE_NOTIFY:
            handle = request.body[8:24]
            found = opens.get(related if handle == b"\xff" * 16 else handle)
            request.path = found.path if found else ""
            return (PENDING, ERROR)
        return super()._about_open(request, opens, related)

    def _send(self, sock: socket.socket, messages: list[tuple[Request, Reply]]) -> None:
        at_once = [each for each in messages if each[1][0] != PENDING and (self.answers or each[0].command != ECHO)]
        if at_once:
            super()._send(sock, at_once)
        for request, reply in messages:
            if reply[0] != PENDING:
                continue
            with self._held:  # no answer before its interim reply
                self.asked.append(Asked(sock, request))
                for _ in range(self.interims):
                    self._put(sock, [_packed(request, reply, 0, 1, flags=1 | ASYNC)], signed=False)


def changes(*names: bytes | str, action: int = 1) -> bytes:
    """Pack FileNotifyInformation ([MS-FSCC] 2.7.1)."""
    out = b""
    for index, name in enumerate(names):
        raw = name.encode("utf-16-le") if isinstance(name, str) else name
        size = 12 + len(raw)
        following = (size + 3) // 4 * 4 if index < len(names) - 1 else 0
        entry = struct.pack("<III", following, action, len(raw)) + raw
        out += entry + bytes(following - size) if following else entry
    return out
