"""The contract of ports.Registry, and of its reading side: in memory, and a real server behind a real socat."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol

import pytest

from syncd.core.errors import PublishFailed
from syncd.core.model import ROOT, RelPath
from syncd.ports import Bookmark, Registry, RegistryEntry
from syncd.registry.documents import Holding, HostRow
from syncd.registry.link import Patience
from syncd.registry.memory import MemoryRegistry
from syncd.registry.mongo import BATCH_MAX, MongoRegistry
from tests.support.mongo import KINDS, MongoServer, start_mongo
from tests.support.socat import start_socat

PATIENCE = Patience(connect_s=2.0, call_s=4.0)
BOUND_S = 20.0
T0_MS = 1_770_000_000_000

_numbers = itertools.count()


class FullRegistry(Registry, Protocol):
    """Both sides."""

    def hosts(self) -> list[HostRow]: ...

    def holdings(self, server_paths: list[str]) -> list[Holding]: ...


class Service:
    """What a registry writes to. host: an id of this test's own."""

    def __init__(self) -> None:
        self.host = f"host-{next(_numbers)}"

    def registry(self) -> FullRegistry:
        raise NotImplementedError

    def down(self) -> None: ...

    def up(self) -> None: ...

    def hang(self) -> None: ...

    def go_on(self) -> None: ...

    def forget(self) -> None: ...


class Memory(Service):
    def __init__(self) -> None:
        super().__init__()
        self._registry = MemoryRegistry()

    def registry(self) -> FullRegistry:
        return self._registry

    def down(self) -> None:
        self._registry.down = True

    def up(self) -> None:
        self._registry.down = False

    def hang(self) -> None:
        self._registry.hold()

    def go_on(self) -> None:
        self._registry.release()

    def forget(self) -> None:
        self._registry.forget()


class Mongo(Service):
    def __init__(self, server: MongoServer, port: int) -> None:
        super().__init__()
        self._server = server
        self._port = port

    def registry(self) -> FullRegistry:
        return MongoRegistry(lambda: self._server.uri(port=self._port), patience=PATIENCE)

    def down(self) -> None:
        self._server.kill()

    def up(self) -> None:
        self._server.start()

    def hang(self) -> None:
        self._server.suspend()

    def go_on(self) -> None:
        self._server.resume()

    def forget(self) -> None:
        self._server.forget()


@pytest.fixture(scope="module", params=["memory", *KINDS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MongoServer, int] | None]:
    if request.param == "memory":
        yield None
    else:
        with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as mongo, start_socat(mongo.port) as port:
            yield mongo, port


@pytest.fixture
def service(server: tuple[MongoServer, int] | None) -> Service:
    return Memory() if server is None else Mongo(*server)


@pytest.fixture
def registry(service: Service) -> Iterator[FullRegistry]:
    made = service.registry()
    yield made
    made.close()


def entry(path: str, generation: int = 1, *, mirror: str = "M", removed: bool = False) -> RegistryEntry:
    sha256 = f"{generation:064x}"
    return RegistryEntry(mirror, f"{mirror}/{path}", 10 * generation, sha256, T0_MS + generation, removed)


def host(service: Service, **more: Any) -> dict[str, Any]:
    mirror = {"name": "M", "state": "ok", "files": 3, "bytes": 1 << 40, "last_success": "2026-02-01T10:00:00.000Z"}
    return {
        "id": service.host,
        "name": f"name of {service.host}",
        "version": "1.2.3",
        "started_at": "2026-02-01T09:00:00.000Z",
        "files": True,
        "workers": 3,
        "mirrors": [{**mirror, "source": "smb://u@h/s", "target": "/t"}],
        **more,
    }


def of(registry: FullRegistry, service: Service) -> HostRow:
    (row,) = [row for row in registry.hosts() if row.id == service.host]
    return row


def stored(registry: FullRegistry, service: Service, mirror: str = "M") -> list[RegistryEntry]:
    return registry.entries(service.host, mirror, ROOT, None, 10_000)


# --- hosts


def test_a_host_is_shown_as_it_says_it_is(service: Service, registry: FullRegistry) -> None:
    registry.beat(host(service))
    row = of(registry, service)
    assert row.name == f"name of {service.host}"
    assert (row.version, row.workers, row.files, row.started_at) == ("1.2.3", 3, True, "2026-02-01T09:00:00.000Z")
    (mirror,) = row.mirrors
    assert mirror == ("M", "ok", 3, 1 << 40, "2026-02-01T10:00:00.000Z", "smb://u@h/s", "/t")
    assert 0 <= row.age_s < BOUND_S
    assert not row.stale
    registry.beat(host(service, mirrors=[], version="1.2.4", workers=0))
    again = of(registry, service)
    assert (again.mirrors, again.version, again.workers) == ((), "1.2.4", 0)
    assert datetime.fromisoformat(again.at) >= datetime.fromisoformat(row.at)


