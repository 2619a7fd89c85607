"""The registry on a real server with a login: who gets in, and a network that breaks at the worst moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import PublishFailed
from syncd.core.model import ROOT
from syncd.engine import enrolling
from syncd.engine.enrolling import Enrolment, EnrolPace
from syncd.ports import RegistryEntry
from syncd.registry import mongo as mongo_module
from syncd.registry.errors import RegistryAway, RegistryDenied, RegistryRefused
from syncd.registry.link import Patience
from syncd.registry.mongo import MongoRegistry
from tests.support.catalogues import held, hold, open_catalogue
from tests.support.faultproxy import Direction, Ending, FaultProxy
from tests.support.mongo import KINDS, Login, MongoServer, start_mongo

PATIENCE = Patience(connect_s=1.5, call_s=2.0)
BOUND_S = 15.0
HOST = {"id": "h1", "name": "one", "version": "1", "files": True, "workers": 0, "mirrors": []}
QUICK = EnrolPace(beat_s=0.5, look_s=0.05, least_s=0.01, pause_s=0.05, pause_max_s=0.2)


@pytest.fixture(scope="module", params=KINDS)
def mongo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture
def proxy(mongo: MongoServer) -> Iterator[FaultProxy]:
    mongo.forget()
    with FaultProxy(mongo.address) as started:
        yield started


class Dialled:
    """A registry behind the proxy whose secret a test changes."""

    def __init__(self, mongo: MongoServer, proxy: FaultProxy) -> None:
        self.mongo = mongo
        self.port = proxy.port
        self.uri = mongo.uri(port=proxy.port)
        self.warnings: list[str] = []
        self.registry = MongoRegistry(
            lambda: self.uri, where="/etc/mongo-uri", warn=self.warnings.append, patience=PATIENCE
        )

    def use(self, **parts: Any) -> None:
        self.uri = self.mongo.uri(port=self.port, **parts)

    def again(self) -> None:
        """Lose the connection, as any failure does."""
        client = self.registry._link._detach()
        assert client is not None
        client.close()


@pytest.fixture
def dialled(mongo: MongoServer, proxy: FaultProxy) -> Iterator[Dialled]:
    made = Dialled(mongo, proxy)
    yield made
    made.registry.close()


def entries(count: int, generation: int = 1, *, removed: bool = False) -> list[RegistryEntry]:
    return [RegistryEntry("M", f"M/{n:04}", n, f"{generation:064x}", generation, removed) for n in range(count)]


def stored(mongo: MongoServer, database: str = "gvpocr") -> dict[str, int]:
    """Return what the server has, read by a client of the test's own: generation by path, without removed ones."""
    with mongo.client(database) as db:
        return {each["server_path"]: each["generation"] for each in db.sync_files.find({"removed": False})}


