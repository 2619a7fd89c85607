"""worker_glue.Resolver as the ways to a file come and go; mounts, leases that are lost, forks, greenlets, copies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from tests.support.api_server import TOKEN, Served, serving
from tests.support.daemon import Host, put
from tests.support.world import World
from worker_glue.errors import FileNotReady
from worker_glue.resolver import Resolver, copies, ways
from worker_glue.resolver import daemon as daemon_way
from worker_glue.resolver.holds import CopyHold, DaemonHold

ROOT = Path(__file__).parents[2]
NOWHERE = {"SYNCD_CONFIG": "/nowhere/syncd.toml"}
FILES = {"eng/x.pdf": b"pdf", "top.pdf": b"top"}
PATIENCE_S = 30.0
HEAVY = ("smbprotocol", "paramiko", "nsq", "pymongo", "tornado", "structlog", "rich", "apscheduler")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, dict(FILES))
    assert world.run().exit_code == 0
    return world


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is to ask is looked for at every call."""
    monkeypatch.setattr(ways, "LOOK_S", 0.0)


def manifest_of(world: World, mount: Path | None = None) -> Resolver:
    return Resolver(env=NOWHERE | {"SYNCD_MOUNTS": f"M={mount or world.target}"})


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


# --- whom to ask


def test_nothing_configured_is_no_error() -> None:
    with Resolver(env=NOWHERE) as files:
        for found in (files.resolve("M/top.pdf"), files.ensure("M/top.pdf", 60), files.hold("M/top.pdf")):
            assert isinstance(found, Resolution)
            assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.CONFIG)
            assert "SYNCD_API" in found.hint
            assert "SYNCD_MOUNTS" in found.hint
            assert found.retry_after_s
        assert files.resolve("M/../x").state is State.REFUSED
        with pytest.raises(FileNotReady):
            files.open("M/top.pdf", wait_s=60)
        assert files.prefetch(["M/top.pdf"]) == 0


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"SYNCD_API": "ftp://x"}, Reason.CONFIG),
        ({"SYNCD_API": "http://127.0.0.1:1", "SYNCD_API_TOKEN_FILE": "/nowhere/token"}, Reason.CONFIG),
        ({"SYNCD_API": "http://127.0.0.1:1"}, Reason.SOURCE_UNAVAILABLE),
        ({"SYNCD_API": "unix:///nowhere/syncd.sock"}, Reason.SOURCE_UNAVAILABLE),
        ({"SYNCD_MOUNTS": "M=relative"}, Reason.CONFIG),
        ({"SYNCD_MOUNTS": "/app/M"}, Reason.CONFIG),
        ({"SYNCD_MOUNTS": "M=/nowhere/M"}, Reason.TARGET_MISSING),
    ],
)
def test_what_is_configured_wrongly_is_no_error(env: dict[str, str], reason: Reason) -> None:
    with Resolver(env=NOWHERE | env) as files:
        found = files.resolve("M/top.pdf")
    assert (found.state, found.reason) == (State.UNAVAILABLE, reason)
    assert found.hint


def test_a_configuration_with_a_fault_is_no_error(world: World, at_once: None) -> None:
    good = (world.settings, world.config.read_text())[1]
    with Resolver(world.config, env={}) as files:
        assert files.resolve("M/top.pdf").state is State.READY
        world.config.write_text(good + "[worker]\nworkers = 'three'\n")
        found = files.resolve("M/top.pdf")
        assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.CONFIG)
        world.config.write_text(good)
        assert files.resolve("M/top.pdf").state is State.READY


def test_no_catalogue_yet_and_then_one(tmp_path: Path, at_once: None) -> None:
    world = World(tmp_path, dict(FILES))
    assert world.settings
    with Resolver(world.config, env={}) as files:
        assert files.resolve("M/top.pdf").state is State.UNAVAILABLE
        world.run()
        assert files.resolve("M/top.pdf").state is State.READY


