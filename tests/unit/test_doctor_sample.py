"""The look at a source's listings: counts as a run would, odd names with their remedy, bounded in folders and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import config
from syncd.config.settings import MirrorSettings
from syncd.core.errors import SourceUnavailable
from syncd.core.model import Entry, Kind, Listing, RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.doctor.checks import Check, Level, Pace
from syncd.doctor.clock import check_clock
from syncd.doctor.sample import check_listing
from syncd.ports import Source, SourceInfo, Traits
from syncd.sources.memory import Fault, GeneratedSource, MemorySource

FOLDING = Traits(folds_case=True, folds_unicode=True, hard_links=True)
EXACT = Traits(folds_case=False, folds_unicode=False, hard_links=True)


@pytest.fixture
def mirror(tmp_path: Path) -> MirrorSettings:
    return settings(tmp_path)


def settings(folder: Path, more: str = "") -> MirrorSettings:
    (folder / "c.toml").write_text(f'[[mirror]]\nname = "B"\nsource = "file://./s"\ntarget = "t"\n{more}\n')
    return config.load(folder / "c.toml", {"HOME": str(folder)}).mirrors[0]


def look(source: Source, mirror: MirrorSettings, traits: Traits = EXACT, pace: Pace | None = None) -> dict[str, Check]:
    checks = check_listing(source, mirror, traits, None, pace or Pace())
    return {f"{check.name}{n}" if n else check.name: check for n, check in numbered(checks)}


def numbered(checks: list[Check]) -> Iterator[tuple[int, Check]]:
    """Number checks of one name: names, names1, names2."""
    seen: dict[str, int] = {}
    for check in checks:
        yield seen.setdefault(check.name, 0), check
        seen[check.name] += 1


class Scripted(MemorySource):
    """Serves listings as given; `wait_s` lets each take so long, until close()."""

    def __init__(self, listings: dict[str, Listing], wait_s: float = 0) -> None:
        super().__init__()
        self._listings = listings
        self._wait_s = wait_s
        self._end = threading.Event()

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        while pending:
            directory = pending.pop()
            if self._wait_s and self._end.wait(self._wait_s):
                raise SourceUnavailable("the source was closed")
            yield self._listings.get(directory, Listing(directory, []))

    def close(self) -> None:
        self._end.set()


def entry(name: str, kind: Kind = Kind.FILE, size: int = 10) -> Entry:
    return Entry(name, kind, size, 1, 1, 1)


def test_counts_are_those_of_a_run(tmp_path: Path) -> None:
    source = MemorySource()
    for path in ("a.pdf", "._a.pdf", "hin typed/b .jpg", "drafts/c.pdf", "Thumbs.db", "notes.txt"):
        source.put(path, b"0123456789")
    checks = look(source, settings(tmp_path, 'exclude = ["drafts/"]\ninclude = ["*.pdf", "*.jpg"]'))
    assert checks["listing"].status is Level.OK
    assert checks["listing"].seen == "2 files (20 B) to be mirrored in 2 folders, which is everything"
    assert checks["names"].status is Level.OK


def test_every_kind_of_odd_name_is_told_with_its_remedy(mirror: MirrorSettings) -> None:
    entries = [entry(name) for name in ("a:b", "c\\d", "\x07bell", "x" * 256, "AB12CD~3.PDF", ".SYNCD", "fine.pdf")]
    root = Listing(
        RelPath(""),
        [*entries, entry("link", Kind.OTHER)],
        complete=False,
        reason=Reason.NAME_UNDECODABLE,
        undecodable=("\\xe9t\\xe9.pdf",),
        mangled=frozenset({"AB12CD~3.PDF"}),
    )
    checks = check_listing(Scripted({"": root}), mirror, EXACT, None, Pace())
    odd = [check for check in checks if check.name == "names"]
    assert all(check.status is Level.WARN for check in odd)
    told = {check.todo for check in odd}
    wanted = ("MANGLED", "STREAM", "SEPARATOR", "CONTROL", "TOO_LONG", "RESERVED", "UNDECODABLE")
    assert told == {hint_for(Reason[f"NAME_{word}"]) for word in wanted} | {hint_for(Reason.LINK)}
    assert any("mangled names = no" in check.todo and "AB12CD~3.PDF" in check.seen for check in odd)
    assert any("\\xe9t\\xe9.pdf" in check.seen for check in odd)
    assert not any("\x07" in check.seen for check in odd)
    assert next(check for check in checks if check.name == "listing").seen.startswith("1 file ")
    assert not any(check.name == "folders" for check in checks)


def test_many_odd_names_are_counted_and_three_are_shown(mirror: MirrorSettings) -> None:
    source = Scripted({"": Listing(RelPath(""), [entry(f"{n}:x") for n in range(50)])})
    check = look(source, mirror)["names"]
    assert check.seen.startswith('50 names not mirrored: "0:x", "1:x", "2:x", ...')


@pytest.mark.parametrize(
    ("names", "reason"), [(("A.pdf", "a.pdf"), Reason.CASE_TWIN), (("\u00e9.pdf", "e\u0301.pdf"), Reason.CASE_TWIN)]
)
def test_twins_are_odd_only_where_the_target_folds_them(
    mirror: MirrorSettings, names: tuple[str, ...], reason: Reason
) -> None:
    source = MemorySource()
    for name in names:
        source.put(name, b"x")
    assert look(source, mirror, EXACT)["names"].status is Level.OK
    assert look(source, mirror, FOLDING)["names"].todo == hint_for(reason)


def test_a_folder_that_cannot_be_listed_fails_and_the_rest_is_counted(mirror: MirrorSettings) -> None:
    source = MemorySource()
    source.put("open/a.pdf", b"1")
    source.put("closed/b.pdf", b"2")
    source.fault("closed", Fault.DENIED)
    checks = look(source, mirror)
    assert checks["folders"].status is Level.FAIL
    assert checks["folders"].seen.startswith("closed cannot be listed")
    assert checks["folders"].todo == hint_for(Reason.DENIED)
    assert checks["listing"].seen.startswith("1 file (1 B)")


def test_at_most_so_many_folders_are_looked_into(mirror: MirrorSettings) -> None:
    source = MemorySource()
    for n in range(40):
        source.put(f"folder {n}/deep/a.pdf", b"1")
    checks = look(source, mirror, pace=Pace(folders=10))
    assert source.calls["list"] == 10
    assert "in the first 10 folders; at least 40 folders not looked into" in checks["listing"].seen


def test_at_most_so_many_names_are_looked_at(mirror: MirrorSettings) -> None:
    source = GeneratedSource(100_000)
    started = time.monotonic()
    checks = look(source, mirror, pace=Pace(entries=3_000))
    assert time.monotonic() - started < 30
    assert "not looked into" in checks["listing"].seen


def test_it_stops_asking_when_its_time_is_up(mirror: MirrorSettings) -> None:
    listings = {"": Listing(RelPath(""), [entry(str(n), Kind.DIRECTORY) for n in range(100)] + [entry("a.pdf")])}
    checks = look(Scripted(listings, wait_s=0.1), mirror, pace=Pace(sample_s=0.3, listing_s=20))
    assert checks["listing"].status is Level.OK
    assert "not looked into" in checks["listing"].seen


def test_a_listing_that_stalls_is_given_up_and_what_was_seen_is_told(mirror: MirrorSettings) -> None:
    checks = look(Scripted({}, wait_s=60), mirror, pace=Pace(sample_s=0.1, listing_s=0.3))
    assert checks["listing"].status is Level.FAIL
    assert checks["listing"].seen.endswith("until then 0 folders listed")


def test_a_source_that_breaks_off_fails(mirror: MirrorSettings) -> None:
    source = MemorySource()
    source.put("a:b", b"")
    source.put("sub/a.pdf", b"1")
    source.fault("sub", Fault.UNAVAILABLE)
    checks = look(source, mirror)
    assert checks["listing"].status is Level.FAIL
    assert "lost" in checks["listing"].seen
    assert checks["names"].status is Level.WARN


def test_an_empty_source_is_a_warning(mirror: MirrorSettings) -> None:
    assert look(MemorySource(), mirror)["listing"].status is Level.WARN


def test_what_is_listed_must_fit(mirror: MirrorSettings) -> None:
    source = MemorySource()
    source.put("a.pdf", b"0" * 1000)
    assert check_listing(source, mirror, EXACT, 1000, Pace())[-1].name == "names"
    check = check_listing(source, mirror, EXACT, 999, Pace())[-1]
    assert (check.name, check.status) == ("room", Level.FAIL)


@pytest.mark.parametrize(
    ("offset_s", "status"), [(1.9, Level.OK), (-1.9, Level.OK), (2.1, Level.WARN), (-40, Level.WARN)]
)
def test_clocks_apart_by_more_than_two_seconds_are_told(tmp_path: Path, offset_s: float, status: Level) -> None:
    (check,) = check_clock(SourceInfo("a server", int(offset_s * 1e9)), settings(tmp_path))
    assert check.status is status
    assert f"{abs(offset_s):.1f} s {'ahead of' if offset_s > 0 else 'behind'} ours" in check.seen
    assert ("settle" in check.seen) is (status is Level.WARN)
    assert not check_clock(SourceInfo("tells no time", 0), settings(tmp_path))
