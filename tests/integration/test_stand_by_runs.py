"""Runs of a mirror with stand-bys: fail over in order, fetch only what is missing, fail back without reading again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from syncd.cli.run_once import _print_summary
from syncd.core.errors import SourceUnavailable
from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.engine.report import Report
from syncd.sources.memory import Fault, MemorySource
from syncd.store.reading import open_readonly
from tests.support.stand_by_world import StandByWorld

FILES = {f"a/{n}.jpg": f"page {n}".encode() for n in range(20)}


@pytest.fixture
def world(tmp_path: Path) -> StandByWorld:
    return StandByWorld(tmp_path, dict(FILES))


def listed_at(world: StandByWorld) -> str:
    with open_readonly(world.state / "catalogue.db") as catalogue:
        return catalogue.mirror("M").listed_at


def test_there_and_back_again_reads_nothing_that_did_not_change(world: StandByWorld) -> None:
    assert world.run().fetched == 20
    before, read = world.records(), world.bytes_read
    world.source.down = True
    report = world.run()
    assert (report.exit_code, report.unchanged, report.fetched, report.differs) == (0, 20, 0, 0)
    assert report.stand_by is not None
    assert world.urls[0] == report.stand_by.server
    assert "down" in report.stand_by.why
    assert world.records() == before
    world.source.down = False
    report = world.run()
    assert (report.exit_code, report.unchanged, report.stand_by) == (0, 20, None)
    assert world.bytes_read == read
    assert world.records() == before


def test_a_first_run_may_be_a_stand_bys_and_the_main_server_then_gives_the_ids(world: StandByWorld) -> None:
    world.source.down = True
    assert world.run().fetched == 20
    assert {record.file_id for record in world.records().values()} == {0}
    assert listed_at(world) == ""
    world.source.down, read = False, world.bytes_read
    assert world.run().unchanged == 20
    assert world.bytes_read == read
    world.source.rename("a/3.jpg", "b/3.jpg")
    report = world.run()
    assert (report.renamed, world.bytes_read) == (1, read)
    assert world.converged()


def test_what_is_missing_comes_from_the_stand_by_and_nothing_leaves(world: StandByWorld) -> None:
    world.run()
    world.source.put("a/new.jpg", b"new")
    world.replicate()
    for number in range(8):
        world.stand_by.remove(f"a/{number}.jpg")
    world.source.down = True
    for _ in range(3):
        report = world.run()
        assert (report.exit_code, report.retired, report.absent) == (0, 0, 0)
    assert world.mirrored() == FILES | {"a/new.jpg": b"new"}
    assert not world.trashed()
    assert not any(record.absent_run for record in world.records().values())


def test_held_files_stay_whatever_version_the_stand_by_has(world: StandByWorld) -> None:
    world.run()
    world.stand_by.put("a/1.jpg", b"older", 1)
    world.stand_by.put("a/2.jpg", b"newer")
    world.source.down = True
    report = world.run()
    assert (report.exit_code, report.fetched, report.differs) == (0, 0, 2)
    assert world.mirrored() == FILES


def test_a_file_lost_here_comes_unless_the_stand_by_has_an_older_one(world: StandByWorld) -> None:
    world.run()
    world.source.down = True
    world.stand_by.put("a/1.jpg", b"older", 1)
    for number in (1, 2):
        (world.target / f"a/{number}.jpg").unlink()
    for _ in range(2):
        report = world.run()
        assert report.exit_code == 0
        assert world.mirrored() == {path: content for path, content in FILES.items() if path != "a/1.jpg"}
    world.source.down = False
    assert world.run().fetched == 1
    assert world.converged()


def test_a_changed_local_file_is_repaired_and_a_touched_one_keeps_its_print(world: StandByWorld) -> None:
    world.run()
    before = world.records()
    world.source.down = True
    (world.target / "a/1.jpg").write_bytes(b"edited here")
    (world.target / "a/2.jpg").touch()
    report = world.run()
    assert (report.exit_code, report.fetched) == (0, 1)
    assert world.mirrored() == FILES
    assert world.records()[next(p for p in before if p == "a/2.jpg")].file_id == before[next(iter(before))].file_id + 2
    world.source.down, read = False, world.bytes_read
    assert world.run().unchanged == 20
    assert world.bytes_read == read


def test_what_left_the_main_server_does_not_come_back_from_a_stand_by_that_lags(world: StandByWorld) -> None:
    world.run()
    for number in range(3):
        world.source.rename(f"a/{number}.jpg", f"b/{number}.jpg")
    world.source.remove("a/3.jpg")
    for _ in range(2):
        world.run()
    assert world.converged()
    world.source.down = True
    world.stand_by.put("a/2.jpg", b"changed since", time.time_ns())
    report = world.run()
    assert (report.exit_code, report.fetched) == (0, 1)
    assert world.mirrored() == world.source.tree() | {"a/2.jpg": b"changed since"}


def test_a_new_target_is_filled_from_a_stand_by(world: StandByWorld) -> None:
    world.run()
    world.source.down = True
    world.target.rename(world.base / "elsewhere")
    world.stand_by.fault("a/9.jpg", Fault.UNREADABLE)
    assert world.run(new_target=True).fetched == 19
    world.stand_by.heal()
    assert world.run().fetched == 1
    assert world.mirrored() == FILES


def test_absences_are_sighted_on_the_main_server_only(world: StandByWorld) -> None:
    world.run()
    world.source.remove("a/1.jpg")
    world.run()
    world.source.down = True
    world.stand_by.remove("a/1.jpg")
    assert world.run().retired == 0
    assert "a/1.jpg" in world.mirrored()
    world.source.down = False
    assert world.run().retired == 1


def test_a_halt_stays_while_the_stand_by_is_in_use(world: StandByWorld) -> None:
    world.run()
    for number in range(9):
        world.source.remove(f"a/{number}.jpg")
    world.run()
    assert world.run().exit_code == 13
    world.source.down = True
    assert world.run().exit_code == 0
    (status,) = world.app().status().mirrors
    assert status.state == "halted"
    assert len(world.mirrored()) == 20


@pytest.mark.parametrize("how", ["empty", "foreign"])
def test_the_guard_looks_at_a_stand_by_too(world: StandByWorld, how: str) -> None:
    world.run()
    world.stand_bys[0] = MemorySource()
    if how == "foreign":
        world.stand_by.put("other/1.jpg", b"other")
    world.source.down = True
    report = world.run()
    assert report.exit_code == 13
    assert report.error is not None
    assert report.error.reason is (Reason.SOURCE_EMPTY if how == "empty" else Reason.SOURCE_FOREIGN)
    assert world.urls[0] in report.error.message
    assert "fallback_sources" in report.error.hint
    assert world.mirrored() == FILES
    (status,) = world.app().status().mirrors
    assert status.state == "halted"
    assert "down" in status.message
    assert "comes from the stand-by" not in status.message


def test_servers_are_tried_in_their_order_and_all_are_named(tmp_path: Path) -> None:
    world = StandByWorld(tmp_path, dict(FILES), stand_bys=2)
    world.source.down = world.stand_bys[0].down = True
    report = world.run()
    assert report.stand_by is not None
    assert report.stand_by.server == world.urls[1]
    assert world.urls[0] in report.stand_by.why
    world.stand_bys[1].down = True
    report = world.run()
    assert report.exit_code == 10
    assert report.error is not None
    for url in (str(world.settings.mirrors[0].source), *world.urls):
        assert url in report.error.message


def test_a_main_server_whose_root_is_not_there_is_failed_over_and_an_empty_one_is_not(world: StandByWorld) -> None:
    world.run()
    kept = world.source.copy()
    world.source.remove("")
    report = world.run()
    assert (report.exit_code, report.stand_by is not None) == (0, True)
    world.source = MemorySource()
    assert world.run().exit_code == 13
    world.source = kept
    assert world.run().unchanged == 20


def test_a_refused_login_is_not_failed_over(world: StandByWorld) -> None:
    world.source.refuse_login = True
    report = world.run()
    assert (report.exit_code, report.stand_by) == (12, None)
    assert world.stand_by.calls["check"] == 0


def test_a_server_lost_in_the_middle_ends_the_run_and_the_next_one_goes_on_elsewhere(world: StandByWorld) -> None:
    app = world.app()
    world.source.unavailable_after(30)
    assert app.run_once().exit_code == 10
    world.source.heal()
    (report,) = app.run_once().reports
    assert report.stand_by is not None
    assert world.mirrored() == FILES


def test_a_dead_main_server_is_not_asked_by_each_run(world: StandByWorld) -> None:
    app = world.app()
    world.source.down = True
    for _ in range(3):
        assert app.run_once().exit_code == 0
    assert world.source.calls["check"] == 1


def test_an_unknown_local_file_that_is_not_the_stand_bys_stays(world: StandByWorld) -> None:
    world.source.down = True
    (world.target / "a").mkdir(parents=True)
    (world.target / "a/1.jpg").write_bytes(FILES["a/1.jpg"])
    (world.target / "a/2.jpg").write_bytes(b"page X")
    (world.target / "a/3.jpg").write_bytes(b"much longer")
    report = world.run()
    assert report.adopted == 1
    assert world.mirrored() == FILES | {"a/2.jpg": b"page X", "a/3.jpg": b"much longer"}
    assert [problem.path for problem in report.failures] == ["a/2.jpg"]
    world.source.down = False
    assert world.run().exit_code == 0
    assert world.converged()


def test_a_dry_run_says_what_a_run_from_the_stand_by_would_do(world: StandByWorld) -> None:
    world.run()
    world.source.put("a/new.jpg", b"new")
    world.replicate()
    world.stand_by.remove("a/1.jpg")
    world.source.down = True
    report = world.dry_run()
    assert [(step.action.value, step.path) for step in report.plan or ()] == [("fetch", "a/new.jpg")]
    assert report.stand_by is not None


def test_status_and_why_say_which_server_and_since_what(world: StandByWorld) -> None:
    world.source.down = True
    world.run()
    (status,) = world.app().status().mirrors
    assert (status.state, status.stand_by is not None) == ("behind", True)
    assert "never mirrored" in status.message
    world.source.down = False
    world.run()
    (status,) = world.app().status().mirrors
    assert (status.state, status.message, status.stand_by, status.as_json()["stand_by"]) == ("ok", "", None, None)
    world.source.down = True
    world.run()
    (status,) = world.app().status().mirrors
    assert status.state == "ok"
    assert world.urls[0] in status.message
    assert "is down" in status.message
    assert status.as_json()["stand_by"]["server"] == world.urls[0]
    (known,) = world.app().why("M/a/none.jpg")
    assert known.as_json()["stand_by"] == world.urls[0]
    assert "main server" in known.next


def test_run_once_says_it_too(world: StandByWorld, capsys: pytest.CaptureFixture[str]) -> None:
    world.run()
    world.stand_by.put("a/1.jpg", b"older", 1)
    world.source.down = True
    (report,) = world.run_result().reports
    told = report.as_json()["stand_by"]
    assert (told["server"], told["differs"]) == (world.urls[0], 1)
    again = Report.from_json(report.as_json(), "run")
    assert again.as_json()["stand_by"] == told
    _print_summary(again, None)
    said = capsys.readouterr().out
    assert world.urls[0] in said
    assert "left as they are" in said


def test_the_log_tells_of_a_change_once(world: StandByWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr("syncd.app.site._log_server", lambda _, now: logged.append(now.why if now else "main again"))
    app = world.app()
    world.source.down = True
    for _ in range(2):
        app.run_once()
    world.source.down = False
    app._standing("M").forget()
    for _ in range(2):
        app.run_once()
    assert len(logged) == 2
    assert "is down" in logged[0]
    assert logged[1] == "main again"


def test_bytes_are_compared_with_the_main_server_only(world: StandByWorld) -> None:
    world.run()
    mtime_ns = world.source._look(RelPath("a/1.jpg")).mtime_ns
    world.stand_by.put("a/1.jpg", b"same 1", mtime_ns)
    world.source.down = True
    with pytest.raises(SourceUnavailable, match="is down"):
        world.app().verify(against_source=True)
    assert world.stand_by.calls["check"] == 0
    world.source.down = False
    (result,) = world.app().verify(against_source=True)
    assert (result.source_checked, result.damaged) == (20, 0)


def test_another_type_at_the_stand_by_changes_nothing(world: StandByWorld) -> None:
    world.run()
    world.stand_by.remove("a/1.jpg")
    world.stand_by.put("a/1.jpg/inside.jpg", b"inside")
    world.stand_by.put_other("a/2.jpg")
    before = world.records()
    world.source.down = True
    report = world.run()
    assert (report.exit_code, report.fetched, report.refused, report.differs) == (0, 0, 0, 2)
    assert (world.mirrored(), world.records()) == (FILES, before)
    (status,) = world.app().status().mirrors
    assert (status.failures, status.refusals) == ([], [])