@pytest.mark.parametrize("schema", [1, 999])
def test_a_catalogue_of_another_version_is_not_read(world: World, schema: int) -> None:
    with sqlite3.connect(world.state / "catalogue.db") as connection:
        connection.execute(f"PRAGMA user_version = {schema}")
    connection.close()
    with Resolver(world.config, env={}) as files:
        found = files.resolve("M/top.pdf")
    assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.CATALOGUE)
    assert found.hint


def test_a_target_that_is_away_and_comes_back(world: World) -> None:
    away = world.target.with_name("away")
    with Resolver(world.config, env={}) as files:
        assert files.resolve("M/top.pdf").state is State.READY
        world.target.rename(away)
        found = files.resolve("M/top.pdf")
        assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.TARGET_MISSING)
        world.target.mkdir()
        assert files.resolve("M/top.pdf").state is State.UNAVAILABLE
        world.target.rmdir()
        away.rename(world.target)
        assert files.resolve("M/top.pdf").state is State.READY


def test_a_catalogue_that_was_lost_and_rebuilt(world: World) -> None:
    with Resolver(world.config, env={}) as files:
        assert files.resolve("M/top.pdf").state is State.READY
        for file in world.state.glob("catalogue.db*"):
            file.unlink()
        assert files.resolve("M/top.pdf").state is State.UNAVAILABLE
        world.run()
        assert files.resolve("M/top.pdf").state is State.READY
        assert files.resolve("M/eng/X.pdf").near == ("M/eng/x.pdf",)


def test_a_mirror_that_ran_for_the_first_time_just_now(tmp_path: Path) -> None:
    second = f'[[mirror]]\nname = "N"\nsource = "file://{tmp_path}/nothing"\ntarget = "{tmp_path}/N"\nsettle = "0.01s"'
    world = World(tmp_path, dict(FILES), second)
    app = world.app()
    app.run_once(["M"])
    with Resolver(world.config, env={}) as files:
        found = files.resolve("N/top.pdf")
        assert (found.state, found.reason) == (State.FETCHING, Reason.NEVER_LISTED)
        world.app().run_once(["N"])
        assert files.resolve("N/top.pdf").local_path == f"{tmp_path}/N/top.pdf"
        assert files.resolve("N/Top.pdf").near == ("N/top.pdf",)


def test_the_daemon_first_then_the_catalogue_and_the_daemon_again(tmp_path: Path) -> None:
    host, source = Host(tmp_path), tmp_path / "source"
    for path, content in FILES.items():
        put(source, path, content)
    host.add_mirror("M", f"file://{source}", tmp_path / "M")
    with host.daemon() as daemon, Resolver(host.config, env={}) as files:
        daemon.until_ok()
        lease = files.hold("M/top.pdf")
        assert isinstance(lease, DaemonHold)
        assert daemon.stop() == 0
        assert files.resolve("M/eng/x.pdf").state is State.READY
        assert isinstance(files.hold("M/top.pdf"), CopyHold)
        assert lease.renew(), "unreachable is not lost"
        daemon.start()
        daemon.until(lambda: isinstance(files.hold("M/top.pdf"), DaemonHold), "the daemon is asked again")
        assert lease.renew(), "it survives a restart of the daemon"
        daemon.stop()
        assert Path(lease.local_path).read_bytes() == b"top"
        assert lease.release(), "its bytes have been looked at here"

        put(source, "new.pdf", b"new")
        began = threading.Timer(0.5, daemon.start)
        began.start()
        found = files.ensure("M/new.pdf", PATIENCE_S)
        began.join()
        assert found.state is State.READY, found
        put(source, "soon.pdf", b"soon")
        assert files.prefetch(["M/soon.pdf"]) == 0
        daemon.until(lambda: files.resolve("M/soon.pdf").state is State.READY, "it was prefetched")


def test_without_a_daemon_it_waits_for_the_next_run(world: World) -> None:
    world.source.put("late.pdf", b"late")
    later = threading.Timer(0.5, world.run)
    with Resolver(world.config, env={}) as files:
        later.start()
        with files.local_file("M/late.pdf", wait_s=PATIENCE_S) as path:
            assert path.read_bytes() == b"late"
        later.join()


