"""Small files in one round trip: asked for byte for byte as in parts, taken at once only when nothing can be wrong."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import SourceUnavailable
from syncd.core.model import Fingerprint, RelPath, Wanted
from syncd.ports import Failed, Fetched, Outcome, Pace
from syncd.sources.smb import packets
from syncd.sources.smb.channel import Callback, Channel, Step
from syncd.sources.smb.crypto import AES_CMAC, AES_GMAC, HMAC_SHA256, Sealer, Signer, make_signer
from syncd.sources.smb.delivering import Delivering
from syncd.sources.smb.errors import ChannelLost
from syncd.sources.smb.lane import ReadLane
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.reading import FileRead
from syncd.sources.smb.session import Link
from syncd.sources.smb.whole import ACCESS, OPTIONS, unpack_whole
from tests.support import hostile_smb
from tests.support.hostile_smb import CLOSE, CREATE, KEY, READ, SESSION, TREE, HostileServer, Quirks, Reply, Request
from tests.support.queues import ListQueue, Sinks, fetch_all

CONTENT = bytes(range(256)) * 72
NAMES = ["a", "ab.jpg", "d\\b .jpg", "d\\c\\हिन्दी, (1).JPG", "x" * 255]


class Written:
    """A socket that keeps what is sent and, asked for, gives what a test put in."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.coming = bytearray()

    def send(self, piece: bytes) -> int:
        self.sent += piece
        return len(piece)

    def recv_into(self, view: memoryview) -> int:
        if not self.coming:
            raise BlockingIOError
        count = min(len(view), len(self.coming))
        view[:count] = self.coming[:count]
        del self.coming[:count]
        return count


def channel_over(
    sock: Written, signer: Signer | None = None, *, large_mtu: bool = True, granted: int = 100, sealer: object = None
) -> Channel:
    link = Link(
        sock=cast("socket.socket", sock), where="there", dialect=0x0311, session_id=SESSION, tree_id=TREE,
        signer=signer, verifier=None, sealer=cast("Sealer | None", sealer), next_id=3, credits=granted,
        large_mtu=large_mtu, max_read=1 << 20, max_transact=1 << 20, clock_offset_ns=0,
    )  # fmt: skip
    return Channel(link, SmbLimits(bytes_in_flight=1000))


def ignore(status: int, view: memoryview, start: int, end: int) -> None:
    """Take a reply."""


def in_parts(path: str, size: int, charge: int) -> list[Step]:
    callback: Callback = ignore
    return [
        (CREATE, packets.pack_create(path, ACCESS, OPTIONS), 1, callback),
        (READ, packets.pack_read(size, 0), charge, callback),
        (CLOSE, packets.pack_close(), 1, callback),
    ]


class Taker:
    """Takes a whole file, or its replies one by one."""

    def __init__(self, size: int = 5, charge: int = 1) -> None:
        self.contents: list[bytes] = []
        self.statuses: list[int] = []
        self._size, self._charge = size, charge

    def take_whole(self, content: memoryview) -> None:
        self.contents.append(bytes(content))

    def steps(self) -> list[Step]:
        return [(command, body, charge, self._note) for command, body, charge, _ in in_parts("", 5, self._charge)]

    def _note(self, status: int, view: memoryview, start: int, end: int) -> None:
        self.statuses.append(status)


class Plainly:
    """Seals nothing, so that two channels can be compared."""

    def seal(self, message: bytes) -> bytes:
        return message[::-1]


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large_mtu", [True, False])
@pytest.mark.parametrize("signing", [None, HMAC_SHA256, AES_CMAC, AES_GMAC, "sealed"])
def test_a_whole_file_is_asked_for_exactly_as_in_parts(signing: int | str | None, large_mtu: bool) -> None:
    signer = make_signer(0x0311, signing, KEY) if isinstance(signing, int) else None
    sealer = Plainly() if signing == "sealed" else None
    for granted in (100, 9000):
        whole, parts = Written(), Written()
        one = channel_over(whole, signer, large_mtu=large_mtu, granted=granted, sealer=sealer)
        other = channel_over(parts, signer, large_mtu=large_mtu, granted=granted, sealer=sealer)
        for number, name in enumerate(NAMES):
            size = 70_000 * number + 1 if large_mtu else 100
            charge = one.charge(size)
            one.send_whole(Taker(), Fingerprint(size, 1, 1, 1), name, charge)
            other.send(in_parts(name, size, charge))
        for channel in (one, other):
            channel.flush()
        assert whole.sent == parts.sent
        assert one.credits == other.credits
        assert one.in_flight > 0


# --- replies ---------------------------------------------------------------------------------------------------------


