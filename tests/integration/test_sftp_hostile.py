"""An SFTP server that lies, stalls and sends garbage: the source stays in bounds and says what is wrong."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.errors import EntryChanged, EntryGone, EntryUnreadable, SourceAuthFailed, SourceError, SourceUnavailable
from syncd.core.model import ROOT, Fingerprint, Kind, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Fetched
from syncd.sources.sftp import SftpSource, wire
from tests.support.hostile_sftp import (
    FILE_MODE,
    FOLDER_MODE,
    MTIME_S,
    HostileSftp,
    Request,
    attributes,
    names,
    packet,
    status,
)
from tests.support.queues import Sinks, error_of, fetch_all, scan_all, want_all

GENEROUS_S = 60.0
STALL_S = 0.7
FILES = {f"/root/folder/{number}.jpg": random.Random(number).randbytes(20_000) for number in range(40)}
LARGE = random.Random(99).randbytes(3_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HostileSftp]:
    with HostileSftp(dict(FILES), tmp_path) as started:
        yield started


@pytest.fixture
def source(server: HostileSftp) -> Iterator[SftpSource]:
    made = make(server)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test may take long; only the waits between reconnections are made short for that."""
    monkeypatch.setattr("syncd.sources.sftp.source.BACKOFF_S", (0.01,) * 4)
    started = time.monotonic()
    yield
    assert time.monotonic() - started < GENEROUS_S


def make(server: HostileSftp, **settings: object) -> SftpSource:
    given: dict[str, object] = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "folder": "/root",
        "key_file": None,
        "password": lambda: server.password,
        "known_hosts_file": server.known_hosts_file,
        "stall_s": STALL_S,
    }
    return SftpSource(**(given | settings))  # type: ignore[arg-type]


def wanted(path: str, content: bytes) -> Wanted:
    return Wanted(RelPath(path), Fingerprint(len(content), MTIME_S * 10**9, 0, 0))


def only(kind: int, path: str, answer: Callable[[Request], list[bytes]]) -> Callable[..., list[bytes]]:
    """Misbehave at requests of one type about one path."""

    def misbehave(request: Request, honest: list[bytes]) -> list[bytes]:
        return answer(request) if request.kind == kind and request.path.endswith(path) else honest

    return misbehave


def test_an_honest_server_works(server: HostileSftp, source: SftpSource) -> None:
    """Or the tests below would be green for nothing."""
    source.check()
    sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
    assert {f"/root/{path}": sinks.content(path) for path in outcomes} == FILES
    assert all(isinstance(each, Fetched) for each in outcomes.values())
    assert server.open_handles == {}
    assert server.logins == [True, True]


# --- names -----------------------------------------------------------------------------------------------------------


def test_crafted_names_are_passed_on_as_names_and_dots_left_out(server: HostileSftp, source: SftpSource) -> None:
    crafted = ["../../etc/passwd", "a/b", "/abs", "nul\0nul", "line\nbreak", "\u202egpj.exe", "~", "..."]
    entries = [(each.encode(), attributes(1, FILE_MODE)) for each in [".", "..", *crafted]]
    sent = []

    def answer(request: Request) -> list[bytes]:
        first, sent[:] = not sent, [True]
        return [names(request.number, entries) if first else status(request.number, wire.EOF)]

    server.misbehave = only(wire.READDIR, "/root", answer)
    (listing,) = source.scan([ROOT])
    assert listing.complete
    assert [each.name for each in listing.entries] == crafted


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ((b"x" * 200_000, attributes(1, FILE_MODE)), Reason.LISTING_INCOMPLETE),
        ((b"\xff\xfe.jpg", attributes(1, FILE_MODE)), Reason.NAME_UNDECODABLE),
        ((b"\xff" * 200_000, attributes(1, FILE_MODE)), Reason.NAME_UNDECODABLE),
        ((b"no attributes", struct.pack(">I", 0)), Reason.LISTING_INCOMPLETE),
        ((b"no time", struct.pack(">IQI", 1 | 4, 5, FILE_MODE)), Reason.LISTING_INCOMPLETE),
    ],
)
def test_names_that_cannot_be_used_make_the_listing_incomplete(
    server: HostileSftp, source: SftpSource, entry: tuple[bytes, bytes], reason: Reason
) -> None:
    good = (b"good.jpg", attributes(1, FILE_MODE))
    sent = []

    def answer(request: Request) -> list[bytes]:
        first, sent[:] = not sent, [True]
        return [names(request.number, [entry, good]) if first else status(request.number, wire.EOF)]

    server.misbehave = only(wire.READDIR, "/root", answer)
    (listing,) = source.scan([ROOT])
    assert not listing.complete
    assert listing.reason is reason
    assert [each.name for each in listing.entries] == ["good.jpg"]
    assert len(listing.detail) < 1000
    assert sum(map(len, listing.undecodable)) < 20_000