# --- what is in a mount


def test_a_manifest_that_is_replaced_is_read_again(world: World) -> None:
    with manifest_of(world) as files:
        before = files.resolve("M/top.pdf")
        world.source.put("top.pdf", b"second")
        world.source.put("new.pdf", b"new")
        world.run()
        assert files.resolve("M/top.pdf").sha256 != before.sha256
        assert files.resolve("M/new.pdf").state is State.READY


def age(path: Path) -> None:
    """Wait until a verdict about the file is kept."""
    time.sleep(max(0.0, path.stat().st_ctime + 2.1 - time.time()))


def test_bytes_count_and_not_what_a_stat_shows(world: World) -> None:
    file = world.target / "eng/x.pdf"
    age(file)
    with manifest_of(world) as files:
        assert files.resolve("M/eng/x.pdf").state is State.READY
        assert files.resolve("M/eng/x.pdf").state is State.READY
        seen = file.stat()
        file.write_bytes(b"bad")
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        found = files.resolve("M/eng/x.pdf")
        assert (found.state, found.reason) == (State.FETCHING, Reason.LOCAL_CHANGED)
        assert isinstance(files.hold("M/eng/x.pdf"), Resolution)


def link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def link_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to(path.parent.with_name("moved"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILING = [Path.unlink, link, link_folder, pipe, lambda path: path.write_bytes(b"longer than it was")]


@pytest.mark.parametrize("spoil", SPOILING)
@pytest.mark.parametrize("way", ["catalogue", "manifest"])
def test_only_what_is_verified_is_given_out(world: World, way: str, spoil: Callable[[Path], None]) -> None:
    with Resolver(world.config, env={}) if way == "catalogue" else manifest_of(world) as files:
        spoil(world.target / "eng/x.pdf")
        found = files.resolve("M/eng/x.pdf")
        assert (found.state, found.local_path) == (State.FETCHING, None)
        with pytest.raises(FileNotReady):
            files.open("M/eng/x.pdf")
        with pytest.raises(FileNotReady), files.local_file("M/eng/x.pdf"):
            pass


def test_a_manifest_with_lines_that_nobody_wrote(world: World) -> None:
    manifest = world.target / ".syncd/manifest.jsonl"
    (world.target.parent / "secret").write_bytes(b"secret")
    foreign = b'{"path": "../secret", "size": 6, "sha256": "x", "mtime_ns": 0, "generation": 1}\nnull\n[]\n\xff\n{"pa'
    manifest.write_bytes(foreign + b"\n" + manifest.read_bytes() + b'{"path": 7}')
    with manifest_of(world) as files:
        assert files.resolve("M/top.pdf").state is State.READY
        assert files.resolve("M/../secret").state is State.REFUSED
        manifest.unlink()
        found = files.resolve("M/top.pdf")
        assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.TARGET_MISSING)
        manifest.symlink_to(world.target.parent / "secret")
        assert files.resolve("M/top.pdf").state is State.UNAVAILABLE


def test_what_one_manifest_lacks_is_not_looked_for_in_another(world: World, tmp_path: Path) -> None:
    """That it is not held does not mean that it is not there: a file of another mirror is never given instead."""
    other = tmp_path / "other"
    (tmp_path / "second").mkdir()
    second = World(tmp_path / "second", {"eng/only.pdf": b"2"})
    second.run()
    shutil.copytree(second.target, other)
    with Resolver(env=NOWHERE | {"SYNCD_MOUNTS": f"M={world.target},N={other}"}) as files:
        assert files.resolve("N/eng/only.pdf").state is State.READY
        assert files.resolve("M/eng/x.pdf").state is State.READY
        for bare in ("eng/only.pdf", "M/N/eng/only.pdf"):
            assert files.resolve(bare).state is State.UNAVAILABLE


@pytest.mark.parametrize(
    "spelled",
    ["/Volumes/shared/top.pdf", "smb://server/old-share/top.pdf", r"\\server\old-share\top.pdf", "/etc/passwd"],
)
def test_a_mount_knows_no_aliases_so_it_refuses_no_path_for_good_while_the_daemon_is_away(
    world: World, tmp_path: Path, spelled: str
) -> None:
    """A mount says neither shares' names nor aliases: a task that has one must not end in an error for a restart."""
    away = {"SYNCD_API": str(tmp_path / "none.sock"), "SYNCD_MOUNTS": f"M={world.target}"}
    with Resolver(env=NOWHERE | away) as files:
        for found in (files.resolve(spelled), files.ensure(spelled, 0.1), files.hold(spelled)):
            assert isinstance(found, Resolution)
            assert found.state is State.UNAVAILABLE
            assert found.retry_after_s
        assert files.resolve("M/../x").state is State.REFUSED
        assert files.resolve("/app/M/top.pdf").state is State.READY
    with manifest_of(world) as files:  # where there is nobody else to ask, that is the answer
        assert files.resolve(spelled).reason is Reason.OUTSIDE


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def over_tcp(served: Served, mounts: str = "") -> Resolver:
    token = served.folder / "token"
    token.write_text(TOKEN)
    env = {"SYNCD_API": f"http://127.0.0.1:{served.port}", "SYNCD_API_TOKEN_FILE": str(token)}
    return Resolver(env=NOWHERE | env | ({"SYNCD_MOUNTS": f"Bhushanji={mounts}"} if mounts else {}))


def test_what_the_daemon_holds_and_is_not_to_be_seen_here(served: Served, tmp_path: Path) -> None:
    with over_tcp(served) as files:
        found = files.resolve("Bhushanji/there.pdf")
        assert (found.state, found.reason, found.local_path) == (State.UNAVAILABLE, Reason.TARGET_MISSING, None)
        assert 'SYNCD_MOUNTS="Bhushanji=' in found.hint
        assert isinstance(files.hold("Bhushanji/there.pdf"), Resolution)
    assert served.service.calls["lease"] == 1
    with over_tcp(served, str(tmp_path)) as files:
        assert files.resolve("Bhushanji/there.pdf").state is State.UNAVAILABLE
        (tmp_path / "there.pdf").write_bytes(b"another size")
        found = files.resolve("Bhushanji/there.pdf")
        assert found.state is State.UNAVAILABLE
        assert "mount the target of Bhushanji" in found.hint
        (tmp_path / "there.pdf").write_bytes(b"%PDX")
        found = files.resolve("Bhushanji/there.pdf")
        assert found.state is State.UNAVAILABLE, "of the same size, and other bytes: another folder, or an older copy"
        assert "other bytes" in found.hint
        pin = tmp_path / ".syncd/pins/lease-2/there.pdf"
        pin.parent.mkdir(parents=True)
        pin.write_bytes(b"%PDX")
        assert isinstance(files.hold("Bhushanji/there.pdf"), Resolution)
        (tmp_path / "there.pdf").unlink()
        (tmp_path / "elsewhere").write_bytes(b"%PDF")
        (tmp_path / "there.pdf").symlink_to(tmp_path / "elsewhere")
        assert files.resolve("Bhushanji/there.pdf").state is State.UNAVAILABLE
        (tmp_path / "there.pdf").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "there.pdf")
        assert files.resolve("Bhushanji/there.pdf").local_path == str(tmp_path / "there.pdf")


