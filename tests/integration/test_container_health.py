"""`python -m syncd.client.health`, the health check of syncd's container, against a daemon's real socket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from syncd.client.address import SOCKET
from syncd.web.server import ApiServer
from tests.support.fake_service import FakeService


def _check(api: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SYNCD_API": api}
    argv = [sys.executable, "-m", "syncd.client.health"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=30)


def test_a_daemon_that_is_well(tmp_path: Path) -> None:
    path = tmp_path / SOCKET
    path.parent.mkdir()
    server = ApiServer(FakeService(), path)
    server.start()
    try:
        done = _check(f"unix://{path}")
    finally:
        server.close()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_daemon_is_not_well(tmp_path: Path) -> None:
    done = _check(f"unix://{tmp_path / SOCKET}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_cannot_be_used_is_said() -> None:
    done = _check("ftp://somewhere")
    assert done.returncode == 2
    assert "SYNCD_API" in done.stderr
