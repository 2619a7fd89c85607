"""Alerts about what all hosts see are told by one of them, on a real server that speaks MongoDB's protocol."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.alerts.leasing import ALONE_AFTER_S, DUTY
from syncd.alerts.rules import Facts, MirrorFact, Queue
from syncd.ports.alerting import AlertLease
from syncd.registry.alerting import MongoAlertLeases
from syncd.registry.errors import RegistryAway
from syncd.registry.link import Patience
from syncd.registry.mongo import MongoRegistry
from tests.support.alerting import WELL, Post
from tests.support.mongo import KINDS, MongoServer, start_mongo

PATIENCE = Patience(connect_s=5.0, call_s=5.0)
LEASE_S = 300.0
DOWN = Facts(nsqd=("down", "connection refused"), mongodb=("ok", ""))
JOB = "3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7"


@pytest.fixture(scope="module", params=KINDS)
def mongo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with start_mongo(request.param, tmp_path_factory.mktemp("mongo")) as server:
        yield server


class Pluggable(MongoAlertLeases):
    """Leases whose MongoDB is away at once while an event is set, without the driver's own patience."""

    def on(self, unplugged: threading.Event) -> Pluggable:
        self._unplugged = unplugged
        return self

    def sync(
        self, wanted: Mapping[str, Mapping[str, Any]], told: Collection[str], duty: str
    ) -> Mapping[str, AlertLease]:
        if self._unplugged.is_set():
            raise RegistryAway("MongoDB: unplugged")
        return super().sync(wanted, told, duty)


class Hosts:
    """Some hosts, each with its own memory and channel, and leases in one MongoDB."""

    def __init__(self, mongo: MongoServer, base: Path) -> None:
        self.mongo = mongo
        self.base = base
        self.all: list[Post] = []
        self.unplugged = threading.Event()

    def add(self, name: str) -> Post:
        post = Post(self.base / name, self.leases(name), name)
        self.all.append(post)
        return post

    def leases(self, name: str) -> MongoAlertLeases:
        return Pluggable(self.mongo.uri, f"id-{name}", name, patience=PATIENCE, lease_s=LEASE_S, cool_s=LEASE_S).on(
            self.unplugged
        )

    def see(self, facts: Facts, times: int = 1) -> None:
        """Let all hosts see the same, and look so often."""
        for _ in range(times):
            for post in self.all:
                post.state = facts
                post.look()

    def told(self) -> list[str]:
        return [f"{post.name} {word}" for post in self.all for word in post.channel.told]

    def fall_silent(self) -> None:
        """Let all leases run out, as if no host had been heard of for minutes."""
        with self.mongo.client() as db:
            db.sync_alerts.update_many({}, {"$set": {"until": datetime(2020, 1, 1, tzinfo=UTC)}})

    def set_job(self, consumed: int, status: str = "processing") -> None:
        fields = {"status": status, "published_count": 30, "consumed_count": consumed, "checkpoint": {"results": ["x"]}}
        with self.mongo.client() as db:
            db.bulk_jobs.update_one({"job_id": JOB}, {"$set": fields}, upsert=True)


@pytest.fixture
def hosts(mongo: MongoServer, tmp_path: Path) -> Iterator[Hosts]:
    mongo.forget()
    made = Hosts(mongo, tmp_path)
    yield made
    for post in made.all:
        post.close()


def test_of_two_hosts_one_tells_that_nsqd_is_down_and_that_it_is_over(hosts: Hosts) -> None:
    for name in ("one", "two"):
        hosts.add(name)
    hosts.see(DOWN, 4)
    hosts.see(WELL, 4)
    assert hosts.told() == ["one +nsqd", "one -nsqd"]


def test_what_is_a_hosts_own_each_host_tells(hosts: Hosts) -> None:
    for name in ("one", "two"):
        hosts.add(name)
    hosts.see(WELL._replace(mirrors=[MirrorFact("M", "halted", "gone")]), 3)
    assert hosts.told() == ["one +halted M", "two +halted M"]


def test_a_host_that_sees_the_end_later_does_not_begin_it_again(hosts: Hosts) -> None:
    one, two = hosts.add("one"), hosts.add("two")
    hosts.see(DOWN, 2)
    one.state = WELL
    one.look(2)
    two.look(2)
    two.state = WELL
    two.look(2)
    assert hosts.told() == ["one +nsqd", "one -nsqd"]


def test_a_job_that_is_stuck_is_told_by_the_host_on_duty(hosts: Hosts) -> None:
    for name in ("one", "two"):
        hosts.add(name).queued = Queue(0, 0)
    hosts.set_job(12)
    hosts.see(WELL, 4)
    assert hosts.told() == [f"one +job {JOB}"]
    (alert,) = hosts.all[0].channel.taken[0].begun
    assert "12 of 30 tasks are done, and the queue is empty" in alert.text
    assert alert.remedy == f"worker-glue job {JOB} --requeue"
    hosts.set_job(30)
    hosts.see(WELL, 2)
    hosts.set_job(30, "completed")
    hosts.see(WELL, 2)
    assert hosts.told() == [f"one +job {JOB}", f"one -job {JOB}"]


def test_the_end_is_told_by_another_host_when_the_first_has_died(hosts: Hosts) -> None:
    """The beginning is not told again."""
    one, two = hosts.add("one"), hosts.add("two")
    hosts.set_job(12)
    hosts.see(DOWN, 3)
    assert sorted(one.channel.told) == [f"+job {JOB}", "+nsqd"]
    hosts.all.remove(one)
    one.close()
    hosts.fall_silent()
    two.look(3)
    assert two.channel.told == []
    assert two.sharing.on_duty
    hosts.set_job(30, "completed")
    two.state = WELL
    two.look(3)
    assert sorted(two.channel.told) == [f"-job {JOB}", "-nsqd"]