def leased(served: Served, files: Resolver, mount: Path) -> DaemonHold:
    pin = mount / ".syncd/pins/lease-1/there.pdf"
    pin.parent.mkdir(parents=True, exist_ok=True)
    pin.write_bytes(b"%PDF")
    hold = files.hold("Bhushanji/there.pdf")
    assert isinstance(hold, DaemonHold), hold
    assert hold.local_path == str(pin)
    return hold


def test_a_lease_that_the_daemon_does_not_know_any_more_is_lost(served: Served, tmp_path: Path) -> None:
    with over_tcp(served, str(tmp_path)) as files:
        hold = leased(served, files, tmp_path)
        assert hold.renew()
        served.service._leases.clear()
        assert not hold.renew()
        assert not hold.renew()
        assert not hold.release()


def test_a_daemon_that_cannot_be_reached_or_fails_has_lost_nothing(served: Served, tmp_path: Path) -> None:
    with over_tcp(served, str(tmp_path)) as files:
        hold = leased(served, files, tmp_path)
        served.service.fail["renew"] = served.service.fail["release"] = RuntimeError("a bug")
        assert hold.renew()
        served.server.close()
        assert hold.renew()
        Path(hold.local_path).write_bytes(b"%PDX")
        os.utime(hold.local_path, ns=(1, 1))
        assert not hold.release()
    served.bugs.clear()


