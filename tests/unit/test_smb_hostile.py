"""A server that knows the key and lies: every lie is one error, never a crash, a hang or a wrong byte."""

from __future__ import annotations

import random
import struct
import time

import pytest

from syncd.core.errors import (
    DiskFull,
    EntryChanged,
    EntryDenied,
    EntryGone,
    EntryUnreadable,
    LocalIOError,
    SourceUnavailable,
    SyncdError,
)
from syncd.core.model import ROOT, Fingerprint, Kind, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Failed, Fetched
from syncd.sources.smb.limits import SmbLimits
from tests.support import hostile_smb
from tests.support.hostile_smb import (
    CLOSE,
    CREATE,
    END_OF_FILE,
    QUERY_DIRECTORY,
    QUERY_INFO,
    QUICK,
    READ,
    HostileServer,
    Quirks,
    Reply,
    Request,
    hostile_source,
)
from tests.support.queues import ListQueue, Sinks, error_of, fetch_all, scan_all, want_all

FILES = {
    "a.txt": b"hello",
    "empty": b"",
    "d\\b .jpg": b"x" * 18432,
    "d\\c\\big": bytes(range(256)) * 12_000,
    "LETTER~1.JPG": b"legal",
}


def wanted(server: HostileServer, path: str) -> Wanted:
    size = len(server.files[path.replace("/", "\\")])
    return Wanted(RelPath(path), Fingerprint(size, server.mtime_ns, server.mtime_ns, 0))


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(),
        Quirks(split=True),
        Quirks(pending=True),
        Quirks(split=True, pending=True),
        Quirks(sealed=True),
        Quirks(credits=4),
        Quirks(credits=8),
    ],
    ids=str,
)
def test_whatever_way_honest_replies_come_everything_is_read(quirks: Quirks) -> None:
    server = HostileServer(dict(FILES), quirks)
    with server, hostile_source(server) as source:
        listings = scan_all(source)
        assert set(listings) == {"", "d", "d/c"}
        assert listings[""].mangled == frozenset()
        sinks, outcomes = fetch_all(source, want_all(listings))
        assert {type(each) for each in outcomes.values()} == {Fetched}
        for path, content in FILES.items():
            assert sinks.content(path.replace("\\", "/")) == content
        assert server.connections == 1


@pytest.mark.parametrize("quirks", [Quirks(signed=False), Quirks(wrong_signature=True)], ids=str)
def test_unsigned_and_wrongly_signed_replies_end_the_session(quirks: Quirks) -> None:
    server = HostileServer(dict(FILES), quirks)
    with server, hostile_source(server) as source, pytest.raises(SourceUnavailable, match="signature"):
        source.check()


def test_a_signature_that_goes_missing_in_the_middle_ends_the_session_and_no_byte_is_taken() -> None:
    server = HostileServer({"big": bytes(5_000_000)}, max_read=65536)

    def strip(request: Request, reply: Reply) -> Reply:
        if request.command == READ and struct.unpack_from("<Q", request.body, 8)[0] >= 1_000_000:
            server.quirks.signed = False
        return reply

    server.spoil = strip
    with server, hostile_source(server) as source:
        sinks = Sinks()
        with pytest.raises(SourceUnavailable, match="without a signature"):
            list(source.fetch(ListQueue([wanted(server, "big")]), sinks))
        assert server.connections > 1
        assert len(sinks.content("big")) <= 1_000_000 + 65536


def test_a_clear_reply_in_an_encrypted_session_is_refused() -> None:
    server = HostileServer(dict(FILES), Quirks(sealed=True))
    with server, hostile_source(server) as source:
        source.check()
        server.quirks.clear_replies = True
        with pytest.raises(SourceUnavailable):
            source.check()


# --- lies about files ------------------------------------------------------------------------------------------------


