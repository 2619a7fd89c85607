"""A path is followed by its exact spelling: servers open other spellings too, and stand-ins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from syncd.core.errors import EntryGone, SourceUnavailable
from syncd.core.model import ROOT, Entry, Fingerprint, Kind, Listing, RelPath
from syncd.core.reasons import Reason
from syncd.engine.trail import Ending, Trail
from syncd.ports import Source

OPENED = Fingerprint(1, 2, 3, 4)
"""The file that the server opens by a path."""


class Listings:
    """A source that lists, and opens `files`; counts how often it is asked for listings."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.incomplete: set[str] = set()
        self.files: dict[str, Fingerprint | Exception] = {}
        self.kinds = {
            "": {"set": Kind.DIRECTORY, "x.jpg": Kind.FILE},
            "set": {"A.jpg": Kind.FILE, "below": Kind.DIRECTORY, "link": Kind.OTHER, "WHAT~1.JPG": Kind.FILE},
        }

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        (directory,) = pending
        self.asked.append(directory)
        if directory not in self.kinds:
            yield Listing(directory, [], False, Reason.GONE)
            return
        entries = [Entry(name, kind, 0, 0, 0, 0) for name, kind in self.kinds[directory].items()]
        reason = Reason.UNREADABLE if directory in self.incomplete else None
        yield Listing(directory, entries, reason is None, reason, mangled=frozenset(["WHAT~1.JPG"]))

    def read(self, path: RelPath) -> Fingerprint:
        found = self.files.get(path, EntryGone(path))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def source() -> Listings:
    return Listings()


def follow(source: Listings, path: str) -> Ending | None:
    return Trail(cast("Source", source)).follow(RelPath(path), time.monotonic(), OPENED)


@pytest.mark.parametrize("path", ["x.jpg", "set/A.jpg"])
def test_exact_paths_lead_to_their_file(source: Listings, path: str) -> None:
    assert follow(source, path) is None


@pytest.mark.parametrize(
    ("path", "ending"),
    [
        ("set/a.JPG", Ending(RelPath("set/a.JPG"), True, near=RelPath("set/A.jpg"))),
        ("SET/A.jpg", Ending(RelPath("SET"), True, near=RelPath("set"))),
        ("set/no.jpg", Ending(RelPath("set/no.jpg"), True)),
        ("nowhere/no.jpg", Ending(RelPath("nowhere"), True)),
        ("set/below", Ending(RelPath("set/below"), True, kind=Kind.DIRECTORY)),
        ("set/link", Ending(RelPath("set/link"), True, kind=Kind.OTHER)),
        ("set/WHAT~1.JPG", Ending(RelPath("set/WHAT~1.JPG"), True, mangled=True)),
        ("x.jpg/inside", Ending(RelPath("x.jpg"), True, kind=Kind.FILE)),
    ],
)
def test_where_other_paths_end(source: Listings, path: str, ending: Ending) -> None:
    assert follow(source, path) == ending


def test_an_incomplete_listing_is_not_certain_of_what_it_lacks(source: Listings) -> None:
    source.incomplete.add("set")
    assert follow(source, "set/A.jpg") is None
    assert follow(source, "set/no.jpg") == Ending(RelPath("set/no.jpg"), False)


def test_a_folder_is_listed_once_for_many_paths_but_anew_for_what_is_missing(source: Listings) -> None:
    trail = Trail(cast("Source", source))
    for _ in range(5):
        assert trail.follow(RelPath("set/A.jpg"), time.monotonic(), OPENED) is None
    assert source.asked == [ROOT, "set"]
    source.kinds["set"]["new.jpg"] = Kind.FILE
    assert trail.follow(RelPath("set/new.jpg"), time.monotonic(), OPENED) is None, (
        "younger than the listing that is kept"
    )
    del source.kinds["set"]["new.jpg"]
    assert trail.follow(RelPath("set/new.jpg"), time.monotonic(), None) is not None
    assert source.asked == [ROOT, "set", "set", "set"]


