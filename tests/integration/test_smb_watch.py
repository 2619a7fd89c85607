"""SmbWatch against a real smbd: other clients are not in its way nor it in theirs, and what breaks is mended."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import SourceUnavailable
from syncd.core.model import RelPath
from syncd.ports import Hint
from syncd.sources.smb import watched
from syncd.sources.smb.limits import SmbLimits
from syncd.sources.smb.source import SmbSource
from syncd.sources.smb.watching import SmbWatch
from tests.support.faultproxy import FaultProxy
from tests.support.hints import Told, watching
from tests.support.hostile_smb import wait_until
from tests.support.require import require
from tests.support.smbd import SmbServer, start_smbd

FOLDERS = ("a", "b", "a/deep", "par/child")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="smb-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[SmbServer]:
    with start_smbd(folder, read_only=False) as running:
        fill(running)
        yield running


def fill(server: SmbServer) -> None:
    for each in FOLDERS:
        (server.root / each).mkdir(parents=True, exist_ok=True)
    (server.root / "a/file").write_bytes(b"x")


def watch_of(server: SmbServer, *, port: int = 0, **options: object) -> SmbWatch:
    return SmbSource(
        host=server.host,
        port=port or server.port,
        share=server.share,
        username=server.username,
        password=lambda: server.password,
        **options,  # type: ignore[arg-type]
    ).watcher()


@contextlib.contextmanager
def begun(server: SmbServer, **options: object) -> Iterator[tuple[SmbWatch, Told]]:
    """A watch that focuses on all folders."""
    source = watch_of(server, **options)  # type: ignore[arg-type]
    source.focus([RelPath(each) for each in FOLDERS])
    with watching(source) as told:
        told.everything()
        yield source, told


def smbclient(server: SmbServer, *commands: str) -> str:
    argv = [
        require("smbclient", "smbclient"), "-p", str(server.port), f"//{server.host}/{server.share}",
        "-U", server.username, "-c", "; ".join(commands),
    ]  # fmt: skip
    environment = {**os.environ, "PASSWD": server.password}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=30)
    return "".join(line for line in (done.stdout + done.stderr).splitlines(keepends=True) if "NT_STATUS" in line)


# --- nobody is in anybody's way (P6) ----------------------------------------------------------------------------------


def test_other_clients_write_rename_and_remove_what_is_watched(server: SmbServer) -> None:
    with begun(server) as (source, told):
        new = server.directory / "new"
        new.write_bytes(b"new")
        assert smbclient(server, f"put {new} a/file", "rename a/file a/other", "del a/other") == ""
        assert smbclient(server, "rename par/child par/renamed", "rename par par2") == ""
        assert (server.root / "par2/renamed").is_dir()
        since = told.mark()
        assert smbclient(server, "rmdir b") == ""
        told.of("", since=since)
        wait_until(lambda: not (server.root / "b").exists())
        since = told.mark()
        assert smbclient(server, "mkdir b") == ""
        told.of("b", since=since)
        (server.root / "b/x").write_bytes(b"on the server")
        told.of("b", since=told.mark() - 1)
        assert source.state == "on"


def test_folders_in_focus_are_removed_over_smb_with_all_above_them(server: SmbServer) -> None:
    """A folder on its way out is held for a round trip; a client that goes on at once may have to ask again."""

    def is_removed(name: str) -> bool:
        smbclient(server, f"deltree {name}")
        return not (server.root / name).exists()

    with begun(server):
        wait_until(lambda: is_removed("a"), 40)
        wait_until(lambda: is_removed("par"), 40)
        wait_until(lambda: server._open_files() != [] and not any("par" in path for path in server._open_files()), 40)


def test_watched_files_are_not_locked_and_the_folders_are_open_for_listing_only(server: SmbServer) -> None:
    with begun(server):
        locked = [line for line in server.status("-L").splitlines() if "DENY" in line]
        assert len(locked) == 1 + len(FOLDERS)
        for line in locked:
            assert "DENY_NONE" in line
            assert "RDONLY" in line
            assert "NONE" in line.split()[5:7]  # no oplock
        assert len(server.sessions()) == 1


# --- kinds of servers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"server max protocol": "SMB2_10"},
        {"server max protocol": "SMB3_00"},
        {"server smb encrypt": "required"},
        {"server signing": "mandatory"},
    ],
    ids=str,
)
def test_every_dialect_signed_or_sealed(folder: Path, options: dict[str, str]) -> None:
    with start_smbd(folder, options=options) as server:
        fill(server)
        with begun(server) as (_, told):
            for number in range(3):
                since = told.mark()
                (server.root / f"a/deep/{number}").touch()
                told.of("a/deep", since=since)
            assert len(server.sessions()) == 1


def test_a_server_with_change_notify_turned_off_says_so(folder: Path) -> None:
    with start_smbd(folder, options={"change notify": "no"}) as server:
        source = watch_of(server)
        with pytest.raises(SourceUnavailable, match="does not tell of changes") as caught:
            source.watch(lambda hint: pytest.fail(f"told {hint}"))
        assert "change notify" in caught.value.hint
        assert source.state.startswith("off: ")
        source.close()


def test_a_share_that_is_not_there_is_waited_for(server: SmbServer) -> None:
    moved = server.root.rename(server.root.with_name("moved"))
    source = watch_of(server)
    with watching(source) as told:
        wait_until(lambda: source.state.startswith("off: ") and "not there" in source.state)
        moved.rename(server.root)
        told.everything()


# --- too much at once -------------------------------------------------------------------------------------------------


def test_more_changes_than_samba_keeps_are_told_as_anything(server: SmbServer) -> None:
    """While nobody listens Samba keeps 1,000 changes of a handle; then it says only that there were more."""
    hold = threading.Event()
    hints: list[Hint] = []
    source = watch_of(server)
    source.focus([RelPath("a")])

    def tell(hint: Hint) -> None:
        hints.append(hint)
        hold.wait(20)

    thread = threading.Thread(target=source.watch, args=(tell,), name="test-slow", daemon=True)
    thread.start()
    wait_until(lambda: hints == [Hint(None)])
    for number in range(1_500):
        (server.root / f"a/{number}").touch()
    hold.set()
    wait_until(lambda: Hint(None) in hints[1:], 20)
    before = len(hints)
    (server.root / "a/last").touch()
    wait_until(lambda: any(RelPath("a") in (each.directories or {RelPath("a")}) for each in hints[before:]))
    source.close()
    thread.join(2)
    assert not thread.is_alive()


def test_hundreds_of_folders_have_handles_up_to_the_cap(server: SmbServer) -> None:
    names = [f"d{number:03d}" for number in range(300)]
    for name in names:
        (server.root / name).mkdir()
    source = watch_of(server)
    source.focus([RelPath(name) for name in names])
    with watching(source) as told:
        told.everything()
        assert "200 of 300" in source.state
        for name in (names[0], names[199]):
            since = told.mark()
            (server.root / name / "x").touch()
            told.of(name, since=since)
        source.focus([RelPath(name) for name in reversed(names)])
        told.of(names[299])
        wait_until(lambda: "200 of 300" in source.state)
        since = told.mark()
        (server.root / names[299] / "x").touch()
        told.of(names[299], since=since)
        held = {Path(path).name for path in server._open_files()}
        assert names[299] in held
    assert server.open_files() == []


# --- what breaks ------------------------------------------------------------------------------------------------------


def test_folders_replaced_on_the_server_are_found_by_the_check(
    server: SmbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samba tells a handle nothing when its folder is removed or moved on the server itself."""
    monkeypatch.setattr(watched, "TICK_S", 0.2)
    with begun(server) as (_, told):
        since = told.mark()
        (server.root / "par/child").rename(server.root / "elsewhere")
        (server.root / "par/child").mkdir()
        told.of("par", "par/child", since=since)
        since = told.mark()
        (server.root / "par/child/x").touch()
        told.of("par/child", since=since)
        shutil.rmtree(server.root / "par")
        wait_until(lambda: not any("par" in path for path in server._open_files()))