def test_odd_types_are_other(server: HostileSftp, source: SftpSource) -> None:
    modes = [0o120777, 0o010644, 0o020644, 0o060644, 0o140755, 0, 0xFFFF_FFFF]
    entries = [(f"{mode:o}".encode(), attributes(1, mode)) for mode in modes]
    sent = []

    def answer(request: Request) -> list[bytes]:
        first, sent[:] = not sent, [True]
        return [names(request.number, entries) if first else status(request.number, wire.EOF)]

    server.misbehave = only(wire.READDIR, "/root", answer)
    (listing,) = source.scan([ROOT])
    assert {each.kind for each in listing.entries} == {Kind.OTHER}


# --- endless ---------------------------------------------------------------------------------------------------------


def test_an_endless_folder_is_cut_off_and_its_neighbour_listed(server: HostileSftp) -> None:
    counter = iter(range(10**9))

    def endless(request: Request) -> list[bytes]:
        entries = [(b"file %d" % next(counter), attributes(1, FILE_MODE)) for _ in range(500)]
        return [names(request.number, entries)]

    server.files["/root/endless/x"] = b"x"
    server.misbehave = only(wire.READDIR, "/endless", endless)
    source = make(server, max_entries=20_000)
    tracemalloc.start()
    try:
        listings = scan_all(source)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
    assert listings["endless"].reason is Reason.LISTING_INCOMPLETE
    assert 20_000 < len(listings["endless"].entries) < 30_000
    assert listings["folder"].complete
    assert peak < 60 << 20


def test_an_endless_tree_of_empty_parts_ends(server: HostileSftp, source: SftpSource) -> None:
    server.misbehave = only(wire.READDIR, "/root", lambda request: [names(request.number, [])])
    (listing,) = source.scan([ROOT])
    assert listing.reason is Reason.UNREADABLE


