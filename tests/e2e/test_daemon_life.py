"""The daemon's own life: signals, another configuration, a server that stalls, a start without a configuration."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import ENDS_WITHIN_S, Daemon, Host, differing, files_in, fill, put, staged
from tests.support.faultproxy import Direction, FaultProxy
from tests.support.smbd import SmbServer, start_smbd

RARELY = 'every = "10m"\nsettle = "0.1s"\n'
STATUS_WITHIN_S = 5.0


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


def test_sigterm_in_the_middle_of_a_big_first_run(tmp_path: Path, share: SmbServer) -> None:
    """What has arrived is committed, nothing half is left, and the next start goes on from there."""
    for n in range(300):
        put(share.root, f"set {n % 9}/{n:03} .jpg", os.urandom(40_000), 10**9 + n)
    put(share.root, "large.tif", os.urandom(30 << 20), 10**9 + 150)
    target = tmp_path / "data" / "M"
    with FaultProxy(("127.0.0.1", share.port), latency_s=0.002, bandwidth=2 << 20) as proxy:
        host = Host(tmp_path)
        host.add_mirror("M", share.url(port=proxy.port), target, share.password_file, RARELY)
        with host.daemon() as daemon:
            daemon.until(lambda: len(files_in(target)) >= 40, "some files have arrived")
            assert daemon.mirror("M")["current"]["kind"] == "run"
            assert daemon.stop() == 0
            before = files_in(target)
            source = files_in(share.root)
            assert 40 <= len(before) < 301
            assert all(source[path] == content for path, content in before.items()), "a partial file is visible"
            assert staged(target) == []
            assert {path for _, path in host.manifest()} == set(before), "what arrived is held, and nothing else"
            assert host("status").code == 3, "never looked at to its end"
            proxy.set_bandwidth(0)
            daemon.start()
            daemon.until_ok()
            assert differing(share.root, target) == ""
            assert f"fetched={301 - len(before)} " in runs_of(daemon, "M")[0], "what was held was fetched again"
    assert share.open_files() == []


def test_sigint_is_told_from_sigterm(host: Host) -> None:
    with host.daemon() as daemon:
        assert daemon.stop(signal.SIGINT) == 130
        daemon.start()
        daemon.until_ok()
        assert daemon.stop(signal.SIGTERM) == 0
        assert "event=daemon.stopped" in daemon.log
    assert not (host.state / "run" / "syncd.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(host: Host, number: signal.Signals) -> None:
    """Whenever the signal comes, the daemon ends in order."""
    for delay_s in (0.1, 0.3, 0.4, 0.5, 0.7):
        with host.daemon(ready=False) as daemon:
            time.sleep(delay_s)
            daemon.send(number)
            assert daemon.process is not None
            code = daemon.process.wait(ENDS_WITHIN_S)
            assert code in {signal.SIGTERM: (0, 143, -15), signal.SIGINT: (1, 130, -2)}[number]
            host.base.joinpath("daemon.log").write_text("")  # Python itself tells of a SIGINT that comes before us
    assert host.run_once().code == 0, "the lock is free, and everything is sound"


def test_a_configuration_that_changes_while_it_starts(host: Host, tmp_path: Path) -> None:
    """Whenever the change comes, it is taken over; a SIGHUP that comes too early is not lost either."""
    fill(tmp_path / "other", 3)
    for delay_s in (0.1, 0.3, 0.4, 0.5, 0.7):
        host.mirrors.pop("N", None)
        host.write()
        with host.daemon(ready=False) as daemon:
            time.sleep(delay_s)
            host.add_mirror("N", f"file://{tmp_path / 'other'}", tmp_path / "data" / "N", extra=RARELY)
            daemon.until(daemon.answers, "it starts")
            daemon.until(lambda: len(daemon.status["mirrors"]) == 2, "the change is taken over")
            daemon.until_ok()
            assert daemon.stop() == 0


def test_while_it_is_reloaded_what_is_held_is_served(host: Host) -> None:
    """A worker that asks in that moment is not told that there is no such mirror."""
    with host.daemon() as daemon:
        daemon.until_ok()
        states: set[str] = set()
        ended = threading.Event()

        def ask() -> None:
            while not ended.is_set():
                states.add(daemon.api.resolve("M/set 0/pages/000 letter 1 .pdf").state.value)
                states.add(daemon.api.ensure("M/set 0/pages/000 letter 1 .pdf", 5).state.value)

        asking = threading.Thread(target=ask)
        asking.start()
        for n in range(8):
            host.mirrors["M"] = host.mirrors["M"].replace(f'every = "{10 + n}m"', f'every = "{11 + n}m"')
            host.write()
            daemon.until(lambda n=n: f"every_s={60 * (11 + n)}" in every_of(daemon), "the change is taken over")  # type: ignore[misc]
            assert host.run_once().code == 0, "a command in that moment"
        ended.set()
        asking.join()
        assert states == {"ready"}


def every_of(daemon: Daemon) -> str:
    return f"every_s={daemon.mirror('M')['every_s']:.0f}"


def test_a_bad_configuration_is_reported_and_the_old_one_stays(host: Host, tmp_path: Path) -> None:
    target = tmp_path / "data" / "M"
    with host.daemon() as daemon:
        daemon.until_ok()
        good = host.config.read_text()
        host.write(good.replace("every", "evrey"))
        problems = daemon.until(lambda: daemon.status["problems"], "the bad configuration is reported")
        assert "evrey" in problems[0]
        assert "every" in problems[0], "the nearest known key is named"
        assert "event=config.refused" in daemon.log
        assert "evrey" in daemon.api.health()["problems"][0]
        assert daemon.api.health()["ok"] is True, "a restart would not mend it"
        assert "evrey" in host("status").err, "a command reads the file itself, and says what is wrong"
        put(tmp_path / "source", "later.jpg", b"later")
        daemon.until(lambda: (target / "later.jpg").exists(), "the old configuration goes on")
        host.write("[[mirror]\n")
        daemon.until(lambda: "evrey" not in daemon.status["problems"][0], "the next problem is told")
        host.config.unlink()
        host.write(good)
        daemon.until(lambda: not daemon.status["problems"], "a good one takes it back")
        assert daemon.api.health()["ok"] is True
        assert daemon.stop() == 0


def test_mirrors_come_go_and_change_without_touching_the_others(host: Host, tmp_path: Path) -> None:
    fill(tmp_path / "other", 7)
    with host.daemon() as daemon:
        daemon.until_ok()
        runs = daemon.until(lambda: len(runs_of(daemon, "M")) >= 2 and runs_of(daemon, "M"), "M came to rest")
        pid = daemon.pid
        host.add_mirror("N", f"file://{tmp_path / 'other'}", tmp_path / "data" / "N", extra=RARELY)
        daemon.until(lambda: len(daemon.status["mirrors"]) == 2, "the new mirror is known")
        daemon.until_state("N", "ok")
        assert differing(tmp_path / "other", tmp_path / "data" / "N") == ""
        assert runs_of(daemon, "M") == runs, "M was left alone"

        host.mirrors["N"] = host.mirrors["N"].replace('every = "10m"', 'every = "20m"')
        host.write()
        daemon.until(lambda: daemon.mirror("N")["every_s"] == 1200, "the changed mirror is taken over")
        daemon.until_logged("stopped=['N'] started=['N']")

        del host.mirrors["N"]
        host.write()
        daemon.until(lambda: [each["name"] for each in daemon.status["mirrors"]] == ["M"], "N is gone")
        assert len(files_in(tmp_path / "data" / "N")) == 7, "its files stay"
        assert daemon.api.resolve("N/set 0/pages/000 letter 1 .pdf").state.value in ("no_mirror", "missing")
        assert host.run_once("--mirror", "N").code == 2

        before = len(daemon.log)
        daemon.send(signal.SIGHUP)
        daemon.until_logged("event=config.reloaded", before)
        assert daemon.pid == pid
        assert daemon.process is not None
        assert daemon.process.poll() is None
        assert runs_of(daemon, "M") == runs, "M was left alone all the time"


def runs_of(daemon: Daemon, name: str) -> list[str]:
    """Return the whole runs of a mirror that the log tells of."""
    return [line for line in daemon.log.splitlines() if "event=run.done" in line and f"mirror={name} " in line]


def test_it_waits_for_a_configuration_when_told_to(host: Host) -> None:
    good = host.config.read_text()
    host.config.write_text("[host]\n")
    assert host("run").code == 2
    with host.daemon("--wait-for-config", ready=False) as daemon:
        daemon.until_logged("event=config.unusable")
        assert daemon.stop() == 0, "told to end while it waits"
        daemon.start(ready=False)
        daemon.until(lambda: daemon.log.count("config.unusable") == 2, "it waits again")
        host.write(good)
        daemon.until(lambda: "event=daemon.started" in daemon.log, "it begins")
        daemon.until_ok()


def test_a_stalled_server_stops_nothing_else(host: Host, tmp_path: Path, share: SmbServer) -> None:
    for n in range(200):
        put(share.root, f"{n:03}.jpg", os.urandom(30_000))
    with FaultProxy(("127.0.0.1", share.port), bandwidth=4 << 20) as proxy:
        host.add_mirror("S", share.url(port=proxy.port), tmp_path / "data" / "S", share.password_file, RARELY)
        with host.daemon() as daemon:
            daemon.until(lambda: len(files_in(tmp_path / "data" / "S")) > 10, "the run has begun")
            proxy.stall()
            daemon.until_state("M", "ok")
            put(tmp_path / "source", "new.jpg", b"new")
            daemon.until(lambda: (tmp_path / "data" / "M" / "new.jpg").exists(), "the other mirror goes on")
            assert host.run_once("--mirror", "M").code == 0
            for _ in range(3):
                started = time.monotonic()
                assert daemon.mirror("S")["name"] == "S"
                assert time.monotonic() - started < STATUS_WITHIN_S
            assert daemon.stop() == 0
            assert staged(tmp_path / "data" / "S") == []
            daemon.start()  # and a server that takes connections and never says a word
            daemon.until_state("M", "ok")
            started = time.monotonic()
            assert daemon.status["mirrors"]
            assert time.monotonic() - started < STATUS_WITHIN_S
            assert daemon.stop() == 0
            proxy.resume(Direction.TO_CLIENT)
            proxy.resume()
            proxy.set_bandwidth(0)
            daemon.start()
            daemon.until_ok()
            assert differing(share.root, tmp_path / "data" / "S") == ""