def wait_for(condition: Callable[[], object], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- who gets in


def test_a_missing_auth_source_is_tried_once_in_admin_and_warned_of_once(dialled: Dialled, proxy: FaultProxy) -> None:
    dialled.use(auth_source="")
    dialled.registry.beat(HOST)
    (warning,) = dialled.warnings
    assert "authSource=admin" in warning
    assert "/etc/mongo-uri" in warning
    assert dialled.mongo.login.password not in warning
    dialled.again()
    dialled.registry.beat(HOST)
    assert len(dialled.warnings) == 1
    assert dialled.registry.hosts()[0].name == "one"


def test_a_refused_login_is_not_tried_again_until_the_secret_changes(dialled: Dialled, proxy: FaultProxy) -> None:
    right = dialled.mongo.login
    dialled.use(login=Login(right.user, "wr@ng/pass"))
    for _ in range(3):
        with pytest.raises(RegistryRefused) as failed:
            dialled.registry.beat(HOST)
        assert failed.value.exit_code == 12
        assert f'"{right.user}" in database "admin"' in failed.value.message
        assert "wr@ng" not in failed.value.message + failed.value.hint
    dialled_so_far = proxy.accepted
    with pytest.raises(RegistryRefused):
        dialled.registry.record("h1", entries(1))
    assert proxy.accepted == dialled_so_far
    dialled.use(login=Login("nobody", "wr@ng/pass"))
    with pytest.raises(RegistryRefused):
        dialled.registry.beat(HOST)
    assert proxy.accepted > dialled_so_far
    dialled.use()
    dialled.registry.beat(HOST)
    assert not dialled.warnings


def test_refused_in_both_databases_names_both(dialled: Dialled) -> None:
    dialled.use(login=Login(dialled.mongo.login.user, "wr@ng"), auth_source="")
    with pytest.raises(RegistryRefused) as failed:
        dialled.registry.beat(HOST)
    assert 'in database "admin" and "gvpocr"' in failed.value.message
    assert "/etc/mongo-uri" in failed.value.hint


def test_an_auth_source_that_is_wrong_is_not_corrected(dialled: Dialled) -> None:
    dialled.use(auth_source="gvpocr")
    with pytest.raises(RegistryRefused):
        dialled.registry.beat(HOST)
    assert not dialled.warnings


def test_without_a_login_one_may_do_nothing(dialled: Dialled) -> None:
    dialled.uri = f"mongodb://127.0.0.1:{dialled.port}/gvpocr"
    with pytest.raises(RegistryDenied) as failed:
        dialled.registry.beat(HOST)
    assert failed.value.exit_code == 12
    assert "readWrite" in failed.value.hint


@pytest.mark.parametrize(("named", "used"), [("", "gvpocr"), ("elsewhere", "elsewhere")])
def test_the_database_is_the_uris(dialled: Dialled, named: str, used: str) -> None:
    dialled.use(database=named)
    dialled.mongo.forget(used)
    dialled.registry.record("h1", entries(2))
    assert dialled.registry.database == used
    assert len(stored(dialled.mongo, used)) == 2
    dialled.mongo.forget(used)


def test_the_secret_is_read_at_each_connection(dialled: Dialled, proxy: FaultProxy) -> None:
    dialled.registry.beat(HOST)
    dialled.use(database="elsewhere")
    dialled.registry.record("h1", entries(1))
    assert stored(dialled.mongo) == {"M/0000": 1}
    proxy.reset_all()
    with pytest.raises(RegistryAway):
        dialled.registry.record("h1", entries(2))
    dialled.registry.record("h1", entries(2))
    assert len(stored(dialled.mongo, "elsewhere")) == 2
    dialled.mongo.forget("elsewhere")


# --- a network that breaks


def test_nothing_listens_at_the_start(dialled: Dialled, proxy: FaultProxy) -> None:
    proxy.down()
    began = time.monotonic()
    with pytest.raises(RegistryAway) as failed:
        dialled.registry.beat(HOST)
    assert time.monotonic() - began < BOUND_S
    assert failed.value.exit_code == 10
    assert f"127.0.0.1:{proxy.port}" in failed.value.message
    assert failed.value.hint == "syncd doctor"
    proxy.up()
    dialled.registry.beat(HOST)


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE, Ending.SWALLOW])
@pytest.mark.parametrize("direction", list(Direction))
def test_cut_in_the_middle_of_a_bulk_the_next_call_completes_it(
    dialled: Dialled, proxy: FaultProxy, direction: Direction, ending: Ending
) -> None:
    many = entries(60)
    dialled.registry.record("h1", many[:1])
    proxy.cut_after(5_000 if direction is Direction.TO_SERVER else 100, direction, ending)
    began = time.monotonic()
    with pytest.raises(RegistryAway):
        for _ in range(20):
            dialled.registry.record("h1", many)
    assert time.monotonic() - began < BOUND_S
    dialled.registry.record("h1", many)
    assert stored(dialled.mongo) == {entry.server_path: 1 for entry in many}
    with dialled.mongo.client() as db:
        assert db.sync_files.count_documents({}) == 60


def test_a_black_hole_ends_by_the_deadline(dialled: Dialled, proxy: FaultProxy) -> None:
    dialled.registry.beat(HOST)
    proxy.stall()
    for call in (lambda: dialled.registry.beat(HOST), lambda: dialled.registry.hosts()):
        began = time.monotonic()
        with pytest.raises(RegistryAway):
            call()
        assert time.monotonic() - began < BOUND_S
    proxy.resume()
    dialled.registry.beat(HOST)


