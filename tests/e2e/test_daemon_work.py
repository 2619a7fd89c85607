"""Work in the daemon that is cut short, damaged or done a hundred times: followers end, nothing piles up."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Host, differing, files_in, fill, put, staged
from tests.support.faultproxy import FaultProxy
from tests.support.smbd import SmbServer, start_smbd

RARELY = 'every = "10m"\nsettle = "0.1s"\n'
FOLLOWER_ENDS_WITHIN_S = 40.0
CYCLES = 100 if os.environ.get("SYNCD_EXHAUSTIVE") == "1" else 8
"""More than the pools of threads, and what they keep open, grow in one: a leak in each cycle shows."""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that mirrors a local folder as M."""
    fill(tmp_path / "source", 20)
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{tmp_path / 'source'}", tmp_path / "data" / "M", extra=RARELY)
    return host


@pytest.fixture
def share(tmp_path: Path) -> Iterator[SmbServer]:
    with start_smbd(tmp_path / "smb", root=tmp_path / "share") as server:
        yield server


def slow_host(tmp_path: Path, share: SmbServer, proxy: FaultProxy) -> Host:
    for n in range(200):
        put(share.root, f"set {n % 5}/{n:03} .jpg", os.urandom(40_000))
    host = Host(tmp_path)
    host.add_mirror("M", share.url(port=proxy.port), tmp_path / "data" / "M", share.password_file, RARELY)
    return host


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_whoever_follows_a_run_ends_with_the_daemon(tmp_path: Path, share: SmbServer, how: str) -> None:
    with FaultProxy(("127.0.0.1", share.port), bandwidth=1 << 20) as proxy:
        host = slow_host(tmp_path, share, proxy)
        with host.daemon() as daemon:
            daemon.until(lambda: len(files_in(tmp_path / "data" / "M")) > 5, "the first run has begun")
            asked = host.background("run-once", "--json")
            time.sleep(1.0)
            started = time.monotonic()
            if how == "stop":
                assert daemon.stop() == 0
            else:
                daemon.kill()
            _, err = asked.communicate(timeout=2 * FOLLOWER_ENDS_WITHIN_S)
            assert time.monotonic() - started < FOLLOWER_ENDS_WITHIN_S
            assert asked.returncode not in (0, None), "it says that it is not done"
            assert b"error: " in err
            assert b"Traceback" not in err
            proxy.set_bandwidth(0)
            assert host.run_once().code == 0, "without a daemon the command does it itself"
            assert differing(share.root, tmp_path / "data" / "M") == ""


def test_a_verification_goes_through_the_daemon_and_ends_with_it(tmp_path: Path, share: SmbServer) -> None:
    target = tmp_path / "data" / "M"
    with FaultProxy(("127.0.0.1", share.port)) as proxy:
        host = slow_host(tmp_path, share, proxy)
        with host.daemon() as daemon:
            daemon.until_ok()
            done = host("verify", "--source", "--json")
            assert done.code == 0, done.err
            assert done.json["mirrors"][0]["checked"] == 200
            path = "set 0/005 .jpg"
            before = (target / path).stat()
            with (target / path).open("r+b") as file:
                file.write(b"rot")
            os.utime(target / path, ns=(before.st_atime_ns, before.st_mtime_ns))
            repaired = host("verify", "--repair", "--json")
            assert repaired.code == 0, repaired.err
            daemon.until(lambda: differing(share.root, target) == "", "what was damaged is repaired")

            proxy.set_bandwidth(1 << 20)
            asked = host.background("verify", "--source")
            daemon.until(lambda: (daemon.mirror("M")["current"] or {}).get("kind") == "verify", "it verifies")
            time.sleep(1.0)
            assert daemon.stop() == 0
            _, err = asked.communicate(timeout=FOLLOWER_ENDS_WITHIN_S)
            assert asked.returncode not in (0, None), err
            assert len(host.manifest()) == 200, "a verification that was cut short condemns nothing"


def test_a_changed_configuration_in_the_middle_of_a_run(tmp_path: Path, share: SmbServer) -> None:
    target = tmp_path / "data" / "M"
    with FaultProxy(("127.0.0.1", share.port), bandwidth=2 << 20) as proxy:
        host = slow_host(tmp_path, share, proxy)
        with host.daemon() as daemon:
            daemon.until(lambda: len(files_in(target)) > 5, "the first run has begun")
            host.mirrors["M"] = host.mirrors["M"].replace(RARELY, RARELY + 'exclude = ["set 3/"]\n')
            host.write()
            daemon.until_logged("event=config.reloaded")
            arrived = len(files_in(target))
            assert arrived < 200
            proxy.set_bandwidth(0)
            daemon.until_ok()
            held = {path for _, path in host.manifest()}
            wanted = {path for path in files_in(share.root) if not path.startswith("set 3/")}
            assert wanted <= held
            assert "mirror.not_ended" not in daemon.log
            assert staged(target) == []
            assert daemon.stop() == 0


