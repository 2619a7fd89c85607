"""The contract of web.port.Service, held against every implementation: the fake here; the daemon by a subclass.

A subclass gives the fixture `world`: a service that has one mirror, whose source takes files by put(), and settle(),
after which all that was put is held.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Protocol

import pytest

from syncd.core.errors import ConfigError
from syncd.core.resolution import Resolution, State
from syncd.web import metrics
from syncd.web.port import Lease, Service
from tests.support.api_server import eventually
from tests.support.fake_service import FakeService

BODY = "पत्र".encode() * 500
FETCH_S = 30.0
STATES = {"ok", "behind", "failing", "halted", "paused"}


class World(Protocol):
    """What a Service is tried in."""

    service: Service
    mirror: str

    def put(self, path: str, body: bytes) -> None:
        """Have a file on the source."""

    def settle(self) -> None:
        """Wait until all that was put is held."""


class ServiceContract:
    """What every Service does."""

    def test_health(self, world: World) -> None:
        found = world.service.health()
        assert found["ok"] is True
        assert set(found) >= {"ok", "version", "pid", "since", "problems"}

    def test_status(self, world: World) -> None:
        found = world.service.status()
        assert set(found) >= {"version", "host", "daemon", "mirrors"}
        assert [mirror["name"] for mirror in found["mirrors"]] == [world.mirror]
        assert {mirror["state"] for mirror in found["mirrors"]} <= STATES

    def test_samples_can_be_shown(self, world: World) -> None:
        assert b"syncd_" in metrics.render(world.service.samples())

    # --- files

    def test_a_held_file_resolves(self, world: World) -> None:
        world.put("a/held.jpg", BODY)
        world.settle()
        found = world.service.resolve(f"{world.mirror}/a/held.jpg")
        assert (found.state, found.mirror, found.path) == (State.READY, world.mirror, "a/held.jpg")
        assert (found.size, found.sha256) == (len(BODY), hashlib.sha256(BODY).hexdigest())
        assert found.local_path is not None
        assert found.local_path.startswith("/")

    @pytest.mark.parametrize("path", ["absent.jpg", "../../etc/passwd", "a\x00b", "", "x" * 20_000, "💾/\u202e", "//"])
    def test_anything_else_is_answered_without_a_path(self, world: World, path: str) -> None:
        world.put("held.jpg", BODY)
        world.settle()
        found = world.service.resolve(f"{world.mirror}/{path}")
        assert found.state is not State.READY
        assert found.reason is not None
        assert (found.local_path, found.sha256) == (None, None)

    def test_ensure_fetches_for_all_who_ask(self, world: World) -> None:
        world.put("wanted.jpg", BODY)
        wishes = [world.service.ensure(f"{world.mirror}/wanted.jpg") for _ in range(5)]
        assert not wait(wishes, FETCH_S).not_done
        assert {wish.result().state for wish in wishes} == {State.READY}
        assert world.service.resolve(f"{world.mirror}/wanted.jpg").state is State.READY

    def test_ensure_of_what_cannot_be_had_ends(self, world: World) -> None:
        world.put("other.jpg", BODY)
        world.settle()
        wish = world.service.ensure(f"{world.mirror}/absent.jpg")
        assert wish.result(FETCH_S).state is not State.READY

    def test_a_wish_that_is_taken_back_is_not_the_others(self, world: World) -> None:
        world.put("wanted.jpg", BODY)
        first, second = (world.service.ensure(f"{world.mirror}/wanted.jpg") for _ in range(2))
        first.cancel()
        assert second.result(FETCH_S).state is State.READY

    # --- leases

    def test_a_lease_lives_until_it_is_released(self, world: World) -> None:
        world.put("held.jpg", BODY)
        world.settle()
        lease = world.service.lease(f"{world.mirror}/held.jpg", 60)
        assert isinstance(lease, Lease)
        assert (lease.sha256, lease.size) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
        assert lease.pinned_path.endswith(lease.pinned_rel)
        assert lease.pinned_rel.startswith(".syncd/pins/")
        renewed = world.service.renew(lease.lease_id, 3600)
        assert renewed is not None
        assert renewed.expires_at > lease.expires_at
        assert renewed._replace(expires_at="") == lease._replace(expires_at="")
        assert world.service.release(lease.lease_id) is True
        assert world.service.release(lease.lease_id) is None
        assert world.service.renew(lease.lease_id, 60) is None

    def test_what_is_not_held_cannot_be_leased(self, world: World) -> None:
        found = world.service.lease(f"{world.mirror}/absent.jpg", 60)
        assert isinstance(found, Resolution)
        assert found.state is not State.READY

    # --- events

    def test_events_are_numbered_and_come_in_parts(self, world: World) -> None:
        begin = world.service.events(-1, 100)
        assert (begin["events"], begin["gap"]) == ([], False)
        for number in range(3):
            world.put(f"{number}.jpg", BODY)
        world.settle()
        first = world.service.events(begin["next"], 2)
        rest = world.service.events(first["next"], 100)
        found = first["events"] + rest["events"]
        assert len(first["events"]) == 2
        assert {event["path"] for event in found} == {"0.jpg", "1.jpg", "2.jpg"}
        numbers = [event["seq"] for event in found]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > begin["next"]
        assert world.service.events(rest["next"], 100)["events"] == []

    def test_news_is_told_until_nobody_wants_it(self, world: World) -> None:
        told = threading.Event()
        stop = world.service.on_event(told.set)
        world.put("news.jpg", BODY)
        world.settle()
        assert told.wait(FETCH_S)
        assert world.service.events(0, 100)["events"]
        stop()

    # --- changes

    def test_a_run_is_an_errand(self, world: World) -> None:
        world.put("new.jpg", BODY)
        errand_id = world.service.start(
            "run", {"mirrors": [world.mirror], "only": [], "new_target": False, "take_over": False}
        )
        eventually(lambda: bool((found := world.service.errand(errand_id)) and found.done), "the run does not end")
        errand = world.service.errand(errand_id)
        assert errand is not None
        assert errand.exit_code == 0
        assert errand.result is not None
        assert "mirrors" in errand.result

    def test_an_examination_is_an_errand(self, world: World) -> None:
        errand_id = world.service.start("doctor", {})
        eventually(lambda: bool((found := world.service.errand(errand_id)) and found.done), "the doctor does not end")
        errand = world.service.errand(errand_id)
        assert errand is not None
        assert (errand.exit_code, errand.errors) == (0, ())
        assert errand.result is not None
        for check in errand.result["checks"]:
            assert set(check) == {"group", "mirror", "name", "status", "seen", "todo"}
            assert check["group"] not in ("daemon", "service"), "it does not examine itself"

    def test_unknown_things(self, world: World) -> None:
        wishes = {"mirrors": ["nobody"], "only": [], "new_target": False, "take_over": False}
        with pytest.raises(ConfigError):
            world.service.start("run", wishes)
        assert world.service.errand("nothing") is None
        assert world.service.folder("nobody", "") is None

    def test_pause_and_resume(self, world: World) -> None:
        world.service.pause({"mirrors": [world.mirror], "for_s": None})
        assert world.service.status()["mirrors"][0]["state"] == "paused"
        world.service.resume({"mirrors": []})
        assert world.service.status()["mirrors"][0]["state"] != "paused"

    def test_folder(self, world: World) -> None:
        world.put("a/held.jpg", BODY)
        world.settle()
        found = world.service.folder(world.mirror, "a")
        assert found is not None
        assert set(found) == {"folders", "files", "missing", "more"}
        assert [(each["name"], each["size"]) for each in found["files"]] == [("held.jpg", len(BODY))]


class FakeWorld:
    """The fake, whose source is a dictionary."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.mirror = self.service.mirror

    def put(self, path: str, body: bytes) -> None:
        self.service.on_source[path] = body

    def settle(self) -> None:
        for path, body in self.service.on_source.items():
            if self.service.files.get(path) != body:
                self.service.hold(path, body)


class TestFakeService(ServiceContract):
    """The fake keeps the contract that tests of the web server rely on."""

    @pytest.fixture
    def world(self) -> Iterator[FakeWorld]:
        yield FakeWorld()