def test_what_is_held_up_on_its_way_does_not_bring_a_removed_file_back(
    dialled: Dialled, proxy: FaultProxy, mongo: MongoServer
) -> None:
    dialled.registry.record("h1", entries(1, 1))
    proxy.stall(Direction.TO_SERVER)
    passed = proxy.passed(Direction.TO_SERVER)
    with pytest.raises(RegistryAway):
        dialled.registry.record("h1", entries(3, 2))
    direct = MongoRegistry(mongo.uri, patience=PATIENCE)
    try:
        direct.record("h1", entries(3, 2))
        direct.record("h1", entries(2, 3, removed=True))
        proxy.resume(Direction.TO_SERVER)
        wait_for(lambda: proxy.passed(Direction.TO_SERVER) > passed)
        time.sleep(0.3)
        assert stored(mongo) == {"M/0002": 2}
        assert [entry.generation for entry in direct.entries("h1", "M", ROOT, None, 9)] == [3, 3, 2]
    finally:
        direct.close()


def test_batches_grow_while_it_is_quick_and_shrink_when_it_is_slow(
    dialled: Dialled, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    store = mongo_module._store

    def measured(db: Any, host_id: str, batch: dict[str, Any]) -> None:
        sizes.append(len(batch))
        store(db, host_id, batch)

    monkeypatch.setattr(mongo_module, "_store", measured)
    dialled.registry.record("h1", entries(140))
    assert sizes[0] == 16
    assert sizes[0] < max(sizes) <= 90
    proxy.stall()
    with pytest.raises(RegistryAway):
        dialled.registry.record("h1", entries(140, 2))
    proxy.resume()
    sizes.clear()
    dialled.registry.record("h1", entries(140, 2))
    assert sizes[0] <= 90 // 4
    assert sum(sizes) == 140


def test_indexes_are_there_and_made_again_for_a_collection_that_was_dropped(dialled: Dialled) -> None:
    for _ in range(2):
        dialled.registry.record("h1", entries(2))
        with dialled.mongo.client() as db:
            assert ["server_path"] in [list(index["key"]) for index in db.sync_files.list_indexes()]
        dialled.mongo.forget()
        dialled.again()


# --- the loop over all of it


def test_the_loop_converges_over_a_server_that_dies_and_a_network_that_stalls(
    dialled: Dialled, proxy: FaultProxy, mongo: MongoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolling, "COMPARED_AT_ONCE", 20)
    monkeypatch.setattr(enrolling, "ROWS_AT_ONCE", 20)
    host = {**HOST, "mirrors": [{"name": "M", "state": "ok"}]}
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        enrolment = Enrolment(dialled.registry, catalogue, host_id="h1", host=lambda: host, files=True, pace=QUICK)
        thread = threading.Thread(target=enrolment.run, name="enrolment")

        def truth() -> dict[str, int]:
            return {f"M/{path}": record.generation for path, record in mirror.records()}

        def commit(first: int, content: str) -> None:
            hold(mirror, *(held(f"d{n % 3}/{n}", content=f"{content}{n}") for n in range(first, first + 50)))

        commit(0, "a")
        thread.start()
        try:
            wait_for(lambda: stored(mongo) == truth())
            proxy.cut_after(20_000, Direction.TO_SERVER, Ending.RESET)
            commit(25, "b")
            mongo.kill()
            commit(60, "c")
            wait_for(lambda: not enrolment.state.connected)
            assert f"127.0.0.1:{proxy.port}" in enrolment.state.error
            mongo.start()
            proxy.stall()
            proxy.resume()
            commit(90, "d")
            wait_for(lambda: stored(mongo) == truth())
            mongo.forget()  # all is lost, and the connection holds
            wait_for(lambda: stored(mongo) == truth())
            wait_for(lambda: enrolment.state.connected and not enrolment.state.comparing)
            proxy.stall()
            time.sleep(0.1)
        finally:
            began = time.monotonic()
            enrolment.stop()
            thread.join(BOUND_S)
            took = time.monotonic() - began
        assert not thread.is_alive()
        assert took < PATIENCE.call_s / 2 + 0.5
    with pytest.raises(PublishFailed):
        dialled.registry.beat(HOST)