def frame(message_id: int = 3, content: bytes = b"hello", charge: int = 1, *, signed: bool = True) -> bytes:
    """The three replies to one compound, as hostile_smb packs them."""
    stamp = hostile_smb.filetime(1_700_000_000_000_000_000)
    size, handle = len(content), bytes(16)
    created = struct.pack(
        "<HBBIQQQQQQII16sII", 89, 0, 0, 1, 0, 0, stamp, stamp, size, size, 0x20, 0, handle, 0, 0
    )  # fmt: skip
    read = struct.pack("<HBBIII", 17, 80, 0, size, 0, 0) + content
    closed = struct.pack("<HHIQQQQQQI", 60, 1, 0, 0, 0, stamp, stamp, size, size, 0x20)
    ids = (message_id, message_id + 1, message_id + 1 + charge)
    out = b""
    for command, each, body in zip((CREATE, READ, CLOSE), ids, (created, read, closed), strict=True):
        following = (64 + len(body) + 7) // 8 * 8 if command != CLOSE else 0
        request = Request(command, each, b"")
        message = hostile_smb._packed(request, (0, body), following, 1, flags=9 if signed else 1)
        out += message
    return out


AS_LISTED = Fingerprint(5, 1_700_000_000_000_000_000, 1, 1)


def test_three_good_replies_are_one_whole() -> None:
    raw = bytes(8) + frame()
    found = unpack_whole(memoryview(raw), 8, len(raw))
    assert found is not None
    message_id, charge, granted, second, third, first, last, mtime, size, signed = found
    assert (message_id, charge, granted, size, bool(signed)) == (3, 1, 3, 5, True)
    assert packets.to_ns(mtime) == AS_LISTED.mtime_ns
    assert raw[first:last] == b"hello"
    assert raw[second : second + 4] == raw[third : third + 4] == b"\xfeSMB"


GOOD = frame(content=b"x" * 37)


@given(data=st.data())
def test_whatever_is_taken_for_a_whole_is_the_same_reply_by_reply(data: st.DataObject) -> None:
    """Flips and cuts; the parser sees a longer buffer, of which the rest is not its own."""
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw))))
    view = memoryview(bytes(raw) + bytes(200))
    found = unpack_whole(view, 0, end)
    if found is None:
        return
    message_id, charge, granted, second, third, first, last, mtime, size, signed = found
    heads = [packets.unpack_header(view, at, end) for at in (0, second, third)]
    assert [(head[0], head[1]) for head in heads] == [(0, CREATE), (0, READ), (0, CLOSE)]
    assert [head[4] for head in heads] == [second, third - second, 0]
    assert [head[5] for head in heads] == [message_id, message_id + 1, message_id + 1 + charge]
    assert sum(head[2] for head in heads) == granted
    assert all(head[3] & 8 for head in heads) == bool(signed)
    opened = packets.unpack_create(view, 0, second)
    assert (opened[0], opened[2]) == (mtime, size)
    assert not opened[3] & 0x450
    assert packets.unpack_close(view, third, end) == (True, mtime, opened[1], size)
    place = packets.unpack_read(view, second, third)
    assert place == (first, last) or (first == last and place[0] == place[1])
    assert second + 64 <= first <= last <= third


@pytest.mark.parametrize(
    ("reply", "at", "keeping", "setting"),
    [
        *((reply, 16, 0xFE, 0) for reply in range(3)),  # Flags: no reply
        (1, 66, 0, 63),  # READ's DataOffset: within the header
        (2, 20, 0, 8),  # CLOSE's NextCommand
        (2, 66, 0xFE, 0),  # CLOSE's Flags: size and times were not asked for anew
    ],
)
def test_one_bit_makes_it_no_whole(reply: int, at: int, keeping: int, setting: int) -> None:
    raw = bytearray(GOOD)
    at += starts_of(GOOD)[reply]
    raw[at] = raw[at] & keeping | setting
    assert bytes(raw) != GOOD
    assert unpack_whole(memoryview(raw), 0, len(raw)) is None


@pytest.mark.parametrize("reply", range(3))
def test_three_replies_are_signed_when_each_says_so(reply: int) -> None:
    raw = bytearray(GOOD)
    raw[starts_of(GOOD)[reply] + 16] &= ~8
    found = unpack_whole(memoryview(raw), 0, len(raw))
    assert found is not None
    assert not found[-1]


def starts_of(raw: bytes) -> tuple[int, int, int]:
    found = unpack_whole(memoryview(raw), 0, len(raw))
    assert found is not None
    return 0, found[3], found[4]


