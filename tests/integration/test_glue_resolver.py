"""worker_glue.Resolver and its fake, held to one contract: with a daemon, over TCP from another folder, by the
catalogue, and by the manifest alone."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import worker_glue
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from tests.support.daemon import Host, put
from tests.support.ports import free_port
from tests.support.world import World
from worker_glue.errors import FileMissing, FileNotReady, FileRefused, LeaseLost
from worker_glue.ports import Files, Hold
from worker_glue.resolver import Resolver
from worker_glue.resolver.forms import Forms
from worker_glue.testing import FakeResolver

FILES = {
    "hin/Patra 3 .JPG": b"letter",
    "eng/x.pdf": b"pdf",
    "eng/empty.txt": b"",
    "top.pdf": b"top",
    "पत्र.jpg": "हिंदी".encode(),
    "hin/100%20.jpg": b"percent",
}
PATH = "M/hin/Patra 3 .JPG"
NOWHERE = {"SYNCD_CONFIG": "/nowhere/syncd.toml"}
TOKEN = "open-sesame"


class Site(NamedTuple):
    """One way to the files. replace: puts a new version in a file's place, and returns when it is held."""

    kind: str
    files: Forms
    replace: Callable[[str, bytes], None]

    @property
    def is_certain(self) -> bool:
        """Whether what is missing is known to be: the manifest says nothing about that."""
        return self.kind != "manifest"


class Daemon(NamedTuple):
    host: Host
    source: Path
    target: Path
    mount: Path
    port: int
    token: Path


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    base = tmp_path_factory.mktemp("daemon")
    host, source = Host(base), base / "source"
    for path, content in FILES.items():
        put(source, path, content)
    token = base / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    port = free_port()
    host.tables = f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\n'
    host.add_mirror("M", f"file://{source}", base / "M")
    mount = base / "app"
    mount.symlink_to(base / "M")
    with host.daemon() as running:
        running.until_ok()
        yield Daemon(host, source, base / "M", mount, port, token)