def test_a_host_that_comes_back_after_another_took_over_is_silent(hosts: Hosts) -> None:
    one, two = hosts.add("one"), hosts.add("two")
    hosts.set_job(12)
    hosts.see(DOWN, 3)
    hosts.fall_silent()  # it sleeps
    two.look(2)
    one.look(2)
    hosts.set_job(30, "completed")
    hosts.see(WELL, 3)
    assert sorted(one.channel.told) == [f"+job {JOB}", "+nsqd"]
    assert sorted(two.channel.told) == [f"-job {JOB}", "-nsqd"]


def test_what_was_begun_and_not_delivered_is_told_by_whoever_takes_over(hosts: Hosts) -> None:
    one, two = hosts.add("one"), hosts.add("two")
    one.channel.script("E" * 10_000)
    for _ in range(3):
        for post in (one, two):
            post.state = DOWN
            post.look(settle=False)
    hosts.all.remove(one)
    one.close()
    hosts.fall_silent()
    two.look(2)
    assert two.channel.told == ["+nsqd"]


def test_a_restart_keeps_what_a_host_has_begun(hosts: Hosts) -> None:
    one, two = hosts.add("one"), hosts.add("two")
    hosts.set_job(12)
    hosts.see(DOWN, 3)
    one.close()
    one.leases = hosts.leases("one")
    one.start()
    hosts.see(DOWN, 3)
    assert sorted(one.channel.told) == [f"+job {JOB}", "+nsqd"]
    hosts.set_job(30, "completed")
    hosts.see(WELL, 3)
    assert sorted(one.channel.told) == [f"+job {JOB}", "+nsqd", f"-job {JOB}", "-nsqd"]
    assert two.channel.told == []


def test_while_mongodb_is_away_nothing_is_over_and_each_host_tells_for_itself_in_the_end(hosts: Hosts) -> None:
    _, two = hosts.add("one"), hosts.add("two")
    hosts.set_job(12)
    hosts.see(WELL, 3)
    hosts.unplugged.set()
    hosts.see(DOWN, 2)
    assert hosts.told() == [f"one +job {JOB}"], "for two minutes nobody can say who is to tell"
    for post in hosts.all:
        post.steady += ALONE_AFTER_S + 1
        post.look(2)
    assert hosts.told() == [f"one +job {JOB}", "one +nsqd", "two +nsqd"]
    hosts.unplugged.clear()
    for post in hosts.all:
        post.look(2)
    hosts.set_job(30, "completed")
    hosts.see(WELL, 3)
    told = hosts.told()
    assert told.count(f"one -job {JOB}") == 1
    assert sum(word.endswith("-nsqd") for word in told) == 1, "who holds the lease then tells the end"
    assert two.channel.told.count(f"+job {JOB}") == 0


def test_a_host_that_is_not_heard_of_is_told_by_the_host_on_duty(hosts: Hosts) -> None:
    registry = MongoRegistry(hosts.mongo.uri, patience=PATIENCE)
    told = {"version": "1", "files": False, "workers": 0, "mirrors": []}
    all_day = {"id": "h2", "name": "asleep", "away": [(0, 720), (720, 0)]}
    for host in ({"id": "id-one", "name": "one"}, {"id": "h1", "name": "annex", "away": []}, all_day):
        registry.beat({**told, **host})
    for name in ("one", "two"):
        hosts.add(name)
    hosts.see(WELL, 3)
    assert hosts.told() == []
    with hosts.mongo.client() as db:
        db.sync_hosts.update_many({}, {"$set": {"at": datetime.now(UTC) - timedelta(hours=1)}})
    hosts.see(WELL, 3)
    assert hosts.told() == ["one +host h1"]
    registry.beat({**told, "id": "h1", "name": "annex"})
    hosts.see(WELL, 3)
    registry.close()
    assert hosts.told() == ["one +host h1", "one -host h1"]


def test_of_many_hosts_that_ask_at_once_one_gets_each_lease(hosts: Hosts) -> None:
    leases = [hosts.leases(f"h{n}") for n in range(6)]
    wanted = {DUTY: {}, "nsqd": {"key": "nsqd"}}
    for _ in range(2):
        found: list[set[str]] = []

        def ask(each: MongoAlertLeases, found: list[set[str]] = found) -> None:
            found.append(set(each.sync(wanted, (), DUTY)))

        threads = [threading.Thread(target=ask, args=(each,)) for each in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(key for held in found for key in held) == sorted(wanted)
        hosts.fall_silent()
    for each in leases:
        each.close()


def test_documents_that_somebody_else_wrote_are_no_reason_to_fail(hosts: Hosts) -> None:
    with hosts.mongo.client() as db:
        for key, fields in {"nsqd": {"until": "soon", "alert": 5, "told": True}, "x": {}, DUTY: {"until": 5}}.items():
            db.sync_alerts.insert_one({"_id": key, **fields})
        odd = [{}, {"job_id": 5, "consumed_count": "x"}, {"job_id": "j", "published_count": 2, "consumed_count": None}]
        db.sync_hosts.insert_many([{"_id": "h7"}, {"_id": "h8", "at": datetime.now(UTC), "away": [5, {"start": "x"}]}])
        db.bulk_jobs.insert_many([{"status": "processing", **fields} for fields in odd])
    one = hosts.add("one")
    hosts.see(DOWN, 4)
    assert "+job j" in one.channel.told
    assert one.channel.told.count("+nsqd") <= 1
