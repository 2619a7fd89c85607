"""One directory's decisions: each leaf of the tree, and laws that hold for any directory."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.filters import Filters
from syncd.core.model import Entry, Kind, Listing, LocalEntry, LocalStat, Record, RelPath
from syncd.core.planner import DirectoryPlan, NameRules, align_local, compare, find_respelled, sort_entries
from syncd.core.reasons import Reason

NOW = 1_000_000
SHA = "0" * 64


def entry(name: str, size: int = 1, mtime: int = 10, kind: Kind = Kind.FILE, file_id: int = 0) -> Entry:
    return Entry(name, kind, size, mtime, 0, file_id)


def record(size: int = 1, mtime: int = 10, file_id: int = 0, absent_run: str = "") -> Record:
    return Record(size, mtime, 0, file_id, SHA, 1, 7, size, mtime, absent_run)


def local(size: int = 1, mtime: int = 10, inode: int = 7, kind: Kind = Kind.FILE) -> LocalEntry:
    return LocalEntry(kind, LocalStat(inode, size, mtime))


def plan_of(
    entries: Iterable[Entry] = (),
    held: dict[str, Record] | None = None,
    here: dict[str, LocalEntry] | None = None,
    *,
    folders: Iterable[str] = (),
    complete: bool = True,
    rules: NameRules | None = None,
) -> DirectoryPlan:
    rules = rules or NameRules(Filters())
    held = held or {}
    listing = Listing(RelPath("d"), list(entries), complete)
    sorted_entries = sort_entries(listing, rules, held)
    lying = align_local(here or {}, sorted_entries, held, rules)
    plan = compare(listing, sorted_entries, held, frozenset(folders), lying, NOW)
    find_respelled(plan, rules)
    return plan


def test_a_new_file_arrives() -> None:
    assert plan_of([entry("a")]).arriving == [(entry("a"), Reason.NEW)]


def test_a_new_file_over_an_unknown_local_one_is_compared() -> None:
    assert plan_of([entry("a")], here={"a": local()}).arriving == [(entry("a"), Reason.UNKNOWN_LOCAL)]


def test_the_same_file_is_unchanged() -> None:
    plan = plan_of([entry("a")], {"a": record()}, {"a": local()})
    assert (plan.unchanged, plan.listed) == (1, 1)
    assert not plan.arriving
    assert not plan.changed


def test_size_mtime_and_id_each_show_a_change() -> None:
    for changed in (entry("a", size=2), entry("a", mtime=11), entry("a", file_id=4)):
        assert plan_of([changed], {"a": record(file_id=3)}, {"a": local()}).changed == [changed]


def test_an_id_that_one_side_does_not_know_takes_no_part() -> None:
    assert plan_of([entry("a", file_id=4)], {"a": record()}, {"a": local()}).unchanged == 1


def test_local_losses_and_changes_are_repaired() -> None:
    assert plan_of([entry("a")], {"a": record()}).repair == [(entry("a"), Reason.LOST)]
    assert plan_of([entry("a")], {"a": record()}, {"a": local(size=5)}).repair == [(entry("a"), Reason.LOCAL_CHANGED)]
    assert plan_of([entry("a")], {"a": record()}, {"a": local(inode=8)}).recheck == [entry("a")]


def test_what_may_still_be_written_to_waits() -> None:
    young = entry("a", mtime=NOW + 1)
    assert plan_of([young]).unsettled == [young]
    assert plan_of([young], {"a": record()}, {"a": local()}).unsettled == [young]


def test_absence_needs_a_complete_listing() -> None:
    assert plan_of([], {"a": record()}, folders=["f"]).absent == ["a"]
    assert plan_of([], {"a": record()}, folders=["f"]).absent_folders == ["f"]
    incomplete = plan_of([], {"a": record()}, folders=["f"], complete=False)
    assert not incomplete.absent
    assert not incomplete.absent_folders


def test_type_flips_are_proof() -> None:
    plan = plan_of([entry("a", kind=Kind.DIRECTORY)], {"a": record()}, {"a": local()})
    assert plan.flipped_files == ["a"]
    assert not plan.absent
    assert plan_of([entry("f")], folders=["f"]).flipped_folders == ["f"]


def test_an_excluded_file_that_is_held_counts_as_listed_and_leaves() -> None:
    plan = plan_of([entry("a.tmp")], {"a.tmp": record()}, rules=NameRules(Filters(exclude=["*.tmp"])))
    assert plan.absent == ["a.tmp"]
    assert plan.listed == 1


def test_links_and_special_files_are_refused() -> None:
    listing = Listing(RelPath(""), [entry("l", kind=Kind.OTHER)])
    assert sort_entries(listing, NameRules(Filters()), {}).refused == [("l", Reason.LINK)]


def test_a_mangled_name_is_refused_and_a_lookalike_is_not() -> None:
    listing = Listing(RelPath(""), [entry("ABCDEF~X.JPG"), entry("LETTER~1.JPG")], mangled=frozenset(["ABCDEF~X.JPG"]))
    result = sort_entries(listing, NameRules(Filters()), {})
    assert result.refused == [("ABCDEF~X.JPG", Reason.NAME_MANGLED)]
    assert list(result.files) == ["LETTER~1.JPG"]


def test_of_twins_on_a_folding_target_the_held_one_is_kept() -> None:
    rules = NameRules(Filters(), folds_case=True, folds_unicode=True)
    listing = Listing(RelPath(""), [entry("A.jpg"), entry("a.jpg"), entry("é"), entry("e\u0301")])
    result = sort_entries(listing, rules, {"a.jpg": record()})
    assert list(result.files) == ["a.jpg", "e\u0301"] or set(result.files) == {"a.jpg", "e\u0301"}
    assert ("A.jpg", Reason.CASE_TWIN) in result.refused
    assert ("é", Reason.UNICODE_TWIN) in result.refused


def test_twins_live_side_by_side_where_names_are_not_folded() -> None:
    plan = plan_of([entry("A.jpg"), entry("a.jpg")])
    assert len(plan.arriving) == 2


def test_a_new_spelling_on_a_folding_target_is_a_rename() -> None:
    rules = NameRules(Filters(), folds_case=True)
    plan = plan_of([entry("Photo.JPG")], {"photo.JPG": record()}, {"photo.JPG": local()}, rules=rules)
    assert plan.respelled == [("photo.JPG", entry("Photo.JPG"))]
    assert not plan.absent
    assert not plan.arriving


def test_a_file_system_that_lists_another_form_does_not_lose_files() -> None:
    rules = NameRules(Filters(), folds_unicode=True)
    plan = plan_of([entry("é")], {"é": record()}, {"e\u0301": local()}, rules=rules)
    assert plan.unchanged == 1
    assert not plan.foreign


def test_foreign_files_are_seen_and_nothing_is_planned_for_them() -> None:
    plan = plan_of(
        [entry("a"), entry("f", kind=Kind.DIRECTORY)], here={"mine": local(), "f": local(kind=Kind.DIRECTORY)}
    )
    assert plan.foreign == ["mine"]


NAMES = st.sampled_from(["a", "b", "c", "A", "é", "e\u0301", ".DS_Store", "..", "x/y"])
ENTRIES = st.lists(
    st.builds(
        entry,
        NAMES,
        size=st.integers(0, 2),
        mtime=st.sampled_from([10, 11, NOW + 5]),
        kind=st.sampled_from(Kind),
        file_id=st.integers(0, 2),
    ),
    unique_by=lambda e: e.name,
)
HELD = st.dictionaries(st.sampled_from(["a", "b", "c", "A"]), st.builds(record, size=st.integers(0, 2)))
LOCAL = st.dictionaries(NAMES, st.builds(local, size=st.integers(0, 2), kind=st.sampled_from(Kind)))


@given(ENTRIES, HELD, LOCAL, st.booleans(), st.booleans())
def test_every_listed_file_gets_exactly_one_decision(
    entries: list[Entry], held: dict[str, Record], here: dict[str, LocalEntry], complete: bool, folds: bool
) -> None:
    rules = NameRules(Filters(), folds_case=folds, folds_unicode=folds)
    listing = Listing(RelPath("d"), entries, complete)
    plan = plan_of(entries, held, here, complete=complete, rules=rules)
    decided = (
        [e.name for e, _ in plan.arriving]
        + [e.name for e in plan.changed + plan.recheck + plan.unsettled]
        + [e.name for e, _ in plan.repair]
        + [e.name for _, e in plan.respelled]
    )
    files = sort_entries(listing, rules, held).files
    assert len(decided) == len(set(decided))
    assert len(decided) + plan.unchanged == len(files)
    gone = set(plan.absent) | set(plan.flipped_files) | {old for old, _ in plan.respelled}
    assert gone.isdisjoint(files)
    assert gone <= set(held)
    if not complete:
        assert not gone
