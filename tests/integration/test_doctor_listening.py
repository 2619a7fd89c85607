"""`syncd doctor` on the port and the socket that the daemon is to have, and on what state and target lie on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.cli.main import main
from syncd.client import file_systems
from syncd.client.address import SOCKET
from syncd.client.listeners import Holder
from syncd.doctor import listening
from syncd.doctor.checks import Level
from syncd.store.state import StateDirectory
from syncd.web.server import ApiServer
from tests.support.fake_service import FakeService
from tests.support.ports import free_port

Doctor = Callable[[], dict[str, dict[str, Any]]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def file(tmp_path: Path, port: int) -> Path:
    (tmp_path / "share").mkdir()
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("a-token-of-some-length")
    path = tmp_path / "config.toml"
    path.write_text(
        '[host]\nstate_dir = "state"\n[[mirror]]\nname = "B"\nsource = "file://./share"\ntarget = "data"\n'
        f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "token"\n'
    )
    return path


@pytest.fixture
def doctor(file: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    def run() -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        main(["-c", str(file), "doctor", "--json"])
        return {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    return run


@contextlib.contextmanager
def listener(port: int) -> Iterator[None]:
    with contextlib.closing(socket.create_server(("127.0.0.1", port))):
        yield


def test_a_free_port_is_left_free(doctor: Doctor, port: int) -> None:
    told = doctor()
    assert (told["API port"]["status"], told["API port"]["seen"]) == ("ok", f"127.0.0.1:{port} is free for the daemon")
    assert "API socket" not in told
    with listener(port):
        pass


def test_another_programs_port_fails_with_its_name(doctor: Doctor, port: int) -> None:
    with listener(port):
        check = doctor()["API port"]
    assert check["status"] == "fail"
    assert f"127.0.0.1:{port}" in check["seen"]
    assert f"process {os.getpid()} (" in check["seen"]
    assert "another port for api.listen" in check["todo"]


def test_a_daemon_of_ours_may_have_it(doctor: Doctor, port: int, tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path / "state", create=True).lock():
        assert "without listening there" in doctor()["API port"]["seen"]
        with listener(port):
            assert doctor()["API port"]["seen"] == f"127.0.0.1:{port}: the daemon (process {os.getpid()}) listens there"


def test_where_proc_tells_nothing_the_daemon_is_asked(
    doctor: Doctor, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "tcp_holder", lambda _: Holder())
    service = FakeService()
    server = ApiServer(service, tmp_path / "s", listen=("127.0.0.1", port), token=lambda: "x")
    server.start()
    try:
        with StateDirectory.open(tmp_path / "state", create=True).lock():
            monkeypatch.setattr(StateDirectory, "holder_pid", lambda _: service.health()["pid"])
            assert doctor()["API port"]["status"] == "ok"
            monkeypatch.setattr(StateDirectory, "holder_pid", lambda _: 999_999)
            assert doctor()["API port"]["status"] == "fail"
    finally:
        server.close()


def test_what_is_in_the_sockets_place_is_told(
    doctor: Doctor, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state" / SOCKET
    path.mkdir(parents=True)
    check = doctor()["API socket"]
    assert (check["status"], check["seen"]) == ("fail", f"{path} is no socket, and is in its place")
    path.rmdir()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
        end.bind(str(path))
        end.listen()
        monkeypatch.setattr(listening, "ANSWER_S", 0.3)
        *_, taken = listening.check_addresses(config.load(file, {}))
        assert (taken.name, taken.status) == ("API socket", Level.FAIL)
        assert f"{path} is taken: process {os.getpid()} (" in taken.seen
    assert "API socket" not in doctor(), "a stale one is replaced"


# --- what it lies on


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Path]:
    """A real overlay, as a container's own layer is."""
    top = tmp_path / "disk"
    top.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top)], capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted: needs root")
    for name in ("lower", "upper", "work", "merged"):
        (top / name).mkdir()
    options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
    merged = top / "merged"
    done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=False)
    try:
        if done.returncode:
            pytest.skip("an overlay cannot be mounted here")
        yield merged
        subprocess.run(["umount", str(merged)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(top)], check=True)


def test_state_and_target_in_a_containers_layer_are_told(doctor: Doctor, file: Path, layer: Path) -> None:
    text = file.read_text()
    file.write_text(text.replace('"state"', f'"{layer}/state"').replace('"data"', f'"{layer}/data"'))
    for _ in ("before the first run", "after it"):
        told = doctor()
        assert told["state directory"]["status"] == "warn"
        assert "it goes with the container" in told["state directory"]["seen"]
        assert "volume" in told["state directory"]["todo"]
        assert told["file system"]["status"] == "warn"
        assert "go with the container" in told["file system"]["seen"]
        assert main(["-c", str(file), "run-once"]) == 0


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "virtiofs", "9p", "fuse.sshfs", "fakeowner"])
def test_a_state_on_a_shared_file_system_fails(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("syncd.store.state.file_system_type", lambda _: kind)
    check = doctor()["state directory"]
    assert check["status"] == "fail"
    assert f"lies on a network file system ({kind})" in check["seen"]
    assert check["todo"] == "set host.state_dir to a directory on a local disk"


@pytest.mark.parametrize(("kind", "network"), [("nfs", True), ("smb3", True), ("grpcfuse", True), ("fuse.mfs", True),
    ("overlay", False), ("ext4", False), ("", False), ("fuseblk", False), ("tmpfs", False)])  # fmt: skip
def test_kinds_of_file_systems(kind: str, network: bool) -> None:
    assert file_systems.is_network(kind) is network
    assert file_systems.is_layer(kind) is (kind == "overlay")
