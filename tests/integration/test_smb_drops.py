"""Encrypted and capped sessions that end at any byte: the next connection goes on and every byte ends right.

The same for signed sessions is in test_smb_faults.py. SYNCD_EXHAUSTIVE=1 cuts at 500 offsets instead of a dozen.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.app.everything import App
from syncd.ports import Fetched
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.source import SmbSource
from tests.support.faultproxy import Direction, Ending, FaultProxy
from tests.support.queues import fetch_all, scan_all, want_all
from tests.support.smbd import SmbServer, start_smbd

FILES = {"large": 9_000_000, "medium": 700_000, **{f"small/{number}.jpg": 18_000 for number in range(30)}, "empty": 0}
CUTS = 500 if os.environ.get("SYNCD_EXHAUSTIVE") else 12
LIMITS = SmbLimits(stall_s=5.0, reconnect_s=20.0)


@pytest.fixture(scope="module")
def server() -> Iterator[SmbServer]:
    options = {"server smb encrypt": "required"}
    with tempfile.TemporaryDirectory(prefix="smb-") as folder, start_smbd(Path(folder), options=options) as running:
        for name, size in FILES.items():
            path = running.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(size))
            os.utime(path, (1_600_000_000, 1_600_000_000))
        yield running


def encrypted(server: SmbServer, proxy: FaultProxy) -> SmbSource:
    return SmbSource(
        host=proxy.host, port=proxy.port, share=server.share, username=server.username,
        password=lambda: server.password, encrypt=True, limits=LIMITS,
    )  # fmt: skip


def bytes_of_a_run(server: SmbServer, tmp_path: Path) -> tuple[int, int]:
    """Return how many bytes come to us until the login is done, and in all."""
    with FaultProxy((server.host, server.port)) as proxy:
        source = encrypted(server, proxy)
        source.check()
        logged_in = proxy.passed(Direction.TO_CLIENT)
        fetch_all(source, want_all(scan_all(source)))
        source.close()
        return logged_in, proxy.passed(Direction.TO_CLIENT)


@pytest.mark.timeout(1200)
def test_an_encrypted_session_dropped_at_any_byte_goes_on_and_ends_right(server: SmbServer, tmp_path: Path) -> None:
    logged_in, end = bytes_of_a_run(server, tmp_path)
    seed = random.Random(60)
    for number in range(CUTS):
        offset = seed.randrange(logged_in, end)
        with FaultProxy((server.host, server.port)) as proxy:
            source = encrypted(server, proxy)
            source.check()
            ending = Ending.RESET if number % 2 else Ending.CLOSE
            proxy.cut_after(max(offset - proxy.passed(Direction.TO_CLIENT), 0), Direction.TO_CLIENT, ending)
            sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
            assert all(isinstance(each, Fetched) for each in outcomes.values()), offset
            assert outcomes.keys() == FILES.keys()
            for path in FILES:
                assert sinks.content(path) == (server.root / path).read_bytes(), (path, offset)
            assert proxy.accepted > 1, f"the cut at {offset} hit nothing"
            source.close()
    assert server.open_files() == []


class Spoiling:
    """Changes the byte at one place of all that comes from the server, once."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, _connection: int, direction: Direction, piece: bytes) -> bytes:
        if direction is Direction.TO_SERVER or self._left < 0:
            return piece
        at, self._left = self._left, self._left - len(piece)
        return piece[:at] + bytes([piece[at] ^ 0x20]) + piece[at + 1 :] if at < len(piece) else piece


@pytest.mark.timeout(1200)
def test_a_changed_byte_in_an_encrypted_session_is_noticed_and_never_kept(server: SmbServer, tmp_path: Path) -> None:
    logged_in, end = bytes_of_a_run(server, tmp_path)
    seed = random.Random(61)
    for _ in range(CUTS // 2):
        at = seed.randrange(logged_in + 200, end)
        with FaultProxy((server.host, server.port)) as proxy:
            proxy.mutate = Spoiling(at)
            source = encrypted(server, proxy)
            source.check()
            sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
            source.close()
        for path, outcome in outcomes.items():
            assert isinstance(outcome, Fetched), (path, at)
            assert sinks.content(path) == (server.root / path).read_bytes(), (path, at)


def test_a_whole_run_with_encryption_one_connection_and_a_rate_survives_drops(
    server: SmbServer, tmp_path: Path
) -> None:
    """All of it together, as configured."""
    with FaultProxy((server.host, server.port)) as proxy:
        (tmp_path / "syncd.toml").write_text(
            f'[host]\nstate_dir = "{tmp_path}/state"\n[[mirror]]\nname = "M"\ntarget = "{tmp_path}/M"\n'
            f'source = "{server.url(port=proxy.port)}"\npassword_file = "{server.password_file}"\n'
            'min_free = "0%"\nsettle = "0.01s"\nencrypt = true\nconnections = 1\nrate = "20M"\n'
        )
        proxy.cut_after(2_000_000, Direction.TO_CLIENT, Ending.RESET, times=3)
        (report,) = App(config.load(tmp_path / "syncd.toml", {})).run_once().reports
        assert proxy.accepted > 1
    assert (report.fetched, report.failed) == (len(FILES), 0), report.as_json()
    for path in FILES:
        assert (tmp_path / "M" / path).read_bytes() == (server.root / path).read_bytes()
