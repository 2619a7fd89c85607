"""When a mirror is looked at: its schedule, hints, pauses, and a clock that jumps."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncd import config
from syncd.daemon.living import Daemon as Living
from syncd.daemon.schedule import WallClock
from syncd.log import logger
from tests.support.daemon import Daemon, Host, differing, files_in, fill, put, staged
from tests.support.faultproxy import FaultProxy
from tests.support.smbd import start_smbd

RARELY = 'every = "10m"\nsettle = "0.1s"\n'
QUIET_S = 2.0
"""So long nothing happens where nothing should: hints take a tenth of it."""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that mirrors a local folder as M, and looks at it rarely."""
    fill(tmp_path / "source", 12)
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{tmp_path / 'source'}", tmp_path / "data" / "M", extra=RARELY)
    return host


def at_rest(daemon: Daemon) -> None:
    """Wait until the first runs are over and both watches have begun."""
    daemon.until_ok()
    daemon.until(lambda: set(daemon.mirror("M")["watching"].values()) == {"on"}, "both watches are on")
    daemon.until(lambda: daemon.log.count("event=run.done mirror=M") >= 2, "M came to rest")
    daemon.until_ok()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_change_that_is_hinted_at_does_not_wait_for_the_schedule(host: Host, tmp_path: Path) -> None:
    target = tmp_path / "data" / "M"
    with host.daemon() as daemon:
        at_rest(daemon)
        put(tmp_path / "source", "set 0/pages/new one .jpg", b"new")
        put(tmp_path / "source", "new/deep/folder/page.jpg", b"deep")
        daemon.until(lambda: differing(tmp_path / "source", target) == "", "what is new is mirrored", 20)
        (tmp_path / "source/set 0/pages/new one .jpg").write_bytes(b"changed in place")
        daemon.until(lambda: differing(tmp_path / "source", target) == "", "what is changed is mirrored", 20)
        (tmp_path / "source/new").rename(tmp_path / "source/renamed")
        daemon.until(lambda: (target / "renamed/deep/folder/page.jpg").exists(), "the renamed folder is there", 20)
        assert daemon.mirror("M")["last_run"]["fetched"] == 0, "no whole run was needed"


def test_a_change_on_a_share_does_not_wait_for_the_schedule(tmp_path: Path) -> None:
    """Made on the server itself, where Samba tells only of folders that have a handle of their own."""
    fill(tmp_path / "share", 12)
    target = tmp_path / "data" / "M"
    with start_smbd(tmp_path / "smb", root=tmp_path / "share") as share:
        host = Host(tmp_path)
        host.add_mirror("M", share.url(), target, share.password_file, RARELY)
        with host.daemon() as daemon:
            at_rest(daemon)
            for n in range(3):
                put(share.root, f"set {n}/pages/new {n} .jpg", b"new")
                put(share.root, f"set new {n}/deep/page.jpg", b"deep")
                (share.root / "set 0/pages/000 letter 1 .pdf").write_bytes(b"changed" * (n + 1))
                daemon.until(lambda: differing(share.root, target) == "", "what changed is mirrored", 20)
            assert daemon.mirror("M")["watching"]["source"] == "on"
            assert daemon.stop() == 0
        assert share.open_files() == []


def test_a_schedule_looks_by_itself(host: Host, tmp_path: Path) -> None:
    host.mirrors["M"] = host.mirrors["M"].replace('every = "10m"', 'every = "5s"')
    host.write()
    with host.daemon() as daemon:
        at_rest(daemon)
        runs, started = daemon.log.count("event=run.done"), time.monotonic()
        daemon.until(lambda: daemon.log.count("event=run.done") >= runs + 2, "two more runs")
        assert time.monotonic() - started > 4, "so soon is not by the schedule"
        due = daemon.mirror("M")["next_run"]
        assert datetime.now(UTC) - timedelta(seconds=5) < datetime.fromisoformat(due)


def test_cron_in_the_hosts_time_zone(host: Host) -> None:
    host.host_table += '\ntimezone = "Asia/Kolkata"'
    host.mirrors["M"] = host.mirrors["M"].replace('every = "10m"', 'cron = "10 3 * * *"')
    host.write()
    with host.daemon() as daemon:
        daemon.until_ok()
        mirror = daemon.mirror("M")
        assert mirror["next_run"].endswith("T21:40:00Z"), "03:10 in Kolkata"
        assert mirror["every_s"] is None


