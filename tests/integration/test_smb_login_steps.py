"""How many questions a login asks, and that an answer in two parts is waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sources.smb import packets, session
from syncd.sources.smb.channel import Channel
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.scanning import list_one
from syncd.sources.smb.transport import Transport
from tests.support.smbd import SmbServer, start_smbd

LIMITS = SmbLimits(setup_s=20, ask_s=20)
INTERIM, FLAGS = 0x103, packets.FLAG_REPLY


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmbServer]:
    with start_smbd(tmp_path) as running:
        yield running


def asked_by_a_login(server: SmbServer, monkeypatch: pytest.MonkeyPatch, *, encrypt: bool) -> list[int]:
    """Log in, list the root over the link, and return one number for each message that the login sent."""
    sent: list[int] = []
    send = Transport.send

    def counted(self: Transport, header: object) -> None:
        sent.append(1)
        send(self, header)

    monkeypatch.setattr(Transport, "send", counted)
    who = session.Server(server.host, server.port, server.username, password=lambda: server.password, encrypt=encrypt)
    channel = Channel(session.Attempt(who, server.share, LIMITS).run(), LIMITS)
    with contextlib.closing(channel):
        assert channel.credits > 100
        assert list_one(channel, "", LIMITS).complete
    return sent


def test_a_login_asks_no_more_than_it_must(server: SmbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(asked_by_a_login(server, monkeypatch, encrypt=False)) == 4  # negotiate, session (two), tree


def test_a_sealed_login_asks_once_more(server: SmbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(asked_by_a_login(server, monkeypatch, encrypt=True)) == 5


def _reply(status: int, flags: int) -> bytes:
    head = packets.pack_header(packets.PLAIN_ID, 64, 0, status, packets.TREE_CONNECT, 1, FLAGS | flags, 0, 3, 0, 1, 1)
    frame = head + bytes(16) + bytes(16)
    return len(frame).to_bytes(4, "big") + frame


def test_the_last_answer_is_the_one_after_an_interim_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", listener.getsockname())
        transport = Transport([address], "a server", time.monotonic() + 20, 20)

        def serve() -> None:
            with listener.accept()[0] as sock:
                sock.sendall(_reply(INTERIM, packets.FLAG_ASYNC) + _reply(0, packets.FLAG_SIGNED) + _reply(0, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        transport.connect()
        transport.end_after_next()
        try:
            frames = [transport.recv(1), transport.recv(1), transport.recv(1)]
        finally:
            transport.close()
            thread.join()
    assert [bool(frame) for frame in frames] == [True, True, False]
    assert transport.failure is None