def test_arbitrary_bytes_are_no_whole() -> None:
    for size in (0, 10, 300, 5000):
        assert unpack_whole(memoryview(b"\xfeSMB@\0" + bytes(size)), 0, 6 + size) is None


def framed(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def test_replies_that_come_otherwise_are_taken_one_by_one_and_the_others_too() -> None:
    """The second file's come alone and with an error; the third's whole, after all are waited for one by one."""
    sock = Written()
    channel = channel_over(sock)
    takers = [Taker() for _ in range(4)]
    for taker in takers:
        channel.send_whole(taker, AS_LISTED, "name", 1)
    single = hostile_smb._packed(Request(CREATE, 6, b""), (0xC0000022, hostile_smb.ERROR), 0, 1)
    sock.coming += framed(frame(3)) + framed(single)
    assert channel.receive(0)
    assert takers[0].contents == [b"hello"]
    assert takers[1].statuses == [0xC0000022]
    assert channel.in_flight == 8
    sock.coming += framed(frame(9)) + framed(frame(12, b"other"))
    assert channel.receive(0)
    assert [taker.statuses for taker in takers[2:]] == [[0, 0, 0], [0, 0, 0]]
    channel.send_whole(takers[0], AS_LISTED, "name", 1)
    sock.coming += framed(frame(15, b"again"))
    assert channel.receive(0)
    assert takers[0].contents == [b"hello", b"again"]
    assert channel.in_flight == 2, "READ and CLOSE of the second file"


def test_a_whole_brings_back_the_credits_that_it_took_and_no_more_count_as_granted() -> None:
    sock = Written()
    channel = channel_over(sock)
    channel.send_whole(Taker(), AS_LISTED, "name", 1)
    assert channel.credits == 97
    sock.coming += framed(frame(3))
    assert channel.receive(0)
    assert (channel.credits, channel.most_credits, channel.in_flight) == (100, 100, 0)


def test_a_close_reply_of_another_message_is_none_of_the_files() -> None:
    sock, taker = Written(), Taker()
    channel = channel_over(sock)
    channel.send_whole(taker, AS_LISTED, "name", 1)
    raw = bytearray(frame(3))
    raw[starts_of(bytes(raw))[2] + 24] += 1
    sock.coming += framed(bytes(raw))
    with pytest.raises(ChannelLost, match="nobody asked for"):
        channel.receive(0)
    assert taker.contents == []


@pytest.mark.parametrize(
    "other", [Fingerprint(6, 1_700_000_000_000_000_000, 1, 1), Fingerprint(5, 1_700_000_000_000_000_100, 1, 1)]
)
def test_a_file_that_is_not_as_listed_is_no_whole(other: Fingerprint) -> None:
    sock, taker = Written(), Taker()
    channel = channel_over(sock)
    channel.send_whole(taker, other, "name", 1)
    sock.coming += framed(frame(3))
    assert channel.receive(0)
    assert (taker.contents, taker.statuses) == ([], [0, 0, 0])


def test_a_whole_that_is_left_out_while_later_ones_come_ends_the_connection() -> None:
    sock = Written()
    channel = channel_over(sock)
    content = bytes(30_000)
    for _ in range(2):
        channel.send_whole(Taker(), Fingerprint(len(content), AS_LISTED.mtime_ns, 1, 1), "name", 1)
    sock.coming += framed(frame(6, content))
    with pytest.raises(ChannelLost, match="leaves one out"):
        channel.receive(0)


def test_answered_twice_or_never_asked_for_ends_the_connection() -> None:
    for twice in ([3, 3], [4], [6]):
        sock = Written()
        channel = channel_over(sock)
        channel.send_whole(Taker(), AS_LISTED, "name", 1)
        sock.coming += b"".join(framed(frame(each)) for each in twice)
        with pytest.raises(ChannelLost, match="nobody asked for"):
            channel.receive(0)


class Paced:
    """A rate that lets `most` bytes pass at once, and notes what is charged."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.charged: list[int] = []

    def piece(self, most: int) -> int:
        return min(most, self.most)

    def wait_s(self) -> float:
        return 0.0

    def charge(self, size: int) -> None:
        self.charged.append(size)


@pytest.mark.parametrize(("granted", "most", "at_once"), [(4, 1 << 20, True), (3, 1 << 20, False), (4, 90_000, False)])
def test_a_small_file_waits_for_credits_and_is_within_the_pace(granted: int, most: int, at_once: bool) -> None:
    channel, pace = channel_over(Written(), granted=granted), Paced(most)
    lane = ReadLane(channel, SmbLimits(), cast("Delivering", SimpleNamespace(owed=0)), cast("Pace", pace))
    file = FileRead(Wanted(RelPath("a"), AS_LISTED._replace(size=100_000)), "a", lambda _: pytest.fail("no reply yet"))
    lane.try_start(file)
    assert (len(channel._wholes) == 1) is at_once
    assert channel.credits >= 0
    assert sum(pace.charged) <= most
    assert pace.charged == [100_000] or not at_once


# --- a server that lies ----------------------------------------------------------------------------------------------


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that were taken at once."""
    paths: list[str] = []
    honest = FileRead.take_whole

    def noting(file: FileRead, content: memoryview) -> None:
        paths.append(file.wanted.path)
        honest(file, content)

    monkeypatch.setattr(FileRead, "take_whole", noting)
    return paths


def wanted(server: HostileServer, path: str) -> Wanted:
    size = len(server.files[path])
    return Wanted(RelPath(path), Fingerprint(size, server.mtime_ns, server.mtime_ns, 1))


@pytest.mark.parametrize("quirks", [Quirks(), Quirks(sealed=True)], ids=str)
def test_honest_replies_to_small_files_are_taken_at_once(quirks: Quirks, taken: list[str]) -> None:
    files = {f"{number}.jpg": CONTENT * (number % 5) for number in range(60)} | {"large": CONTENT * 20}
    server = HostileServer(dict(files), quirks)
    with server, hostile_smb.hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, [wanted(server, path) for path in files])
        assert all(isinstance(each, Fetched) for each in outcomes.values())
        assert {path: sinks.content(path) for path in files} == files
        assert sorted(taken) == sorted(path for path in files if 0 < len(files[path]) < 1 << 18)