def lie(command: int, status: int, body: bytes | None = None) -> HostileServer:
    """A server that answers one command about a.txt with something else."""

    def spoil(request: Request, reply: Reply) -> Reply:
        if request.command == command and request.path == "a.txt":
            return (status, hostile_smb.ERROR if body is None else body)
        return reply

    return HostileServer(dict(FILES), spoil=spoil)


@pytest.mark.parametrize(
    ("command", "status", "kind"),
    [
        (CREATE, 0xC0000022, EntryDenied),
        (CREATE, 0xC0000034, EntryGone),
        (CREATE, 0xC0000043, EntryUnreadable),
        (READ, END_OF_FILE, EntryChanged),
        (READ, 0xC0000185, EntryUnreadable),
        (READ, 0xC0000054, EntryUnreadable),
        (CLOSE, 0xC0000128, EntryUnreadable),
    ],
)
def test_one_file_that_fails_spares_the_others(command: int, status: int, kind: type[SyncdError]) -> None:
    server = lie(command, status)
    with server, hostile_source(server) as source:
        _, outcomes = fetch_all(source, [wanted(server, "a.txt"), wanted(server, "d/b .jpg")])
        assert type(error_of(outcomes["a.txt"])) is kind
        assert isinstance(outcomes["d/b .jpg"], Fetched)


def test_a_short_read_is_asked_again_and_never_taken_for_the_whole() -> None:
    def halve(request: Request, reply: Reply) -> Reply:
        if request.command == READ and reply[0] == 0:
            content = reply[1][16:]
            content = content[: max(len(content) // 2, 1)]
            return (0, struct.pack("<HBBIII", 17, 80, 0, len(content), 0, 0) + content)
        return reply

    server = HostileServer({"f": bytes(range(256)) * 400}, spoil=halve)
    with server, hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, [wanted(server, "f")])
        assert isinstance(outcomes["f"], Fetched)
        assert sinks.content("f") == server.files["f"]


def test_more_bytes_than_asked_for_are_never_delivered() -> None:
    def more(request: Request, reply: Reply) -> Reply:
        if request.command == READ:
            return (0, struct.pack("<HBBIII", 17, 80, 0, 50, 0, 0) + b"x" * 50)
        return reply

    server = HostileServer({"a.txt": b"hello"}, spoil=more)
    with server, hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, [wanted(server, "a.txt")])
        assert "more than was asked for" in error_of(outcomes["a.txt"]).message
        assert "a.txt" not in sinks.kept


@pytest.mark.parametrize("when", [CREATE, CLOSE])
@pytest.mark.parametrize("what", ["size", "mtime"])
def test_a_file_that_changes_is_told(when: int, what: str) -> None:
    at = {("size", CREATE): (48, 6), ("mtime", CREATE): (24, 1), ("size", CLOSE): (48, 6), ("mtime", CLOSE): (24, 1)}

    def change(request: Request, reply: Reply) -> Reply:
        if request.command != when:
            return reply
        body = bytearray(reply[1])
        offset, value = at[what, when]
        struct.pack_into("<Q", body, offset, struct.unpack_from("<Q", body, offset)[0] + value)
        return (0, bytes(body))

    server = HostileServer(dict(FILES), spoil=change)
    with server, hostile_source(server) as source:
        _, outcomes = fetch_all(source, [wanted(server, "a.txt"), wanted(server, "empty"), wanted(server, "d/c/big")])
        assert {type(error_of(each)) for each in outcomes.values()} == {EntryChanged}


def test_a_file_that_became_a_link_is_refused() -> None:
    def link(request: Request, reply: Reply) -> Reply:
        if request.command == CREATE and request.path == "a.txt":
            body = bytearray(reply[1])
            struct.pack_into("<I", body, 56, 0x420)
            return (0, bytes(body))
        return reply

    server = HostileServer(dict(FILES), spoil=link)
    with server, hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, [wanted(server, "a.txt")])
        assert error_of(outcomes["a.txt"]).reason is Reason.LINK
        assert sinks.kept == {}