@pytest.fixture(params=["daemon", "tcp", "catalogue", "manifest", "fake"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    kind = request.param
    if kind == "fake":
        fake = FakeResolver({f"M/{path}": content for path, content in FILES.items()})
        made = Site(kind, fake, lambda path, content: fake.put(f"M/{path}", content))
    elif kind in ("daemon", "tcp"):
        made = by_daemon(kind, request.getfixturevalue("daemon"))
    else:
        world = World(tmp_path, dict(FILES))
        assert world.run().exit_code == 0
        mounts = NOWHERE | {"SYNCD_MOUNTS": f"M={world.target}"}
        files = Resolver(world.config, env={}) if kind == "catalogue" else Resolver(env=mounts)

        def replace(path: str, content: bytes) -> None:
            world.source.put(path, content)
            assert world.run().exit_code == 0

        made = Site(kind, files, replace)
    with made.files:
        yield made


def by_daemon(kind: str, daemon: Daemon) -> Site:
    tcp = {"SYNCD_API": f"http://127.0.0.1:{daemon.port}", "SYNCD_API_TOKEN_FILE": str(daemon.token)}
    tcp |= NOWHERE | {"SYNCD_MOUNTS": f"M={daemon.mount}"}
    files = Resolver(daemon.host.config, env={}) if kind == "daemon" else Resolver(env=tcp)

    def replace(path: str, content: bytes) -> None:
        put(daemon.source, path, content, int(time.time()) - 60)
        done = daemon.host("run-once")
        assert done.code == 0, done.err

    return Site(kind, files, replace)


def test_it_is_what_the_worker_asks_for(site: Site) -> None:
    files: Files = site.files
    assert isinstance(files.resolve(PATH), Resolution)


@pytest.mark.parametrize("front", ["M/", "./M/", "/app/M/", "/data/M/", "/mnt/sda1/home/M/", "", "smb://h/share/M/"])
def test_what_is_held_is_ready_in_any_spelling(site: Site, front: str) -> None:
    for path, content in FILES.items():
        if site.kind in ("daemon", "tcp") and path == "eng/x.pdf":
            continue  # replaced by another test
        found = site.files.resolve(front + path)
        assert (found.state, found.reason) == (State.READY, None)
        assert (found.mirror, found.path, found.server_path) == ("M", path, f"M/{path}")
        assert (found.size, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert found.generation
        assert found.local_path is not None
        assert Path(found.local_path).read_bytes() == content
        assert site.files.resolve(found.local_path) == found or site.kind == "tcp"


class Text(str):
    """A str of somebody's own."""

    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("not to be asked")


class Place:
    def __fspath__(self) -> bytes:
        return PATH.encode()


@pytest.mark.parametrize("path", [Text(PATH), Path(PATH), PATH.encode(), Place()])
def test_every_kind_of_path_will_do(site: Site, path: object) -> None:
    assert site.files.resolve(path).state is State.READY  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 7, ["M/top.pdf"], bytearray(b"M/top.pdf")])
def test_what_is_no_path_is_a_type_error(site: Site, path: object) -> None:
    for ask in (site.files.resolve, site.files.ensure, site.files.hold, site.files.open):
        with pytest.raises(TypeError):
            ask(path)  # type: ignore[operator]


REFUSED = {
    "": Reason.PATH_MALFORMED,
    "M/../x": Reason.PATH_MALFORMED,
    "../etc/passwd": Reason.PATH_MALFORMED,
    "M/a\0b": Reason.NAME_CONTROL,
    "M/\udc80.jpg": Reason.NAME_UNDECODABLE,
    "a" * 1_000_000: Reason.NAME_TOO_LONG,
    "M/eng": Reason.FOLDER,
    "/app/M": Reason.FOLDER,
    "M/hin/._x.JPG": Reason.VETOED,
    "M/.DS_Store": Reason.VETOED,
    "M/.syncd/owner": Reason.NAME_RESERVED,
    "/etc/passwd": Reason.OUTSIDE,
}


@pytest.mark.parametrize(("path", "reason"), REFUSED.items(), ids=[repr(path[:20]) for path in REFUSED])
def test_what_can_never_be_had_is_refused(site: Site, path: str, reason: Reason) -> None:
    for found in (site.files.resolve(path), site.files.ensure(path, 5), site.files.hold(path)):
        assert isinstance(found, Resolution)
        assert (found.state, found.reason, found.local_path) == (State.REFUSED, reason, None)
    with pytest.raises(PermissionError) as caught, site.files.local_file(path, wait_s=5):
        pass
    assert isinstance(caught.value, FileRefused)
    assert caught.value.resolution.reason is reason


def test_what_is_missing(site: Site) -> None:
    found = site.files.resolve("M/hin/patra 3.jpg")
    assert found.local_path is None
    if site.is_certain:
        assert (found.state, found.reason) == (State.MISSING, Reason.NOT_LISTED)
        assert found.listed_at
        assert found.near == (PATH,) or site.kind == "fake"
    else:
        assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.SOURCE_UNAVAILABLE)
        assert "SYNCD_API" in found.hint
    with pytest.raises(FileNotFoundError if site.is_certain else TimeoutError) as caught:
        site.files.open("M/hin/patra 3.jpg")
    assert isinstance(caught.value, FileMissing if site.is_certain else FileNotReady)
    assert caught.value.resolution.state is found.state


def test_a_collection_that_is_not_mirrored(site: Site) -> None:
    found = site.files.resolve("newsletters/2020/x.jpg")
    assert found.state is (State.NO_MIRROR if site.is_certain else State.UNAVAILABLE)


def test_a_missing_file_is_said_to_be_so_only_by_who_looked_for_it_just_now(site: Site) -> None:
    found = site.files.ensure("M/none.pdf", 0.3)
    live = site.kind in ("daemon", "tcp", "fake")
    assert found.state is (State.MISSING if live else State.UNAVAILABLE)


def test_what_is_ready_need_not_be_waited_for(site: Site) -> None:
    assert site.files.ensure(PATH).state is State.READY
    assert site.files.ensure(PATH, 0) == site.files.resolve(PATH)
    assert site.files.prefetch([PATH, PATH, "M/none.pdf", "M/../x", "M/top.pdf"]) == 2