def test_a_slow_trickle_of_names_ends(server: HostileSftp, source: SftpSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.sources.sftp.scanning.FOLDER_TIME_S", 1.0)

    def trickle(request: Request) -> list[bytes]:
        time.sleep(0.05)
        return [names(request.number, [(b"%d" % request.number, attributes(1, FILE_MODE))])]

    server.misbehave = only(wire.READDIR, "/root", trickle)
    (listing,) = source.scan([ROOT])
    assert listing.reason is Reason.TIMEOUT


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_server_that_never_answers_is_unavailable(server: HostileSftp, source: SftpSource) -> None:
    server.misbehave = lambda request, honest: honest if request.kind == wire.INIT else []
    with pytest.raises(SourceUnavailable, match="did not answer"):
        source.check()


def test_a_server_that_does_not_even_greet_is_unavailable(server: HostileSftp, source: SftpSource) -> None:
    server.misbehave = lambda request, honest: []
    with pytest.raises(SourceUnavailable):
        source.check()


def test_a_file_that_is_never_answered_fails_alone(server: HostileSftp, source: SftpSource) -> None:
    listed = want_all(scan_all(source))
    server.misbehave = only(wire.READ, "/7.jpg", lambda request: [])
    sinks, outcomes = fetch_all(source, listed)
    assert isinstance(error_of(outcomes["folder/7.jpg"]), EntryUnreadable)
    assert sum(isinstance(each, Fetched) for each in outcomes.values()) == len(FILES) - 1
    assert all(sinks.content(path) == FILES[f"/root/{path}"] for path in outcomes if path != "folder/7.jpg")


def test_a_folder_that_is_never_answered_is_incomplete_and_the_rest_is_listed(
    server: HostileSftp, source: SftpSource
) -> None:
    for number in range(5):
        server.files[f"/root/silent {number % 2}/{number}.jpg"] = b"x"
    server.misbehave = only(wire.READDIR, "/silent 1", lambda request: [])
    listings = scan_all(source)
    assert listings["silent 1"].reason is Reason.TIMEOUT
    assert listings["silent 0"].complete
    assert listings["folder"].complete


def test_a_server_that_dies_at_every_file_is_unavailable(server: HostileSftp, source: SftpSource) -> None:
    listed = want_all(scan_all(source))

    def die(request: Request, honest: list[bytes]) -> list[bytes]:
        if request.kind == wire.READ:
            raise EOFError
        return honest

    server.misbehave = die
    with pytest.raises(SourceUnavailable):
        fetch_all(source, listed)
    assert server.sessions < 15


# --- lies about content ----------------------------------------------------------------------------------------------


def one_file(server: HostileSftp, source: SftpSource, content: bytes = LARGE) -> tuple[Sinks, SourceError | None]:
    server.files["/root/x.tif"] = content
    sinks, outcomes = fetch_all(source, [wanted("x.tif", content)])
    outcome = outcomes["x.tif"]
    error = None if isinstance(outcome, Fetched) else error_of(outcome)
    assert error is None or isinstance(error, SourceError)
    if error is None:
        assert sinks.content("x.tif") == content
    if "x.tif" in sinks.kept:
        assert len(sinks.content("x.tif")) <= len(content)
    return sinks, error


@pytest.mark.parametrize("size", [5000, 3_000_000])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (lambda number: status(number, wire.EOF), EntryChanged),
        (lambda number: status(number, wire.NO_SUCH_FILE), EntryGone),
        (lambda number: status(number, 4), EntryUnreadable),
        (lambda number: packet(wire.DATA, number, wire.string(b"")), EntryUnreadable),
        (lambda number: packet(wire.DATA, number, wire.string(bytes(400_000))), EntryUnreadable),
        (lambda number: packet(wire.NAME, number, struct.pack(">I", 0)), EntryUnreadable),
        (lambda number: packet(wire.ATTRS, number, attributes(1, FILE_MODE)), EntryUnreadable),
    ],
)
def test_a_read_answered_with_nonsense_fails_the_file(
    server: HostileSftp,
    source: SftpSource,
    size: int,
    reply: Callable[[int], bytes],
    expected: type[SourceError],
) -> None:
    server.misbehave = only(wire.READ, "x.tif", lambda request: [reply(request.number)])
    assert isinstance(one_file(server, source, LARGE[:size])[1], expected)


@pytest.mark.parametrize("size", [0, 5000, 3_000_000])
@pytest.mark.parametrize("lie", [attributes(77, FILE_MODE), attributes(3_000_000, FOLDER_MODE), struct.pack(">I", 0)])
def test_an_open_file_that_is_not_the_one_listed_fails(
    server: HostileSftp, source: SftpSource, size: int, lie: bytes
) -> None:
    """As when a link was put in between LSTAT and OPEN."""
    server.misbehave = only(wire.FSTAT, "x.tif", lambda request: [packet(wire.ATTRS, request.number, lie)])
    assert isinstance(one_file(server, source, LARGE[:size])[1], EntryChanged)


def shortened(request: Request, honest: list[bytes], to: int) -> list[bytes]:
    if request.kind != wire.READ or honest[0][4] != wire.DATA:
        return honest
    return [packet(wire.DATA, request.number, wire.string(honest[0][13 : 13 + to]))]


@pytest.mark.parametrize("size", [20_000, 32_768, 3_000_000])
def test_short_reads_are_completed(server: HostileSftp, source: SftpSource, size: int) -> None:
    server.misbehave = lambda request, honest: shortened(request, honest, 10_000)
    assert one_file(server, source, LARGE[:size])[1] is None
    assert server.open_handles == {}


@pytest.mark.parametrize("size", [20_000, 3_000_000])
def test_tiny_reads_are_given_up(server: HostileSftp, source: SftpSource, size: int) -> None:
    server.misbehave = lambda request, honest: shortened(request, honest, 1)
    assert isinstance(one_file(server, source, LARGE[:size])[1], EntryUnreadable)


