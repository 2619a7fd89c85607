"""Runs over a source in memory with the real catalogue and a real mirror: scanning, guarding, fetching, repairing."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from syncd.core.reasons import Reason
from syncd.sources.memory import Fault
from tests.support.world import World

PAGES = {
    "eng-typed/letter 1 .pdf": b"one",
    "eng-typed/letter  2, (copy).PDF": b"two" * 1000,
    "hin-typed/पत्र 3.JPG": b"three",
    "hin-written/-rf.jpg": b"",
    "hin-written/letter 1 .pdf": b"same name elsewhere",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, dict(PAGES))


def many(count: int, prefix: str = "f") -> dict[str, bytes]:
    return {f"{prefix}{n % 4}/page {n:04} .jpg": f"page {n}".encode() for n in range(count)}


def test_a_first_run_mirrors_everything_and_a_second_fetches_nothing(world: World) -> None:
    first = world.run()
    assert (first.exit_code, first.state) == (0, "ok")
    assert (first.scanned, first.fetched, first.unchanged) == (5, 5, 0)
    assert first.bytes == sum(map(len, PAGES.values()))
    assert first.zero_byte == 1
    assert world.mirrored() == PAGES
    second = world.run()
    assert (second.scanned, second.fetched, second.unchanged, second.bytes) == (5, 0, 5, 0)
    assert world.source.calls["get"] == 5
    assert world.announced() == [("ready", path) for path in sorted(PAGES)] or len(world.announced()) == 5
    assert not world.staged()


def test_mtime_and_modes_are_fixed_and_the_manifest_checks(world: World) -> None:
    world.run()
    for path in PAGES:
        found = (world.target / path).stat()
        assert found.st_mtime_ns == world.source.fingerprint(path).mtime_ns
        assert found.st_mode & 0o777 == 0o644
        assert (world.target / path).parent.stat().st_mode & 0o777 == 0o755
    lines = [json.loads(line) for line in (world.target / ".syncd/manifest.jsonl").read_text().splitlines()]
    assert {line["path"]: line["sha256"] for line in lines} == {
        path: hashlib.sha256(content).hexdigest() for path, content in PAGES.items()
    }
    assert set(lines[0]) == {"path", "size", "sha256", "mtime_ns", "generation"}


def test_changes_are_fetched_and_the_old_version_goes_to_the_trash(world: World) -> None:
    world.run()
    before = world.records()["eng-typed/letter 1 .pdf"].generation
    world.source.put("eng-typed/letter 1 .pdf", b"one, corrected")
    report = world.run()
    assert (report.fetched, report.unchanged) == (1, 4)
    assert world.converged()
    assert world.trashed() == {"eng-typed/letter 1 .pdf": b"one"}
    assert world.announced()[-1] == ("updated", "eng-typed/letter 1 .pdf")
    assert world.records()["eng-typed/letter 1 .pdf"].generation > before


def test_a_touched_file_with_the_same_bytes_is_not_replaced_and_not_announced(world: World) -> None:
    world.run()
    told = len(world.announced())
    inode = (world.target / "eng-typed/letter 1 .pdf").stat().st_ino
    generation = world.records()["eng-typed/letter 1 .pdf"].generation
    world.source.put("eng-typed/letter 1 .pdf", b"one")
    world.run()
    assert (world.target / "eng-typed/letter 1 .pdf").stat().st_ino == inode
    assert len(world.announced()) == told
    assert world.records()["eng-typed/letter 1 .pdf"].generation == generation
    assert world.run().unchanged == 5


def test_a_removed_file_is_retired_in_the_second_run_that_misses_it(world: World) -> None:
    world.run()
    world.source.remove("eng-typed/letter 1 .pdf")
    first = world.run()
    assert (first.retired, first.exit_code) == (0, 0)
    assert "eng-typed/letter 1 .pdf" in world.mirrored()
    second = world.run()
    assert second.retired == 1
    assert world.converged()
    assert world.trashed() == {"eng-typed/letter 1 .pdf": b"one"}
    assert world.announced()[-1] == ("removed", "eng-typed/letter 1 .pdf")


def test_a_file_that_comes_back_loses_its_sighting(world: World) -> None:
    world.run()
    content = world.source.copy()
    world.source.remove("eng-typed/letter 1 .pdf")
    world.run()
    away, world.source = world.source, content
    world.run()
    world.source = away
    assert world.run().retired == 0
    assert world.run().retired == 1


def test_a_dry_run_writes_nothing_and_is_no_sighting(world: World) -> None:
    plan = world.dry_run()
    assert not world.state.exists()
    assert not world.target.exists()
    assert sorted((step.action.value, step.path) for step in plan.plan or []) == sorted(("fetch", p) for p in PAGES)
    world.run()
    world.source.remove("eng-typed/letter 1 .pdf")
    world.dry_run()
    world.dry_run()
    assert world.run().retired == 0
    steps = [(s.action.value, s.path) for s in world.dry_run().plan or []]
    assert steps == [("retire", "eng-typed/letter 1 .pdf")]
    assert world.run().retired == 1


def test_a_renamed_tree_is_not_downloaded_again(world: World) -> None:
    world.run()
    world.source.rename("eng-typed", "english")
    got = world.source.calls["get"]
    report = world.run()
    assert (report.renamed, report.fetched, report.retired, report.bytes) == (2, 0, 0, 0)
    assert world.source.calls["get"] == got
    assert world.converged()
    assert "eng-typed" not in world.folders()
    assert world.run().unchanged == 5


def test_a_rename_of_everything_is_no_other_share(tmp_path: Path) -> None:
    world = World(tmp_path, {f"all/{path}": content for path, content in many(40).items()})
    world.run()
    world.source.rename("all", "everything")
    report = world.run()
    assert (report.exit_code, report.renamed, report.fetched) == (0, 40, 0)
    assert world.converged()


def test_hard_linked_ids_are_no_rename(world: World) -> None:
    world.run()
    folder, name = world.source._parent("eng-typed/letter 1 .pdf")
    twin = folder.children.pop(name)
    folder.children["a.pdf"] = twin
    folder.children["b.pdf"] = twin
    report = world.run()
    assert (report.renamed, report.fetched) == (0, 2)


def test_a_file_that_becomes_a_folder_leaves_in_the_same_run(world: World) -> None:
    world.run()
    world.source.remove("eng-typed/letter 1 .pdf")
    world.source.put("eng-typed/letter 1 .pdf/inside.pdf", b"in")
    report = world.run()
    assert (report.retired, report.fetched, report.failed) == (1, 1, 0)
    assert world.converged()


def test_a_folder_that_becomes_a_file_leaves_in_the_same_run(world: World) -> None:
    world.run()
    world.source.remove("hin-written")
    world.source.put("hin-written", b"now a file")
    report = world.run()
    assert (report.retired, report.failed) == (2, 0)
    assert world.converged()


def test_empty_folders_come_and_go_with_the_source(world: World) -> None:
    world.source.mkdir("empty/below")
    world.run()
    assert {"empty", "empty/below"} <= world.folders()
    world.source.remove("empty")
    world.run()
    assert "empty" not in world.folders()


def test_an_emptied_source_is_refused_and_nothing_is_touched(world: World) -> None:
    world.run()
    for folder in ("eng-typed", "hin-typed", "hin-written"):
        world.source.remove(folder)
    for _ in range(3):
        report = world.run()
        assert (report.exit_code, report.state) == (13, "halted")
        assert report.error is not None
        assert "5 files are held" in report.error.message
    assert world.mirrored() == PAGES


def test_a_vanished_source_is_refused_when_files_are_held_and_unavailable_when_not(tmp_path: Path) -> None:
    world = World(tmp_path, dict(PAGES))
    kept = world.source.copy()
    world.source.remove("")
    assert world.run().exit_code == 10
    world.source = kept
    world.run()
    world.source.remove("")
    assert world.run().exit_code == 13
    assert world.mirrored() == PAGES


def test_a_missing_marker_stops_everything(tmp_path: Path) -> None:
    world = World(tmp_path, dict(PAGES), extra='marker = "marker.txt"')
    assert world.run().exit_code == 13
    assert not world.mirrored()
    world.source.put("marker.txt", b"here")
    assert world.run().exit_code == 0


def test_another_share_fetches_and_retires_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, many(20))
    world.run()
    before = world.mirrored()
    world.source = type(world.source)({path: content * 2 for path, content in many(20, "other").items()})
    for _ in range(3):
        report = world.run()
        assert report.exit_code == 13
        assert (report.fetched, report.retired) == (0, 0)
        assert report.error is not None
        assert "another share" in report.error.message
    assert world.mirrored() == before


def test_mass_absence_is_held_back_until_approved_and_new_files_still_come(tmp_path: Path) -> None:
    world = World(tmp_path, many(40))
    world.run()
    gone = sorted(many(40))[:12]
    for path in gone:
        world.source.remove(path)
    assert world.run().exit_code == 0
    world.source.put("new.jpg", b"new")
    report = world.run()
    assert (report.exit_code, report.retired, report.fetched) == (13, 0, 1)
    assert report.error is not None
    assert "12 of 40" in report.error.message
    assert "syncd approve" in report.error.hint
    world.source.put(gone[0], b"back")
    with world.app().writing() as catalogue:
        facts = catalogue.mirror("M")
        assert sorted(path for path, _ in facts.halted()) == gone
        facts.approve(path for path, _ in facts.halted())
    report = world.run()
    assert (report.exit_code, report.retired) == (0, 11)
    assert world.converged()


def test_a_halt_lifts_itself_when_the_files_are_back(tmp_path: Path) -> None:
    world = World(tmp_path, many(40))
    world.run()
    whole = world.source.copy()
    for path in sorted(many(40))[:15]:
        world.source.remove(path)
    world.run()
    assert world.run().exit_code == 13
    world.source = whole
    report = world.run()
    assert (report.exit_code, report.retired) == (0, 0)
    assert world.app().status().mirrors[0].state == "ok"


def test_mass_replacement_is_held_back(tmp_path: Path) -> None:
    world = World(tmp_path, many(20))
    world.run()
    before = world.mirrored()
    for path in sorted(many(20))[:11]:
        world.source.put(path, b"encrypted!")
    report = world.run()
    assert (report.exit_code, report.fetched) == (13, 0)
    assert world.mirrored() == before
    with world.app().writing() as catalogue:
        facts = catalogue.mirror("M")
        facts.approve(path for path, _ in facts.halted())
    assert world.run().fetched == 11
    assert world.converged()


def test_an_unreadable_folder_is_one_failure_and_no_absence(world: World) -> None:
    world.run()
    world.source.fault("eng-typed", Fault.DENIED)
    for _ in range(3):
        report = world.run()
        assert (report.exit_code, report.failed, report.retired) == (3, 1, 0)
        assert report.as_json()["failures"][0]["path"] == "eng-typed"
    assert world.mirrored() == PAGES
    status = world.app().status().mirrors[0]
    assert status.state == "failing"
    world.source.heal()
    assert world.run().exit_code == 0
    assert world.app().status().mirrors[0].state == "ok"


@pytest.mark.parametrize(
    ("fault", "reason", "read"),
    [
        (Fault.DENIED, Reason.DENIED, 0),
        (Fault.GONE, Reason.GONE, 0),
        (Fault.UNREADABLE, Reason.UNREADABLE, 7),
        (Fault.CHANGE_WHILE_READ, Reason.CHANGED_WHILE_READ, 14),
        (Fault.SHORT, Reason.CHANGED_WHILE_READ, 7),
    ],
)
def test_one_file_that_fails_does_not_stop_the_rest_and_the_old_version_stays(
    world: World, fault: Fault, reason: Reason, read: int
) -> None:
    world.run()
    world.source.put("eng-typed/letter 1 .pdf", b"one, corrected")
    world.source.put("new.jpg", b"new")
    world.source.fault("eng-typed/letter 1 .pdf", fault, times=1)
    report = world.run()
    assert (report.exit_code, report.failed, report.fetched) == (3, 1, 1)
    assert report.bytes == len(b"new") + read, "what was read of it is counted too"
    assert report.failures[0].reason is reason
    assert world.mirrored()["eng-typed/letter 1 .pdf"] == b"one"
    assert world.run().exit_code == 0
    assert world.converged()
    assert not world.staged()


def test_a_source_that_goes_away_ends_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, many(50))
    world.source.unavailable_after(100)
    report = world.run()
    assert report.exit_code == 10
    held = len(world.records())
    assert held < 50
    world.source.heal()
    report = world.run()
    assert (report.exit_code, report.fetched) == (0, 50 - held)
    assert world.converged()


def test_local_losses_and_edits_are_repaired(world: World) -> None:
    world.run()
    (world.target / "eng-typed/letter 1 .pdf").unlink()
    (world.target / "hin-typed/पत्र 3.JPG").write_bytes(b"edited by hand")
    os.utime(world.target / "hin-written/letter 1 .pdf")
    report = world.run()
    assert (report.fetched, report.unchanged, report.exit_code) == (2, 3, 0)
    assert world.converged()
    assert world.trashed() == {"hin-typed/पत्र 3.JPG": b"edited by hand"}
    assert ("removed", "eng-typed/letter 1 .pdf") in world.announced()
    assert world.announced()[-1][0] == "ready"


def test_what_was_read_to_compare_is_counted_although_the_comparison_failed(tmp_path: Path) -> None:
    world = World(tmp_path, {"a.jpg": b"0123456789"})
    world.target.mkdir(parents=True)
    (world.target / "a.jpg").write_bytes(b"0123456789")
    world.source.fault("a.jpg", Fault.UNREADABLE)
    report = world.run()
    assert (report.failed, report.bytes) == (1, 5)


def test_a_hand_filled_target_is_adopted_by_comparing(tmp_path: Path) -> None:
    world = World(tmp_path, dict(PAGES))
    for path in ("eng-typed/letter 1 .pdf", "hin-typed/पत्र 3.JPG"):
        (world.target / path).parent.mkdir(parents=True, exist_ok=True)
        (world.target / path).write_bytes(PAGES[path])
    (world.target / "hin-written").mkdir()
    (world.target / "hin-written/letter 1 .pdf").write_bytes(b"an older version")
    (world.target / "mine.txt").write_bytes(b"foreign")
    inode = (world.target / "eng-typed/letter 1 .pdf").stat().st_ino
    plan = {(s.action.value, s.path) for s in world.dry_run().plan or []}
    assert ("adopt", "eng-typed/letter 1 .pdf") in plan
    assert ("fetch", "hin-written/-rf.jpg") in plan
    report = world.run()
    assert (report.exit_code, report.adopted, report.fetched, report.foreign) == (0, 2, 3, 1)
    assert (world.target / "eng-typed/letter 1 .pdf").stat().st_ino == inode
    assert world.mirrored() == {**PAGES, "mine.txt": b"foreign"}
    assert world.trashed() == {"hin-written/letter 1 .pdf": b"an older version"}
    assert len(world.announced()) == 5


def test_a_lost_catalogue_is_rebuilt_from_the_manifest_without_download(world: World) -> None:
    world.run()
    got = world.source.calls["get"]
    for path in world.state.glob("catalogue.db*"):
        path.unlink()
    report = world.run()
    assert (report.exit_code, report.fetched, report.bytes, report.unchanged) == (0, 0, 0, 5)
    assert world.source.calls["get"] == got
    assert sorted(world.announced()) == sorted(("ready", path) for path in PAGES)


def test_a_damaged_catalogue_is_kept_aside_and_rebuilt_with_comparison_where_the_manifest_disagrees(
    world: World,
) -> None:
    world.run()
    (world.target / "hin-typed/पत्र 3.JPG").write_bytes(b"wrong")
    (world.state / "catalogue.db").write_bytes(b"not a database" * 1000)
    report = world.run()
    assert report.exit_code == 0
    assert (report.fetched, report.unchanged) == (1, 4)
    assert world.converged()
    assert list(world.state.glob("catalogue.damaged*"))


def test_an_unplugged_target_is_refused_and_nothing_is_created(world: World) -> None:
    world.run()
    aside = world.target.with_name("unplugged")
    world.target.rename(aside)
    report = world.run()
    assert report.exit_code == 13
    assert not world.target.exists()
    assert world.app().status().exit_code == 13
    aside.rename(world.target)
    assert world.run().exit_code == 0
    world.target.rename(aside)
    assert world.run(new_target=True).exit_code == 0
    assert world.converged()


def test_a_target_of_another_host_is_refused_until_taken_over(tmp_path: Path) -> None:
    world = World(tmp_path, dict(PAGES))
    world.run()
    world.state.rename(tmp_path / "other-state")
    report = world.run()
    assert report.exit_code == 13
    assert world.mirrored() == PAGES
    report = world.run(take_over=True)
    assert (report.exit_code, report.fetched) == (0, 0)


def test_only_looks_at_a_part_and_retires_nothing(world: World) -> None:
    report = world.run(only=["eng-typed", "hin-typed/पत्र 3.JPG"])
    assert (report.scanned, report.fetched) == (3, 3)
    world.source.remove("eng-typed/letter 1 .pdf")
    for _ in range(3):
        assert world.run(only=["M/eng-typed"]).retired == 0
    assert "eng-typed/letter 1 .pdf" in world.mirrored()


def test_only_is_no_look_at_another_share_however_much_is_held(tmp_path: Path) -> None:
    world = World(tmp_path, many(40))
    world.run()
    world.source.put("f1/page 0001 .jpg", b"changed")
    report = world.run(only=["f1/page 0001 .jpg"])
    assert (report.exit_code, report.scanned, report.fetched) == (0, 1, 1)
    assert world.mirrored()["f1/page 0001 .jpg"] == b"changed"


def test_a_path_of_only_that_is_not_there_is_said(world: World) -> None:
    report = world.run(only=["eng-typed/no such page.pdf"])
    assert (report.exit_code, report.failures[0].reason) == (3, Reason.GONE)
    assert report.failures[0].as_json()["hint"] == "syncd why 'eng-typed/no such page.pdf'"
    assert world.run(only=["eng-typed"]).exit_code == 0


def test_a_new_target_starts_over_with_another_share(world: World) -> None:
    world.source = type(world.source)(many(20))
    world.run()
    world.source = type(world.source)({path: content * 2 for path, content in many(20, "other").items()})
    assert world.run().exit_code == 13
    report = world.run(new_target=True)
    assert (report.exit_code, report.fetched, report.foreign) == (0, 20, 20)
    assert set(world.records()) == set(world.source.tree())


def test_refused_names_are_counted_once_and_change_no_exit_code(world: World) -> None:
    world.source.put("bad:name/inside/1.jpg", b"x")
    world.source.put("ctrl\x01.jpg", b"x")
    world.source.put_other("link")
    world.source.put(".SyncD/x", b"x")
    world.source.put("._resource.JPG", b"x")
    report = world.run()
    assert (report.exit_code, report.refused, report.fetched) == (0, 4, 5)
    assert world.mirrored() == PAGES
    assert {p.reason for p in report.refusals} == {
        Reason.NAME_STREAM,
        Reason.NAME_CONTROL,
        Reason.LINK,
        Reason.NAME_RESERVED,
    }
    status = world.app().status()
    assert (status.exit_code, len(status.mirrors[0].refusals)) == (0, 4)


def test_undecodable_names_make_a_folder_incomplete_and_keep_its_siblings(world: World) -> None:
    world.run()
    world.source.remove("eng-typed/letter 1 .pdf")
    world.source.fault("eng-typed", Fault.UNDECODABLE)
    for _ in range(3):
        report = world.run()
        assert (report.exit_code, report.refused, report.retired) == (0, 1, 0)


def test_a_file_that_is_still_written_to_waits(world: World) -> None:
    world.source.put("young.jpg", b"young", mtime_ns=time.time_ns() + 10**12)
    report = world.run()
    assert (report.fetched, report.waiting) == (6, 0)
    edits = iter(range(100))

    def write(_: float) -> None:
        world.source.put("hot.jpg", b"hot", mtime_ns=time.time_ns() + 10**12 + next(edits))

    write(0)
    world.clock = type(world.clock)(sleep=write)
    report = world.run()
    assert (report.exit_code, report.waiting) == (0, 1)
    assert report.waits[0].reason is Reason.UNSETTLED
    assert "hot.jpg" not in world.mirrored()


def test_symlinks_planted_in_the_mirror_are_never_followed(world: World, tmp_path: Path) -> None:
    world.run()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    (world.target / "eng-typed").rename(tmp_path / "moved")
    (world.target / "eng-typed").symlink_to(outside)
    (world.target / "hin-typed/पत्र 3.JPG").unlink()
    (world.target / "hin-typed/पत्र 3.JPG").symlink_to(outside / "precious")
    world.source.put("eng-typed/new.pdf", b"new")
    report = world.run()
    assert report.exit_code == 3
    assert {problem.path for problem in report.failures} >= {"eng-typed/new.pdf"}
    assert sorted(path.name for path in outside.iterdir()) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"
    assert world.mirrored()["hin-typed/पत्र 3.JPG"] == b"three"
    assert not (world.target / "hin-typed/पत्र 3.JPG").is_symlink()


def test_verify_finds_damage_that_no_stat_shows_and_repairs(world: World) -> None:
    world.run()
    victim = world.target / "eng-typed/letter 1 .pdf"
    before = victim.stat()
    victim.write_bytes(b"ONE")
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert world.run().unchanged == 5
    (result,) = world.app().verify()
    assert (result.exit_code, result.damaged, result.problems[0].reason) == (3, 1, Reason.DAMAGED)
    assert "eng-typed/letter 1 .pdf" not in world.records()
    assert world.announced()[-1] == ("removed", "eng-typed/letter 1 .pdf")
    assert world.run().fetched == 1
    assert world.converged()
    victim.write_bytes(b"Two")
    (result,) = world.app().verify(repair=True)
    assert (result.exit_code, result.damaged, result.repaired) == (0, 1, 1)
    assert world.converged()


def test_verify_source_finds_an_edit_that_restores_size_and_mtime(world: World) -> None:
    world.run()
    mtime_ns = world.source.fingerprint("eng-typed/letter 1 .pdf").mtime_ns
    world.source.put("eng-typed/letter 1 .pdf", b"eno", mtime_ns=mtime_ns)
    assert world.run().unchanged == 5
    (result,) = world.app().verify(against_source=True)
    assert (result.exit_code, result.damaged) == (3, 1)
    assert world.run().fetched == 1
    assert world.converged()


def test_status_before_and_after_the_first_run(world: World) -> None:
    assert world.app().status().mirrors[0].state == "behind"
    assert world.app().status().exit_code == 3
    assert not world.state.exists()
    world.run()
    status = world.app().status()
    told = status.as_json()
    assert status.exit_code == 0
    assert told["mirrors"][0]["pending"] == {"fetch": 0, "retire": 0, "announce": 0}, "the spool has them"
    assert told["daemon"] == {"running": False, "pid": None, "since": None}


def test_verify_compares_with_the_checksums_that_the_share_carries(world: World) -> None:
    right = hashlib.sha256(b"two" * 1000).hexdigest()
    lines = f"{'0' * 64}  letter 1 .pdf\n{right} *letter  2, (copy).PDF\nno checksum line\n"
    world.source.put("eng-typed/SHA256SUMS", lines.encode())
    world.run()
    (result,) = world.app().verify(against_checksums=True)
    assert (result.exit_code, result.damaged) == (3, 1)
    assert [problem.path for problem in result.problems] == ["eng-typed/letter 1 .pdf"]
    assert "eng-typed/letter 1 .pdf" in world.records()
