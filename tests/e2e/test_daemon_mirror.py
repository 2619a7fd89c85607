"""What happens to the mirror itself under the running daemon: files changed by hand, an unplugged disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.consumer import TOPIC, Consuming
from tests.support.daemon import Daemon, Host, differing, files_in, fill, put, staged, trashed
from tests.support.nsqd import NsqdServer, start_nsqd

NOTICED_WITHIN_S = 20.0
"""Seconds by design (about one); this much on a busy machine, and far below the schedule."""


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server:
        yield server


@dataclass
class World:
    """A mirror M of a local folder, kept by a daemon, with a consumer that re-hashes what is announced."""

    host: Host
    source: Path
    target: Path
    paths: list[str]
    daemon: Daemon
    consumer: Consuming

    def until_whole(self) -> None:
        self.daemon.until(lambda: differing(self.source, self.target) == "", "the mirror is whole", NOTICED_WITHIN_S)

    def until_announced(self, path: str, events: list[str]) -> None:
        def told() -> bool:
            return self.consumer.of(path) == events

        self.daemon.until(told, f"{path}: {events}, not {self.consumer.of(path)}", NOTICED_WITHIN_S)


@pytest.fixture
def world(tmp_path: Path, nsqd: NsqdServer) -> Iterator[World]:
    source, target = tmp_path / "source", tmp_path / "disk" / "M"
    (tmp_path / "disk").mkdir()
    paths = fill(source, 20)
    host = Host(tmp_path)
    host.add_mirror("M", f"file://{source}", target, extra='every = "10m"\nsettle = "0.1s"')
    host.use_nsq(nsqd.tcp_port)
    nsqd.http(f"/topic/create?topic={TOPIC}", b"")
    nsqd.http(f"/topic/empty?topic={TOPIC}", b"")
    channel = f"c{os.urandom(4).hex()}#ephemeral"
    with Consuming(nsqd.tcp_port, {"M": target}, channel=channel) as consumer, host.daemon() as daemon:
        daemon.until_ok()
        daemon.until(lambda: set(daemon.mirror("M")["watching"].values()) == {"on"}, "both watches are on")
        daemon.until(lambda: len(consumer.newest()) == 20, "everything is announced")
        world = World(host, source, target, paths, daemon, consumer)
        yield world
        daemon.until(lambda: daemon.status["announcing"]["owed"] == 0, "nothing is owed")
        consumer.assert_true()
        assert staged(target) == []
        assert daemon.stop() == 0


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"scribbled over")


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"something else")
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def test_a_held_file_that_is_changed_by_hand_comes_back(world: World) -> None:
    for path, tamper in zip(world.paths, (edit, truncate, replace, remove), strict=False):
        tamper(world.target / path)
        world.until_announced(path, ["ready", "removed", "ready"])
        kept = path in trashed(world.target)
        assert kept is (tamper is not remove), f"{tamper}: what somebody made of it is kept in the trash"
    world.until_whole()
    world.daemon.until_ok()
    assert world.consumer.unannounced(world.host.manifest()) == []


def test_a_changed_file_is_not_served_before_it_is_whole_again(world: World) -> None:
    """With the source away, what was damaged stays damaged: nobody is told that it is ready."""
    path = world.paths[7]
    assert world.daemon.api.resolve(f"M/{path}").state.value == "ready"
    world.source.rename(world.source.with_name("away"))
    truncate(world.target / path)
    found = world.daemon.api.resolve(f"M/{path}")
    assert found.state.value != "ready"
    assert found.local_path is None
    world.until_announced(path, ["ready", "removed"])
    world.source.with_name("away").rename(world.source)
    world.until_announced(path, ["ready", "removed", "ready"])
    world.until_whole()
    assert world.daemon.api.resolve(f"M/{path}").state.value == "ready"


def test_a_whole_folder_that_is_removed_or_moved_comes_back(world: World) -> None:
    lost = [path for path in world.paths if path.startswith("set 3/")]
    shutil.rmtree(world.target / "set 3")
    for path in lost:
        world.until_announced(path, ["ready", "removed", "ready"])
    world.until_whole()
    moved = [path for path in world.paths if path.startswith("set 2/")]
    (world.target / "set 2").rename(world.target / "elsewhere")
    for path in moved:
        world.until_announced(path, ["ready", "removed", "ready"])
    held = {path for path in files_in(world.target) if not path.startswith("elsewhere/")}
    assert held == set(world.paths)
    assert len(files_in(world.target / "elsewhere")) == len(moved), "what lies elsewhere is foreign, and left alone"


def test_a_foreign_file_is_shown_and_left_alone(world: World) -> None:
    foreign = world.target / "set 1" / "notes of mine.txt"
    foreign.write_text("mine")
    shown = world.daemon.until(
        lambda: world.daemon.mirror("M")["foreign_files"], "the foreign file is shown", NOTICED_WITHIN_S
    )
    assert shown == ["set 1/notes of mine.txt"]
    assert world.daemon.mirror("M")["foreign"] == 1
    assert world.host.run_once().json["mirrors"][0]["foreign"] == 1
    assert world.host("status").code == 0, "a foreign file is no trouble"
    assert foreign.read_text() == "mine"
    assert "set 1/notes of mine.txt" not in {path for _, path in world.host.manifest()}
    assert world.daemon.api.resolve("M/set 1/notes of mine.txt").state.value != "ready"
    foreign.unlink()
    world.daemon.until(lambda: not world.daemon.mirror("M")["foreign"], "it is gone", NOTICED_WITHIN_S)


def test_touching_and_copying_a_held_file_disturbs_nobody(world: World) -> None:
    """A backup program reads and sets times; the bytes are what they were."""
    path = world.paths[7]
    os.utime(world.target / path, (10**9, 10**9 + 77))
    put(world.source, "after.jpg", b"after")
    world.daemon.until(lambda: (world.target / "after.jpg").exists(), "the daemon goes on", NOTICED_WITHIN_S)
    world.daemon.until_ok()
    assert world.consumer.of(path) == ["ready"]
    assert trashed(world.target) == []
    assert world.daemon.api.ensure(f"M/{path}", 20).state.value == "ready"


def test_a_disk_that_is_unplugged_and_plugged_in_again(world: World, nsqd: NsqdServer) -> None:
    """RULES section 2: nothing is created, fetched, retired or announced; then it goes on by itself."""
    before = {path: world.consumer.of(path) for path in world.paths}
    kept = world.target.rename(world.target.with_name("unplugged"))
    halted = world.daemon.until_state("M", "halted", NOTICED_WITHIN_S)
    assert str(world.target) in halted["message"]
    assert "--new-target" in halted["hint"]
    assert halted["last_run"]["exit_code"] == 13
    assert world.host("status").code == 13
    for path in world.paths[:3]:
        for answer in (world.daemon.api.resolve(f"M/{path}"), world.daemon.api.ensure(f"M/{path}", 10)):
            assert (answer.state.value, answer.local_path) == ("unavailable", None)
    assert world.daemon.api.ensure("M/new.jpg", 10).state.value in ("unavailable", "missing")
    put(world.source, "new.jpg", b"new")
    (world.source / world.paths[0]).unlink()
    assert world.host.run_once().code == 13
    assert world.host.run_once().code == 13
    heard = len(world.consumer.heard)
    nsqd.restart()  # what was announced lately is said again to a new connection, but not now
    world.daemon.until(lambda: world.daemon.status["announcing"]["state"] == "ok", "it has another connection")
    assert not world.target.exists(), "something was made in the place of the disk"
    assert len(world.consumer.heard) == heard, "something was announced of a disk that is away"
    assert {path: world.consumer.of(path) for path in world.paths} == before, "something was announced"
    assert len(files_in(kept)) == 20

    kept.rename(world.target)
    world.until_announced("new.jpg", ["ready"])
    assert world.daemon.api.ensure(f"M/{world.paths[1]}", 20).state.value == "ready"
    assert world.host.run_once().code in (0, 13)
    world.until_announced(world.paths[0], ["ready", "removed"])
    world.daemon.until_ok()
    assert differing(world.source, world.target) == ""
    unchanged = [path for path in world.paths[1:] if world.consumer.of(path) != ["ready"]]
    assert unchanged == [], "what lay on the disk was announced anew"


def test_another_folder_in_the_place_of_the_disk_is_not_written_to(world: World) -> None:
    kept = world.target.rename(world.target.with_name("unplugged"))
    world.target.mkdir()
    (world.target / "somebody else's").write_text("theirs")
    world.daemon.until_state("M", "halted", NOTICED_WITHIN_S)
    put(world.source, "new.jpg", b"new")
    assert world.host.run_once().code == 13
    assert world.daemon.api.ensure("M/new.jpg", 10).state.value == "unavailable"
    assert sorted(os.listdir(world.target)) == ["somebody else's"]
    shutil.rmtree(world.target)
    kept.rename(world.target)
    world.daemon.until_state("M", "ok", NOTICED_WITHIN_S)
    world.until_whole()


def test_a_daemon_that_starts_without_its_disk_waits_for_it(world: World) -> None:
    assert world.daemon.stop() == 0
    kept = world.target.rename(world.target.with_name("unplugged"))
    world.daemon.start()
    world.daemon.until_state("M", "halted", NOTICED_WITHIN_S)
    assert not world.target.exists()
    kept.rename(world.target)
    world.daemon.until_state("M", "ok", NOTICED_WITHIN_S)
    put(world.source, "new.jpg", b"new")
    world.until_announced("new.jpg", ["ready"])
    world.until_whole()
    edit(world.target / world.paths[7])
    world.until_announced(world.paths[7], ["ready", "removed", "ready"])