def test_what_is_kept_is_bounded(source: Listings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.engine.trail.KEPT_FOLDERS", 1)
    trail = Trail(cast("Source", source))
    for _ in range(2):
        assert trail.follow(RelPath("set/A.jpg"), time.monotonic(), OPENED) is None
    assert len(trail._kept) == 1
    monkeypatch.setattr("syncd.engine.trail.KEPT_FOLDERS", 9)
    for most, kept in ((5, [ROOT, "set"]), (4, ["set"]), (1, [])):  # ROOT has two names, the folder three
        monkeypatch.setattr("syncd.engine.trail.KEPT_NAMES", most)
        trail = Trail(cast("Source", source))
        assert trail.follow(RelPath("set/A.jpg"), time.monotonic(), None) is None
        assert list(trail._kept) == kept


def test_many_who_asked_before_a_listing_share_what_it_lacks(source: Listings) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    for number in range(300):
        ending = trail.follow(RelPath(f"new/{number}.jpg"), asked_at, None)
        assert ending is not None
        assert ending[:2] == ("new", True)
    assert source.asked == [ROOT]
    near = trail.follow(RelPath("SET/A.jpg"), asked_at, None)
    assert near is not None
    assert near.near == "set"
    assert near.age_s > 0


def test_who_asks_after_a_listing_gets_a_later_one(source: Listings) -> None:
    trail = Trail(cast("Source", source))
    assert trail.follow(RelPath("new/a.jpg"), time.monotonic(), None) is not None
    source.kinds[""]["new"], source.kinds["new"] = Kind.DIRECTORY, {"a.jpg": Kind.FILE}
    assert trail.follow(RelPath("new/a.jpg"), time.monotonic(), None) is None


def test_what_a_shared_listing_shows_is_listed_again_where_the_server_did_not_open_it(source: Listings) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    assert trail.follow(RelPath("set/A.jpg"), asked_at, None) is None
    del source.kinds["set"]["A.jpg"]
    ending = trail.follow(RelPath("set/A.jpg"), asked_at, None)
    assert ending is not None
    assert ending.age_s == 0


def test_a_shared_listing_that_was_incomplete_is_not_certain_either(source: Listings) -> None:
    source.incomplete.add("set")
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    for name in ("a", "b"):
        ending = trail.follow(RelPath(f"set/{name}"), asked_at, None)
        assert ending is not None
        assert not ending.certain
    assert source.asked == [ROOT, "set"]


def test_a_listing_that_took_long_and_one_of_a_big_folder_are_shared_too(
    source: Listings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.kinds[""] |= {f"{number}.tif": Kind.FILE for number in range(100_000)}
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    monkeypatch.setattr("syncd.engine.trail.KEPT_S", 0.0)
    for number in range(3):
        assert trail.follow(RelPath(f"new/{number}.jpg"), asked_at, None) is not None
    assert source.asked == [ROOT]


def test_what_is_spelled_otherwise_costs_one_listing_for_all_who_asked_before_it(source: Listings) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    source.files["set/A.jpg"] = OPENED
    for _ in range(5):
        ending = trail.follow(RelPath("SET/A.jpg"), asked_at, OPENED)
        assert ending is not None
        assert (ending.at, ending.near) == ("SET", "set")
    assert source.asked == [ROOT]
    assert trail.follow(RelPath("SET/A.jpg"), time.monotonic(), OPENED) is not None
    assert source.asked == [ROOT, ROOT]


@pytest.mark.parametrize("near", [OPENED._replace(file_id=5), EntryGone("set/A.jpg")])
def test_a_folder_that_came_after_the_listing_is_no_other_spelling(
    source: Listings, near: Fingerprint | Exception
) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    assert trail.follow(RelPath("SET/A.jpg"), asked_at, None) is not None
    source.kinds[""]["SET"], source.kinds["SET"] = Kind.DIRECTORY, {"A.jpg": Kind.FILE}
    source.files["set/A.jpg"] = near
    assert trail.follow(RelPath("SET/A.jpg"), asked_at, OPENED) is None


def test_files_without_ids_are_not_taken_for_each_other(source: Listings) -> None:
    trail, asked_at, opened = Trail(cast("Source", source)), time.monotonic(), OPENED._replace(file_id=0)
    source.files["set/A.jpg"] = opened
    for _ in range(2):
        assert trail.follow(RelPath("SET/A.jpg"), asked_at, opened) is not None
    assert source.asked == [ROOT, ROOT]


def test_a_source_that_goes_away_meanwhile_is_an_error(source: Listings) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    assert trail.follow(RelPath("SET/A.jpg"), asked_at, None) is not None
    source.files["set/A.jpg"] = SourceUnavailable("gone")
    with pytest.raises(SourceUnavailable):
        trail.follow(RelPath("SET/A.jpg"), asked_at, OPENED)