def test_a_paused_mirror_is_left_alone_until_it_is_resumed(host: Host, tmp_path: Path) -> None:
    target = tmp_path / "data" / "M"
    with host.daemon() as daemon:
        at_rest(daemon)
        done = host("pause", "M", "--for", "1h")
        assert done.code == 0
        assert done.out.startswith("paused M until 2")
        mirror = daemon.mirror("M")
        assert (mirror["state"], mirror["next_run"]) == ("paused", None)
        until = datetime.fromisoformat(mirror["paused_until"]) - datetime.now(UTC)
        assert timedelta(minutes=58) < until < timedelta(minutes=61)
        put(tmp_path / "source", "meanwhile.jpg", b"meanwhile")
        used = cpu_s(daemon.pid)
        time.sleep(QUIET_S)
        assert cpu_s(daemon.pid) - used < QUIET_S / 40, "a paused daemon with a hint in hand spins"
        assert not (target / "meanwhile.jpg").exists()
        status = host("status")
        assert status.code == 0, "a paused mirror is no trouble"
        assert f"no scans until {mirror['paused_until']}" in status.out

        assert daemon.stop() == 0
        daemon.start()
        assert daemon.mirror("M")["state"] == "paused", "a restart is no resume"
        time.sleep(QUIET_S / 2)
        assert not (target / "meanwhile.jpg").exists()
        assert daemon.api.ensure("M/meanwhile.jpg", 30).state.value == "ready", "what is asked for still comes"
        put(tmp_path / "source", "later.jpg", b"later")
        assert host("resume").code == 0
        daemon.until(lambda: (target / "later.jpg").exists(), "it goes on")
        daemon.until_ok()


def test_a_pause_ends_by_itself(host: Host, tmp_path: Path) -> None:
    with host.daemon() as daemon:
        at_rest(daemon)
        assert host("pause", "--for", "3s").code == 0
        put(tmp_path / "source", "meanwhile.jpg", b"meanwhile")
        daemon.until(lambda: (tmp_path / "data/M/meanwhile.jpg").exists(), "the pause is over", 20)
        daemon.until_ok()
        assert daemon.mirror("M")["next_run"]


def test_a_pause_ends_what_goes_on_but_not_what_somebody_asked_for(tmp_path: Path) -> None:
    for n in range(200):
        put(tmp_path / "share", f"{n:03}.jpg", os.urandom(40_000))
    target = tmp_path / "data" / "M"
    with (
        start_smbd(tmp_path / "smb", root=tmp_path / "share") as share,
        FaultProxy(("127.0.0.1", share.port), bandwidth=2 << 20) as proxy,
    ):
        host = Host(tmp_path)
        host.add_mirror("M", share.url(port=proxy.port), target, share.password_file, RARELY)
        with host.daemon() as daemon:
            daemon.until(lambda: len(files_in(target)) > 10, "the first run has begun")
            assert host("pause").code == 0
            daemon.until_state("M", "paused", 20)
            arrived = len(files_in(target))
            assert arrived < 200
            assert staged(target) == []
            asked = host.background("run-once", "--json")
            daemon.until(lambda: len(files_in(target)) > arrived, "a person's run goes on")
            assert host("pause").code == 0
            proxy.set_bandwidth(0)
            out, err = asked.communicate(timeout=60)
            assert asked.returncode == 0, err
            assert json.loads(out)["mirrors"][0]["fetched"] == 200 - arrived
            assert daemon.mirror("M")["state"] == "paused"


def test_paused_without_a_daemon(host: Host) -> None:
    assert host("pause").code == 0
    with host.daemon() as daemon:
        assert daemon.mirror("M")["state"] == "paused"
        assert host.run_once().json["mirrors"][0]["fetched"] == 12, "what is asked for is done"
        assert daemon.mirror("M")["state"] == "paused"


def test_after_a_jump_of_the_clock_everything_is_looked_at_once(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = SimpleNamespace(s=0.0)
    monkeypatch.setattr("syncd.daemon.living.WallClock", lambda: WallClock(lambda: time.time() + ahead.s))
    bugs: list[str] = []
    living = Living(
        config.load(host.config, {}),
        load=lambda: config.load(host.config, {}),
        log=logger(),
        bug=lambda error, where: bugs.append(f"{where}: {error!r}"),
    )
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(living.live()))
    thread.start()
    try:
        seen = Runs(living)
        seen.until_quiet()
        for jump_s in (8 * 3600.0, -3 * 3600.0):
            before = seen.count
            ahead.s += jump_s
            seen.until_more_than(before)
            seen.until_quiet()
            assert seen.count - before <= 2, "one look, and one that the watch begun anew asks for"
    finally:
        living.stop()
        thread.join(20)
    assert (codes, bugs) == ([0], [])
    assert differing(tmp_path / "source", tmp_path / "data" / "M") == ""


class Runs:
    """How many runs of M a daemon in this process has finished."""

    def __init__(self, living: Living) -> None:
        self._living = living

    @property
    def count(self) -> int:
        samples = self._living.numbers.samples()
        return int(sum(each.value for each in samples if each.name == "syncd_run_duration_seconds_count"))

    def until_more_than(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while self.count <= count:
            assert time.monotonic() < deadline, "no run after the jump"
            time.sleep(0.05)

    def until_quiet(self) -> None:
        self.until_more_than(0)
        count = -1
        while count != self.count:
            count = self.count
            time.sleep(1.5)
