"""A real sshd behind a proxy that cuts, resets, stalls and goes away: files go on where they were, or we say why."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import EntryChanged, SourceUnavailable, SourceVanished
from syncd.core.model import ROOT, RelPath, Wanted
from syncd.ports import Fetched, Outcome
from syncd.sources.sftp import SftpSource
from tests.support.faultproxy import Direction, Ending, FaultProxy
from tests.support.queues import KeptBytes, ListQueue, Sinks, error_of, fetch_all, scan_all, want_all
from tests.support.sshd import SshServer, start_sshd

STALL_S = 1.0
DEADLINE_S = 40.0
LARGE = random.Random(1).randbytes(6_000_000)
SMALL = {f"folder {n % 5}/{n}.jpg": random.Random(n).randbytes(15_000) for n in range(100)}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    directory = tmp_path_factory.mktemp("sshd")
    root = directory / "tree"
    for path, content in {**SMALL, "large.tif": LARGE}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    with start_sshd(directory / "server", root=root) as server:
        yield server


@pytest.fixture
def proxy(sshd: SshServer) -> Iterator[FaultProxy]:
    with FaultProxy((sshd.host, sshd.port)) as started:
        yield started


@pytest.fixture
def source(sshd: SshServer, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpSource]:
    monkeypatch.setattr("syncd.sources.sftp.source.BACKOFF_S", (0.05,) * 4)
    made = SftpSource(
        host=proxy.host,
        port=proxy.port,
        username=sshd.username,
        folder=str(sshd.root),
        key_file=sshd.key_file,
        password=None,
        known_hosts_file=sshd.known_hosts_for(proxy.port, tmp_path / "known_hosts"),
        stall_s=STALL_S,
    )
    yield made
    made.close()


def wanted(source: SftpSource) -> list[Wanted]:
    return want_all(scan_all(source))


def assert_all_came(sinks: Sinks, outcomes: dict[str, Outcome]) -> None:
    for path, outcome in outcomes.items():
        assert isinstance(outcome, Fetched), error_of(outcome)
        assert sinks.content(path) == (LARGE if path == "large.tif" else SMALL[path])


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize("count", [1, 20_000, 500_000, 5_000_000])
def test_a_connection_that_ends_is_replaced_and_files_go_on(
    source: SftpSource, proxy: FaultProxy, ending: Ending, count: int
) -> None:
    """Nothing is delivered twice (the sink would hold too much), and what was delivered is not read again."""
    listed = wanted(source)
    fetch_all(source, listed[:1])
    before = proxy.passed(Direction.TO_CLIENT)
    proxy.cut_after(count, ending=ending)
    sinks, outcomes = fetch_all(source, listed)
    assert_all_came(sinks, outcomes)
    assert proxy.accepted >= 3
    read = proxy.passed(Direction.TO_CLIENT) - before
    assert read < (len(LARGE) + sum(map(len, SMALL.values()))) + 6_500_000, "in flight: at most the window again"


def test_several_losses_in_a_row_are_survived_while_bytes_come(source: SftpSource, proxy: FaultProxy) -> None:
    listed = wanted(source)
    proxy.cut_after(1_000_000, ending=Ending.RESET, times=5)
    assert_all_came(*fetch_all(source, listed))


def test_a_scan_survives_losses_with_each_listing_once(source: SftpSource, proxy: FaultProxy) -> None:
    source.check()
    proxy.cut_after(3_000, ending=Ending.RESET, times=1)
    listings = scan_all(source)
    assert all(each.complete for each in listings.values())
    assert len(listings) == 6
    assert proxy.accepted >= 2


def test_a_stall_is_noticed_and_the_connection_replaced(source: SftpSource, proxy: FaultProxy) -> None:
    listed = wanted(source)
    fetch_all(source, listed[:1])
    proxy.stall(Direction.TO_CLIENT)
    threading.Timer(STALL_S * 2, proxy.resume).start()
    started = time.monotonic()
    assert_all_came(*fetch_all(source, listed))
    assert STALL_S < time.monotonic() - started < DEADLINE_S


def test_a_file_edited_during_the_outage_does_not_go_on(source: SftpSource, proxy: FaultProxy, sshd: SshServer) -> None:
    listed = [each for each in wanted(source) if each.path == "large.tif"]
    target = sshd.root / "large.tif"
    kept = target.stat()

    class EditingSink(KeptBytes):
        def write(self, chunk: memoryview) -> None:
            if not self.content:
                target.write_bytes(LARGE[::-1])
                proxy.reset_all()
            super().write(chunk)

    (outcome,) = source.fetch(ListQueue(listed), lambda _: EditingSink())
    target.write_bytes(LARGE)
    os.utime(target, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert isinstance(error_of(outcome), EntryChanged)


def test_a_server_that_went_away_is_unavailable(source: SftpSource, proxy: FaultProxy) -> None:
    listed = wanted(source)
    proxy.down()
    started = time.monotonic()
    with pytest.raises(SourceUnavailable):
        fetch_all(source, listed)
    with pytest.raises(SourceUnavailable):
        list(source.scan([ROOT]))
    with pytest.raises(SourceUnavailable):
        source.read(RelPath("large.tif"))
    with pytest.raises(SourceUnavailable) as caught:
        source.check()
    assert time.monotonic() - started < DEADLINE_S
    assert "nothing listens" in caught.value.message
    proxy.up()
    source.check()
    assert_all_came(*fetch_all(source, listed))


def test_a_connection_that_died_while_idle_is_replaced_quietly(source: SftpSource, proxy: FaultProxy) -> None:
    listed = wanted(source)
    fetch_all(source, listed[:1])
    proxy.reset_all()
    source.check()
    assert source.read(listed[0].path) == listed[0].fingerprint
    assert len(scan_all(source)) == 6
    assert_all_came(*fetch_all(source, listed))


def test_a_server_that_accepts_and_says_nothing_is_unavailable_in_time(
    source: SftpSource, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.sources.sftp.connecting.CONNECT_S", 0.5)
    monkeypatch.setattr("syncd.sources.sftp.connecting.SETUP_S", 1.5)
    proxy.stall()
    started = time.monotonic()
    with pytest.raises(SourceUnavailable):
        source.check()
    assert time.monotonic() - started < DEADLINE_S


@pytest.mark.parametrize("count", [10, 500, 1500, 2500])
def test_a_login_cut_anywhere_is_unavailable_not_refused(
    source: SftpSource, proxy: FaultProxy, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A black hole in the middle of the set-up ends by its deadline, and the next try is free."""
    monkeypatch.setattr("syncd.sources.sftp.connecting.SETUP_S", 2.0)
    proxy.cut_after(count, ending=Ending.SWALLOW)
    with pytest.raises(SourceUnavailable):
        source.check()
    proxy.clear_cuts()
    monkeypatch.setattr("syncd.sources.sftp.connecting.SETUP_S", 20.0)
    source.check()


