"""worker-glue doctor on what a container got wrong: its state, the daemon's token."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.client.address import SocketAddress, TcpAddress
from syncd.core.clocks import Apart
from worker_glue.doctor import files, local
from worker_glue.doctor.checks import Check, Level
from worker_glue.running.settings import load


def state(tmp_path: Path) -> Check:
    env = {"HOME": str(tmp_path)}
    return next(check for check in local.checks(load(None, env), env) if check.name == "state")


@pytest.mark.parametrize(
    ("kind", "level", "said"),
    [
        ("ext4", Level.OK, "can be written, on ext4 (local)"),
        ("", Level.OK, "can be written, on an unknown file system"),
        ("overlay", Level.WARN, "results that MongoDB has not taken go with it"),
        ("virtiofs", Level.FAIL, "a network file system (virtiofs)"),
        ("fakeowner", Level.FAIL, "a network file system (fakeowner)"),
    ],
)
def test_what_the_state_lies_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: Level, said: str
) -> None:
    monkeypatch.setattr(local, "file_system_type", lambda _: kind)
    check = state(tmp_path)
    assert check.status is level
    assert said in check.seen
    assert bool(check.todo) is (level is not Level.OK)


def test_a_token_that_others_can_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(0o644)
    (check,) = files._token(TcpAddress("127.0.0.1", 1, path))
    assert (check.status, check.todo) == (Level.WARN, f"chmod 600 {path}")
    assert f"{path} is open to others" in check.seen
    path.chmod(0o600)
    assert not list(files._token(TcpAddress("127.0.0.1", 1, path)))
    assert not list(files._token(TcpAddress("127.0.0.1", 1, tmp_path / "none")))
    assert not list(files._token(SocketAddress(tmp_path / "socket")))


def test_the_daemons_clock_is_told_by_its_status() -> None:
    found: list[Apart] = []
    files._compare("2026-01-01T00:00:10Z", 1_767_225_600.0, found)
    assert found == [Apart("the daemon's", 10.5)]
    for nonsense in (None, 5, "", "yesterday"):
        files._compare(nonsense, 0.0, found)
    assert len(found) == 1