def test_a_beat_leaves_the_bookmark_alone_and_returns_it(service: Service, registry: FullRegistry) -> None:
    assert registry.beat(host(service)).bookmark is None
    before = None
    for bookmark in (
        Bookmark(0, "", 0, ("", "")),
        Bookmark(7, "A\nM\nM|a/é.jpg|00|5", 0, ("M", "a folder/é.jpg")),
        Bookmark(1 << 60, "x", T0_MS, None),
    ):
        registry.mark(service.host, bookmark, before)
        assert registry.beat(host(service)).bookmark == bookmark
        before = bookmark
    assert not of(registry, service).filling
    registry.mark(service.host, Bookmark(7, "", 0, ("M", "x")), None)
    assert of(registry, service).filling


def test_a_bookmark_is_moved_only_from_where_it_is(service: Service, registry: FullRegistry) -> None:
    old, new = Bookmark(7, "x", 0, None), Bookmark(9, "z", 0, None)
    with pytest.raises(PublishFailed):
        registry.mark(service.host, old, None)  # nothing was heard of this host
    registry.beat(host(service))
    with pytest.raises(PublishFailed):
        registry.mark(service.host, new, old)
    assert registry.beat(host(service)).bookmark is None
    registry.mark(service.host, old, None)
    for wrong in (Bookmark(8, "x", 0, None), Bookmark(7, "y", 0, None)):
        with pytest.raises(PublishFailed):
            registry.mark(service.host, new, wrong)
    assert registry.beat(host(service)).bookmark == old
    registry.mark(service.host, new, old)
    assert registry.beat(host(service)).bookmark == new


def test_two_live_hosts_of_one_name_are_namesakes(service: Service, registry: FullRegistry) -> None:
    other = f"{service.host}-other"
    assert registry.beat(host(service, name="same")).namesakes == ()
    assert registry.beat(host(service, name="same", id=other)).namesakes == (service.host,)
    assert registry.beat(host(service, name="same")).namesakes == (other,)
    assert registry.beat(host(service, name="another", id=other)).namesakes == ()
    assert registry.beat(host(service, name="same")).namesakes == ()


# --- files


def test_what_is_recorded_is_found_by_its_path(service: Service, registry: FullRegistry) -> None:
    other = f"{service.host}-other"
    registry.record(service.host, [entry("a b/x .JPG", 5), entry("y.pdf")])
    registry.record(other, [entry("a b/x .JPG", 6)])
    found = registry.holdings(["M/a b/x .JPG", "M/nothing"])
    mine = [held for held in found if held.host_id in (service.host, other)]
    assert [(held.host_id, held.generation, held.size) for held in mine] == [
        (service.host, T0_MS + 5, 50),
        (other, T0_MS + 6, 60),
    ]
    assert mine[0].sha256 == f"{5:064x}"
    assert mine[0].since == "2026-02-02T02:40:00.005Z"


def test_an_older_generation_never_overwrites_a_newer_one(service: Service, registry: FullRegistry) -> None:
    for generation, expected in ((5, 5), (3, 5), (5, 5), (7, 7), (6, 7)):
        registry.record(service.host, [entry("x", generation)])
        assert stored(registry, service) == [entry("x", expected)]


def test_a_removed_file_is_not_held_and_does_not_come_back(service: Service, registry: FullRegistry) -> None:
    registry.record(service.host, [entry("x", 1), entry("y", 1)])
    registry.record(service.host, [entry("x", 2, removed=True), entry("never there", 2, removed=True)])
    registry.record(service.host, [entry("x", 1)])
    held = {
        each.server_path for each in registry.holdings(["M/x", "M/y", "M/never there"]) if each.host_id == service.host
    }
    assert held == {"M/y"}
    assert [each.removed for each in stored(registry, service)] == [True, True, False]
    registry.record(service.host, [entry("x", 3)])
    assert entry("x", 3) in stored(registry, service)


def test_in_one_call_the_newest_of_a_path_counts_whatever_the_order(service: Service, registry: FullRegistry) -> None:
    entries = [entry("x", generation, removed=generation % 2 == 1) for generation in range(1, 20)]
    random.Random(service.host).shuffle(entries)
    registry.record(service.host, entries)
    assert stored(registry, service) == [entry("x", 19, removed=True)]


def test_more_than_one_bulk_holds_is_stored_whole(service: Service, registry: FullRegistry) -> None:
    entries = [entry(f"{n:04}") for n in range(3 * BATCH_MAX + 1)]
    registry.record(service.host, entries)
    registry.record(service.host, entries)
    assert stored(registry, service) == entries
    registry.drop(service.host, entries)
    assert stored(registry, service) == []


