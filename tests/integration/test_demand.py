"""Files on demand: ahead of a run, once for many callers, each with an answer that says how it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd.app.wiring import rules_of
from syncd.core.errors import EntryUnreadable, SourceAuthFailed, SourceUnavailable
from syncd.core.model import ROOT, Fingerprint, Listing, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.daemon.keeping import Keeping
from syncd.engine.clock import Clock
from syncd.engine.demand import Demand
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions
from syncd.engine.serving import DemandPorts
from syncd.sources.memory import Fault, MemorySource
from tests.support.world import World

ANSWER_S = 30.0


@dataclass
class Bench:
    """One mirror as the daemon keeps it, without its threads. `demand` has a source of its own over the same tree."""

    world: World
    keeping: Keeping
    demand: Demand
    sources: list[MemorySource]

    def ask(self, path: str) -> Resolution:
        return self.demand.ensure(RelPath(path)).result(ANSWER_S)

    def run(self, *, only: tuple[RelPath, ...] = ()) -> Report:
        report = Report("M", "run")
        self.keeping.execute_run(RunOptions(only=only), report)
        return report


@contextmanager
def bench_of(world: World) -> Iterator[Bench]:
    app = world.app()
    sources: list[MemorySource] = []

    def source_of(_: object) -> MemorySource:
        sources.append(world.source.copy())
        sources[-1]._faults = world.source._faults
        sources[-1].before_chunk = world.source.before_chunk
        sources[-1].refuse_login, sources[-1].down = world.source.refuse_login, world.source.down
        return sources[-1]

    with app._writing() as (host, catalogue):
        made: list[Demand] = []
        keeping = Keeping(
            app.settings,
            app.settings.mirrors[0],
            host,
            catalogue,
            clock=Clock(),
            source_of=source_of,
            yielding=lambda: made[0].busy,
        )

        def resolve(path: RelPath) -> Resolution:
            record = keeping.facts.record(path)
            if record is None:
                return Resolution(State.FETCHING, "M", path)
            return Resolution(State.READY, "M", path, sha256=record.sha256, size=record.size)

        ports = DemandPorts(
            keeping.target.use, keeping.open_source, keeping.facts, resolve, keeping.target.writing, Clock().now_ns
        )
        made.append(Demand(rules_of(keeping.mirror), ports, run_id=lambda: "demand"))
        try:
            yield Bench(world, keeping, made[0], sources)
        finally:
            made[0].close()
            keeping.target.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    world = World(tmp_path, {f"a/{n}.jpg": f"page {n}".encode() for n in range(20)})
    with bench_of(world) as made:
        yield made


def test_a_file_comes_without_any_run(bench: Bench) -> None:
    found = bench.ask("a/3.jpg")
    assert (found.state, found.size) == (State.READY, 6)
    assert bench.world.mirrored() == {"a/3.jpg": b"page 3"}
    assert bench.run().fetched == 19
    assert bench.world.converged()


def test_many_callers_of_one_path_cost_one_transfer(bench: Bench) -> None:
    go = threading.Event()
    bench.world.source.before_chunk = lambda _wanted, _offset: go.wait(ANSWER_S) and None
    futures: list[Future[Resolution]] = [bench.demand.ensure(RelPath("a/3.jpg")) for _ in range(25)]
    go.set()
    assert {future.result(ANSWER_S).state for future in futures} == {State.READY}
    assert sum(source.calls["get"] for source in bench.sources) == 1


def test_a_missing_file_is_looked_for_in_a_complete_listing(bench: Bench) -> None:
    found = bench.ask("a/3.JPG")
    assert (found.state, found.reason) == (State.MISSING, Reason.NOT_LISTED)
    assert found.listed_at
    assert found.near == ("M/a/3.jpg",)
    assert bench.ask("nowhere/x.jpg").state is State.MISSING


def test_many_missing_files_asked_for_at_once_share_a_listing_and_the_next_question_gets_its_own(bench: Bench) -> None:
    futures = [bench.demand.ensure(RelPath(f"new/{number}.jpg")) for number in range(200)]
    assert {future.result(ANSWER_S).state for future in futures} == {State.MISSING}
    assert sum(source.calls["list"] for source in bench.sources) < 20
    bench.sources[-1].put("new/7.jpg", b"came")
    assert bench.ask("new/7.jpg").state is State.READY


class SlowListings:
    """Has every listing wait, once its content is fixed: begun() waits for the first, go() lets all end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[RelPath] = []
        self.error: SourceUnavailable | None = None
        self._begun, self._go = threading.Event(), threading.Event()
        self.go = self._go.set
        scan = MemorySource.scan

        def slow(source: MemorySource, pending: list[RelPath]) -> Iterator[Listing]:
            self.asked += pending
            listings = list(scan(source, pending))
            self._begun.set()
            self._go.wait(ANSWER_S)
            if self.error is not None:
                raise self.error
            yield from listings

        monkeypatch.setattr(MemorySource, "scan", slow)

    def begun(self) -> None:
        assert self._begun.wait(ANSWER_S)