def test_a_close_that_does_not_tell_size_and_times_proves_nothing() -> None:
    def untold(request: Request, reply: Reply) -> Reply:
        return (0, struct.pack("<HHI", 60, 0, 0) + bytes(52)) if request.command == CLOSE else reply

    server = HostileServer(dict(FILES), spoil=untold)
    with server, hostile_source(server) as source:
        _, outcomes = fetch_all(source, [wanted(server, "a.txt")])
        assert isinstance(error_of(outcomes["a.txt"]), EntryUnreadable)


def test_a_server_short_of_resources_is_asked_again() -> None:
    refused: list[int] = []

    def busy(request: Request, reply: Reply) -> Reply:
        if request.command == READ and len(refused) < 3:
            refused.append(1)
            return (0xC000009A, hostile_smb.ERROR)
        return reply

    server = HostileServer(dict(FILES), spoil=busy)
    with server, hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, [wanted(server, "a.txt")])
        assert isinstance(outcomes["a.txt"], Fetched)
        assert sinks.content("a.txt") == b"hello"
        assert refused == [1, 1, 1]


def test_a_server_always_short_of_resources_fails_the_file() -> None:
    server = lie(READ, 0xC000009A)
    with server, hostile_source(server) as source:
        _, outcomes = fetch_all(source, [wanted(server, "a.txt"), wanted(server, "d/b .jpg")])
        assert isinstance(error_of(outcomes["a.txt"]), EntryUnreadable)
        assert isinstance(outcomes["d/b .jpg"], Fetched)


def test_a_file_at_which_the_connection_always_breaks_fails_alone() -> None:
    def hang_up(request: Request, reply: Reply) -> Reply:
        return (0xC0000203, hostile_smb.ERROR) if request.path == "a.txt" else reply

    server = HostileServer(dict(FILES), spoil=hang_up)
    with server, hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, [wanted(server, path.replace("\\", "/")) for path in FILES])
        assert error_of(outcomes.pop("a.txt")).reason is Reason.TIMEOUT
        assert {type(each) for each in outcomes.values()} == {Fetched}
        assert sinks.content("d/c/big") == FILES["d\\c\\big"]


def test_a_request_left_out_while_others_are_answered_ends_in_time() -> None:
    dropped: list[int] = []

    def leave_out(request: Request, reply: Reply) -> Reply | None:
        if request.path == "a.txt":
            dropped.append(1)
            return None
        return reply

    server = HostileServer(dict(FILES), spoil=leave_out)
    limits = SmbLimits(stall_s=0.3, ask_s=2, reconnect_s=2, losses=2)
    with server, hostile_source(server, limits) as source:
        began = time.monotonic()
        _, outcomes = fetch_all(source, [wanted(server, "a.txt"), wanted(server, "d/b .jpg")])
        assert error_of(outcomes["a.txt"]).reason is Reason.TIMEOUT
        assert isinstance(outcomes["d/b .jpg"], Fetched)
        assert len(dropped) == 3
        assert time.monotonic() - began < 30


def test_a_server_that_never_answers_ends_as_unavailable() -> None:
    server = HostileServer(dict(FILES), spoil=lambda *_: None)
    limits = SmbLimits(stall_s=0.2, ask_s=0.5, reconnect_s=1, losses=1)
    with server, hostile_source(server, limits) as source:
        with pytest.raises(SourceUnavailable, match="did not answer"):
            source.check()
        with pytest.raises(SourceUnavailable):
            list(source.scan([ROOT]))
        with pytest.raises(SourceUnavailable):
            list(source.fetch(ListQueue([wanted(server, "a.txt")]), Sinks()))


# --- lies about folders ----------------------------------------------------------------------------------------------