def test_a_hold(site: Site) -> None:
    hold = held(site.files.hold(f"/app/{PATH}"))
    assert Path(hold.local_path).name == "Patra 3 .JPG"
    assert Path(hold.local_path).read_bytes() == b"letter"
    assert (hold.server_path, hold.size) == (PATH, 6)
    assert hold.sha256 == hashlib.sha256(b"letter").hexdigest()
    assert hold.generation == site.files.resolve(PATH).generation
    assert hold.renew()
    assert hold.release()
    assert hold.release()
    assert not hold.renew()
    assert not Path(hold.local_path).exists()


def held(found: Hold | Resolution) -> Hold:
    assert not isinstance(found, Resolution), found
    return found


def test_what_is_held_stays_while_a_new_version_comes(site: Site) -> None:
    with site.files.lease("M/eng/x.pdf", 60) as hold, site.files.open("M/eng/x.pdf") as file:
        before = site.files.resolve("M/eng/x.pdf")
        site.replace("eng/x.pdf", b"another version")
        after = site.files.resolve("M/eng/x.pdf")
        assert (hold.sha256, hold.generation) == (before.sha256, before.generation)
        assert after.sha256 == hashlib.sha256(b"another version").hexdigest()
        assert after.generation != before.generation
        assert file.read() == Path(hold.local_path).read_bytes() != b"another version"
    with site.files.local_file("M/eng/x.pdf") as path, site.files.lease("M/eng/x.pdf", 10**9) as hold:
        assert path.read_bytes() == Path(hold.local_path).read_bytes() == b"another version"
        assert hold.renew()
    site.replace("eng/x.pdf", b"pdf")


def test_a_file_that_changes_while_it_is_held_is_told(site: Site) -> None:
    hold = held(site.files.hold("M/top.pdf"))
    spoil(hold.local_path)
    assert not hold.release()
    heal(site)
    with pytest.raises(LeaseLost), site.files.lease("M/top.pdf") as hold:
        spoil(hold.local_path)
    heal(site)
    with pytest.raises(ZeroDivisionError), site.files.lease("M/top.pdf") as hold:
        spoil(hold.local_path)
        raise ZeroDivisionError
    heal(site)


def spoil(path: str) -> None:
    os.chmod(path, 0o600)
    Path(path).write_bytes(b"spoilt")


def heal(site: Site) -> None:
    """Where a pin is a link to the mirror's own file, that was spoilt too: it is fetched again."""
    if site.kind in ("daemon", "tcp"):
        assert site.files.ensure("M/top.pdf", 20).state is State.READY


def test_a_hold_whose_file_is_gone_is_lost(site: Site) -> None:
    hold = held(site.files.hold(PATH))
    Path(hold.local_path).unlink()
    assert not hold.renew()
    assert not hold.release()


def test_a_file_to_read(site: Site) -> None:
    with site.files.open(PATH) as file:
        assert file.read(3) == b"let"
        assert file.seek(0) == 0
        assert file.read() == b"letter"
    with site.files.open("M/eng/empty.txt", "rb") as file:
        assert file.read() == b""
    for mode in ("r", "wb", "r+b", "ab"):
        with pytest.raises(ValueError, match="rb"):
            site.files.open(PATH, mode)


def test_a_local_file(site: Site) -> None:
    with site.files.local_file(PATH) as path:
        assert (path.name, path.read_bytes()) == ("Patra 3 .JPG", b"letter")
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), site.files.local_file(PATH) as path:
        raise ZeroDivisionError
    assert not path.exists()


def test_closed_is_as_new(site: Site) -> None:
    if site.kind != "fake":
        site.files.close()
        site.files.close()
        assert site.files.resolve(PATH).state is State.READY


def test_the_functions_of_the_module(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_glue.resolver._made", {"default": site.files})
    assert worker_glue.resolve(PATH).state == "ready"
    assert worker_glue.ensure(PATH, 1).state is worker_glue.State.READY
    assert worker_glue.prefetch([PATH]) == 1
    with worker_glue.lease(PATH) as hold, worker_glue.local_file(PATH) as path, worker_glue.open(PATH) as file:
        assert Path(hold.local_path).read_bytes() == path.read_bytes() == file.read() == b"letter"