def test_the_largest_numbers_and_odd_names_come_back(service: Service, registry: FullRegistry) -> None:
    odd = [
        "$x.y",
        "a.b/$set",
        "हिन्दी/पत्र .JPG",
        "e\u0301",
        "é",
        "\U0001f600",
        "quote\"'\\",
        "{}",
        "tilde~",
        " lead",
        "%41",
    ]
    entries = [entry(name) for name in odd]
    registry.record(service.host, entries)
    assert sorted(stored(registry, service)) == sorted(entries)
    huge = RegistryEntry("M", "M/huge", (1 << 63) - 1, "ff" * 32, (1 << 62), removed=False)
    registry.record(service.host, [huge])
    assert huge in stored(registry, service)
    assert registry.holdings(["M/huge"])[0].since.startswith("9999-12-31T")


# --- comparing


def test_entries_come_in_the_order_of_the_catalogue(service: Service, registry: FullRegistry) -> None:
    paths = [
        "A", "b", "é", "\uffee", "\U0001f600",  # by code point
        "a/z", "a !/x", "a-b/x", "a/b/x", "a.b/x", "a/b/c/x", "Z/x",
    ]  # fmt: skip
    order = sorted(paths, key=lambda path: path.rpartition("/")[::2])
    shuffled = random.Random(1).sample(paths, len(paths))
    registry.record(service.host, [entry(path) for path in shuffled])
    registry.record(service.host, [entry("other", mirror="M "), entry("other", mirror="L")])
    registry.record(f"{service.host}-2", [entry("other")])
    assert stored(registry, service) == [entry(path) for path in order]
    for at, after in enumerate(order):
        for limit in (1, 3):
            rest = registry.entries(service.host, "M", RelPath(after), None, limit)
            assert rest == [entry(path) for path in order[at + 1 : at + 1 + limit]]
        until = order[min(at + 3, len(order) - 1)]
        part = registry.entries(service.host, "M", RelPath(after), RelPath(until), 100)
        assert part == [entry(path) for path in order[at + 1 : at + 4]]


def test_drop_leaves_what_is_another_generation_by_now(service: Service, registry: FullRegistry) -> None:
    registry.record(service.host, [entry("x"), entry("y"), entry("z", 2, removed=True)])
    registry.record(service.host, [entry("x", 2)])
    registry.drop(service.host, [entry("x"), entry("y"), entry("z", 2), entry("not there")])
    assert stored(registry, service) == [entry("x", 2)]


def test_keep_only_takes_other_mirrors_out(service: Service, registry: FullRegistry) -> None:
    names = ["A", "A b", "M", "M2", "z"]
    for mirror in names:
        registry.record(service.host, [entry("d/x", mirror=mirror), entry("y", mirror=mirror)])
    registry.record(f"{service.host}-2", [entry("x", mirror="A")])
    registry.record(f"{service.host}2", [entry("x", mirror="A")])
    registry.keep_only(service.host, ["z", "A b", "M", "unknown"])
    assert [len(stored(registry, service, mirror)) for mirror in names] == [0, 2, 2, 0, 2]
    registry.keep_only(service.host, [])
    assert [len(stored(registry, service, mirror)) for mirror in names] == [0] * 5
    assert len(registry.entries(f"{service.host}-2", "A", ROOT, None, 9)) == 1
    assert len(registry.entries(f"{service.host}2", "A", ROOT, None, 9)) == 1


# --- faults


def test_away_is_a_failure_in_bounded_time_and_what_was_stored_is_there_afterwards(
    service: Service, registry: FullRegistry
) -> None:
    registry.beat(host(service))
    registry.record(service.host, [entry("x")])
    service.down()
    try:
        for call in (lambda: registry.beat(host(service)), lambda: registry.record(service.host, [entry("y")])):
            began = time.monotonic()
            with pytest.raises(PublishFailed) as failed:
                call()
            assert time.monotonic() - began < BOUND_S
            assert failed.value.transient
    finally:
        service.up()
    registry.record(service.host, [entry("y")])
    assert stored(registry, service) == [entry("x"), entry("y")]


def test_a_server_that_lost_everything_says_so_by_its_bookmark(service: Service, registry: FullRegistry) -> None:
    registry.beat(host(service))
    registry.mark(service.host, Bookmark(7, "x", T0_MS, None), None)
    registry.record(service.host, [entry("x")])
    service.forget()
    assert registry.beat(host(service)).bookmark is None
    registry.record(service.host, [entry("y")])
    assert stored(registry, service) == [entry("y")]


def test_a_hang_ends_by_the_deadline_or_at_close(service: Service, registry: FullRegistry) -> None:
    registry.beat(host(service))
    service.hang()
    failures: list[PublishFailed] = []

    def call() -> None:
        try:
            registry.beat(host(service))
        except PublishFailed as error:
            failures.append(error)

    thread = threading.Thread(target=call, name="beat")
    try:
        thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        registry.close()
        registry.close()
        thread.join(BOUND_S)
        assert not thread.is_alive()
        assert time.monotonic() - began < PATIENCE.call_s / 2
        assert len(failures) == 1
    finally:
        service.go_on()
        thread.join(BOUND_S)
    with pytest.raises(PublishFailed):
        registry.beat(host(service))