def listing_server(*entries: bytes) -> HostileServer:
    body = hostile_smb.directory(list(entries))

    def spoil(request: Request, reply: Reply) -> Reply:
        if request.command == QUERY_DIRECTORY and reply[0] == 0:
            return (0, struct.pack("<HHI", 9, 72, len(body)) + body)
        return reply

    return HostileServer({"x\\y": b""}, spoil=spoil)


def utf16(name: str) -> bytes:
    return name.encode("utf-16-le", "surrogatepass")


def test_names_pass_as_they_are_and_undecodable_ones_make_the_listing_incomplete() -> None:
    names = ["..\\..\\x", "a/b", "nul\0", "ok"]
    server = listing_server(*[hostile_smb.entry(utf16(name)) for name in [*names, "lone\ud800"]])
    with server, hostile_source(server) as source:
        (listing,) = source.scan([ROOT])
        assert [each.name for each in listing.entries] == names
        assert not listing.complete
        assert listing.reason is Reason.NAME_UNDECODABLE
        assert len(listing.undecodable) == 1
        assert listing.undecodable[0].isprintable()


def test_a_folder_within_itself_is_a_link() -> None:
    """Samba follows a symbolic link on the server and shows it as a folder; a scan would never end."""
    server = listing_server(
        hostile_smb.entry(utf16("."), attributes=0x10, file_id=77),
        hostile_smb.entry(utf16("loop"), attributes=0x10, file_id=77),
        hostile_smb.entry(utf16("folder"), attributes=0x10, file_id=78),
    )
    with server, hostile_source(server) as source:
        (listing,) = source.scan([ROOT])
        assert [(each.name, each.kind) for each in listing.entries] == [
            ("loop", Kind.OTHER),
            ("folder", Kind.DIRECTORY),
        ]


def test_a_folder_without_end_is_given_up_in_bounds() -> None:
    body = hostile_smb.directory([hostile_smb.entry(utf16(f"{number:06d}")) for number in range(1000)])

    def endless(request: Request, reply: Reply) -> Reply:
        if request.command == QUERY_DIRECTORY:
            return (0, struct.pack("<HHI", 9, 72, len(body)) + body)
        return reply

    server = HostileServer({"x\\y": b""}, spoil=endless)
    limits = SmbLimits(max_entries=20_000)
    with server, hostile_source(server, limits) as source:
        (listing,) = source.scan([ROOT])
        assert not listing.complete
        assert listing.reason is Reason.LISTING_INCOMPLETE
        assert len(listing.entries) <= 30_000


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (CREATE, 0xC0000022, Reason.DENIED),
        (CREATE, 0xC0000034, Reason.GONE),
        (CREATE, 0xC0000103, Reason.GONE),
        (QUERY_DIRECTORY, 0xC0000185, Reason.UNREADABLE),
        (QUERY_DIRECTORY, 0xC0000022, Reason.DENIED),
    ],
)
def test_a_folder_that_fails_is_incomplete_and_spares_the_others(command: int, status: int, reason: Reason) -> None:
    def spoil(request: Request, reply: Reply) -> Reply:
        return (status, hostile_smb.ERROR) if request.command == command and request.path == "d" else reply

    server = HostileServer(dict(FILES), spoil=spoil)
    with server, hostile_source(server) as source:
        found = {each.directory: each for each in source.scan([RelPath("d"), RelPath("d/c"), ROOT])}
        assert not found[RelPath("d")].complete
        assert found[RelPath("d")].reason is reason
        assert found[RelPath("d")].entries == []
        assert found[ROOT].complete
        assert found[RelPath("d/c")].complete


def test_stand_ins_are_told_from_names_that_look_alike() -> None:
    def true_name(request: Request, reply: Reply) -> Reply:
        if request.command == QUERY_INFO and request.path == "A4WTMA~A.JPG":
            name = "\\a:b.jpg".encode("utf-16-le")
            body = reply[1][8:104] + struct.pack("<I", len(name)) + name
            return (0, struct.pack("<HHI", 9, 72, len(body)) + body)
        return reply

    server = HostileServer({"A4WTMA~A.JPG": b"1", "LETTER~1.JPG": b"2", "plain": b"3"}, spoil=true_name)
    with server, hostile_source(server) as source:
        (listing,) = source.scan([ROOT])
        assert listing.mangled == {"A4WTMA~A.JPG"}
        assert listing.complete


