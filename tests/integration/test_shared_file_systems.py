"""State and target on a file system that machines share, mounted for real: refused and warned of, by commands, doctor
and workers; and one whose server has gone away costs its deadline and no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.doctor.checks import Level, Pace
from syncd.doctor.examine import examine_host, examine_mirrors
from tests.support.fuse import shared_mount

ROOT = Path(__file__).parents[2]
QUICK = replace(Pace(), target_s=1.0, whole_s=10.0)


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    """A folder where a "server" is mounted, by a name as sshfs and its like have it."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    with shared_mount(folder, "fuse.sshfs"):
        yield folder


def configured(tmp_path: Path, *, state: Path, target: Path) -> Path:
    (tmp_path / "share").mkdir()
    file = tmp_path / "config.toml"
    file.write_text(
        f'[host]\nstate_dir = "{state}"\n[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "{target}"\n'
    )
    return file


def run(module: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    env = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    argv = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(
        argv, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=110, check=False
    )


def doctor(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    capsys.readouterr()
    code = main(["-c", str(file), "doctor", "--json"])
    return code, {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


def test_a_state_there_is_refused_by_doctor_and_by_each_command(
    share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configured(tmp_path, state=share / "state", target=tmp_path / "data")
    code, told = doctor(file, capsys)
    assert code == 3
    check = told["state directory"]
    assert check["status"] == "fail"
    assert check["seen"].startswith(f"the state directory {share / 'state'} lies on a network file system (fuse.sshfs)")
    assert check["todo"] == "set host.state_dir to a directory on a local disk"
    for verb in ("run-once", "run"):
        done = run("syncd", "-c", file, verb)
        assert done.returncode == 2
        assert "lies on a network file system (fuse.sshfs)" in done.stderr
        assert "next: set host.state_dir to a directory on a local disk" in done.stderr


def test_a_target_there_is_warned_of(share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, state=tmp_path / "state", target=share / "B")
    code, told = doctor(file, capsys)
    assert code == 0
    assert told["file system"]["status"] == "warn"
    assert told["file system"]["seen"].startswith("fuse.sshfs, which is shared over a network")
    assert told["file system"]["todo"] == "choose a target on a local disk"


@pytest.mark.parametrize("verb", ["doctor", "run"])
def test_a_workers_state_there_is_refused(share: Path, tmp_path: Path, verb: str) -> None:
    file = tmp_path / "worker.toml"
    file.write_text(f'[host]\nstate_dir = "{share}/state"\n[nsq]\nnsqd_tcp_address = "127.0.0.1:1"\n')
    done = run("worker_glue", "-c", file, verb)
    assert done.returncode == (3 if verb == "doctor" else 2)
    assert "lies on a network file system (fuse.sshfs)" in (done.stdout if verb == "doctor" else done.stderr)


def test_a_server_that_went_away_is_told_within_the_deadline(tmp_path: Path) -> None:
    away = tmp_path / "mounted"
    away.mkdir()
    file = configured(tmp_path, state=away / "state", target=away / "B")
    env = {"HOME": str(tmp_path)}
    with shared_mount(away, "fuse.sshfs", silent=True):
        settings = config.load(file, env)
        began = time.monotonic()
        host = examine_host(settings, None, pace=QUICK)
        (mirror,) = examine_mirrors(settings, pace=QUICK)
        took_s = time.monotonic() - began
    assert took_s < QUICK.whole_s
    for name, checks in (("state directory", host.checks), ("target", mirror.checks)):
        check = next(each for each in checks if each.name == name)
        assert check.status is Level.FAIL
        assert "no answer within 1 s: is it on a server or disk that is away?" in check.seen
        assert check.todo