class HalfSigned(HostileServer):
    """Leaves the signature out of one reply of a compound, or puts a wrong one there."""

    def spare(self, command: int, *, flag: bool) -> None:
        self.command, self.flag = command, flag

    def _put(self, sock: socket.socket, messages: list[bytes], *, signed: bool) -> None:
        out = []
        for message in messages:
            command = message[12]
            if command != self.command or self.flag:
                message = message[:16] + struct.pack("<I", message[16] | 8) + message[20:]
                signature = hostile_smb._server_mac(message, struct.unpack_from("<Q", message, 24)[0])
                if command == self.command:
                    signature = bytes([signature[0] ^ 1]) + signature[1:]
                message = message[:48] + signature + message[64:]
            out.append(message)
        sock.sendall(framed(b"".join(out)))


BODIES = {CREATE: 88, READ: 16, CLOSE: 60}


class Damaging:
    """Changes one byte of one body, and a status with the last of them."""

    def __init__(self) -> None:
        self.command = self.at = 0

    def __call__(self, request: Request, reply: Reply) -> Reply:
        if request.command != self.command:
            return reply
        body = bytearray(reply[1])
        if self.at >= BODIES[self.command]:
            return 0xC0000022, hostile_smb.ERROR
        body[self.at] ^= 0xFF
        return reply[0], bytes(body)


def told(server: HostileServer) -> tuple[str, bytes]:
    """What a fetch of the only file ends as, and what was delivered."""
    with hostile_smb.hostile_source(server) as source:
        sinks = Sinks()
        try:
            (outcome,) = source.fetch(ListQueue([wanted(server, "f")]), sinks)
        except SourceUnavailable as exc:
            return exc.message.replace(str(server.port), "PORT"), b""
        return _shown(outcome).replace(str(server.port), "PORT"), sinks.content("f") if isinstance(
            outcome, Fetched
        ) else b""


def _shown(outcome: Outcome) -> str:
    return outcome.error.message if isinstance(outcome, Failed) else "fetched"


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("command", [CREATE, READ, CLOSE])
def test_one_bad_signature_of_three_ends_the_session_and_nothing_is_fetched(command: int, flag: bool) -> None:
    server = HalfSigned({"f": CONTENT})
    server.spare(command, flag=flag)
    with server:
        message, content = told(server)
        assert ("a wrong signature" if flag else "without a signature") in message
        assert content == b""
        assert server.connections > 1


@pytest.mark.parametrize("command", [CREATE, READ, CLOSE])
def test_each_wrong_byte_is_told_as_if_its_reply_had_come_alone(command: int) -> None:
    damaging = Damaging()
    damaging.command = command
    whole = HostileServer({"f": CONTENT}, spoil=damaging)
    alone = HostileServer({"f": CONTENT}, Quirks(split=True), spoil=damaging)
    with whole, alone:
        for at in _places(command):
            damaging.at = at
            assert told(whole) == told(alone), at


def _places(command: int) -> Iterator[int]:
    """Every third byte of the long bodies, all of READ's, and the status."""
    yield from range(0, BODIES[command] + 1, 1 if command == READ else 3)
    yield BODIES[command]