def test_where_a_server_does_not_tell_true_names_all_that_look_alike_are_suspect() -> None:
    def untold(request: Request, reply: Reply) -> Reply:
        return (0xC0000003, hostile_smb.ERROR) if request.command == QUERY_INFO else reply

    server = HostileServer({"A4WTMA~A.JPG": b"1", "LETTER~1.JPG": b"2", "plain": b"3"}, spoil=untold)
    with server, hostile_source(server) as source:
        (listing,) = source.scan([ROOT])
        assert listing.mangled == {"A4WTMA~A.JPG", "LETTER~1.JPG"}


# --- our own side ----------------------------------------------------------------------------------------------------


def test_a_sink_that_fails_one_file_fails_that_file() -> None:
    server = HostileServer(dict(FILES))
    with server, hostile_source(server) as source:
        sinks = Sinks({"d/c/big": LocalIOError("disk says no")}, error_at=1)
        _, outcomes = fetch_all(source, [wanted(server, "d/c/big"), wanted(server, "a.txt")], sinks)
        assert isinstance(error_of(outcomes["d/c/big"]), LocalIOError)
        assert isinstance(outcomes["a.txt"], Fetched)


def test_a_sink_that_stops_the_run_is_raised_and_leaves_nothing_open() -> None:
    server = HostileServer(dict(FILES))
    with server, hostile_source(server) as source:
        with pytest.raises(DiskFull):
            fetch_all(source, [wanted(server, "a.txt")], Sinks({"a.txt": DiskFull("full")}))
        assert source.check()


def test_a_fetch_that_is_abandoned_leaves_the_source_usable() -> None:
    server = HostileServer(dict(FILES))
    with server, hostile_source(server) as source:
        outcomes = source.fetch(ListQueue([wanted(server, path.replace("\\", "/")) for path in FILES]), Sinks())
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        assert source.check()


# --- anything at all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(40))
def test_damaged_but_signed_replies_never_crash_hang_or_deliver_wrong_lengths(number: int) -> None:
    """Flips and cuts bodies and changes statuses at random; the signature is right, as of a server gone mad."""
    seed = random.Random(number)
    rate = seed.choice([0.05, 0.3])

    def mad(request: Request, reply: Reply) -> Reply:
        status, body = reply
        if seed.random() > rate:
            return reply
        damaged = bytearray(body)
        for _ in range(seed.randint(1, 4)):
            damaged[seed.randrange(len(damaged))] = seed.randrange(256)
        cut = seed.choice([len(damaged), seed.randrange(len(damaged) + 1)])
        return (seed.choice([status, status, 0, 0xC0000022, seed.getrandbits(32)]), bytes(damaged[:cut]))

    server = HostileServer(dict(FILES), Quirks(split=seed.random() < 0.3), spoil=mad, max_read=65536)
    with server, hostile_source(server, QUICK) as source:
        try:
            for listing in source.scan([ROOT]):
                assert listing.complete == (listing.reason is None)
        except SourceUnavailable:
            pass
        sinks = Sinks()
        try:
            for outcome in source.fetch(ListQueue([wanted(server, path.replace("\\", "/")) for path in FILES]), sinks):
                kept = sinks.kept.get(outcome.wanted.path)
                size = outcome.wanted.fingerprint.size
                assert isinstance(outcome, Failed) or kept is None or len(kept.content) == size
        except SourceUnavailable:
            pass
        for path, kept in sinks.kept.items():
            assert len(kept.content) <= len(FILES[path.replace("/", "\\")])
