"""gitignore syntax over built-in defaults."""

import pytest

from syncd.core import paths
from syncd.core.filters import DEFAULT_EXCLUDES, Filters
from syncd.core.model import RelPath


@pytest.mark.parametrize("name", ["._x.JPG", ".DS_Store", "Thumbs.db", "~$letter.doc", ".write_test_delete_me"])
def test_litter_is_left_out_by_default_wherever_it_lies(name: str) -> None:
    assert Filters().drops_file(RelPath(f"a/b/{name}"), name)
    assert Filters(exclude=["*.tmp"]).drops_file(RelPath(f"a/b/{name}"), name)


@pytest.mark.parametrize("name", ["thumbs.db", "THUMBS.DB", "tHumbs.Db", ".ds_store"])
def test_what_shares_hide_in_any_case_is_left_out_in_any_case(name: str) -> None:
    for filters in (Filters(), Filters(exclude=["*.tmp"])):
        assert filters.drops_file(RelPath(f"a/{name}"), name)
        assert filters.drops_folder(RelPath(f"a/{name}"), name)
        assert filters.rule_for(RelPath(f"a/{name}/x.jpg")) in DEFAULT_EXCLUDES, "as the documents have it"
    joined = paths.join_plain(["a.jpg", name, "b.jpg"])
    assert joined is None or not Filters().spares(joined)
    assert not Filters(exclude=[f"!{name}"]).drops_file(RelPath(name), name)


@pytest.mark.parametrize(
    "name", [".hidden.jpg", "_x.jpg", "~x.jpg", "thumbs.db.jpg", "thumbs_db", "Thumbs.dbx", "x.db", "Thumbſ.db"]
)
def test_other_hidden_files_are_mirrored(name: str) -> None:
    assert not Filters().drops_file(RelPath(name), name)


def test_the_folder_of_syncd_itself_is_left_out() -> None:
    assert Filters().drops_folder(RelPath(".syncd"), ".syncd")


def test_patterns_follow_gitignore() -> None:
    filters = Filters(exclude=["old/", "*.tmp", "!keep.tmp", "/top.jpg"])
    assert filters.drops_folder(RelPath("a/old"), "old")
    assert not filters.drops_file(RelPath("a/old.jpg"), "old.jpg")
    assert filters.drops_file(RelPath("a/x.tmp"), "x.tmp")
    assert not filters.drops_file(RelPath("a/keep.tmp"), "keep.tmp")
    assert filters.drops_file(RelPath("top.jpg"), "top.jpg")
    assert not filters.drops_file(RelPath("a/top.jpg"), "top.jpg")


def test_a_default_can_be_brought_back() -> None:
    assert not Filters(exclude=["!.DS_Store"]).drops_file(RelPath(".DS_Store"), ".DS_Store")


def test_include_keeps_only_what_matches_and_still_descends() -> None:
    filters = Filters(include=["*.pdf"])
    assert not filters.drops_file(RelPath("a/x.pdf"), "x.pdf")
    assert filters.drops_file(RelPath("a/x.jpg"), "x.jpg")
    assert not filters.drops_folder(RelPath("a"), "a")


def test_the_rule_that_leaves_a_file_out_is_named() -> None:
    filters = Filters(include=["*.jpg"], exclude=["old/"])
    assert filters.rule_for(RelPath("a/old/x.jpg")) == "old/"
    assert filters.rule_for(RelPath("a/.DS_Store")) == ".DS_Store"
    assert filters.rule_for(RelPath("a/x.pdf")) == "not matched by include = *.jpg"
    assert filters.rule_for(RelPath("a/x.jpg")) == ""


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(exclude=["old/", "*.tmp", "!keep.tmp", "/top.jpg", "!.DS_Store"]),
        Filters(include=["*.jpg", "a/**/*.pdf"], exclude=["**/drafts"]),
    ],
)
def test_drops_says_whether_there_is_such_a_rule(filters: Filters) -> None:
    names = ["x.jpg", "x.pdf", "x.tmp", "keep.tmp", "top.jpg", ".DS_Store", "._x", "Thumbs.db", ".syncd", "drafts"]
    folders = ["", "a/", "old/", "a/old/b/", "._a/", "a/.syncd/", "a/drafts/c/", "Thumbs.db/", "~$a/b/"]
    for path in (RelPath(folder + name) for folder in folders for name in names):
        assert filters.drops(path) is bool(filters.rule_for(path)), path
