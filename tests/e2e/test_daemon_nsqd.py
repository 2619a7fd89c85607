"""The daemon and an nsqd behind socat that is down, killed, hung or forgetful: nothing is lost, nothing waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.consumer import TOPIC, Consuming
from tests.support.daemon import Daemon, Host, differing, fill, put
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.socat import start_socat


@dataclass
class World:
    """A host that mirrors a local folder as M and announces through socat to an nsqd of its own."""

    host: Host
    source: Path
    target: Path
    nsqd: NsqdServer

    def consuming(self) -> Consuming:
        return Consuming(self.nsqd.tcp_port, {"M": self.target})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    fill(tmp_path / "source", 30)
    with start_nsqd(tmp_path) as nsqd, start_socat(nsqd.tcp_port) as port:
        host = Host(tmp_path)
        target = tmp_path / "data" / "M"
        host.add_mirror("M", f"file://{tmp_path / 'source'}", target, extra='every = "10m"\nsettle = "0.1s"')
        host.use_nsq(port)
        yield World(host, tmp_path / "source", target, nsqd)


def until_told(daemon: Daemon, world: World, consumer: Consuming) -> None:
    """Wait until the mirror is whole and every state of it has been announced."""
    daemon.until(lambda: differing(world.source, world.target) == "", "the mirror is whole")
    daemon.until(lambda: daemon.status["announcing"]["owed"] == 0, "nothing is owed")
    held = world.host.manifest()
    daemon.until(lambda: not consumer.unannounced(held), "everything is announced", 90)
    consumer.assert_true()


def test_down_at_the_start(world: World) -> None:
    world.nsqd.stop()
    with world.host.daemon() as daemon:
        daemon.until_ok()
        assert differing(world.source, world.target) == "", "mirroring waits for nobody"
        told = daemon.until(
            lambda: daemon.status["announcing"]["state"] == "failing" and daemon.status["announcing"], "it is said"
        )
        assert told["owed"] == 30
        assert told["error"]
        (hop,) = [hop for hop in daemon.status["hops"] if hop["name"] == "nsqd"]
        assert hop["state"] == "down"
        assert world.host("status").code == 0, "the mirror itself is ok"
        assert daemon.stop() == 0
        daemon.start()
        world.nsqd.start()
        with world.consuming() as consumer:
            until_told(daemon, world, consumer)


def test_killed_and_forgetful_under_way(world: World) -> None:
    world.nsqd.make_channel(TOPIC, "verifier")
    with world.host.daemon() as daemon, world.consuming() as consumer:
        daemon.until(lambda: len(consumer.newest()) == 30, "the first run is announced")
        for n in range(4):
            world.nsqd.kill()
            put(world.source, f"while down {n}.jpg", os.urandom(2000))
            daemon.until(lambda: differing(world.source, world.target) == "", "mirroring goes on")
            if n % 2:
                world.nsqd.start()
            else:
                world.nsqd.restart(forget=True)
            put(world.source, f"while up {n}.jpg", os.urandom(2000))
            (world.source / f"while down {n}.jpg").write_bytes(b"changed")
        until_told(daemon, world, consumer)


def test_what_it_took_and_forgot_is_sent_again(world: World) -> None:
    """Nobody has read anything yet: all that nsqd said OK to is lost with it."""
    world.nsqd.make_channel(TOPIC, "verifier")
    with world.host.daemon() as daemon:
        daemon.until_ok()
        daemon.until(lambda: world.nsqd.channels(TOPIC)["verifier"]["depth"] >= 30, "nsqd took everything")
        world.nsqd.restart(forget=True)
        world.nsqd.make_channel(TOPIC, "verifier")
        with world.consuming() as consumer:
            until_told(daemon, world, consumer)
        assert daemon.stop() == 0


def test_hung_and_back(world: World) -> None:
    world.nsqd.make_channel(TOPIC, "verifier")
    with world.host.daemon() as daemon, world.consuming() as consumer:
        daemon.until(lambda: len(consumer.newest()) == 30, "the first run is announced")
        world.nsqd.suspend()
        put(world.source, "meanwhile.jpg", b"meanwhile")
        daemon.until(lambda: differing(world.source, world.target) == "", "mirroring goes on")
        assert daemon.stop() == 0, "a hung nsqd does not keep it from ending"
        daemon.start()
        put(world.source, "later.jpg", b"later")
        daemon.until(lambda: differing(world.source, world.target) == "", "mirroring goes on")
        world.nsqd.resume()
        until_told(daemon, world, consumer)


def test_local_and_off(world: World) -> None:
    for mode in ("local", "off"):
        world.host.use_nsq(1, f'announce = "{mode}"')
        with world.host.daemon() as daemon:
            daemon.until_ok()
            assert daemon.status["announcing"] == {
                "mode": mode, "owed": 0, "oldest": None, "state": "off", "error": "", "failing_since": None,
                "warning": "",
            }  # fmt: skip
            assert len(daemon.api.events(0).events) == 30, "the feed is kept all the same"
            assert daemon.stop() == 0
