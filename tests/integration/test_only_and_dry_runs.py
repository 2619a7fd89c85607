"""What --only, --mirror and --dry-run mean together: a dry run says what the run does, each path is answered for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from syncd.core.errors import DiskFull, TargetForeign, TargetMissing
from syncd.core.reasons import Reason
from syncd.engine.report import Report
from syncd.sources.memory_faults import Fault
from syncd.store.staging import StagedFile, Staging
from tests.support.cli import Syncd
from tests.support.world import World

FILES = {"d/one.txt": b"1", "d/two.txt": b"2", "three.txt": b"3"}


def steps(report: Report) -> set[tuple[str, str]]:
    return {(step.action.value, step.path) for step in report.plan or []}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, FILES)


@pytest.fixture
def two(tmp_path: Path) -> Syncd:
    syncd = Syncd(tmp_path)
    for name in ("A", "B"):
        folder = tmp_path / f"source {name}" / name.lower()
        folder.mkdir(parents=True)
        (folder / "page.txt").write_text(name)
        syncd.add_mirror(name, f"file://{folder.parent}", tmp_path / f"target {name}", extra='settle = "0s"')
    return syncd


def test_a_dry_run_with_a_new_target_plans_what_the_run_then_does(world: World) -> None:
    world.run()
    shutil.rmtree(world.target)
    assert isinstance(world.dry_run().error, TargetMissing)
    assert steps(world.dry_run(new_target=True)) == {("fetch", path) for path in FILES}
    assert not world.target.exists()
    assert world.run(new_target=True).fetched == 3


def test_a_dry_run_that_takes_over_looks_into_the_target_of_another(world: World) -> None:
    world.run()
    shutil.rmtree(world.state)
    owner = world.target / ".syncd" / "owner"
    before = owner.read_bytes()
    assert isinstance(world.dry_run().error, TargetForeign)
    assert {action for action, _ in steps(world.dry_run(take_over=True))} == {"adopt"}
    assert not world.state.exists()
    assert owner.read_bytes() == before


def test_a_target_that_goes_away_in_mid_run_ends_it_with_a_step_that_names_the_mirror(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Staging.stage

    def removed(staging: Staging) -> StagedFile:
        shutil.rmtree(world.target / ".syncd" / "staging", ignore_errors=True)
        return stage(staging)

    monkeypatch.setattr(Staging, "stage", removed)
    error = world.run().error
    assert isinstance(error, TargetMissing)
    assert error.hint.endswith("syncd run-once --new-target --mirror M")


def test_a_manifest_that_cannot_be_written_leaves_the_report_as_it_is_but_for_the_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFull("no room for the manifest")

    with monkeypatch.context() as broken:
        broken.setattr("syncd.store.mirror.replace_manifest", full)
        report = world.run()
    assert (report.fetched, report.exit_code) == (3, 14)
    assert world.converged()
    assert world.run().exit_code == 0
    assert len((world.target / ".syncd" / "manifest.jsonl").read_bytes().splitlines()) == 3


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_only_looks_into_no_mirror_that_it_does_not_mean(two: Syncd, flags: tuple[str, ...]) -> None:
    done = two.run_once("--only", "A/a", *flags)
    assert (done.code, [mirror["name"] for mirror in done.json["mirrors"]]) == (0, ["A"])


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_each_path_of_only_that_is_nowhere_is_said_though_another_was_found(two: Syncd, flags: tuple[str, ...]) -> None:
    done = two.run_once("--only", "A/a", "--only", "B/typo", *flags)
    failures = {mirror["name"]: [f["path"] for f in mirror["failures"]] for mirror in done.json["mirrors"]}
    assert (done.code, failures) == (3, {"A": [], "B": ["typo"]})


def test_a_bare_path_of_only_is_found_in_the_mirror_that_has_it(two: Syncd) -> None:
    done = two.run_once("--only", "b/page.txt")
    assert done.code == 0
    assert sum(mirror["fetched"] for mirror in done.json["mirrors"]) == 1


@pytest.mark.parametrize("bare", ["b/page.txt", "./b/page.txt", "b/page.txt/", "/b/page.txt", "b\\page.txt"])
@pytest.mark.parametrize("flags", [(), ("--mirror", "B")])
def test_a_bare_path_is_looked_for_in_each_mirror_however_it_is_written(
    two: Syncd, bare: str, flags: tuple[str, ...]
) -> None:
    done = two.run_once("--only", bare, *flags)
    assert done.code == 0
    assert [mirror["fetched"] for mirror in done.json["mirrors"]][-1] == 1


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_path_of_a_mirror_that_is_left_out_is_an_error_that_says_which(two: Syncd, flags: tuple[str, ...]) -> None:
    done = two.run_once("--mirror", "B", "--only", "A/a/page 1.txt", *flags)
    assert (done.code, done.out) == (2, "")
    assert 'means mirror "A"' in done.err
    assert "syncd run-once --mirror A --only 'A/a/page 1.txt'" in done.err


def test_a_mirror_named_twice_runs_once(two: Syncd) -> None:
    two.run_once()
    (two.base / "source A" / "a" / "page.txt").unlink()
    (two.base / "source A" / "a" / "other.txt").write_text("o")
    done = two.run_once("--mirror", "A", "--mirror", "A")
    assert [(mirror["name"], mirror["retired"]) for mirror in done.json["mirrors"]] == [("A", 0)]


@pytest.mark.parametrize("root", [".", "M", "M/"])
def test_only_of_the_whole_mirror_fetches_all_and_removes_nothing(world: World, root: str) -> None:
    assert world.run(only=[root]).fetched == 3
    world.source.remove("three.txt")
    for _ in range(3):
        report = world.run(only=[root])
        assert (report.exit_code, report.retired) == (0, 0)


def test_only_without_a_path_is_an_error_and_not_everything(two: Syncd) -> None:
    done = two.run_once("--only", "")
    assert (done.code, done.out) == (2, "")


def test_a_refused_name_that_only_names_is_refused_and_not_gone(tmp_path: Path) -> None:
    world = World(tmp_path, {**FILES, "a:b.txt": b"x"})
    report = world.run(only=["a:b.txt"])
    assert (report.exit_code, report.failures) == (0, [])
    assert [(each.path, each.reason) for each in report.refusals] == [("a:b.txt", Reason.NAME_STREAM)]


def test_below_a_folder_that_cannot_be_listed_nothing_is_said_to_be_gone(world: World) -> None:
    world.source.fault("d", Fault.DENIED)
    report = world.run(only=["d/one.txt"])
    assert [(each.path, each.reason) for each in report.failures] == [("d", Reason.DENIED)]
    world.run()
    (known,) = world.app().why("d/one.txt")
    assert (known.state, known.reason) == ("not held", Reason.DENIED)


def test_an_undecodable_name_beside_what_only_names_is_not_its_matter(world: World) -> None:
    world.source.fault("", Fault.UNDECODABLE)
    assert [world.run(only=only).refused for only in (["three.txt"], ["d"], ["."])] == [0, 0, 1]
