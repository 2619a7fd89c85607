"""Stand-bys in the daemon: files that somebody waits for, refused logins, partials of large files, the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd.app.wiring import rules_of
from syncd.core.errors import StandByRefused
from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution, State
from syncd.daemon.care import Care
from syncd.daemon.keeping import Keeping
from syncd.engine import serving, transfer
from syncd.engine.clock import Clock
from syncd.engine.demand import Demand
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions, Sharing
from syncd.engine.serving import DemandPorts
from syncd.log import logger
from syncd.sources.memory import MemorySource
from tests.support.stand_by_world import StandByWorld

ANSWER_S = 30.0
FILES = {f"a/{n}.jpg": f"page {n}".encode() for n in range(12)}


@dataclass
class Bench:
    """One mirror as the daemon keeps it, without its threads."""

    world: StandByWorld
    keeping: Keeping
    demand: Demand

    def ask(self, path: str) -> Resolution:
        return self.demand.ensure(RelPath(path)).result(ANSWER_S)

    def run(self) -> Report:
        report = Report("M", "run")
        self.keeping.execute_run(RunOptions(), report)
        return report


@contextmanager
def bench_of(world: StandByWorld) -> Iterator[Bench]:
    app = world.app()

    def source_of(settings: object) -> MemorySource:
        tree = world.server_of(settings)  # type: ignore[arg-type]
        source = tree.copy()
        source.refuse_login, source.down, source.calls = tree.refuse_login, tree.down, tree.calls
        source._bytes_left = tree._bytes_left
        return source

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
            keeping.target.use,
            keeping.open_source_first,
            keeping.facts,
            resolve,
            keeping.target.writing,
            Clock().now_ns,
        )
        made.append(Demand(rules_of(keeping.mirror), ports, run_id=lambda: "demand"))
        try:
            yield Bench(world, keeping, made[0])
        finally:
            made[0].close()
            keeping.target.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_of(StandByWorld(tmp_path, dict(FILES))) as made:
        yield made


def test_a_file_that_somebody_waits_for_comes_from_the_stand_by(bench: Bench) -> None:
    bench.world.source.down = True
    assert bench.ask("a/3.jpg").state is State.READY
    assert bench.world.mirrored() == {"a/3.jpg": b"page 3"}


def test_what_the_stand_by_has_not_is_not_missing(bench: Bench) -> None:
    bench.run()
    bench.world.source.put("a/new.jpg", b"new")
    bench.world.source.down = True
    found = bench.ask("a/new.jpg")
    assert (found.state, found.reason) == (State.UNAVAILABLE, Reason.SOURCE_UNAVAILABLE)
    assert found.retry_after_s


def test_a_held_file_is_ready_whatever_the_stand_by_has_and_a_lost_one_waits_for_no_older_one(bench: Bench) -> None:
    bench.run()
    bench.world.source.down = True
    bench.world.stand_by.put("a/1.jpg", b"older", 1)
    assert bench.ask("a/1.jpg").state is State.READY
    assert bench.world.mirrored() == FILES
    (bench.world.target / "a/1.jpg").unlink()
    (bench.world.target / "a/2.jpg").unlink()
    assert bench.ask("a/1.jpg").state is State.UNAVAILABLE
    assert bench.ask("a/2.jpg").state is State.READY
    assert not (bench.world.target / "a/1.jpg").exists()


def test_who_waits_goes_back_to_the_main_server_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STAND_BY_S", 0.3)
    bench.world.source.down = True
    assert bench.ask("a/1.jpg").state is State.READY
    bench.world.source.down = False
    bench.world.source.put("a/new.jpg", b"new")
    bench.keeping.main_is_there()
    time.sleep(0.4)
    assert bench.ask("a/new.jpg").state is State.READY


def test_a_refused_stand_by_is_asked_once_and_does_not_hold_up_the_main_server(bench: Bench) -> None:
    main, stand_by = bench.world.source, bench.world.stand_by
    main.down = stand_by.refuse_login = True
    for _ in range(3):
        report = bench.run()
        assert isinstance(report.error, StandByRefused)
        assert "is down" in report.error.message
        assert not bench.keeping.logins.refused
    assert stand_by.calls["check"] == 1
    main.down = False
    bench.keeping.main_is_there()
    assert bench.run().fetched == 12
    main.down, stand_by.refuse_login = True, False
    bench.keeping.forgive()
    report = bench.run()
    assert (report.exit_code, report.stand_by is not None) == (0, True)


def test_a_refusal_of_the_main_server_is_the_mirrors(bench: Bench) -> None:
    bench.world.source.refuse_login = True
    assert bench.run().exit_code == 12
    assert bench.keeping.logins.refused
    assert bench.world.stand_by.calls["check"] == 0


@pytest.mark.parametrize("resumed_at", ["main", "stand-by"])
def test_a_prefix_from_one_server_is_never_completed_by_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, resumed_at: str
) -> None:
    """Same name, size and time, other bytes: what is held afterwards is one server's file, whole.

    The main server shows no ids, as over SFTP.
    """
    monkeypatch.setattr(transfer, "CHECKPOINT_BYTES", 1_000)
    main, stand_by = bench.world.source, bench.world.stand_by
    main.put("big.tif", b"m" * 10_000)
    stand_by.put("big.tif", b"s" * 10_000, main._look(RelPath("big.tif")).mtime_ns)
    main._root.children["big.tif"].file_id = 0  # type: ignore[union-attr]
    main.chunk_bytes = stand_by.chunk_bytes = 1_000
    first, second = (stand_by, main) if resumed_at == "main" else (main, stand_by)
    main.down = first is stand_by
    first.unavailable_after(5_500)
    for path in FILES:
        main.remove(path)
        stand_by.remove(path)
    assert bench.run().exit_code == 10
    assert bench.keeping.facts.partials()
    first.heal()
    first.down = True
    second.heal()
    bench.keeping.main_is_there()
    assert bench.run().exit_code == 0
    assert bench.world.mirrored()["big.tif"] == (b"m" if second is main else b"s") * 10_000


def test_a_partial_of_the_main_server_outlives_a_run_from_the_stand_by(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHECKPOINT_BYTES", 1_000)
    bench.run()
    main = bench.world.source
    main.put("big.tif", b"m" * 10_000)
    main.chunk_bytes = 1_000
    main.unavailable_after(5_500)
    assert bench.run().exit_code == 10
    main.heal()
    main.down = True
    assert bench.run().stand_by is not None
    assert [partial.path for partial in bench.keeping.facts.partials()] == ["big.tif"]
    main.down = False
    bench.keeping.main_is_there()
    assert bench.run().bytes < 10_000
    assert bench.world.converged()


def test_replacements_by_hints_do_not_halt_a_run_from_the_stand_by(bench: Bench) -> None:
    bench.run()
    bench.world.source.down = True
    report = Report("M", "run")
    bench.keeping.execute_run(RunOptions(replaced_before=11), report)
    assert (report.exit_code, report.stand_by is not None) == (0, True)


def test_a_newer_version_that_came_meanwhile_is_not_replaced(bench: Bench) -> None:
    """A run reads the main server while somebody waits for the same file from the stand-by."""
    bench.world.stand_by.put("a/1.jpg", b"older", 1)
    bench.world.source.down = True

    def meanwhile(*_: object) -> None:
        if bench.world.source.down:
            bench.world.source.down = False
            bench.keeping.main_is_there()
            assert bench.run().exit_code == 0

    made = bench.keeping._source_of

    def source_of(settings: object) -> MemorySource:
        source = made(settings)  # type: ignore[arg-type]
        assert isinstance(source, MemorySource)
        if bench.world.source.down:
            source.before_chunk = meanwhile
        return source

    bench.keeping._source_of = source_of
    bench.keeping._together = Sharing(bench.keeping.target.writing, lambda: False)
    assert bench.ask("a/1.jpg").state is State.READY
    assert bench.world.mirrored() == FILES


def test_the_background_comparison_does_not_wait_for_a_main_server_that_is_away(bench: Bench) -> None:
    bench.run()
    main, stand_by = bench.world.source, bench.world.stand_by
    main.down = True
    bench.run()
    care = Care(bench.keeping, Clock().now_ns, logger(), lambda *_: None)
    care.patrol.cycle.started_ns = 1
    asked = main.calls["check"], stand_by.calls["check"]
    assert not care.patrol_some(lambda: False)
    assert care.patrol.cycle.checked == 0, "the cycle has come to its end"
    assert (main.calls["check"], stand_by.calls["check"]) == asked
    main.down = False
    bench.keeping.main_is_there()
    bench.run()
    care.patrol.cycle.started_ns = 1
    main_asked = main.calls["check"]
    assert not care.patrol_some(lambda: False)
    assert main.calls["check"] == main_asked + 1
