"""Dropped, stalled and tampered connections: the work goes on where it was, or ends in one error; never wrong bytes."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator

import pytest

from syncd.core.errors import EntryChanged, SourceAuthFailed, SourceUnavailable
from syncd.core.model import ROOT, RelPath, Wanted
from syncd.ports import Fetched
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.source import SmbSource
from tests.support.faultproxy import Direction, Ending, FaultProxy
from tests.support.queues import KeptBytes, ListQueue, Sinks, error_of, fetch_all, scan_all, want_all
from tests.support.smbd import SmbServer, start_smbd

LIMITS = SmbLimits(setup_s=5, stall_s=1, ask_s=2, reconnect_s=8)
FILES = {"d/big": 3_000_001, "d/e/small": 18_432, "empty": 0, **{f"many/{number}": 20_000 for number in range(120)}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmbServer]:
    with start_smbd(tmp_path_factory.mktemp("smb")) as running:
        for name, size in FILES.items():
            path = running.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))
        yield running


@pytest.fixture
def proxy(server: SmbServer) -> Iterator[FaultProxy]:
    with FaultProxy((server.host, server.port)) as running:
        yield running


@contextlib.contextmanager
def through(server: SmbServer, proxy: FaultProxy, limits: SmbLimits = LIMITS, **options: object) -> Iterator[SmbSource]:
    source = SmbSource(
        host=proxy.host, port=proxy.port, share=server.share, username=server.username,
        password=lambda: server.password, limits=limits, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        yield source
    finally:
        source.close()


def everything_is_right(server: SmbServer, source: SmbSource) -> None:
    sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
    assert outcomes.keys() == FILES.keys()
    for path, outcome in outcomes.items():
        assert isinstance(outcome, Fetched), outcome
        assert sinks.content(path) == (server.root / path).read_bytes()


def conversation(server: SmbServer) -> tuple[int, int, int]:
    """Bytes to the client: until logged in, until listed, in all."""
    with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
        source.check()
        logged_in = proxy.passed(Direction.TO_CLIENT)
        listings = scan_all(source)
        listed = proxy.passed(Direction.TO_CLIENT)
        fetch_all(source, want_all(listings))
        return logged_in, listed, proxy.passed(Direction.TO_CLIENT)


def cut_offsets(server: SmbServer) -> list[int]:
    """A seeded sample over the whole conversation, denser where it is denser; SYNCD_EXHAUSTIVE asks for 500."""
    logged_in, listed, end = conversation(server)
    count = 500 if os.environ.get("SYNCD_EXHAUSTIVE") else 40
    seed = random.Random(6)
    spans = [(logged_in, listed), (listed, listed + 200_000), (listed, end)]
    return [seed.randrange(*spans[number % 3]) for number in range(count)]


@pytest.mark.timeout(1200)
def test_a_session_dropped_at_any_byte_goes_on_and_ends_right(server: SmbServer) -> None:
    for number, offset in enumerate(cut_offsets(server)):
        ending = Ending.RESET if number % 2 else Ending.CLOSE
        with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
            source.check()
            proxy.cut_after(max(offset - proxy.passed(Direction.TO_CLIENT), 0), Direction.TO_CLIENT, ending)
            everything_is_right(server, source)
            assert proxy.accepted > 1, f"the cut at {offset} hit nothing"


def test_requests_cut_on_their_way_are_asked_again(server: SmbServer) -> None:
    seed = random.Random(7)
    for _ in range(8):
        with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
            source.check()
            proxy.cut_after(seed.randrange(30_000), Direction.TO_SERVER, Ending.RESET)
            everything_is_right(server, source)


def test_several_drops_in_a_row_are_survived(server: SmbServer) -> None:
    with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
        source.check()
        proxy.cut_after(700_000, Direction.TO_CLIENT, Ending.RESET, times=8)
        everything_is_right(server, source)


def test_a_stall_is_noticed_and_survived(server: SmbServer) -> None:
    with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
        source.check()
        proxy.cut_after(500_000, Direction.TO_CLIENT, Ending.SWALLOW)
        everything_is_right(server, source)
        assert proxy.accepted > 1


def test_a_large_file_goes_on_at_its_offset_and_is_not_read_twice(server: SmbServer) -> None:
    with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
        wanted = [each for each in want_all(scan_all(source)) if each.path == "d/big"]
        before = proxy.passed(Direction.TO_CLIENT)
        proxy.cut_after(2_500_000, Direction.TO_CLIENT, Ending.CLOSE)
        sinks, outcomes = fetch_all(source, wanted)
        assert isinstance(outcomes["d/big"], Fetched)
        assert sinks.content("d/big") == (server.root / "d/big").read_bytes()
        assert proxy.passed(Direction.TO_CLIENT) - before < 3_000_001 + 2 * (1 << 20)


def test_a_file_replaced_while_its_connection_is_lost_is_not_mixed_with_the_new_one(server: SmbServer) -> None:
    path, other = server.root / "d/swapped", server.directory / "other"
    path.write_bytes(b"a" * 9_000_000)
    other.write_bytes(b"b" * 9_000_000)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    os.utime(other, (1_600_000_000, 1_600_000_000))

    class Swapping(Sinks):
        def __call__(self, wanted: Wanted) -> KeptBytes:
            if other.exists():
                other.replace(path)
            return super().__call__(wanted)

    try:
        with FaultProxy((server.host, server.port)) as proxy, through(server, proxy) as source:
            wanted = [each for each in want_all(scan_all(source)) if each.path == "d/swapped"]
            proxy.cut_after(5_000_000, Direction.TO_CLIENT, Ending.CLOSE)
            _, outcomes = fetch_all(source, wanted, Swapping())
            assert proxy.accepted > 1
            assert isinstance(error_of(outcomes["d/swapped"]), EntryChanged)
    finally:
        path.unlink()


def test_a_share_that_goes_away_is_one_error_in_time(server: SmbServer, proxy: FaultProxy) -> None:
    limits = SmbLimits(setup_s=2, stall_s=0.5, ask_s=1, reconnect_s=2)
    with through(server, proxy, limits) as source:
        listings = scan_all(source)
        proxy.down()
        began = time.monotonic()
        with pytest.raises(SourceUnavailable, match="refused"):
            fetch_all(source, want_all(listings))
        with pytest.raises(SourceUnavailable):
            list(source.scan([ROOT]))
        with pytest.raises(SourceUnavailable):
            source.read(RelPath("empty"))
        assert time.monotonic() - began < 30
        proxy.up()
        everything_is_right(server, source)


def test_a_share_that_comes_back_in_time_is_waited_for(server: SmbServer, proxy: FaultProxy) -> None:
    with through(server, proxy, SmbLimits(reconnect_s=20)) as source:
        listings = scan_all(source)
        queue = ListQueue(want_all(listings))
        sinks = Sinks()
        outcomes = source.fetch(queue, sinks)
        first = next(outcomes)
        proxy.down()
        threading.Timer(1.0, proxy.up).start()
        done = [first, *outcomes]
        assert len(done) == len(FILES)
        assert all(isinstance(each, Fetched) for each in done)


def test_connections_kept_idle_may_die(server: SmbServer, proxy: FaultProxy) -> None:
    with through(server, proxy) as source:
        source.check()
        for kill in (proxy.reset_all, proxy.close_all):
            kill()
            source.check()
            kill()
            assert source.read(RelPath("empty")).size == 0
            kill()
            everything_is_right(server, source)


def test_a_stalled_connection_that_was_kept_is_replaced(server: SmbServer, proxy: FaultProxy) -> None:
    with through(server, proxy) as source:
        source.check()
        proxy.cut_after(0, Direction.TO_SERVER, Ending.SWALLOW)
        source.check()


def test_close_ends_a_fetch_from_a_stalled_server(server: SmbServer, proxy: FaultProxy) -> None:
    with through(server, proxy, SmbLimits()) as source:
        listings = scan_all(source)
        proxy.stall()
        ended = threading.Event()

        def fetch() -> None:
            with contextlib.suppress(SourceUnavailable):
                fetch_all(source, want_all(listings))
            ended.set()

        thread = threading.Thread(target=fetch)
        thread.start()
        time.sleep(0.3)
        source.close()
        assert ended.wait(5)
        thread.join(5)


# --- tampering --------------------------------------------------------------------------------------------------------


def flip(server: SmbServer, proxy: FaultProxy, needle: bytes, at: int, mask: int) -> list[int]:
    """Change one byte in the replies' headers from now on; `at` counts from the protocol id."""
    hits: list[int] = []

    def mutate(_: int, direction: Direction, piece: bytes) -> bytes:
        found = piece.find(needle) if direction is Direction.TO_CLIENT else -1
        if found < 0 or found + at >= len(piece):
            return piece
        hits.append(found)
        changed = bytearray(piece)
        changed[found + at] ^= mask
        return bytes(changed)

    proxy.mutate = mutate
    return hits


