"""A mirror with stand-by servers, over real ones: killed, away, back again; nothing is lost, nothing read twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncd.core.reasons import Reason
from syncd.core.resolution import State
from tests.support.cli import Done
from tests.support.daemon import Host, differing, files_in, fill, put, trashed
from tests.support.faultproxy import FaultProxy
from tests.support.ports import free_port
from tests.support.smbd import SmbServer, start_smbd
from tests.support.sshd import start_sshd


@dataclass
class World:
    """Two Samba servers with one password, and a host that mirrors the first as M; the second stands by."""

    main: SmbServer
    stand_by: SmbServer
    proxy: FaultProxy
    host: Host
    target: Path

    def configure(self, *stand_bys: str, main: str = "", password: Path | None = None, extra: str = "") -> None:
        listed = ", ".join(f'"{url}"' for url in stand_bys or (self.stand_by.url(),))
        more = f'fallback_sources = [{listed}]\nsettle = "0.1s"\n{extra}\n'
        main = main or self.main.url(port=self.proxy.port)
        self.host.add_mirror("M", main, self.target, password or self.main.password_file, more)

    def run(self, code: int = 0) -> dict[str, Any]:
        """Run once; return what is told of the mirror."""
        done = self.host("run-once", "--json")
        assert done.code == code, done.err
        return dict(done.json["mirrors"][0])

    def status(self) -> Done:
        return self.host("status", "--json")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    fill(tmp_path / "main", 30)
    shutil.copytree(tmp_path / "main", tmp_path / "copy")
    with ExitStack() as stack:
        main = stack.enter_context(start_smbd(tmp_path / "m", root=tmp_path / "main"))
        stand_by = stack.enter_context(start_smbd(tmp_path / "s", root=tmp_path / "copy", password=main.password))
        proxy = stack.enter_context(FaultProxy(("127.0.0.1", main.port)))
        world = World(main, stand_by, proxy, Host(tmp_path), tmp_path / "data" / "M")
        world.configure()
        yield world
        if stand_by.process.poll() is None:
            assert stand_by.open_files() == []


def test_the_main_server_is_killed_and_comes_back(world: World, tmp_path: Path) -> None:
    world.configure(main=world.main.url())
    assert world.run()["fetched"] == 30
    world.main.stop()
    put(world.stand_by.root, "set 0/pages/new.jpg", b"new")
    put(world.main.root, "set 0/pages/new.jpg", b"new")
    (world.stand_by.root / "set 1/pages/001 two  spaces.PDF").unlink()
    put(world.stand_by.root, "set 2/pages/002 पत्र ३ .JPG", b"an older version", 10**8)
    for fetched, unchanged in ((1, 29), (0, 30)):
        told = world.run()
        assert (told["fetched"], told["unchanged"], told["retired"], told["absent"]) == (fetched, unchanged, 0, 0)
        assert told["stand_by"]["server"] == world.stand_by.url()
        assert str(world.main.port) in told["stand_by"]["why"]
        assert told["stand_by"]["differs"] == 1
    assert differing(world.main.root, world.target) == ""
    status = world.status()
    assert status.code == 0
    (mirror,) = status.json["mirrors"]
    assert mirror["stand_by"]["server"] == world.stand_by.url()
    assert "refused" in mirror["message"]
    said = world.host("status").out
    assert world.stand_by.url() in said
    assert world.main.password not in said
    with start_smbd(tmp_path / "m", root=world.main.root, port=world.main.port, password=world.main.password):
        told = world.run()
        assert (told["bytes"], told["unchanged"], told["fetched"], "stand_by" in told) == (0, 31, 0, False)
        (mirror,) = world.status().json["mirrors"]
        assert (mirror["state"], mirror["stand_by"], mirror["message"]) == ("ok", None, "")
        assert differing(world.main.root, world.target) == ""
    assert trashed(world.target) == []


def test_all_servers_away_is_exit_10_and_names_them_all(world: World) -> None:
    world.run()
    nowhere = f"smb://u@127.0.0.1:{free_port()}/s"
    world.configure(nowhere, world.stand_by.url())
    world.proxy.down()
    told = world.run()
    assert told["stand_by"]["server"] == world.stand_by.url()
    assert nowhere in told["stand_by"]["why"]
    world.stand_by.stop()
    done = world.host("run-once")
    assert done.code == 10
    assert done.err.count("error: ") == 1
    for port in (world.proxy.port, world.stand_by.port):
        assert f"127.0.0.1:{port}" in done.err
    assert nowhere in done.err
    assert len(files_in(world.target)) == 30


def test_a_wrong_password_at_the_main_server_is_not_hidden_by_a_stand_by(world: World, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    wrong.chmod(0o600)
    world.configure(password=wrong)
    done = world.host("run-once")
    assert done.code == 12, done.err
    assert "syncd secret M" in done.err
    assert f":{world.stand_by.port}" not in done.err
    assert files_in(world.target) == {}
    world.proxy.down()
    done = world.host("run-once")
    assert done.code == 12, done.err
    assert "a stand-by" in done.err
    assert str(world.proxy.port) in done.err


def test_sftp_and_a_local_folder_stand_by_for_smb(world: World, tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    with start_sshd(tmp_path / "sshd", root=world.stand_by.root) as sshd:
        keys = f'key_file = "{sshd.key_file}"\nknown_hosts_file = "{sshd.known_hosts_file}"'
        world.configure(sshd.url(), f"file://{world.stand_by.root}", extra=keys)
        world.run()
        world.proxy.down()
        put(world.stand_by.root, "over ssh.jpg", b"1")
        told = world.run()
        assert (told["fetched"], told["unchanged"], told["stand_by"]["server"]) == (1, 30, sshd.url())
    put(world.stand_by.root, "from the disk.jpg", b"2")
    told = world.run()
    assert (told["fetched"], told["stand_by"]["server"]) == (1, f"file://{world.stand_by.root}")
    for name in ("over ssh.jpg", "from the disk.jpg"):
        put(world.main.root, name, (world.stand_by.root / name).read_bytes())
    world.proxy.up()
    told = world.run()
    assert (told["bytes"], told["unchanged"]) == (0, 32)


def test_the_daemon_fails_over_serves_what_somebody_waits_for_and_goes_back(world: World) -> None:
    """Back at once: the watch on the main server, which tries again and again, says that it is there."""
    world.configure(extra='every = "1h"')
    with world.host.daemon() as daemon:
        daemon.until_ok()
        daemon.until(lambda: daemon.mirror("M")["watching"]["source"] == "on", "it watches")
        put(world.stand_by.root, "set 0/new 1.jpg", os.urandom(5_000))
        put(world.stand_by.root, "set 0/new 2.jpg", os.urandom(5_000))
        world.proxy.down()
        found = daemon.api.ensure("M/set 0/new 1.jpg", 30)
        assert (found.state, found.size) == (State.READY, 5_000)
        missing = daemon.api.ensure("M/set 0/none.jpg", 10)
        assert (missing.state, missing.reason) == (State.UNAVAILABLE, Reason.SOURCE_UNAVAILABLE)
        assert world.run()["fetched"] == 1
        assert daemon.mirror("M")["stand_by"]["server"] == world.stand_by.url()
        hop = next(each for each in daemon.status["hops"] if each["name"] == "source M")
        assert hop["state"] == "down"
        assert world.stand_by.url() in hop["detail"]
        for name in ("new 1.jpg", "new 2.jpg"):
            shutil.copy2(world.stand_by.root / "set 0" / name, world.main.root / "set 0" / name)
        world.proxy.up()
        daemon.until(lambda: daemon.mirror("M")["stand_by"] is None, "the main server is asked again")
        daemon.until_ok()
        assert differing(world.main.root, world.target) == ""
        assert daemon.log.count("source.stand_by") == 1
        assert daemon.log.count("source.main_again") == 1
        events = [each["event"] for each in daemon.api.events(0).events if each["path"].startswith("set 0/new")]
        assert events == ["ready", "ready"]
        assert daemon.stop() == 0
