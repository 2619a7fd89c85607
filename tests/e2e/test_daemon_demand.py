"""Files that somebody waits for while the daemon is busy: ahead of everything, once, and never an answer that hangs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd.core.resolution import Resolution, State
from tests.support.daemon import Daemon, Host, differing, files_in, put
from tests.support.faultproxy import Direction, FaultProxy
from tests.support.nsqd import start_nsqd
from tests.support.smbd import SmbServer, start_smbd

FILES, SIZE = 240, 50_000
SLOW = 3 << 20
"""Bytes a second: the whole takes four seconds."""
TASKS = "bulk_ocr_file_tasks"


@dataclass
class World:
    """A share of FILES files behind a proxy, and a host that mirrors it as M."""

    share: SmbServer
    proxy: FaultProxy
    host: Host
    target: Path

    def held(self) -> int:
        return len(files_in(self.target))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    for n in range(FILES):  # the first is the oldest, and the last in the order in which a run fetches
        put(tmp_path / "share", f"set {n % 5}/{n:03} .jpg", os.urandom(SIZE), 10**9 + n)
    with (
        start_smbd(tmp_path / "smb", root=tmp_path / "share") as share,
        FaultProxy(("127.0.0.1", share.port)) as proxy,
    ):
        host = Host(tmp_path)
        target = tmp_path / "data" / "M"
        extra = 'every = "10m"\nsettle = "0.1s"'
        host.add_mirror("M", share.url(port=proxy.port), target, share.password_file, extra)
        yield World(share, proxy, host, target)
        assert share.open_files() == []


def until_begun(daemon: Daemon, world: World) -> None:
    daemon.until(lambda: world.held() > 10, "the first run has begun")


def test_a_file_that_somebody_waits_for_comes_ahead_of_a_big_run(world: World) -> None:
    world.proxy.set_bandwidth(SLOW)
    with world.host.daemon() as daemon:
        until_begun(daemon, world)
        assert not (world.target / "set 0/000 .jpg").exists()
        started = time.monotonic()
        found = daemon.api.ensure("M/set 0/000 .jpg", 60)
        took_s = time.monotonic() - started
        held = world.held()
        assert (found.state, found.size) == (State.READY, SIZE)
        assert found.local_path == str(world.target / "set 0/000 .jpg")
        assert Path(found.local_path).read_bytes() == (world.share.root / "set 0/000 .jpg").read_bytes()
        assert held < FILES - 40, f"it came with the last {FILES - held}, after {took_s:.1f} s"
        assert daemon.mirror("M")["current"] is not None, "the run goes on"
        world.proxy.set_bandwidth(0)
        daemon.until_ok()
        assert differing(world.share.root, world.target) == ""
        told = [event for event in daemon.api.events(0).events if event["path"] == "set 0/000 .jpg"]
        assert [event["event"] for event in told] == ["ready"], "the run did not fetch it again"


def test_twenty_callers_of_one_path_cost_one_transfer(world: World) -> None:
    with world.host.daemon() as daemon:
        daemon.until_ok()
        assert daemon.api.pause()["paused"] == ["M"]
        put(world.share.root, "one.tif", os.urandom(4 << 20))
        world.proxy.set_bandwidth(4 << 20)
        before = world.proxy.passed(Direction.TO_CLIENT)
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda _: daemon.api.ensure("M/one.tif", 60), range(20)))
        assert {each.state for each in found} == {State.READY}
        passed = world.proxy.passed(Direction.TO_CLIENT) - before
        assert 4 << 20 <= passed < 5 << 20, f"{passed / (4 << 20):.1f} transfers"


def test_answers_that_waiting_does_not_change(world: World) -> None:
    with world.host.daemon() as daemon:
        daemon.until_ok()

        def ensure(path: str) -> Resolution:
            started = time.monotonic()
            found = daemon.api.ensure(path, 100)
            assert time.monotonic() - started < 40, f"{path}: an answer that hangs"
            return found

        missing = ensure("M/set 0/no such .jpg")
        assert (missing.state, missing.local_path) == (State.MISSING, None)
        assert missing.listed_at
        for other in ("M/set 0/005 .JPG", "M/SET 0/005 .jpg"):  # SMB opens these, and they are no file's name
            near = ensure(other)
            assert (near.state, near.near) == (State.MISSING, ("M/set 0/005 .jpg",)), other
        assert ensure("nobody/x.jpg").state in (State.NO_MIRROR, State.MISSING)
        assert ensure("M/../../etc/passwd").state is State.REFUSED
        assert ensure("M/set 0").state is State.REFUSED
        assert ensure("M/set 0/005 .jpg").state is State.READY

        (world.share.root / "set 0/010 .jpg").unlink()
        put(world.share.root, "set 0/later.jpg", b"later")
        assert ensure("M/set 0/later.jpg").state is State.READY, "younger than the last look"
        world.proxy.down()
        away = ensure("M/set 0/never seen.jpg")
        assert away.state in (State.UNAVAILABLE, State.MISSING)
        if away.state is State.MISSING:
            assert away.listed_at < daemon.status["at"], "as of the last look, which it names"
        assert ensure("M/set 0/005 .jpg").state is State.READY, "what is held is served without the source"
        world.proxy.up()
        put(world.share.root, "set 0/again.jpg", b"again")
        daemon.until(lambda: ensure("M/set 0/again.jpg").state is State.READY, "the source is back")


def test_many_tasks_of_a_collection_that_is_not_mirrored_cost_a_few_looks_at_the_root(world: World) -> None:
    wishes = 100
    with world.host.daemon() as daemon:
        daemon.until_ok()
        assert daemon.api.pause()["paused"] == ["M"]
        for n in range(2_000):
            put(world.share.root, f"{n:04} .tif", b"")
        for n in range(wishes):
            put(world.share.root, f"lower/{n}.jpg", b"x")

        def passed(paths: list[str]) -> int:
            before = world.proxy.passed(Direction.TO_CLIENT)
            with ThreadPoolExecutor(wishes) as pool:
                found = list(pool.map(lambda path: daemon.api.ensure(path, 60), paths))
            assert {each.state for each in found} <= {State.NO_MIRROR, State.MISSING}
            return world.proxy.passed(Direction.TO_CLIENT) - before

        one = passed(["nobody/x.jpg"])
        for spelled in ("nobody/{}.jpg", "nobody {}/x.jpg", "LOWER/{}.jpg"):  # SMB opens the last
            many = passed([spelled.format(n) for n in range(wishes)])
            assert many < wishes // 3 * one, f"{spelled}: {many / one:.1f} listings"
        put(world.share.root, "nobody/x.jpg", b"now")
        assert daemon.api.ensure("nobody/x.jpg", 60).state is State.READY


def test_a_new_folder_is_found_also_by_a_path_that_names_no_mirror(world: World, tmp_path: Path) -> None:
    """What a listing has never shown is no collection of somebody else's before it was looked for."""
    other = tmp_path / "other"
    put(other, "2020/x.jpg", b"other")
    world.host.add_mirror("N", f"file://{other}", tmp_path / "data" / "N", extra='every = "10m"\nsettle = "0.1s"')
    with world.host.daemon() as daemon:
        daemon.until_ok()
        assert daemon.api.pause()["paused"] == ["M", "N"]
        put(world.share.root, "new/x.jpg", b"new in M")
        put(other, "newer/y.jpg", b"new in N")
        put(world.share.root, "both/z.jpg", b"in M")
        put(other, "both/z.jpg", b"in N")
        assert daemon.api.resolve("new/x.jpg").state is State.NO_MIRROR
        for spelled, meant in (("new/x.jpg", "M/new/x.jpg"), ("/app/newer/y.jpg", "N/newer/y.jpg")):
            found = daemon.api.ensure(spelled, 60)
            assert (found.state, found.server_path) == (State.READY, meant)
        assert daemon.api.ensure("both/z.jpg", 60).state is State.AMBIGUOUS
        assert daemon.api.ensure("nobody/x.jpg", 60).state is State.NO_MIRROR
        missing = daemon.api.ensure("both/none.jpg", 60)
        assert (missing.state, missing.mirror) == (State.MISSING, "")
        assert missing.listed_at >= found.listed_at
        world.proxy.down()
        away = daemon.api.ensure("nobody/x.jpg", 60)
        assert away.state is State.UNAVAILABLE, "it may be on the one that cannot be asked"
        assert away.retry_after_s
        world.proxy.up()