def test_who_asks_while_a_listing_is_made_gets_the_next_one_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = SlowListings(monkeypatch)
    first = bench.demand.ensure(RelPath("new/first.jpg"))
    listings.begun()
    others = [bench.demand.ensure(RelPath(f"new {number}/x.jpg")) for number in range(300)]
    bench.sources[-1].put("came/x.jpg", b"came")
    came = bench.demand.ensure(RelPath("came/x.jpg"))
    listings.go()
    assert {future.result(ANSWER_S).state for future in [first, *others]} == {State.MISSING}
    assert came.result(ANSWER_S).state is State.READY, "made after the first listing began"
    assert listings.asked == [ROOT, ROOT, "came"]


def test_a_listing_that_fails_is_an_answer_for_all_who_wait_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = SlowListings(monkeypatch)
    listings.error = SourceUnavailable("gone meanwhile")
    wishes = [bench.demand.ensure(RelPath("new/first.jpg"))]
    listings.begun()
    wishes += [bench.demand.ensure(RelPath(f"new/{number}.jpg")) for number in range(100)]
    listings.go()
    assert {wish.result(ANSWER_S).state for wish in wishes} == {State.UNAVAILABLE}
    assert listings.asked == [ROOT]
    listings.error = None
    assert bench.ask("new/first.jpg").state is State.MISSING


def test_closing_answers_all_who_wait_for_a_listing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = SlowListings(monkeypatch)
    wishes = [bench.demand.ensure(RelPath("new/first.jpg"))]
    listings.begun()
    wishes += [bench.demand.ensure(RelPath(f"new/{number}.jpg")) for number in range(100)]
    bench.demand.close(wait_s=0.1)
    assert {(wish.result(0).state, wish.result(0).reason) for wish in wishes} == {(State.UNAVAILABLE, Reason.STOPPED)}
    listings.go()


def test_a_missing_file_s_names_elsewhere_are_told_to_who_waits(bench: Bench) -> None:
    bench.run()
    assert bench.ask("elsewhere/3.jpg").near == ("M/a/3.jpg",)
    assert bench.ask("a/3 .jpg").near == ("M/a/3.jpg",)


def test_a_name_that_the_server_does_not_even_look_for_is_missing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = MemorySource.read

    def as_samba(source: MemorySource, path: RelPath) -> Fingerprint:
        if "?" in path:
            raise EntryUnreadable(f"{path}: STATUS_OBJECT_NAME_INVALID")
        return read(source, path)

    monkeypatch.setattr(MemorySource, "read", as_samba)
    found = bench.ask("a/why?.jpg")
    assert (found.state, found.reason) == (State.MISSING, Reason.NOT_LISTED)
    assert found.listed_at
    bench.world.source.fault("a", Fault.INCOMPLETE)
    assert bench.ask("a/why?.jpg").state is State.FETCHING, "only a complete listing says missing"


def test_a_listing_that_breaks_off_does_not_say_missing(bench: Bench) -> None:
    bench.world.source.fault("a", Fault.INCOMPLETE)
    found = bench.ask("a/nothing.jpg")
    assert (found.state, found.reason) == (State.FETCHING, Reason.LISTING_INCOMPLETE)
    assert found.retry_after_s


@pytest.mark.parametrize(("fault", "state"), [(Fault.DENIED, State.REFUSED), (Fault.UNAVAILABLE, State.UNAVAILABLE)])
def test_what_stands_in_the_way_is_said(bench: Bench, fault: Fault, state: State) -> None:
    bench.world.source.fault("a/3.jpg", fault)
    found = bench.ask("a/3.jpg")
    assert (found.state, found.local_path) == (state, None)
    assert found.hint
    bench.world.source.heal()
    assert bench.ask("a/4.jpg").state is State.READY, "a later wish begins anew"


