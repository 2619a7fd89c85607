"""Names that need no closer look are sorted at a glance; the answer is the one that a look at each gives."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from syncd.core import paths, planner
from syncd.core.filters import DEFAULT_EXCLUDES, Filters
from syncd.core.model import Entry, Kind, Listing, RelPath
from syncd.core.planner import NameRules, Sorted, compare, sort_entries

ODD = [
    "",
    ".",
    "..",
    ".syncd",
    ".SYNCD",
    "._x",
    ".DS_Store",
    "Thumbs.db",
    "thumbs.DB",
    "Thumbs.db2",
    "~$a",
    "a~$",
    "a/b",
    "a\\b",
    "a:b",
]
ODD += ["a\nb", "a\x7f", "\ud800", "x" * 63, "x" * 64, "x" * 256, "é" * 63, "\u00a0", "a.", "/", "a/", "/a", "\u200b"]
NAMES = st.one_of(st.sampled_from(ODD), st.text(max_size=6), st.sampled_from(["page 1.jpg", "scan", "मृत्यु.pdf"]))
DIRECTORIES = st.sampled_from(["", "d", "d/" * 400 + "d", "x" * 810, "x" * 870])


@given(st.lists(st.tuples(NAMES, st.sampled_from(Kind)), max_size=8), DIRECTORIES)
@example([("Thumbs.db", Kind.FILE)], "d")
@example([("a", Kind.FILE), ("", Kind.FILE)], "")
@example([("x" * 63, Kind.FILE)], "x" * 811)
def test_a_glance_says_what_a_look_at_each_says(listed: list[tuple[str, Kind]], directory: str) -> None:
    entries = [Entry(name, kind, 1, 2, 3, number) for number, (name, kind) in enumerate(listed)]
    listing, rules = Listing(RelPath(directory), entries), NameRules(Filters())
    quick, slow = sort_entries(listing, rules, {}), planner._sort_each(listing, rules)
    assert [getattr(quick, name) for name in Sorted.__slots__] == [getattr(slow, name) for name in Sorted.__slots__]


@given(st.lists(NAMES, max_size=8))
def test_no_refused_name_is_plain(names: list[str]) -> None:
    if paths.join_plain(names) is not None:
        assert [paths.refuse_name(name) for name in names] == [None] * len(names)


def test_the_rule_is_that_all_names_are_plain() -> None:
    names = [f"पृष्ठ {number}.jpg" for number in range(200)]
    joined = paths.join_plain(names)
    assert joined is not None
    assert Filters().spares(joined)
    assert not Filters(exclude=["*.tmp"]).spares(joined)
    assert not Filters(include=["*.jpg"]).spares(joined)


def test_each_default_is_found_at_a_glance_or_by_its_dot() -> None:
    for pattern in DEFAULT_EXCLUDES:
        joined = paths.join_plain(["a", pattern.replace("*", "b"), "c"])
        assert joined is None or not Filters().spares(joined)


@given(st.lists(st.integers(1, 20), max_size=6), st.booleans())
def test_a_new_directory_is_compared_as_any_other(times: list[int], complete: bool) -> None:
    entries = [Entry(str(number), Kind.FILE, 1, at, 0, 0) for number, at in enumerate(times)]
    listing, rules = Listing(RelPath("d"), entries, complete), NameRules(Filters())
    plan = compare(listing, sort_entries(listing, rules, {}), {}, frozenset(), {}, 10)
    known = compare(listing, sort_entries(listing, rules, {}), {}, frozenset({"other"}), {}, 10)
    known.absent_folders.clear()
    assert vars(plan) == vars(known)
