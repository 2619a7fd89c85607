"""`rate` in the configuration, as a whole run keeps it: from a folder, over SMB and over SFTP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.app.everything import App
from tests.support.smbd import start_smbd
from tests.support.sshd import start_sshd

SIZES = (700_000, *[20_000] * 15)
CONFIG = """
[host]
state_dir = "{state}"
[[mirror]]
name = "M"
source = "{source}"
target = "{target}"
settle = "0.01s"
min_free = "0%"
rate = "{rate}"
{login}
"""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for number, size in enumerate(SIZES):
        (folder / f"{number}.jpg").write_bytes(os.urandom(size))
        os.utime(folder / f"{number}.jpg", (1_600_000_000, 1_600_000_000))
    return folder


@pytest.fixture(scope="module", params=["file", "smb", "sftp"])
def source(request: pytest.FixtureRequest, originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the lines of a mirror's source, as the configuration has them: url, then what logs in."""
    base = tmp_path_factory.mktemp("s")
    if request.param == "smb":
        with start_smbd(base, root=originals) as smb:
            yield f'{smb.url()}|password_file = "{smb.password_file}"'
    elif request.param == "sftp":
        with start_sshd(base, root=originals) as ssh:
            login = f'key_file = "{ssh.key_file}"\nknown_hosts_file = "{ssh.known_hosts_file}"'
            yield f"sftp://{ssh.username}@127.0.0.1:{ssh.port}{originals}|{login}"
    else:
        yield f"file://{originals}|"


@pytest.fixture
def timed_run(source: str, tmp_path: Path) -> Callable[[str], float]:
    """Give a function that mirrors everything at a rate into a new target; returns how long it took."""

    def run(rate: str) -> float:
        base = tmp_path / f"{rate.replace(' ', '').replace(';', '').replace(':', '')}"
        base.mkdir()
        url, login = source.split("|")
        names = {"state": base / "state", "target": base / "M", "source": url, "login": login, "rate": rate}
        (base / "syncd.toml").write_text(CONFIG.format(**names))
        app = App(config.load(base / "syncd.toml", {}))
        started = time.monotonic()
        (report,) = app.run_once().reports
        elapsed = time.monotonic() - started
        assert (report.fetched, report.failed, report.bytes) == (len(SIZES), 0, sum(SIZES)), report.as_json()
        return elapsed

    return run


def test_a_run_takes_as_long_as_its_rate_says(timed_run: Callable[[str], float]) -> None:
    slow, fast = timed_run("500K"), timed_run("2000K")
    assert slow >= 0.95 * sum(SIZES) / 512_000 - 0.3, "a first burst and the last pieces may be free"
    assert fast >= 0.95 * sum(SIZES) / 2_048_000 - 0.2
    assert slow > 1.3 * fast


def test_the_window_that_holds_now_decides(timed_run: Callable[[str], float]) -> None:
    limited, free = timed_run("00:00-24:00 1000K; 0"), timed_run("00:00-24:00 0; 100K")
    assert limited >= 0.95 * sum(SIZES) / 1_024_000 - 0.3
    assert free < sum(SIZES) / 102_400
