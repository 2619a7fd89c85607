"""`syncd remote` against real sshd: behind one a syncd that has really run; others are not as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Syncd
from tests.support.far_hosts import Desk, put_syncd, silent_server
from tests.support.sshd import SshServer, start_sshd, write_key


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    base = tmp_path_factory.mktemp("far")
    with start_sshd(base, root=base) as server:
        syncd = Syncd(base)
        (base / "share").mkdir()
        (base / "share" / "page 1 .txt").write_text("one")
        syncd.add_mirror("Bhushanji", f"file://{base}/share", base / "data")
        assert syncd.run_once().code == 0
        put_syncd(base / "bin" / "syncd")
        yield server


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def add_good(desk: Desk, far: SshServer, name: str = "good") -> None:
    desk.add(name, far, command=f"{far.directory}/bin/syncd", config=str(far.directory / "syncd.toml"))


def test_one_table_tells_of_a_host_that_is_well(desk: Desk, far: SshServer) -> None:
    add_good(desk, far)
    done = desk("remote", "status", "good")
    assert done.code == 0, done.err
    header, row, *rest = done.out.splitlines()
    assert header.split()[0] == "HOST"
    assert row.split()[0] == "good"
    assert "Bhushanji" in row
    assert " ok " in row
    assert rest == []


def test_hosts_that_are_not_well_stop_no_other(desk: Desk, far: SshServer, tmp_path: Path) -> None:
    add_good(desk, far)
    changed = tmp_path / "changed"
    changed.write_text(f"[127.0.0.1]:{far.port} {write_key(tmp_path / 'other')}\n")
    desk.add("changed", far, known_hosts_file=str(changed))
    desk.add("unknown", far, known_hosts_file=str(tmp_path / "nothing"))
    write_key(tmp_path / "stranger")
    desk.add("refused", far, key_file=str(tmp_path / "stranger"))
    with silent_server() as port:
        desk.add("silent", far, ssh=f"{far.username}@127.0.0.1:{port}")
        done = desk("remote", "status", "--all", "--json")
    assert done.code == 12, done.err
    told = {host["host"]: host for host in done.json["hosts"]}
    assert list(told) == ["good", "changed", "unknown", "refused", "silent"]
    assert told["good"]["answer"]["mirrors"][0]["files"] == 1
    assert {name: (host["exit_code"], host["error"] and host["error"]["kind"]) for name, host in told.items()} == {
        "good": (0, None),
        "changed": (12, "refused"),
        "unknown": (12, "refused"),
        "refused": (12, "refused"),
        "silent": (10, "unreachable"),
    }
    assert "has changed" in told["changed"]["error"]["message"]
    assert "ssh-keygen -R" in told["changed"]["error"]["hint"]
    assert "is not known" in told["unknown"]["error"]["message"]
    assert "Tried once" in told["refused"]["error"]["message"]
