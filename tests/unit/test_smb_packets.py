"""Layouts against byte vectors written out from [MS-SMB2] and [MS-FSCC]; hostile bytes against every parser."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Kind
from syncd.sources.smb import packets, rpc
from syncd.sources.smb.packets import ProtocolError
from tests.support import hostile_smb, hostile_watch

EPOCH = 116444736000000000


def reply(command: int, body: bytes, *, flags: int = 1, following: int = 0) -> memoryview:
    """A reply header as the specification draws it, field by field, and a body."""
    header = b"".join(
        [
            b"\xfeSMB",
            (64).to_bytes(2, "little"),
            (1).to_bytes(2, "little"),  # credit charge
            (0).to_bytes(4, "little"),  # status
            command.to_bytes(2, "little"),
            (33).to_bytes(2, "little"),  # credits granted
            flags.to_bytes(4, "little"),
            following.to_bytes(4, "little"),
            (0x0102030405060708).to_bytes(8, "little"),
            bytes(4),
            (9).to_bytes(4, "little"),
            (10).to_bytes(8, "little"),
            bytes(16),
        ]
    )
    return memoryview(bytearray(header + body))


# --- requests --------------------------------------------------------------------------------------------------------


def test_request_header_is_laid_out_as_in_2_2_1_2() -> None:
    packed = packets.pack_header(b"\xfeSMB", 64, 3, 0, packets.READ, 40, 0xC, 120, 0x1122, 0xFEFF, 0x33, 0x44)
    assert packed == bytes.fromhex(
        "fe534d42 4000 0300 00000000 0800 2800 0c000000 78000000 2211000000000000 fffe0000 33000000 4400000000000000"
    )
    assert len(packed) == packets.SIGNATURE_AT


def test_create_asks_for_little_and_shares_everything() -> None:
    packed = packets.pack_create("a\\b", 0x81, 0x200040)
    assert packed == bytes.fromhex(
        "3900 00 00 02000000 0000000000000000 0000000000000000 81000000 00000000 07000000 01000000 40002000"
        "7800 0600 00000000 00000000 6100 5c00 6200"
    )
    assert len(packets.pack_create("", 0x81, 1)) == 57  # a root has no name, yet the structure's odd byte


def test_read_close_and_queries_are_laid_out_as_specified() -> None:
    handle = bytes(range(16))
    assert packets.pack_read(0x10000, 0x0102030405, handle) == bytes.fromhex(
        "3100 00 00 00000100 0504030201000000 000102030405060708090a0b0c0d0e0f 00000000 00000000 00000000 0000 0000 00"
    )
    assert packets.pack_close(handle) == bytes.fromhex("1800 0100 00000000 000102030405060708090a0b0c0d0e0f")
    assert packets.pack_query_directory(0x20000) == bytes.fromhex("2100 26 00 00000000") + b"\xff" * 16 + bytes.fromhex(
        "6000 0200 00000200 2a00"
    )
    assert (
        packets.pack_query_info(0x12, 0x1000)
        == bytes.fromhex("2900 01 12 00100000 0000 0000 00000000 00000000 00000000") + b"\xff" * 16 + b"\0"
    )
    assert packets.pack_ioctl(0x0011C017, b"xyz", 512, handle) == bytes.fromhex(
        "3900 0000 17c01100 000102030405060708090a0b0c0d0e0f 78000000 03000000 00000000 00000000 00000000 00020000"
        "01000000 00000000 78797a"
    )


def test_change_notify_and_echo_are_laid_out_as_specified() -> None:
    handle = bytes(range(16))
    for tree, flags in ((True, "0100"), (False, "0000")):
        assert packets.pack_change_notify(tree, 0x10000, handle) == bytes.fromhex(
            f"2000 {flags} 00000100 000102030405060708090a0b0c0d0e0f 5f000000 00000000"
        )
    assert packets.pack_echo() == bytes.fromhex("0400 0000")


# --- replies ---------------------------------------------------------------------------------------------------------


def test_header_of_a_reply() -> None:
    view = reply(8, bytes(16))
    assert packets.unpack_header(view, 0, len(view)) == (0, 8, 33, 1, 0, 0x0102030405060708)


@pytest.mark.parametrize("following", [1, 8, 63, 65, 72, 4096, 0xFFFFFFF8])
def test_compound_offsets_outside_the_frame_are_refused(following: int) -> None:
    view = reply(8, bytes(16), following=following)
    with pytest.raises(ProtocolError):
        packets.unpack_header(view, 0, len(view))


def test_create_reply() -> None:
    times = struct.pack("<QQQQ", 1, 2, EPOCH + 15, EPOCH + 27)
    body = struct.pack("<HBBI", 89, 0, 0, 1) + times + struct.pack("<QQII", 4096, 18432, 0x20, 0) + bytes(range(16))
    view = reply(5, body + bytes(8))
    opened = packets.unpack_create(view, 0, len(view))
    assert opened == (EPOCH + 15, EPOCH + 27, 18432, 0x20, bytes(range(16)))


def test_close_reply_tells_whether_it_was_queried() -> None:
    times = struct.pack("<QQQQ", 0, 0, EPOCH + 1, EPOCH + 2)
    for flags, queried in ((1, True), (0, False)):
        view = reply(6, struct.pack("<HHI", 60, flags, 0) + times + struct.pack("<QQI", 0, 77, 0x20))
        assert packets.unpack_close(view, 0, len(view)) == (queried, EPOCH + 1, EPOCH + 2, 77)


def test_read_reply_gives_the_place_of_the_data() -> None:
    view = reply(8, struct.pack("<HBBIII", 17, 80, 0, 5, 0, 0) + b"hello")
    first, last = packets.unpack_read(view, 0, len(view))
    assert bytes(view[first:last]) == b"hello"


@pytest.mark.parametrize(("offset", "length"), [(80, 6), (81, 5), (0, 5), (63, 1), (255, 1), (80, 0xFFFFFFFF)])
def test_read_reply_outside_of_itself_is_refused(offset: int, length: int) -> None:
    view = reply(8, struct.pack("<HBBIII", 17, offset, 0, length, 0, 0) + b"hello")
    with pytest.raises(ProtocolError):
        packets.unpack_read(view, 0, len(view))


def test_negotiate_reply_tells_dialect_sizes_and_clock() -> None:
    body = struct.pack("<HHHH", 65, 3, 0x0311, 2) + bytes(16)
    body += struct.pack("<IIIIQQ", 0x7F, 8 << 20, 4 << 20, 8 << 20, EPOCH + 10**7, 0)
    view = reply(0, body + struct.pack("<HHI", 128, 0, 0))
    assert packets.unpack_negotiate(view, 0, len(view)) == (0x0311, True, 8 << 20, 4 << 20, 10**9)


def test_all_information_gives_identity_and_true_name() -> None:
    name = "\\Ordner\\a:b.jpg".encode("utf-16-le")
    raw = struct.pack("<QQQQII", 1, 2, EPOCH + 3, EPOCH + 4, 0x20, 0) + struct.pack("<QQIBBH", 512, 99, 1, 0, 0, 0)
    raw += struct.pack("<QIIQIII", 4711, 0, 0, 0, 0, 0, len(name)) + name
    found = packets.unpack_all_information(memoryview(raw), 0, len(raw))
    assert found == (300, 400, 0x20, 99, 4711, "\\Ordner\\a:b.jpg", False)
    leaving = raw[:60] + b"\1" + raw[61:]  # DeletePending, after NumberOfLinks (2.4.46)
    assert packets.unpack_all_information(memoryview(leaving), 0, len(leaving)).leaving


# --- times -----------------------------------------------------------------------------------------------------------


def test_filetimes_become_ns_exactly_and_fit_64_bits() -> None:
    assert packets.to_ns(EPOCH) == 0
    assert packets.to_ns(EPOCH + 17_000_000_001_234_567) == 1_700_000_000_123_456_700
    for extreme in (0, 1, 2**63, 2**64 - 1):
        assert -(2**63) <= packets.to_ns(extreme) < 2**63


# --- directories -----------------------------------------------------------------------------------------------------


def parse(raw: bytes) -> packets.Directory:
    return packets.unpack_directory(memoryview(raw), 0, len(raw))


def test_directory_entries_with_kinds_and_fingerprints() -> None:
    raw = hostile_smb.directory(
        [
            hostile_smb.entry(".".encode("utf-16-le"), attributes=0x10, file_id=5),
            hostile_smb.entry("..".encode("utf-16-le"), attributes=0x10, file_id=6),
            hostile_smb.entry("a .JPG".encode("utf-16-le"), size=18432, mtime=EPOCH + 12, file_id=7),
            hostile_smb.entry("ordner".encode("utf-16-le"), attributes=0x11, file_id=-3),
            hostile_smb.entry("link".encode("utf-16-le"), attributes=0x410),
            hostile_smb.entry("device".encode("utf-16-le"), attributes=0x40),
        ]
    )
    found = parse(raw)
    assert found.self_id == 5
    assert found.entries[0] == ("a .JPG", Kind.FILE, 18432, 1200, 1200, 7)
    assert [(each.name, each.kind) for each in found.entries[1:]] == [
        ("ordner", Kind.DIRECTORY),
        ("link", Kind.OTHER),
        ("device", Kind.OTHER),
    ]
    assert found.entries[1].file_id == -3
    assert all(type(each.kind) is Kind for each in found.entries)


def test_an_undecodable_name_spares_its_siblings() -> None:
    names = [b"a\0", b"\x00\xd8", b"b\0c", "ü".encode("utf-16-le")]
    found = parse(hostile_smb.directory([hostile_smb.entry(name) for name in names]))
    assert [each.name for each in found.entries] == ["a", "ü"]
    assert len(found.undecodable) == 2
    assert all(name.isprintable() for name in found.undecodable[:1])


def test_names_are_passed_on_as_they_are() -> None:
    hostile = ["..\\..\\x", "/etc/passwd", "a\0b", "x:stream", "", "CON"]
    found = parse(hostile_smb.directory([hostile_smb.entry(name.encode("utf-16-le")) for name in hostile]))
    assert [each.name for each in found.entries] == hostile


@pytest.mark.parametrize("following", [1, 40, 80, 100_000, 0xFFFFFFFF])
def test_entry_offsets_that_do_not_lead_on_are_refused(following: int) -> None:
    raw = hostile_smb.directory([hostile_smb.entry(b"a\0b\0"), hostile_smb.entry(b"c\0")])
    with pytest.raises(ProtocolError):
        parse(struct.pack("<I", following) + raw[4:])


def test_entry_with_a_name_beyond_the_buffer_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse(hostile_smb.directory([hostile_smb.entry(b"a\0", name_length=4)]))


def test_entry_with_a_negative_size_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse(hostile_smb.directory([hostile_smb.entry(b"a\0", size=-1)]))


def test_an_empty_buffer_is_an_empty_directory() -> None:
    assert parse(b"") == ([], [], 0)


# --- changes ---------------------------------------------------------------------------------------------------------


def changed(raw: bytes) -> list[str]:
    return packets.unpack_changes(memoryview(raw), 0, len(raw))


def test_changed_names_as_in_ms_fscc_2_7_1() -> None:
    raw = bytes.fromhex("14000000 01000000 06000000 61005c006200 000000000000 05000000 04000000 3c092e00")
    assert changed(raw) == ["a\\b", "\u093c."]
    assert changed(hostile_watch.changes("x", "d\\नया .jpg", b"\x00\xd8")) == ["x", "d\\नया .jpg", "\ufffd"]
    assert changed(b"") == []


@pytest.mark.parametrize("following", [1, 4, 11, 13, 100, 0xFFFFFFFF])
def test_change_offsets_that_do_not_lead_on_are_refused(following: int) -> None:
    with pytest.raises(ProtocolError):
        changed(struct.pack("<I", following) + hostile_watch.changes("x", "y")[4:])


def test_a_changed_name_beyond_the_buffer_is_refused() -> None:
    with pytest.raises(ProtocolError):
        changed(struct.pack("<III", 0, 1, 4) + b"x\0")


# --- hostile bytes ---------------------------------------------------------------------------------------------------

PARSERS: list[Callable[[memoryview, int, int], object]] = [
    packets.unpack_header,
    packets.unpack_create,
    packets.unpack_close,
    packets.unpack_read,
    packets.unpack_output,
    packets.unpack_ioctl,
    packets.unpack_negotiate,
    packets.unpack_directory,
    packets.unpack_all_information,
    packets.unpack_changes,
]


@pytest.mark.parametrize("parser", PARSERS)
@given(raw=st.binary(max_size=400), lead=st.integers(0, 64))
def test_arbitrary_bytes_give_a_value_or_a_protocol_error(
    parser: Callable[[memoryview, int, int], object], raw: bytes, lead: int
) -> None:
    with contextlib.suppress(ProtocolError):
        parser(memoryview(bytes(lead) + raw), lead, lead + len(raw))


GOOD: dict[Callable[[memoryview, int, int], object], bytes] = {
    packets.unpack_create: bytes(reply(5, struct.pack("<H", 89) + bytes(86))),
    packets.unpack_close: bytes(reply(6, struct.pack("<HH", 60, 1) + bytes(56))),
    packets.unpack_read: bytes(reply(8, struct.pack("<HBBIII", 17, 80, 0, 40, 0, 0) + bytes(40))),
    packets.unpack_output: bytes(reply(14, struct.pack("<HHI", 9, 72, 40) + bytes(40))),
    packets.unpack_changes: hostile_watch.changes("a", "b\\c", "नया", ""),
    packets.unpack_directory: hostile_smb.directory([hostile_smb.entry(b"a\0" * n) for n in range(1, 5)]),
}


@pytest.mark.parametrize("parser", GOOD)
@given(data=st.data())
def test_damaged_replies_never_reach_beyond_their_end(
    parser: Callable[[memoryview, int, int], object], data: st.DataObject
) -> None:
    """Flips bytes of a good reply and cuts it; the parser sees a longer buffer, of which the rest is not its own."""
    raw = bytearray(GOOD[parser])
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(raw)))
    try:
        found = parser(memoryview(bytes(raw)), 0, end)
    except ProtocolError:
        return
    if parser in {packets.unpack_read, packets.unpack_output}:
        assert isinstance(found, tuple)
        assert 0 <= found[0] <= found[1] <= end


@given(st.binary(max_size=300))
def test_arbitrary_rpc_answers_give_names_or_a_protocol_error(raw: bytes) -> None:
    for parse_rpc in (rpc.unpack_share_enum, lambda data: rpc.unpack_fragment(data, 2)):
        with contextlib.suppress(ProtocolError):
            parse_rpc(raw)


def test_share_enum_reply_gives_disk_shares_only() -> None:
    def text(value: str) -> bytes:
        raw = (value + "\0").encode("utf-16-le")
        packed = struct.pack("<III", len(value) + 1, 0, len(value) + 1) + raw
        return packed + bytes(-len(packed) % 4)

    entries = [("docs", 0, "all of it"), ("IPC$", 0x80000003, "pipe"), ("C$", 0x80000000, ""), ("news letters", 0, "")]
    stub = struct.pack("<IIIIII", 1, 1, 0x20000, len(entries), 0x20004, len(entries))
    for _, kind, _ in entries:
        stub += struct.pack("<III", 0x20008, kind, 0x2000C)
    for name, _, comment in entries:
        stub += text(name) + text(comment)
    assert rpc.unpack_share_enum(stub) == ["docs", "news letters"]