def test_a_file_that_hardly_comes_is_given_up(
    server: HostileSftp, source: SftpSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.sources.sftp.fetching.SLOW_AFTER_S", 0.5)
    monkeypatch.setattr("syncd.sources.sftp.fetching.SLOWEST_BYTES_PER_S", 1_000_000)

    def slow(request: Request, honest: list[bytes]) -> list[bytes]:
        time.sleep(0.02 if request.kind == wire.READ else 0)
        return shortened(request, honest, 5000)

    server.misbehave = slow
    error = one_file(server, source)[1]
    assert isinstance(error, EntryUnreadable)
    assert error.reason is Reason.TIMEOUT


def test_replies_in_another_order_are_put_right(server: HostileSftp, source: SftpSource) -> None:
    held: list[bytes] = []

    def shuffle(request: Request, honest: list[bytes]) -> list[bytes]:
        if request.kind != wire.READ:
            return honest
        held.extend(honest)
        if len(held) < 7 and struct.unpack(">QI", request.body[-12:])[0] + 32_768 < len(LARGE):
            return []
        out = held[::-1]
        held.clear()
        return out

    server.misbehave = shuffle
    assert one_file(server, source)[1] is None


def test_a_listing_that_lies_about_sizes_gives_no_file(server: HostileSftp, source: SftpSource) -> None:
    listed = [wanted(path.removeprefix("/root/"), FILES[path] + b"more") for path in FILES]
    sinks, outcomes = fetch_all(source, listed)
    assert all(isinstance(error_of(each), EntryChanged) for each in outcomes.values())
    assert sinks.kept == {}


# --- garbage ---------------------------------------------------------------------------------------------------------

GARBAGE = {
    "random": lambda number: [os.urandom(5000)],
    "huge length": lambda number: [b"\xff\xff\xff\xff" + bytes(100)],
    "zero length": lambda number: [bytes(4)],
    "unknown id": lambda number: [packet(wire.ATTRS, number + 1000, attributes(1, FILE_MODE))],
    "twice": lambda number: 2 * [packet(wire.ATTRS, number, attributes(len(LARGE), FILE_MODE))],
    "cut short": lambda number: [packet(wire.ATTRS, number, b"\0\0\0\x0f\0")],
    "no body": lambda number: [packet(wire.STATUS, number)],
    "endless attributes": lambda number: [packet(wire.ATTRS, number, struct.pack(">II", 0x8000_0000, 0xFFFF_FFFF))],
    "http": lambda number: [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
}


@pytest.mark.parametrize("kind", [wire.LSTAT, wire.FSTAT, wire.READ, wire.OPEN, wire.CLOSE])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_instead_of_a_reply_ends_in_an_error(
    server: HostileSftp, source: SftpSource, kind: int, garbage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server.misbehave = only(kind, "x.tif", lambda request: GARBAGE[garbage](request.number))
    try:
        one_file(server, source)
    except SourceUnavailable as error:
        assert error.message
    assert server.sessions < 15
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_instead_of_a_listing_is_never_a_complete_one(
    server: HostileSftp, source: SftpSource, garbage: str
) -> None:
    for kind in (wire.OPENDIR, wire.READDIR):
        server.misbehave = only(kind, "/root", lambda request: GARBAGE[garbage](request.number))
        try:
            (listing,) = source.scan([ROOT])
        except SourceUnavailable:
            continue
        assert not listing.complete


@pytest.mark.parametrize("handle", [b"", b"h" * 300])
def test_handles_out_of_bounds_are_garbage(server: HostileSftp, source: SftpSource, handle: bytes) -> None:
    answer = lambda request: [packet(wire.HANDLE, request.number, wire.string(handle))]  # noqa: E731
    server.misbehave = only(wire.OPEN, "x.tif", answer)
    try:
        assert isinstance(one_file(server, source)[1], EntryUnreadable)
    except SourceUnavailable as error:
        assert "handle" in error.message


# --- login -----------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_tried_once_and_again_only_when_it_changed(server: HostileSftp) -> None:
    said = ["wrong"]
    source = make(server, password=lambda: said[0], secret_hint="syncd secret Bhushanji")
    for _ in range(3):
        with pytest.raises(SourceAuthFailed) as caught:
            source.check()
        assert caught.value.hint == "syncd secret Bhushanji"
    assert server.logins == [False]
    assert "wrong" not in caught.value.message
    said[0] = server.password
    source.check()
    source.close()
    assert server.logins == [False, True]


def test_a_server_that_takes_no_passwords_is_named(
    server: HostileSftp, source: SftpSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.hostile_sftp._Door.get_allowed_auths", lambda *_: "publickey")
    monkeypatch.setattr("tests.support.hostile_sftp._Door.check_auth_password", lambda *_: 2)
    with pytest.raises(SourceAuthFailed, match="publickey"):
        source.check()
