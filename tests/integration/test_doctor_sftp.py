"""`syncd doctor` against a real sshd: name, port, banner, host key, login, folder, listing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.doctor.checks import Check, Group, Level, Pace
from syncd.doctor.examine import examine_mirrors
from tests.support.sshd import SshServer, prepare_sshd, write_key

QUICK = Pace(connect_s=2, setup_s=4, stall_s=3, hops_s=10, check_s=8, sample_s=3, listing_s=6, whole_s=25)
HOPS = ["name", "port", "banner", "host key", "login", "folder"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    base = tmp_path_factory.mktemp("ssh")
    root = base / "tree"
    (root / "hin-typed").mkdir(parents=True)
    (root / "hin-typed" / "पत्र 1 .jpg").write_bytes(b"x" * 100)
    (root / "bad:name.pdf").write_bytes(b"y")
    server = prepare_sshd(base / "sshd", root)
    server.start()
    yield server
    server.stop()


def examine(folder: Path, server: SshServer, **given: object) -> Group:
    keys = {
        "source": server.url(),
        "key_file": server.key_file,
        "known_hosts_file": server.known_hosts_file,
    } | given
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    file = folder / "config.toml"
    file.write_text(f'[host]\nstate_dir = "state"\n[[mirror]]\nname = "B"\ntarget = "target"\n{lines}')
    (group,) = examine_mirrors(config.load(file, {"HOME": str(folder)}), "syncd", QUICK)
    return group


def by_name(group: Group) -> dict[str, Check]:
    return {check.name: check for check in group.checks}


def expect(group: Group, bad: str) -> Check:
    """Require that this hop failed alone, that those before it are fine, and that those after it were not tried."""
    checks = by_name(group)
    assert [check.name for check in group.checks if check.status is Level.FAIL] == [bad]
    at = HOPS.index(bad)
    assert [checks[name].status for name in HOPS[:at]] == [Level.OK] * at
    assert all(checks[name].seen == f"not tried: {bad} failed" for name in [*HOPS[at + 1 :], "listing"])
    assert checks[bad].todo
    return checks[bad]


def test_every_hop_to_a_server_that_is_well(server: SshServer, tmp_path: Path) -> None:
    group = examine(tmp_path, server)
    checks = by_name(group)
    assert all(checks[name].status is Level.OK for name in HOPS)
    assert checks["banner"].seen.startswith("SSH-2.0-OpenSSH")
    assert str(server.known_hosts_file) in checks["host key"].seen
    assert checks["listing"].seen == "1 file (100 B) to be mirrored in 2 folders, which is everything"
    assert "bad:name.pdf" in checks["names"].seen


def test_an_unknown_host_key_shows_the_line_that_pins_it(server: SshServer, tmp_path: Path) -> None:
    check = expect(examine(tmp_path, server, known_hosts_file=tmp_path / "none"), "host key")
    assert "not known" in check.seen
    assert server.known_hosts_file.read_text().split()[2] in check.todo


def test_a_changed_host_key_is_told_apart(server: SshServer, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    other.write_text(f"[127.0.0.1]:{server.port} {write_key(tmp_path / 'other')}\n")
    check = expect(examine(tmp_path, server, known_hosts_file=other), "host key")
    assert "changed" in check.seen


def test_a_key_that_the_server_refuses_is_tried_once(server: SshServer, tmp_path: Path) -> None:
    before = server.log.count("authenticating user")
    write_key(tmp_path / "stranger")
    check = expect(examine(tmp_path, server, key_file=tmp_path / "stranger"), "login")
    assert "refused" in check.seen
    assert "authorized_keys" in check.todo
    deadline = time.monotonic() + 10
    while server.log.count("authenticating user") == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.log.count("authenticating user") == before + 1


def test_a_folder_that_is_not_there(server: SshServer, tmp_path: Path) -> None:
    check = expect(examine(tmp_path, server, source=f"{server.url()}/no such"), "folder")
    assert "not there" in check.seen


def test_where_nothing_listens_and_a_host_that_is_not_known(server: SshServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "refused" in expect(examine(tmp_path, server, source=f"sftp://u@127.0.0.1:{port}/x"), "port").seen
    expect(examine(tmp_path, server, source="sftp://u@no-such-host.invalid/x"), "name")


@pytest.mark.parametrize(
    ("greeting", "said"),
    [(b"220 mail.example ESMTP\r\n", "220 mail.example"), (b"", "says nothing"), (None, "closes the connection")],
)
def test_where_something_else_answers_or_nobody(
    server: SshServer, tmp_path: Path, greeting: bytes | None, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(20)

        def greet() -> None:
            end, _ = other.accept()
            with end:
                if greeting is not None:
                    end.sendall(greeting)
                    end.settimeout(20)
                    end.recv(1000)

        greeter = threading.Thread(target=greet)
        greeter.start()
        port = other.getsockname()[1]
        group = examine(tmp_path, server, source=f"sftp://u@127.0.0.1:{port}/x")
        greeter.join(20)
    assert said in expect(group, "banner").seen
