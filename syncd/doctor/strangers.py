"""Whose port is this? Asked when a server does not speak what it was expected to: names the service that answers.

Bounded: three short connections at most, and a few kilobytes read. What is sent is harmless to every one of them: a
request for a page, and MongoDB's question "who are you".
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from syncd.core.paths import printable

CONNECT_S = 1.5
GREETING_S = 0.7
ANSWER_S = 1.5
_BYTES = 8192
_PAGE = b"GET /info HTTP/1.0\r\nHost: localhost\r\n\r\n"
_REQUEST_ID = 0x51
_OP_MSG, _OP_REPLY = 2013, 1
_BAD_PROTOCOL = b"E_BAD_PROTOCOL"


class Kind(Enum):
    """What a port turned out to be."""

    NSQD = "nsqd"
    NSQD_HTTP = "nsqd's HTTP port"
    LOOKUPD = "nsqlookupd's TCP port"
    LOOKUPD_HTTP = "nsqlookupd's HTTP port"
    MONGODB = "a MongoDB server"
    SSH = "an SSH server"
    SMB = "an SMB server"
    TLS = "a server that speaks TLS only"
    HTTP = "an HTTP server"
    OTHER = "another kind of server"
    CLOSES = "nobody: connections are closed without a word"
    SILENT = "nobody: connections are taken, and nothing is answered"


class Stranger(NamedTuple):
    """Who answers. said: its first words, for people. tcp_port: of an nsqd that told it on its HTTP port, else 0."""

    kind: Kind
    said: str = ""
    tcp_port: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.said})" if self.said else self.kind.value


def identify(host: str, port: int) -> Stranger:
    """Say who listens there."""
    closed = False
    for question in (_PAGE, _hello()):
        said = _ask(host, port, question)
        if said:
            return recognise(said)
        closed = closed or said is not None
    return Stranger(Kind.CLOSES if closed else Kind.SILENT)


def recognise(said: bytes) -> Stranger:
    """Name a service by what it says first, or in answer to one of our questions."""
    for matches, name in _SIGNS:
        if matches(said):
            return name(said)
    line = printable(said.splitlines()[0][:60].decode("ascii", "replace").strip())
    return Stranger(Kind.OTHER, f'it says "{line}"')


def _ask(host: str, port: int, question: bytes) -> bytes | None:
    """Return what is said on a connection, before or after a question; None when nothing came in time."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S) as end:
            said = _hear(end, GREETING_S, whole=False)
            if said is None:
                end.sendall(question)
                said = _hear(end, ANSWER_S, whole=True)
            return said
    except TimeoutError:
        return None
    except OSError:
        return b""


def _hear(end: socket.socket, limit_s: float, *, whole: bool) -> bytes | None:
    """Read to the end or for `limit_s`, one piece unless `whole`; None when nothing came, b"" when it was closed."""
    until = time.monotonic() + limit_s
    heard = b""
    while len(heard) < _BYTES:
        end.settimeout(max(until - time.monotonic(), 0.01))
        try:
            piece = end.recv(_BYTES)
        except TimeoutError:
            return heard or None
        heard += piece
        if not piece or not whole or _complete(heard):
            break
    return heard


def _complete(heard: bytes) -> bool:
    """Say whether a binary answer is whole; a page ends with its connection."""
    return not heard.startswith(b"HTTP/") and len(heard) >= 4 + len(_BAD_PROTOCOL)


def _is_mongo(said: bytes) -> bool:
    if len(said) < 16:
        return False
    _, _, answers, code = struct.unpack_from("<iiii", said)
    return answers == _REQUEST_ID and code in (_OP_MSG, _OP_REPLY)


def _page(said: bytes) -> Stranger:
    """Tell HTTP servers apart: nsqd and nsqlookupd describe themselves at /info; mongod explains what it is."""
    head, _, body = said.partition(b"\r\n\r\n")
    if b"MongoDB" in body:
        return Stranger(Kind.MONGODB)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and "version" in told:
        version = printable(str(told["version"])[:20])
        if isinstance(told.get("tcp_port"), int):
            return Stranger(Kind.NSQD_HTTP, f"version {version}", told["tcp_port"])
        return Stranger(Kind.LOOKUPD_HTTP, f"version {version}")
    status = head.splitlines()[0][:40].decode("ascii", "replace")
    return Stranger(Kind.HTTP, f'it says "{printable(status)}"')


def _ssh(said: bytes) -> Stranger:
    return Stranger(Kind.SSH, printable(said.splitlines()[0][:60].decode("ascii", "replace")))


_SIGNS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Stranger]], ...] = (
    (lambda said: said.startswith(b"SSH-"), _ssh),
    (lambda said: said.startswith(b"HTTP/"), _page),
    # nsqd sends the error as a frame (size, type, text); nsqlookupd only size and text
    (lambda said: said[8:].startswith(_BAD_PROTOCOL), lambda _: Stranger(Kind.NSQD)),
    (lambda said: said[4:].startswith(_BAD_PROTOCOL), lambda _: Stranger(Kind.LOOKUPD)),
    (lambda said: said.startswith(struct.pack(">ii", 18, 1)), lambda _: Stranger(Kind.NSQD)),
    (lambda said: said[4:8] in (b"\xfeSMB", b"\xffSMB"), lambda _: Stranger(Kind.SMB)),
    (lambda said: said[:2] == b"\x15\x03", lambda _: Stranger(Kind.TLS)),
    (_is_mongo, lambda _: Stranger(Kind.MONGODB)),
)


def _hello() -> bytes:
    """Return MongoDB's `hello` for database admin. Source: MongoDB wire protocol (OP_MSG), BSON spec 1.1."""
    document = b"\x10hello\0" + struct.pack("<i", 1) + b"\x02$db\0" + struct.pack("<i", 6) + b"admin\0"
    body = struct.pack("<i", len(document) + 5) + document + b"\0"
    return struct.pack("<iiiiIb", 16 + 4 + 1 + len(body), _REQUEST_ID, 0, _OP_MSG, 0, 0) + body
