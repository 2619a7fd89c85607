"""What a scan found: absences, renames, flips, what is carried over at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import Dropped, Fingerprint, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.ports import Findings
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.findings import SqliteFindings
from tests.support.catalogues import NOW_MS, finish, held, hold, open_catalogue, seen, snapshot

ROOT = RelPath("")
ID = Fingerprint(10, 1_000, 2_000, 77)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


@pytest.fixture
def mirror(catalogue: Catalogue) -> SqliteMirrorCatalogue:
    return catalogue.mirror("M")


def absences(findings: Findings, *, confirmed: bool) -> list[str]:
    found = [path for path, _ in findings.absences(confirmed=confirmed)]
    assert len(found) == findings.count_absences(confirmed=confirmed)
    return found


def renames(findings: Findings) -> list[tuple[str, str]]:
    return [(old, new) for old, _, new, _ in findings.renames()]


def path(text: str) -> RelPath:
    return RelPath(text)


# --- absences


def test_absence_needs_two_runs(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("a"), held("b"), held("d/c"))
    first = mirror.findings("r1")
    first.absent(ROOT, ["a", "not held"])
    first.absent(path("d"), ["c"])
    assert absences(first, confirmed=False) == ["a", "d/c"]
    assert absences(first, confirmed=True) == []
    finish(mirror, "r1", first)
    assert {p: r.absent_run for p, r in mirror.records()} == {"a": "r1", "b": "", "d/c": "r1"}
    second = mirror.findings("r2")
    second.absent(ROOT, ["a", "b"])
    second.seen_again(path("d/c"))
    assert absences(second, confirmed=True) == ["a"]
    assert absences(second, confirmed=False) == ["b"]
    finish(mirror, "r2", second)
    assert {p: r.absent_run for p, r in mirror.records()} == {"a": "r1", "b": "r2", "d/c": ""}


def test_the_same_run_does_not_confirm_itself(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("a"))
    first = mirror.findings("r1")
    first.absent(ROOT, ["a"])
    finish(mirror, "r1", first)
    again = mirror.findings("r1")
    again.absent(ROOT, ["a"])
    assert absences(again, confirmed=True) == []
    assert absences(again, confirmed=False) == ["a"]


def test_a_run_without_findings_concludes_nothing(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("a"))
    mirror.findings("r1").absent(ROOT, ["a"])
    finish(mirror, "r1", None)
    assert [record.absent_run for _, record in mirror.records()] == [""]


def test_everything_below_an_absent_folder_is_absent(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("d/1"), held("d/e/2"), held("d0/3"), held("d e/4"), held("5"))
    hold(catalogue.mirror("N"), held("d/6"))
    findings = mirror.findings("r1")
    findings.absent_below(path("d"))
    assert absences(findings, confirmed=False) == ["d/1", "d/e/2"]
    everything = mirror.findings("r1")
    everything.absent_below(ROOT)
    assert len(absences(everything, confirmed=False)) == 5


def test_what_is_dropped_meanwhile_is_absent_no_more(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, *(held(f"{n:04}") for n in range(2_500)))
    findings = mirror.findings("r1")
    findings.absent_below(ROOT)
    taken = []
    for gone, _ in findings.absences(confirmed=False):
        mirror.commit([Dropped(gone)], [], run_id="r1", now_ms=NOW_MS) if len(taken) % 500 == 0 else None
        taken.append(gone)
    assert taken == [f"{n:04}" for n in range(2_500)]
    assert findings.count_absences(confirmed=False) == 2_495


def test_a_flip_is_no_absence(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("a"), held("b"))
    findings = mirror.findings("r1")
    findings.absent(ROOT, ["a", "b"])
    findings.flipped(path("a"))
    findings.flipped(path("not held"))
    assert [p for p, _ in findings.flips()] == ["a"]
    assert absences(findings, confirmed=False) == ["b"]


# --- renames


def rename(mirror: SqliteMirrorCatalogue, old: str = "old/x", new: str = "new/y") -> SqliteFindings:
    hold(mirror, held(old, ID))
    findings = mirror.findings("r1")
    directory, _, name = old.rpartition("/")
    findings.absent(path(directory), [name])
    findings.arrived(path(new), ID._replace(ctime_ns=9))
    return findings


def test_a_rename_is_proven_by_id_size_and_mtime(mirror: SqliteMirrorCatalogue) -> None:
    findings = rename(mirror)
    ((old, record, new, fingerprint),) = findings.renames()
    assert (old, new) == ("old/x", "new/y")
    assert record == mirror.record(path("old/x"))
    assert fingerprint == ID._replace(ctime_ns=9)


@pytest.mark.parametrize("other", [ID._replace(size=11), ID._replace(mtime_ns=1), ID._replace(file_id=78)])
def test_less_than_equal_is_no_rename(mirror: SqliteMirrorCatalogue, other: Fingerprint) -> None:
    hold(mirror, held("old", ID))
    findings = mirror.findings("r1")
    findings.absent(ROOT, ["old"])
    findings.arrived(path("new"), other)
    assert renames(findings) == []


def test_unknown_ids_are_no_ids(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("old", ID._replace(file_id=0)))
    findings = mirror.findings("r1")
    findings.absent(ROOT, ["old"])
    findings.arrived(path("new"), ID._replace(file_id=0))
    assert renames(findings) == []


def test_a_present_old_path_is_no_rename(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("old", ID))
    findings = mirror.findings("r1")
    findings.arrived(path("new"), ID)
    assert renames(findings) == []
    assert list(findings.arrivals()) == [("new", ID)]


def test_a_flipped_old_path_is_no_rename(mirror: SqliteMirrorCatalogue) -> None:
    findings = rename(mirror)
    findings.flipped(path("old/x"))
    assert renames(findings) == []


def test_hard_links_are_no_rename(mirror: SqliteMirrorCatalogue) -> None:
    findings = rename(mirror)
    findings.arrived(path("new/z"), ID)
    assert renames(findings) == []


def test_an_id_that_another_record_has_is_no_rename(mirror: SqliteMirrorCatalogue) -> None:
    findings = rename(mirror)
    hold(mirror, held("elsewhere", ID._replace(size=99)))
    assert renames(findings) == []


def test_an_id_that_a_replacement_took_is_no_rename(mirror: SqliteMirrorCatalogue) -> None:
    findings = rename(mirror)
    hold(mirror, held("r", seen(1, file_id=5)))
    findings.replaced(path("r"), ID)
    assert renames(findings) == []


def test_other_mirrors_ids_do_not_matter(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(catalogue.mirror("N"), held("elsewhere", ID))
    assert renames(rename(mirror)) == [("old/x", "new/y")]


def test_a_settled_rename_is_neither_absent_nor_new(mirror: SqliteMirrorCatalogue) -> None:
    findings = rename(mirror)
    findings.settle_rename(path("old/x"), path("new/y"))
    assert renames(findings) == []
    assert list(findings.arrivals()) == []
    assert absences(findings, confirmed=False) == []


def test_a_tree_of_renames_is_settled_in_portions(mirror: SqliteMirrorCatalogue) -> None:
    facts = [held(f"a/{n}", seen(n, file_id=n + 1)) for n in range(2_300)]
    hold(mirror, *facts)
    findings = mirror.findings("r1")
    findings.absent_below(path("a"))
    for fact in facts:
        findings.arrived(path(f"b/{fact.path[2:]}"), fact.fingerprint)
    done = 0
    while batch := [pair for pair, _ in zip(renames(findings), range(1_000), strict=False)]:
        for old, new in batch:
            fact = held(new, facts[int(old[2:])].fingerprint)
            mirror.commit([Dropped(path(old)), fact], [], run_id="r1", now_ms=NOW_MS) if done % 100 == 0 else None
            findings.settle_rename(path(old), path(new))
            done += 1
    assert done == 2_300
    assert findings.count_absences(confirmed=False) == 0


# --- replacements


def test_replacements_count_only_what_size_or_mtime_show(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("a", ID), held("b", ID), held("c", ID))
    findings = mirror.findings("r1")
    changed = {"a": ID._replace(size=1), "b": ID._replace(mtime_ns=1), "c": ID._replace(file_id=1, ctime_ns=1)}
    for name, fingerprint in changed.items():
        findings.replaced(path(name), fingerprint)
    assert dict(findings.replacements()) == changed
    assert findings.count_replacements() == 2


# --- unheld and folders


def test_unheld_is_replaced_and_goes_on_for_the_same_reason(mirror: SqliteMirrorCatalogue) -> None:
    def run(day: int, *found: Unheld) -> list[Unheld]:
        findings = mirror.findings(f"r{day}")
        for unheld in found:
            findings.unheld(unheld)
        finish(mirror, f"r{day}", findings, day=day)
        return mirror.unheld()

    denied, refused = Unheld(path("a"), Reason.DENIED, "x", 1, 2), Unheld(path("b"), Reason.NAME_DOT, "")
    assert [(u.attempts, u.since[8:10]) for u in run(1, denied, refused)] == [(1, "01"), (1, "01")]
    assert [(u.path, u.attempts, u.since[8:10]) for u in run(2, denied)] == [("a", 2, "01")]
    timeout = Unheld(path("a"), Reason.TIMEOUT, "y", 1, 2)
    assert [(u.reason, u.attempts, u.since[8:10]) for u in run(3, timeout)] == [(Reason.TIMEOUT, 1, "03")]
    assert [(u.reason, u.attempts) for u in run(4, denied, timeout)] == [(Reason.TIMEOUT, 2)], "one row a path"
    assert run(5) == []


def test_what_was_committed_meanwhile_is_not_unheld(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("old", seen(1)), held("gone", seen(1)))
    findings = mirror.findings("r1")
    for name in ("old", "new", "d/new"):
        findings.unheld(Unheld(path(name), Reason.UNSETTLED, ""))
    hold(mirror, held("d/new"), held("new"))
    finish(mirror, "r1", findings)
    assert [unheld.path for unheld in mirror.unheld()] == ["old"], "held, but not as it was listed"


def test_names_that_could_not_be_decoded_are_kept_readable(mirror: SqliteMirrorCatalogue) -> None:
    findings = mirror.findings("r1")
    findings.unheld(Unheld(path("d/\udcff\x00x"), Reason.NAME_UNDECODABLE, "\udcff", 10**30, -(10**30)))
    findings.unheld(Unheld(ROOT, Reason.DENIED, "the root"))
    finish(mirror, "r1", findings, failures=[Unheld(path("\udcfe"), Reason.DENIED, "")])
    assert [unheld.path for unheld in mirror.unheld()] == ["", "\\udcfe", "d/\\udcff\x00x"]


def test_directories_follow_the_source(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("kept/deep/x"))
    first = mirror.findings("r1")
    for name in ("", "empty", "empty/er", "kept", "kept/deep"):
        first.directory(path(name), seen=True)
    finish(mirror, "r1", first)
    assert list(mirror.known_directories_below(ROOT)) == ["kept/deep", "kept", "empty/er", "empty"]
    assert list(mirror.known_directories_below(path("kept"))) == ["kept/deep"]
    assert mirror.held_in(path("empty")).folders == {"er"}
    second = mirror.findings("r2")
    second.directory(path("empty"), seen=False)
    second.directory(path("kept"), seen=False)
    second.directory(ROOT, seen=False)
    finish(mirror, "r2", second)
    assert list(mirror.known_directories_below(ROOT)) == ["kept/deep", "kept"], "files below are still held"
    third = mirror.findings("r3")
    third.absent_below(path("kept"))
    mirror.commit([Dropped(path("kept/deep/x"))], [], run_id="r3", now_ms=NOW_MS)
    finish(mirror, "r3", third)
    assert list(mirror.known_directories_below(ROOT)) == []
    hold(mirror, held("kept/deep/x"))
    assert mirror.held_in(path("kept/deep")).records.keys() == {"x"}


def test_a_folder_that_comes_back_in_the_same_run_stays(mirror: SqliteMirrorCatalogue) -> None:
    findings = mirror.findings("r1")
    findings.directory(path("d"), seen=False)
    findings.directory(path("d"), seen=True)
    finish(mirror, "r1", findings)
    assert mirror.knows_directory(path("d"))


# --- the connection


def test_findings_write_nothing_into_the_state_directory(tmp_path: Path, mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held("a", ID))
    before = snapshot(tmp_path)
    findings = rename(mirror, "a")
    before = snapshot(tmp_path)
    for n in range(5_000):
        findings.unheld(Unheld(path(f"{n}"), Reason.DENIED, "x" * 100))
        findings.arrived(path(f"new/{n}"), seen(file_id=n))
    assert len(list(findings.renames())) == 0
    assert len(list(findings.arrivals())) == 5_001
    after = snapshot(tmp_path)
    assert {name: after[name] for name in after if not name.endswith("-shm")} == {
        name: before[name] for name in before if not name.endswith("-shm")
    }


def test_two_runs_findings_do_not_mix(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("a"))
    one, other = mirror.findings("r1"), catalogue.mirror("N").findings("r2")
    one.absent(ROOT, ["a"])
    assert absences(other, confirmed=False) == []
    assert absences(one, confirmed=False) == ["a"]


def test_a_runs_id_is_plain(mirror: SqliteMirrorCatalogue) -> None:
    with pytest.raises(ValueError, match="id"):
        mirror.findings("a/b")


def test_memory_is_given_back_while_something_still_refers_to_findings_that_are_done_with(tmp_path: Path) -> None:
    """What a run that failed leaves behind, such as its error's traceback, must not end the daemon a minute later."""
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        kept = [mirror.findings("r1"), mirror.findings("r2")]
        finish(mirror, "r1", kept[0])
        catalogue.shrink()
        kept[1].close()
        catalogue.shrink()
    assert kept