@pytest.mark.parametrize("call", ["fetch", "scan", "read", "check"])
def test_close_ends_a_call_that_waits_for_a_stalled_server(source: SftpSource, proxy: FaultProxy, call: str) -> None:
    """The stall itself would take STALL_S several times over to be given up."""
    listed = wanted(source)
    fetch_all(source, listed[:1])
    ended: list[BaseException] = []

    def run() -> None:
        try:
            match call:
                case "fetch":
                    fetch_all(source, listed)
                case "scan":
                    scan_all(source)
                case "read":
                    source.read(RelPath("large.tif"))
                case _:
                    source.check()
        except SourceUnavailable as error:
            ended.append(error)

    proxy.stall()
    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    source.close()
    thread.join(DEADLINE_S)
    assert time.monotonic() - started < 5
    assert len(ended) == 1


def test_the_root_vanishes_between_two_calls(source: SftpSource, sshd: SshServer) -> None:
    source.check()
    moved = sshd.root.with_name("moved")
    sshd.root.rename(moved)
    try:
        with pytest.raises(SourceVanished):
            source.check()
        (listing,) = source.scan([ROOT])
        assert not listing.complete
    finally:
        moved.rename(sshd.root)


def test_at_two_ms_round_trips_overlap(source: SftpSource, proxy: FaultProxy) -> None:
    """100 files take three round trips each: one after the other that would be far over a second."""
    listed = [each for each in wanted(source) if each.path != "large.tif"]
    fetch_all(source, listed[:1])
    proxy.set_latency(0.05)
    started = time.monotonic()
    fetch_all(source, listed)
    assert time.monotonic() - started < 100 * 3 * 0.1 / 4