def test_a_server_that_is_away_is_no_missing_file(bench: Bench) -> None:
    bench.world.source.down = True
    assert bench.ask("a/3.jpg").state is State.UNAVAILABLE
    bench.world.source.down = False
    assert bench.ask("a/3.jpg").state is State.READY


def test_a_refused_login_is_not_tried_by_every_wish(bench: Bench) -> None:
    bench.world.source.refuse_login = True
    report = bench.run()
    assert isinstance(report.error, SourceAuthFailed)
    opened = len(bench.sources)
    assert [bench.ask("a/3.jpg").state for _ in range(5)] == [State.UNAVAILABLE] * 5
    assert len(bench.sources) == opened, "nothing was tried again"


def test_a_target_that_is_gone_is_unavailable_and_nothing_is_made(bench: Bench) -> None:
    assert bench.run().exit_code == 0
    bench.keeping.target.close()
    bench.world.target.rename(bench.world.base / "unplugged")
    found = bench.ask("a/3.jpg")
    assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.TARGET_MISSING)
    assert not bench.world.target.exists()


def test_wishes_go_ahead_of_a_run_in_progress(bench: Bench) -> None:
    """A run that has begun takes no new file while somebody waits for one."""
    reached, go, order = threading.Event(), threading.Event(), list[str]()

    def before(wanted: Wanted, _offset: int) -> None:
        order.append(wanted.path)
        if len(order) == 1:
            reached.set()
            go.wait(ANSWER_S)

    bench.world.source.before_chunk = before
    running = threading.Thread(target=bench.run)
    running.start()
    assert reached.wait(ANSWER_S)
    wish = bench.demand.ensure(RelPath("a/7.jpg"))
    wished = threading.Timer(0.2, go.set)
    wished.start()
    assert wish.result(ANSWER_S).state is State.READY
    running.join(ANSWER_S)
    assert "a/7.jpg" in order[:3], order
    assert bench.world.converged()


def test_a_file_fetched_on_demand_is_not_announced_again_by_the_run_that_had_planned_it(bench: Bench) -> None:
    reached, go = threading.Event(), threading.Event()

    def before(_wanted: Wanted, _offset: int) -> None:
        reached.set()
        go.wait(ANSWER_S)

    bench.world.source.before_chunk = before
    running = threading.Thread(target=bench.run)
    running.start()
    assert reached.wait(ANSWER_S)
    wish = bench.demand.ensure(RelPath("a/0.jpg"))
    go.set()
    assert wish.result(ANSWER_S).state is State.READY
    running.join(ANSWER_S)
    announced = bench.world.announced()
    assert sorted(path for _, path in announced) == sorted(bench.world.source.tree())
    assert bench.world.trashed() == {}


def test_prefetched_files_come_too_and_a_flood_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.engine.demand.MAX_QUEUED", 5)
    taken = [bench.demand.prefetch(RelPath(f"a/{n}.jpg")) for n in range(20)]
    assert taken.count(False) >= 1
    deadline = threading.Event()
    for _ in range(300):
        if not bench.demand.busy:
            break
        deadline.wait(0.05)
    assert not bench.demand.busy
    assert len(bench.world.mirrored()) >= 5


def test_a_bug_answers_whoever_waits_and_the_next_wish_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    bugs: list[BaseException] = []
    bench.demand._ports = bench.demand._ports._replace(bug=bugs.append)
    with monkeypatch.context() as patched:
        patched.setattr(MemorySource, "read", broken)
        found = bench.ask("a/3.jpg")
    assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.BUG)
    assert isinstance(bugs[0], ZeroDivisionError)
    assert bench.ask("a/4.jpg").state is State.READY


def test_closing_answers_everybody(bench: Bench) -> None:
    go = threading.Event()
    bench.world.source.before_chunk = lambda _wanted, _offset: go.wait(1.0) and None
    wishes = [bench.demand.ensure(RelPath(f"a/{n}.jpg")) for n in range(5)]
    bench.demand.close()
    go.set()
    assert {wish.result(ANSWER_S).state for wish in wishes} <= {State.UNAVAILABLE, State.READY}
    assert bench.ask("a/9.jpg").state is State.UNAVAILABLE
    assert bench.world.staged() == []
