"""A path is followed by its exact spelling: servers open other spellings too, and stand-ins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import pytest

from syncd.core.model import ROOT, Entry, Kind, Listing, RelPath
from syncd.core.reasons import Reason
from syncd.engine.trail import Ending, Trail
from syncd.ports import Source


class Listings:
    """A source that only lists; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.incomplete: set[str] = set()
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


@pytest.fixture
def source() -> Listings:
    return Listings()


def follow(source: Listings, path: str) -> Ending | None:
    return Trail(cast("Source", source)).follow(RelPath(path))


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
        assert trail.follow(RelPath("set/A.jpg")) is None
    assert source.asked == [ROOT, "set"]
    source.kinds["set"]["new.jpg"] = Kind.FILE
    assert trail.follow(RelPath("set/new.jpg")) is None, "younger than the listing that is kept"
    del source.kinds["set"]["new.jpg"]
    assert trail.follow(RelPath("set/new.jpg"), absent_since=time.monotonic()) is not None
    assert source.asked == [ROOT, "set", "set", "set"]


def test_what_is_kept_is_bounded(source: Listings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.engine.trail.KEPT_FOLDERS", 1)
    trail = Trail(cast("Source", source))
    for _ in range(2):
        assert trail.follow(RelPath("set/A.jpg")) is None
    assert len(trail._kept) == 1
    monkeypatch.setattr("syncd.engine.trail.KEPT_NAMES", 1)
    assert trail.follow(RelPath("set/A.jpg"), absent_since=time.monotonic()) is None
    assert len(trail._kept) <= 1


def test_many_who_asked_before_a_listing_share_what_it_lacks(source: Listings) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    for number in range(300):
        ending = trail.follow(RelPath(f"new/{number}.jpg"), absent_since=asked_at)
        assert ending is not None
        assert ending[:2] == ("new", True)
    assert source.asked == [ROOT]
    near = trail.follow(RelPath("SET/A.jpg"), absent_since=asked_at)
    assert near is not None
    assert near.near == "set"
    assert near.age_s > 0


def test_who_asks_after_a_listing_gets_a_later_one(source: Listings) -> None:
    trail = Trail(cast("Source", source))
    assert trail.follow(RelPath("new/a.jpg"), absent_since=time.monotonic()) is not None
    source.kinds[""]["new"], source.kinds["new"] = Kind.DIRECTORY, {"a.jpg": Kind.FILE}
    assert trail.follow(RelPath("new/a.jpg"), absent_since=time.monotonic()) is None


def test_what_a_shared_listing_shows_is_listed_again_where_the_server_did_not_open_it(source: Listings) -> None:
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    assert trail.follow(RelPath("set/A.jpg"), absent_since=asked_at) is None
    del source.kinds["set"]["A.jpg"]
    ending = trail.follow(RelPath("set/A.jpg"), absent_since=asked_at)
    assert ending is not None
    assert ending.age_s == 0


def test_a_shared_listing_that_was_incomplete_is_not_certain_either(source: Listings) -> None:
    source.incomplete.add("set")
    trail, asked_at = Trail(cast("Source", source)), time.monotonic()
    for name in ("a", "b"):
        ending = trail.follow(RelPath(f"set/{name}"), absent_since=asked_at)
        assert ending is not None
        assert not ending.certain
    assert source.asked == [ROOT, "set"]
