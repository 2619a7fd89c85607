"""SFTP packets and the pipelined session, over a pipe that a test scripts."""

from __future__ import annotations

import struct

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import EntryDenied, EntryGone, EntryUnreadable
from syncd.core.model import Fingerprint, Kind
from syncd.sources.sftp import connecting, wire
from syncd.sources.sftp.wire import Attributes, Reply, Session, SessionLost
from syncd.sources.sftp.work import entry_error


def packet(kind: int, number: int, body: bytes = b"") -> bytes:
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def version(*extensions: bytes) -> bytes:
    return packet(wire.VERSION, 3, b"".join(map(wire.string, extensions)))


class ScriptedPipe:
    """Gives the scripted pieces; keeps what was sent. An empty script is silence."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.sent = b""
        self.closed = False

    def sendall(self, s: bytes) -> None:
        self.sent += s

    def recv(self, nbytes: int) -> bytes:
        if not self.pieces:
            raise TimeoutError
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def settimeout(self, timeout: float | None) -> None:
        assert timeout is not None

    def close(self) -> None:
        self.closed = True


def started(*pieces: bytes | Exception) -> tuple[Session, ScriptedPipe]:
    pipe = ScriptedPipe(version(), *pieces)
    return Session(pipe, stall_s=0.01), pipe


# --- greeting --------------------------------------------------------------------------------------------------------


def test_the_greeting_asks_for_version_3() -> None:
    session, pipe = started()
    assert pipe.sent == struct.pack(">IBI", 5, wire.INIT, 3)
    assert session.read_bytes == wire.READ_BYTES_MIN


@pytest.mark.parametrize(
    ("told", "used"),
    [(261_120, 261_120), (0, wire.READ_BYTES_MAX), (1, wire.READ_BYTES_MIN), (1 << 62, wire.READ_BYTES_MAX)],
)
def test_a_server_that_knows_limits_is_asked_for_its_longest_read(told: int, used: int) -> None:
    limits = packet(wire.EXTENDED_REPLY, 4, struct.pack(">QQQQ", 262_144, told, 1, 1))
    pipe = ScriptedPipe(version(b"posix-rename@openssh.com", b"1", b"limits@openssh.com", b"1"), limits)
    assert Session(pipe, stall_s=1).read_bytes == used


def test_a_server_that_refuses_its_own_limits_is_read_in_small_pieces() -> None:
    refusal = packet(wire.STATUS, 4, struct.pack(">I", 8))
    session = Session(ScriptedPipe(version(b"limits@openssh.com", b"1"), refusal), stall_s=1)
    assert session.read_bytes == wire.READ_BYTES_MIN


@pytest.mark.parametrize(
    "greeting",
    [
        packet(wire.STATUS, 3),
        packet(wire.VERSION, 6),
        packet(wire.VERSION, 3, b"\0\0\0\x09short"),
        b"SSH-2.0-nothing\r\n",
        b"",
        ConnectionResetError("reset"),
    ],
)
def test_a_wrong_greeting_ends_the_session(greeting: bytes | Exception) -> None:
    with pytest.raises(SessionLost):
        Session(ScriptedPipe(greeting), stall_s=0.01)


def test_no_greeting_at_all_ends_after_the_stall() -> None:
    with pytest.raises(SessionLost, match="did not answer"):
        Session(ScriptedPipe(), stall_s=0.001)


# --- requests and replies --------------------------------------------------------------------------------------------


def test_requests_are_sent_together_and_replies_find_who_asked() -> None:
    session, pipe = started(packet(wire.STATUS, 5, b"second") + packet(wire.STATUS, 4, b"first"))
    pipe.sent = b""
    got: list[tuple[str, bytes]] = []
    session.ask(wire.LSTAT, wire.string(b"/a"), lambda reply: got.append(("a", bytes(reply.body))))
    session.ask(wire.LSTAT, wire.string(b"/b"), lambda reply: got.append(("b", bytes(reply.body))))
    assert pipe.sent == b""
    assert session.outstanding == 2
    session.pump(1)
    assert pipe.sent == packet(wire.LSTAT, 4, wire.string(b"/a")) + packet(wire.LSTAT, 5, wire.string(b"/b"))
    assert got == [("b", b"second"), ("a", b"first")]
    assert session.outstanding == 0


@given(cuts=st.lists(st.integers(1, 400), max_size=20), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_replies_are_the_same_however_the_stream_is_cut(cuts: list[int], sizes: list[int]) -> None:
    bodies = [bytes([index]) * size for index, size in enumerate(sizes)]
    stream = b"".join(packet(wire.DATA, 4 + index, body) for index, body in enumerate(bodies))
    pieces, at = [], 0
    for cut in [*cuts, len(stream)]:
        if at < len(stream):
            pieces.append(stream[at : at + cut])
            at += cut
    if at < len(stream):
        pieces.append(stream[at:])
    session, _ = started(*pieces)
    got: list[bytes] = []
    for _ in bodies:
        session.ask(wire.READ, b"", lambda reply: got.append(bytes(reply.body)))
    session.drain()
    assert got == bodies


@given(garbage=st.binary(min_size=1, max_size=3000))
def test_garbage_is_a_lost_session_or_waits_for_more_but_never_anything_else(garbage: bytes) -> None:
    session, _ = started(garbage)
    session.ask(wire.READDIR, b"", lambda reply: wire.parse_names(reply))
    with pytest.raises(SessionLost):
        session.drain()


def test_one_request_without_an_answer_among_very_many_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "UNANSWERED_MAX", 50)
    session, pipe = started()
    session.ask(wire.LSTAT, b"", lambda _: None)
    with pytest.raises(SessionLost, match="without an answer"):
        for number in range(5, 200):
            session.ask(wire.LSTAT, b"", lambda _: None)
            pipe.pieces.append(packet(wire.STATUS, number))
            session.pump(1)


def test_a_stall_counts_only_while_something_is_owed() -> None:
    session, pipe = started()
    for _ in range(5):
        session.pump(1)
    session._silent_s = 0
    session.ask(wire.LSTAT, b"", lambda _: None)
    session._stall_s = 1e-9
    with pytest.raises(SessionLost, match="did not answer"):
        session.pump(1)
    session.close()
    assert pipe.closed


# --- parsing ---------------------------------------------------------------------------------------------------------


def reply(kind: int, body: bytes) -> Reply:
    return Reply(kind, memoryview(body))


def test_attributes_have_only_the_fields_their_flags_name() -> None:
    everything = struct.pack(">IQIIIII", 0x8000_000F, 7, 1, 2, 0o100644, 10, 20)
    everything += struct.pack(">I", 1) + wire.string(b"name") + wire.string(b"value")
    assert wire.parse_attributes(reply(wire.ATTRS, everything)) == Attributes(7, 0o100644, 20)
    assert wire.parse_attributes(reply(wire.ATTRS, bytes(4))) == Attributes(None, None, None)
    assert wire.parse_attributes(reply(wire.ATTRS, struct.pack(">III", 4, 0o40755, 0))) == Attributes(
        None, 0o40755, None
    )


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (0o100644, Kind.FILE),
        (0o40755, Kind.DIRECTORY),
        (0o120777, Kind.OTHER),
        (0o10644, Kind.OTHER),
        (None, Kind.OTHER),
    ],
)
def test_kinds(mode: int | None, kind: Kind) -> None:
    assert Attributes(1, mode, 1).kind is kind


def test_times_are_unsigned_seconds() -> None:
    assert Attributes(5, 0, 0xFFFF_FFFF).fingerprint == Fingerprint(5, 0xFFFF_FFFF * 10**9, 0, 0)
    assert Attributes(None, 0, 1).fingerprint is None
    assert Attributes(1, 0, None).fingerprint is None


@pytest.mark.parametrize(
    ("code", "error"),
    [(2, EntryGone), (3, EntryDenied), (1, EntryUnreadable), (4, EntryUnreadable), (8, EntryUnreadable)],
)
def test_the_table_of_status_codes(code: int, error: type[Exception]) -> None:
    said = entry_error(reply(wire.STATUS, struct.pack(">I", code) + wire.string(b"because\nof this")), "a/b.jpg")
    assert isinstance(said, error)
    assert "a/b.jpg" in said.message
    assert "\n" not in said.message


@pytest.mark.parametrize("code", [6, 7])
def test_a_server_that_lost_its_own_backend_is_a_lost_session(code: int) -> None:
    with pytest.raises(SessionLost):
        entry_error(reply(wire.STATUS, struct.pack(">I", code)), "x")


@pytest.mark.parametrize("error", [EOFError(), paramiko.SSHException("Key-exchange timed out")])
def test_what_breaks_while_a_channel_receives_is_a_lost_connection(error: Exception) -> None:
    class Broken:
        def settimeout(self, timeout: float | None) -> None:
            pass

        def recv(self, nbytes: int) -> bytes:
            raise error

    pipe = connecting._ChannelPipe(Broken())  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        pipe.recv(1)
