"""`syncd run` over a real share, announcing to a real nsqd through socat, and the commands that leave work to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import worker_glue
from tests.support.consumer import FIELDS, RUNS_TOPIC, TOPIC, Consuming
from tests.support.daemon import LONG_AGO, Host, differing, files_in, fill, put, same_shape, staged, trashed
from tests.support.faultproxy import FaultProxy
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.require import require
from tests.support.smbd import SmbServer, start_smbd
from tests.support.socat import start_socat


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server:
        yield server


@dataclass
class World:
    """A share, a host that mirrors it as M, and the proxy to nsqd."""

    share: SmbServer
    host: Host
    target: Path
    proxied: int


@pytest.fixture
def world(tmp_path: Path, nsqd: NsqdServer) -> Iterator[World]:
    target = tmp_path / "data" / "M"
    with start_smbd(tmp_path / "smb", root=tmp_path / "share") as share, start_socat(nsqd.tcp_port) as port:
        host = Host(tmp_path)
        host.add_mirror("M", share.url(), target, share.password_file, 'every = "5s"\nsettle = "0.1s"')
        host.use_nsq(port)
        for topic in (TOPIC, RUNS_TOPIC):
            nsqd.http(f"/topic/create?topic={topic}", b"")
            nsqd.http(f"/topic/empty?topic={topic}", b"")
        yield World(share, host, target, port)


def test_everything_is_mirrored_and_announced_and_every_change_after_it(world: World, nsqd: NsqdServer) -> None:
    root = world.share.root
    paths = fill(root, 60)
    nsqd.make_channel(RUNS_TOPIC, "runs")
    with Consuming(nsqd.tcp_port, {"M": world.target}) as consumer, world.host.daemon() as daemon:
        daemon.until_ok()
        daemon.until(lambda: len(consumer.newest()) >= 60, "every file is announced")
        assert differing(root, world.target) == ""
        assert {heard.event for heard in consumer.heard} == {"ready"}
        first = next(heard.message for heard in consumer.heard if heard.key == ("M", paths[7]))
        assert tuple(first) == FIELDS
        assert (first["v"], first["size"], first["host"]) == (1, (root / paths[7]).stat().st_size, "tod-mac")
        assert first["mtime_ns"] == (LONG_AGO + 7) * 10**9
        assert first["server_path"] == f"M/{paths[7]}"
        (told,) = [json.loads(body) for body in nsqd.take(RUNS_TOPIC, "runs", 1)]
        assert (told["fetched"], told["failed"], told["state"]) == (60, 0, "ok")
        assert (told["mirror"], told["host"]) == ("M", "tod-mac")
        assert told["run_id"] == first["run_id"]

        (root / paths[1]).write_bytes(b"corrected on the server")
        daemon.until(lambda: consumer.of(paths[1]) == ["ready", "updated"], "the change is announced")
        (root / paths[2]).unlink()
        daemon.until(lambda: consumer.of(paths[2]) == ["ready", "removed"], "the removal is announced")
        assert trashed(world.target).count(paths[2]) == 1
        put(root, "new/page.jpg", b"new")
        daemon.until(lambda: consumer.of("new/page.jpg") == ["ready"], "the new file is announced")
        daemon.until(lambda: differing(root, world.target) == "", "the mirror is its source")
        daemon.until(lambda: daemon.status["announcing"]["owed"] == 0, "nothing is owed")
        consumer.assert_true()
        assert consumer.unannounced(world.host.manifest()) == []
        closed = [json.loads(body) for body in nsqd.take_all(RUNS_TOPIC, "runs")]
        assert all(run["fetched"] or run["retired"] for run in closed), "a run that changed nothing says nothing"
        assert daemon.stop() == 0
    assert staged(world.target) == []
    assert world.share.open_files() == []


def test_a_worker_follows_the_announcements_through_the_proxy(world: World) -> None:
    paths = fill(world.share.root, 12)
    with (
        worker_glue.watch("follower#ephemeral", nsqd=[("127.0.0.1", world.proxied)]) as events,
        world.host.daemon() as daemon,
    ):
        daemon.until_ok()
        found: dict[str, dict[str, Any]] = {}
        while len(found) < len(paths):
            event = events.next_within(30)
            assert event is not None, f"only {len(found)} of {len(paths)} came"
            found[event["path"]] = event
        assert {found[path]["event"] for path in paths} == {"ready"}


def test_one_process_whose_pid_everybody_tells_and_a_second_one_that_refuses(world: World) -> None:
    fill(world.share.root, 3)
    with world.host.daemon() as daemon:
        daemon.until_ok()
        status = world.host("status", "--json")
        assert (status.code, status.json["daemon"]["running"], status.json["daemon"]["pid"]) == (0, True, daemon.pid)
        assert f"daemon running (pid {daemon.pid})" in world.host("status").out
        second = world.host("run")
        assert second.code == 11
        assert str(daemon.pid) in second.err
        assert daemon.status["daemon"]["pid"] == daemon.pid, "the first one is unharmed"
    after = world.host("status", "--json")
    assert (after.code, after.json["daemon"]["running"]) == (0, False)


def test_run_once_is_done_by_the_daemon_with_the_same_answer(world: World, tmp_path: Path) -> None:
    fill(world.share.root, 10)
    world.host.mirrors["M"] = world.host.mirrors["M"].replace('every = "5s"', 'every = "10m"')
    world.host.write()
    alone = world.host.run_once()
    assert alone.code == 0, alone.err
    with world.host.daemon() as daemon:
        daemon.until_ok()
        put(world.share.root, "later.jpg", b"later")
        trace = tmp_path / "trace"
        done = world.host.traced(require("strace", "strace"), trace, "run-once", "--json")
        assert done.code == 0, done.err
        told = same_shape(alone, done)
        assert told["mirrors"][0]["scanned"] == 11
        daemon.until_logged(told["run_id"])
        assert str(world.host.state / "catalogue") not in trace.read_text(), "the command opened the catalogue itself"
        assert world.host("runs", told["run_id"]).code == 0
        said, quiet = world.host("run-once"), world.host("run-once", "--mirror", "M")
        assert (said.code, quiet.code) == (0, 0)
        assert said.out.startswith("M: 11 scanned, 0 fetched, 11 unchanged")
        assert differing(world.share.root, world.target) == ""


def test_run_once_only_and_what_is_wrong_with_it(world: World) -> None:
    fill(world.share.root, 10)
    world.host.mirrors["M"] = world.host.mirrors["M"].replace('every = "5s"', 'every = "10m"')
    world.host.write()
    with world.host.daemon() as daemon:
        daemon.until_ok()
        assert daemon.api.pause()["paused"] == ["M"]
        put(world.share.root, "wanted/a.jpg", b"wanted")
        put(world.share.root, "later/b.jpg", b"later")
        done = world.host.run_once("--only", "M/wanted/a.jpg")
        assert done.code == 0, done.err
        assert (done.json["mirrors"][0]["scanned"], done.json["mirrors"][0]["fetched"]) == (1, 1)
        assert (world.target / "wanted/a.jpg").read_bytes() == b"wanted"
        assert not (world.target / "later").exists(), "paused, and not asked for"
        nobody = world.host.run_once("--mirror", "nobody")
        assert nobody.code == 2
        assert 'there is no mirror "nobody"' in nobody.err
        nowhere = world.host.run_once("--only", "M/no such.jpg")
        assert nowhere.code == 3
        (failure,) = nowhere.json["mirrors"][0]["failures"]
        assert (failure["path"], failure["reason"]) == ("no such.jpg", "gone")
        assert "Traceback" not in nobody.err + nowhere.err
        planned = world.host.run_once("--dry-run")
        assert planned.code == 0
        assert {step["path"] for step in planned.json["mirrors"][0]["plan"]} == {"later/b.jpg"}


def test_a_source_that_fails_and_a_run_that_is_held_back_have_their_exit_codes(world: World) -> None:
    paths = fill(world.share.root, 40)
    world.host.mirrors["M"] = world.host.mirrors["M"].replace('every = "5s"', 'every = "10m"')
    world.host.write()
    with world.host.daemon() as daemon:
        daemon.until_ok()
        for path in paths[:12]:
            (world.share.root / path).unlink()
        first = world.host.run_once()
        held_back = first if first.code == 13 else world.host.run_once()
        assert held_back.code == 13, held_back.err
        assert "12 of 40" in held_back.err
        assert "syncd approve" in held_back.err
        assert len(files_in(world.target)) == 40, "nothing was removed"
        assert (world.host("status").code, daemon.mirror("M")["state"]) == (13, "halted")
        part = world.host.run_once("--only", f"M/{paths[20]}")
        assert part.code == 0, part.err
        assert world.host("status").code == 13, "a look at a part is no end of a halt"
        shown = world.host("approve")
        assert shown.code == 2
        assert all(path in shown.out for path in paths[:12])
        assert world.host("approve", "--yes").code == 0
        daemon.until_state("M", "ok")
        assert differing(world.share.root, world.target) == ""
        assert len([path for path in trashed(world.target) if path in paths[:12]]) == 12

        world.share.stop()
        away = world.host.run_once()
        assert away.code == 10, away.out
        assert "error: " in away.err
        assert daemon.mirror("M")["state"] == "failing"
        assert len(files_in(world.target)) == 28


def test_a_first_run_that_fails_is_tried_again_soon(world: World) -> None:
    """A daemon that starts before its network does not wait for its schedule."""
    fill(world.share.root, 5)
    with FaultProxy(("127.0.0.1", world.share.port)) as proxy:
        proxy.down()
        extra = 'every = "10m"\nsettle = "0.1s"'
        world.host.add_mirror("M", world.share.url(port=proxy.port), world.target, world.share.password_file, extra)
        with world.host.daemon() as daemon:
            failing = daemon.until_state("M", "failing")
            assert str(proxy.port) in failing["message"]
            assert failing["hint"]
            assert world.host("status").code == 3
            proxy.up()
            daemon.until_ok()
            assert differing(world.share.root, world.target) == ""