def test_a_daemon_that_is_busy_or_full_says_so(served: Served, tmp_path: Path) -> None:
    from syncd.core.errors import DiskFull

    with over_tcp(served, str(tmp_path)) as files:
        served.service.fail["lease"] = DiskFull("no room for a copy", hint="free some space")
        found = files.hold("Bhushanji/there.pdf")
        assert isinstance(found, Resolution)
        assert (found.state, found.reason, found.hint) == (State.UNAVAILABLE, Reason.DISK_FULL, "free some space")


def test_a_daemon_that_hangs_is_waited_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_way, "TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as listening, Resolver(world.config, env={}) as files:
        (world.state / "run").mkdir(exist_ok=True)
        listening.bind(str(world.state / "run/syncd.sock"))
        listening.listen()
        assert files.resolve("M/top.pdf").state is State.READY
        time.sleep(daemon_way.QUIET_S + 0.1)
        assert files.resolve("M/top.pdf").state is State.READY
        listening.settimeout(0)
        listening.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listening.accept()


# --- copies


def test_a_copy_that_has_no_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with Resolver(world.config, env={}) as files:
        monkeypatch.setattr(copies, "_room", lambda _: copies.SPARE_BYTES)
        found = files.hold("M/top.pdf")
        assert isinstance(found, Resolution)
        assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.DISK_FULL)
        assert "TMPDIR" in found.hint


def test_copies_are_private_and_what_a_killed_process_left_goes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    script = (
        "import sys, time; from worker_glue.resolver import Resolver; "
        "hold = Resolver(sys.argv[1], env={}).hold('M/top.pdf'); print(hold.local_path, flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", script, str(world.config)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={"TMPDIR": str(place), "PYTHONPATH": str(ROOT)}) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().decode().strip())
        assert theirs.read_bytes() == b"top"
        assert (theirs.parents[1].stat().st_mode & 0o777, theirs.stat().st_mode & 0o777) == (0o700, 0o400)
        with Resolver(world.config, env={}) as files, files.local_file("M/top.pdf"):
            assert theirs.exists(), "it is in use"
        other.send_signal(signal.SIGKILL)
        other.wait()
    (place / "worker-glue-not-ours").symlink_to(world.target)
    with Resolver(world.config, env={}) as files, files.local_file("M/top.pdf") as path:
        assert path.is_relative_to(place)
        assert not theirs.parents[1].exists()
    assert (world.target / "top.pdf").exists()
    assert [path.name for path in place.iterdir()] == ["worker-glue-not-ours"]


# --- processes, threads, greenlets


def test_threads_that_begin_together_share_what_they_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ways.Ways] = []
    begin = ways.Ways.__init__

    def slowly(self: ways.Ways, *args: Any) -> None:
        begin(self, *args)
        time.sleep(0.05)

    monkeypatch.setattr(ways.Ways, "__init__", slowly)
    with Resolver(world.config, env={}) as files:
        threads = [threading.Thread(target=lambda: made.append(files._ways)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, made))) == 1