@pytest.mark.parametrize(
    ("encrypt", "needle", "at", "mask"),
    [
        (False, b"\xfeSMB", 16, 8),  # the SIGNED flag
        (False, b"\xfeSMB", 48, 1),  # the signature
        (False, b"\xfeSMB", 70, 1),  # the body
        (False, b"\xfeSMB", 14, 1),  # the credits, also signed
        (True, b"\xfdSMB", 4, 1),
        (True, b"\xfdSMB", 60, 1),
    ],
)
def test_tampering_in_the_middle_ends_the_session(
    server: SmbServer, proxy: FaultProxy, encrypt: bool, needle: bytes, at: int, mask: int
) -> None:
    with through(server, proxy, encrypt=encrypt) as source:
        listings = scan_all(source)
        hits = flip(server, proxy, needle, at, mask)
        sinks = Sinks()
        with pytest.raises((SourceUnavailable, SourceAuthFailed)):
            list(source.fetch(ListQueue(want_all(listings)), sinks))
        assert hits
        for path, kept in sinks.kept.items():
            assert (server.root / path).read_bytes().startswith(bytes(kept.content))


def test_a_login_whose_replies_lose_their_signature_is_refused(server: SmbServer, proxy: FaultProxy) -> None:
    flip(server, proxy, b"\xfeSMB", 16, 8)
    with through(server, proxy) as source, pytest.raises((SourceUnavailable, SourceAuthFailed)):
        source.check()