def test_a_root_replaced_on_the_server_is_watched_anew(server: SmbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "TICK_S", 0.2)
    with begun(server, folder="a") as (source, told):
        since = told.mark()
        (server.root / "a").rename(server.root / "old")
        wait_until(lambda: source.state.startswith("off: "))
        (server.root / "a").mkdir()
        told.everything(since)
        since = told.mark()
        (server.root / "a/x").touch()
        told.of("", since=since)


@pytest.mark.parametrize("fault", ["reset", "stall"])
def test_a_broken_or_dead_network_costs_one_look_at_everything(
    server: SmbServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "TICK_S", 0.2)
    limits = SmbLimits(stall_s=1.0, setup_s=3.0)
    with (
        FaultProxy((server.host, server.port)) as proxy,
        begun(server, port=proxy.port, limits=limits) as (source, told),
    ):
        since = told.mark()
        if fault == "reset":
            proxy.reset_all()
        else:
            proxy.stall()
            wait_until(lambda: source.state.startswith("off: "))
            proxy.resume()
        told.everything(since)
        since = told.mark()
        (server.root / "b/x").touch()
        told.of("b", since=since)


def test_a_server_that_is_restarted_is_found_again(folder: Path) -> None:
    with start_smbd(folder) as first:
        fill(first)
        port = first.port
        source = watch_of(first)
        source.focus([RelPath("b")])
        # the password is another one after the restart: it is asked for at each login
        with watching(source) as told:
            told.everything()
            first.stop()
            wait_until(lambda: source.state.startswith("off: "))
            with start_smbd(folder, root=first.root, port=port) as second:
                first.password = second.password
                since = told.mark()
                told.everything(since)
                (second.root / "b/x").touch()
                told.of("b", since=since + 1)