def test_a_child_process_has_connections_and_copies_of_its_own(world: World) -> None:
    with Resolver(world.config, env={}) as files:
        hold = files.hold("M/top.pdf")
        assert isinstance(hold, CopyHold)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                with files.local_file("M/eng/x.pdf") as path:
                    code = 0 if path.read_bytes() == b"pdf" and files.resolve("M/top.pdf").local_path else 2
                files.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert Path(hold.local_path).read_bytes() == b"top"
        assert hold.release()
        assert files.resolve("M/top.pdf").state is State.READY


def test_many_threads_while_the_mirror_changes(world: World, at_once: None) -> None:
    """What is given out at any moment is some version, whole."""
    versions = {bytes([65 + n]) * 1000 for n in range(8)}
    world.source.put("busy.bin", sorted(versions)[0])
    world.run()
    over = threading.Event()
    wrong: list[object] = []

    def work(files: Resolver) -> None:
        while not over.is_set():
            try:
                with files.open("M/busy.bin", wait_s=5) as file:
                    if (content := file.read()) not in versions:
                        wrong.append(content)
            except BaseException as error:
                wrong.append(error)

    with Resolver(world.config, env={}) as first, manifest_of(world) as second:
        threads = [threading.Thread(target=work, args=(files,)) for files in (first, second) for _ in range(3)]
        for thread in threads:
            thread.start()
        for content in sorted(versions):
            world.source.put("busy.bin", content)
            world.run()
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]


GREEN = """
from gevent import monkey
monkey.patch_all()
import sys, time, gevent, worker_glue
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
gevent.spawn(tick)
files = worker_glue.Resolver(env={"SYNCD_CONFIG": "/nowhere"} | dict(word.split(":", 1) for word in sys.argv[1:]))
found = files.ensure("Bhushanji/coming.pdf", 1.0)
waited = len(ticks)
assert found.state != "ready", found
with gevent.Timeout(30):
    jobs = [gevent.spawn(files.resolve, "Bhushanji/there.pdf") for _ in range(50)]
    gevent.joinall(jobs, raise_error=True)
    assert {job.value.state for job in jobs} == {"ready"}, jobs[0].value
    with files.local_file("Bhushanji/there.pdf") as path:
        assert path.read_bytes() == b"%PDF"
print(waited)
"""


@pytest.mark.parametrize("way", ["daemon", "manifest"])
def test_other_greenlets_run_meanwhile(served: Served, tmp_path: Path, way: str) -> None:
    pin = tmp_path / ".syncd/pins/lease-1/there.pdf"
    pin.parent.mkdir(parents=True)
    for file in (pin, tmp_path / "there.pdf"):
        file.write_bytes(b"%PDF")
    import hashlib

    digest = hashlib.sha256(b"%PDF").hexdigest()
    line = f'{{"path": "there.pdf", "size": 4, "sha256": "{digest}", "mtime_ns": 0, "generation": 1}}\n'
    (tmp_path / ".syncd/manifest.jsonl").write_text(line)
    served.service.on_source["coming.pdf"] = b"soon"
    served.service.fetching.clear()
    words = [f"SYNCD_MOUNTS:Bhushanji={tmp_path}"]
    if way == "daemon":
        (served.folder / "token").write_text(TOKEN)
        words += [f"SYNCD_API:http://127.0.0.1:{served.port}", f"SYNCD_API_TOKEN_FILE:{served.folder / 'token'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREEN, *words], capture_output=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 10


@pytest.mark.parametrize("code", ["import worker_glue", "from worker_glue import Resolver", "resolve"])
def test_it_loads_nothing_heavy(world: World, code: str) -> None:
    if code == "resolve":
        code = (
            f"import worker_glue; files = worker_glue.Resolver({str(world.config)!r}, env={{}}); "
            "hold = files.hold('M/top.pdf'); print(hold.local_path); hold.release(); files.close()"
        )
    script = f"import sys; {code}; sys.exit(repr([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=ROOT, env={"PATH": os.environ["PATH"]}, timeout=60
    )
    assert done.stderr.decode().strip() == "[]"
