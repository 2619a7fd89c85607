"""`[host] keep_awake`: the machine is held while the daemon has work in hand, and by nothing that outlives it."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd import config
from syncd.app.wiring import open_source
from syncd.awake import Awake
from syncd.core.lease import Lease
from syncd.core.wakefulness import Wakefulness
from syncd.daemon.living import Daemon
from syncd.log import logger
from syncd.notify import Notifier
from syncd.ports import Source
from syncd.sources.memory import MemorySource
from tests.support.daemon import Host, put
from tests.support.inhibitors import Inhibitors, until

WANTED, NOT_WANTED = 'name = "tod-mac"\nkeep_awake = true', 'name = "tod-mac"\nkeep_awake = false'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inhibitors]:
    if sys.platform == "darwin":
        pytest.skip("the daemon calls macOS's own caffeinate")
    programs = Inhibitors(tmp_path / "programs")
    programs.systemd()
    monkeypatch.setenv("PATH", str(programs.folder), prepend=":")
    yield programs
    programs.until_living(0)


@pytest.fixture
def host(tmp_path: Path, programs: Inhibitors) -> Host:
    put(tmp_path / "source", "x.jpg", b"x")
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{tmp_path}/source", tmp_path / "data" / "M", extra='every = "1h"\nsettle = "0s"')
    return host


def test_a_lease_holds_the_machine_and_neither_kill_9_nor_an_end_in_order_leaves_a_child(
    host: Host, programs: Inhibitors
) -> None:
    host.host_table = WANTED
    host.write()
    with host.daemon() as daemon:
        daemon.until_ok()
        assert isinstance(daemon.api.lease("M/x.jpg", 600), Lease)
        daemon.until(lambda: daemon.status["daemon"]["awake"]["for"] == ["1 lease"], "held for the lease")
        assert daemon.status["daemon"]["awake"]["by"] == "systemd-inhibit"
        programs.until_living(1)
        assert "awake: held since " in host("status").out
        daemon.kill()
        programs.until_living(0)
        daemon.close()
        daemon.start()
        daemon.until(lambda: daemon.status["daemon"]["awake"]["held"], "a lease outlives the daemon, and holds again")
        programs.until_living(1)
        assert daemon.stop() == 0
        assert programs.living() == 0, "ended before the daemon is"


def test_it_is_off_unless_wanted_and_can_be_switched_on_without_a_disturbance(host: Host, programs: Inhibitors) -> None:
    host.host_table = NOT_WANTED
    host.write()
    with host.daemon() as daemon:
        daemon.until_ok()
        assert isinstance(daemon.api.lease("M/x.jpg", 600), Lease)
        assert daemon.status["daemon"]["awake"] is None
        assert "awake" not in host("status").out
        assert programs.started() == []
        host.host_table = WANTED
        host.write()
        daemon.until_logged("event=config.reloaded stopped=[]")
        daemon.until(lambda: (daemon.status["daemon"]["awake"] or {}).get("held"), "held")


@contextmanager
def living(tmp_path: Path, host: Host, source: Callable[[], Source] | None = None) -> Iterator[Daemon]:
    """Run a daemon in this process that holds for a second only after its work."""
    env, bugs = {"HOME": str(tmp_path)}, list[str]()
    daemon = Daemon(
        config.load(host.config, env),
        load=lambda: config.load(host.config, env),
        log=logger(),
        bug=lambda error, where: bugs.append(f"{where}: {error!r}"),
        notifier=Notifier({}),
        source_of=open_source if source is None else lambda _: source(),
    )
    daemon.awake = Awake(logger().info, daemon.now, decide=Wakefulness(grace_s=1.0))
    switching_s = sys.getswitchinterval()
    thread = threading.Thread(target=daemon.live, name="daemon")
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(30)
        sys.setswitchinterval(switching_s)
        gc.unfreeze()
    assert bugs == []
    assert daemon.awake.holding.as_json()["held"] is False


def test_a_run_holds_the_machine_and_its_end_lets_it_go(tmp_path: Path, host: Host, programs: Inhibitors) -> None:
    host.host_table = WANTED
    put(tmp_path / "source", "slow.jpg", bytes(100_000))
    extra = 'every = "1h"\nsettle = "0s"\nrate = "30K"'
    host.add_mirror("M", f"file://{tmp_path}/source", tmp_path / "data" / "M", extra=extra)
    with living(tmp_path, host) as daemon:
        until(lambda: list(daemon.awake.holding.doing) == ["a run of M"], "held")
        assert programs.living() == 1
        programs.until_living(0)
        assert {kept.keeper.current for kept in daemon.kept.values()} == {None}


def test_files_that_a_run_leaves_to_its_next_try_hold_the_machine_between_the_tries(
    tmp_path: Path, host: Host, programs: Inhibitors
) -> None:
    host.host_table = WANTED
    host.write()
    tree = MemorySource({f"{n}.jpg": bytes(1000) for n in range(9)})
    breaks = threading.Event()
    breaks.set()

    def source() -> MemorySource:
        opened = tree.copy()
        if breaks.is_set():
            opened.unavailable_after(0)
        return opened

    with living(tmp_path, host, source) as daemon:
        until(lambda: "of M for the next try" in "".join(daemon.awake.holding.doing), "held between two tries")
        assert programs.living() == 1
        breaks.clear()
        daemon.kept["M"].keeper.due()
        programs.until_living(0)
        assert daemon.kept["M"].keeper.owed == 0
        assert daemon.kept["M"].keeping.facts.totals().files == 9