def test_a_damaged_catalogue_is_rebuilt_by_the_daemon(host: Host, tmp_path: Path) -> None:
    assert host.run_once().code == 0
    for name in ("catalogue.db-wal", "catalogue.db-shm"):
        (host.state / name).unlink(missing_ok=True)
    (host.state / "catalogue.db").write_bytes(b"this is no database" * 1000)
    before = {path: (tmp_path / "data/M" / path).stat().st_ino for path in files_in(tmp_path / "data/M")}
    with host.daemon() as daemon:
        daemon.until_ok()
        assert "event=catalogue.damaged" in daemon.log
        assert differing(tmp_path / "source", tmp_path / "data/M") == ""
        after = {path: (tmp_path / "data/M" / path).stat().st_ino for path in files_in(tmp_path / "data/M")}
        assert after == before, "a file was fetched though it lay there"
        events = [event["event"] for event in daemon.api.events(0).events]
        assert events == ["ready"] * 20, "everything held is announced anew"


@pytest.mark.timeout(120 + 5 * CYCLES)
def test_nothing_piles_up(host: Host, tmp_path: Path) -> None:
    """Runs, reloads, requests, repairs and an unplugged disk leave no descriptor and no thread behind."""
    target = tmp_path / "data" / "M"
    with host.daemon() as daemon:
        daemon.until_ok()
        churn(daemon, host, tmp_path, 2)
        before = resources(daemon)
        churn(daemon, host, tmp_path, CYCLES)
        # a connection for files on demand is kept for half a minute
        daemon.until(
            lambda: max(now - then for then, now in zip(before, resources(daemon), strict=True)) < CYCLES,
            f"descriptors and threads are not many more than {before}",
        )
        daemon.until(lambda: differing(tmp_path / "source", target) == "", "the mirror is whole")
        assert children(daemon.pid) == []
        assert daemon.stop() == 0


def churn(daemon: Daemon, host: Host, base: Path, times: int) -> None:
    target = base / "data" / "M"
    for n in range(times):
        put(base / "source", f"more {n % 4}.jpg", os.urandom(100))
        assert daemon.api.ensure(f"M/more {n % 4}.jpg", 20).state.value == "ready"
        run_id = daemon.api.start_run()
        daemon.until(lambda run_id=run_id: daemon.api.errand("runs", run_id).done, "the run is done")  # type: ignore[misc]
        daemon.api.resolve("M/no such.jpg")
        (target / f"more {n % 4}.jpg").unlink()
        away = target.rename(target.with_name("unplugged"))
        daemon.until_state("M", "halted")
        away.rename(target)
        daemon.until_state("M", "ok")
        reloads = daemon.log.count("event=config.reloaded")
        host.mirrors["M"] = host.mirrors["M"].replace(f'every = "{10 + n}m"', f'every = "{11 + n}m"')
        host.write()
        daemon.until(lambda reloads=reloads: daemon.log.count("event=config.reloaded") > reloads, "reloaded")  # type: ignore[misc]
        daemon.until_ok()
    host.mirrors["M"] = host.mirrors["M"].replace(f'every = "{10 + times}m"', 'every = "10m"')
    host.write()
    daemon.until(lambda: daemon.mirror("M")["every_s"] == 600, "reloaded")


def resources(daemon: Daemon) -> tuple[int, int]:
    """Return how many descriptors and threads the process has."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd")), len(os.listdir(f"/proc/{daemon.pid}/task"))


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_full_disk_keeps_what_is_held_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        for n in range(4):
            put(tmp_path / "source", f"{n}.jpg", os.urandom(200_000))
        host = Host(tmp_path)
        host.add_mirror("M", f"file://{tmp_path / 'source'}", disk / "M", extra='every = "5s"\nsettle = "0.1s"')
        with host.daemon() as daemon:
            daemon.until_ok()
            for n in range(4, 20):
                put(tmp_path / "source", f"{n}.jpg", os.urandom(200_000))
            failing = daemon.until_state("M", "failing")
            assert failing["last_run"]["exit_code"] == 14
            assert failing["hint"]
            assert all((disk / "M" / f"{n}.jpg").stat().st_size == 200_000 for n in range(4))
            assert daemon.api.resolve("M/0.jpg").state.value == "ready"
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
            daemon.until_ok()
            assert differing(tmp_path / "source", disk / "M") == ""
            assert staged(disk / "M") == []
            assert daemon.stop() == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, timeout=20)


def test_a_catalogue_that_is_damaged_under_the_daemon_ends_it_and_the_next_start_rebuilds(
    host: Host, tmp_path: Path
) -> None:
    with host.daemon() as daemon:
        daemon.until_ok()
        catalogue = host.state / "catalogue.db"
        with catalogue.open("r+b") as file:
            file.write(b"\xa5" * catalogue.stat().st_size)
        with catalogue.with_name("catalogue.db-wal").open("r+b") as log:
            log.truncate(0)
        host.run_once()
        assert daemon.process.wait(30) == 15, daemon.log[-1000:]
        assert "is damaged" in daemon.log
    with host.daemon() as again:
        again.until_ok()
        assert differing(tmp_path / "source", tmp_path / "data" / "M") == ""
        assert again.stop() == 0