def test_a_source_that_is_away_is_said_to_be_away(world: World) -> None:
    """Before the first look nothing may be called missing."""
    world.proxy.down()
    with world.host.daemon() as daemon:
        found = daemon.api.ensure("M/set 0/000 .jpg", 20)
        assert found.state in (State.UNAVAILABLE, State.FETCHING)
        assert found.retry_after_s
        assert found.local_path is None
        world.proxy.up()
        daemon.until(lambda: daemon.api.ensure("M/set 0/000 .jpg", 20).state is State.READY, "it came")
        daemon.until_ok()


def test_a_server_that_stalls_lets_no_caller_hang(world: World) -> None:
    with world.host.daemon() as daemon:
        daemon.until_ok()
        assert daemon.api.pause()["paused"] == ["M"]
        put(world.share.root, "new.jpg", b"new")
        world.proxy.stall()
        started = time.monotonic()
        found = daemon.api.ensure("M/new.jpg", 3)
        assert time.monotonic() - started < 15
        assert found.state is not State.READY
        assert daemon.stop() == 0
    world.proxy.resume()


def test_the_files_of_queued_tasks_come_before_the_rest(world: World, tmp_path: Path) -> None:
    world.proxy.set_bandwidth(SLOW)
    wanted = [f"set {n % 5}/{n:03} .jpg" for n in range(4)]
    with start_nsqd(tmp_path) as nsqd:
        world.host.use_nsq(nsqd.tcp_port)
        nsqd.make_channel(TASKS, "bulk_ocr_workers")
        with world.host.daemon() as daemon:
            until_begun(daemon, world)
            daemon.until(lambda: len(nsqd.channels(TASKS)) == 2, "it looks at the queue")
            tasks = [{"job_id": "j", "file_path": f"/app/M/{path}", "file_index": 0} for path in wanted]
            nsqd.publish(TASKS, *(json.dumps(task).encode() for task in tasks), b"not a task")
            daemon.until(lambda: all((world.target / path).exists() for path in wanted), "they came")
            assert world.held() < FILES - 40, "they came with the last"
            world.proxy.set_bandwidth(0)
            daemon.until_ok()
            assert nsqd.channels(TASKS)["bulk_ocr_workers"]["depth"] == len(tasks) + 1, "nobody took a worker's task"
