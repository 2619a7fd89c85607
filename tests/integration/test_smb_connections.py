"""The `connections` cap: never more at a time, whatever is scanned, fetched and asked, and nothing waits for ever."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from syncd import config
from syncd.app.everything import App
from syncd.core.model import ROOT, Kind, RelPath, Wanted
from syncd.ports import Fetched
from syncd.sources.smb.source import SmbSource
from tests.support.faultproxy import FaultProxy
from tests.support.queues import ListQueue, Sinks, join
from tests.support.smbd import SmbServer, start_smbd

FOLDERS, FILES = 120, 4
MOST_WAITING = 20


@pytest.fixture(scope="module")
def server() -> Iterator[SmbServer]:
    with tempfile.TemporaryDirectory(prefix="smb-") as folder, start_smbd(Path(folder)) as running:
        for number in range(FOLDERS):
            (running.root / f"d{number}").mkdir()
            for each in range(FILES):
                path = running.root / f"d{number}" / f"{each}.jpg"
                path.write_bytes(os.urandom(3000))
                os.utime(path, (1_600_000_000, 1_600_000_000))
        yield running


@pytest.fixture
def far(server: SmbServer) -> Iterator[FaultProxy]:
    """The server, so far away that a scan would like more connections."""
    with FaultProxy((server.host, server.port), latency_s=0.01) as proxy:
        yield proxy


class Watched:
    """Looks all the time at how many connections there are."""

    def __init__(self, server: SmbServer) -> None:
        self.most = 0
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            self.most = max(self.most, len(self._server.sessions()))


class FullQueue(ListQueue):
    """Like the engine's backlog: put() waits while it is full, so that a scan cannot outrun the fetch."""

    def put(self, wanted: Wanted, *, first: bool = False) -> None:
        while len(self) >= MOST_WAITING:
            time.sleep(0.001)
        super().put(wanted, first=first)


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_scan_fetch_and_looks_together_keep_within_the_cap(
    server: SmbServer, far: FaultProxy, connections: int
) -> None:
    source = SmbSource(
        host=far.host, port=far.port, share=server.share, username=server.username,
        password=lambda: server.password, connections=connections,
    )  # fmt: skip
    queue, outcomes = FullQueue(closed=False), []
    fetching = threading.Thread(target=lambda: outcomes.extend(source.fetch(queue, Sinks())), daemon=True)
    with Watched(server) as watched:
        source.check()
        fetching.start()
        pending: list[RelPath] = [ROOT]
        for listing in source.scan(pending):
            for entry in listing.entries:
                path = join(listing.directory, entry.name)
                if entry.kind is Kind.DIRECTORY:
                    pending.append(path)
                else:
                    queue.put(Wanted(path, entry.fingerprint))
            if listing.directory.endswith("7"):
                assert source.read(RelPath(f"{listing.directory}/0.jpg")).size == 3000
        queue.close()
        fetching.join(60)
        assert not fetching.is_alive()
        source.close()
    assert len(outcomes) == FOLDERS * FILES
    assert all(isinstance(each, Fetched) for each in outcomes)
    assert watched.most <= connections
    assert watched.most == connections or connections == 3


def test_close_ends_whoever_waits_for_a_connection(server: SmbServer) -> None:
    source = SmbSource(
        host=server.host, port=server.port, share=server.share, username=server.username,
        password=lambda: server.password, connections=1,
    )  # fmt: skip
    held = source._pool.channel()
    ended = threading.Event()

    def look() -> None:
        with pytest.raises(Exception, match="closed"):
            source.check()
        ended.set()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    time.sleep(0.1)
    assert not ended.is_set()
    assert source._pool.wanted
    source.close()
    thread.join(10)
    assert ended.is_set()
    held.close()


def test_a_whole_run_over_one_connection(server: SmbServer, tmp_path: Path) -> None:
    (tmp_path / "syncd.toml").write_text(
        f'[host]\nstate_dir = "{tmp_path}/state"\n[[mirror]]\nname = "M"\nsource = "{server.url()}"\n'
        f'target = "{tmp_path}/M"\npassword_file = "{server.password_file}"\nmin_free = "0%"\nconnections = 1\n'
    )
    with Watched(server) as watched:
        (report,) = App(config.load(tmp_path / "syncd.toml", {})).run_once().reports
    assert (report.fetched, report.failed) == (FOLDERS * FILES, 0)
    assert watched.most == 1
