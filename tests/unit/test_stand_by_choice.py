"""Which server is asked, and what a stand-by's listing may bring: the decisions, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import config
from syncd.core.errors import (
    ConfigError,
    EntryGone,
    SourceAuthFailed,
    SourceEmpty,
    SourceUnavailable,
    SourceVanished,
    StandByRefused,
    SyncdError,
)
from syncd.core.model import Entry, Fingerprint, Kind, LocalEntry, LocalStat, Record, RelPath, Unheld
from syncd.core.planner import Sorted
from syncd.core.reasons import Reason
from syncd.core.stand_by import (
    DOWN_FIRST_S,
    DOWN_LONGEST_S,
    StandBy,
    StandByPlan,
    Unavailable,
    compare_missing,
    down_for_s,
    in_order,
    may_come,
    moves_on,
    none_available,
)
from syncd.sources.failover import FailoverSource, Server, Standing
from syncd.sources.memory import MemorySource

NOW = 1_000


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SourceUnavailable("no route"), True),
        (SourceVanished("no folder"), True),
        (SourceAuthFailed("refused"), False),
        (StandByRefused("refused"), False),
        (SourceEmpty("empty"), False),
        (EntryGone("gone"), False),
    ],
)
def test_only_a_server_that_cannot_be_asked_is_passed_over(error: SyncdError, expected: bool) -> None:
    assert moves_on(error) is expected


@pytest.mark.parametrize(
    ("down_until", "order"),
    [([0, 0, 0], [0, 1, 2]), ([9, 0, 0], [1, 2, 0]), ([9, 0, 9], [1, 0, 2]), ([9, 9, 9], [0, 1, 2]), ([5], [0])],
)
def test_servers_that_were_down_just_now_come_last_and_none_is_left_out(
    down_until: list[float], order: list[int]
) -> None:
    assert in_order(down_until, 5) == order


def test_a_server_that_stays_away_is_asked_more_and_more_seldom_but_never_given_up() -> None:
    assert [down_for_s(times) for times in (1, 2, 3, 4, 1_000)] == [DOWN_FIRST_S, 60, *[DOWN_LONGEST_S] * 3]


def test_when_none_is_left_all_are_named_with_the_first_next_step() -> None:
    error = none_available([Unavailable("smb://one/s", "no route"), Unavailable("smb://two/s", "refused", "df -h")])
    assert (error.exit_code, error.hint) == (10, "df -h")
    assert all(words in error.message for words in ("smb://one/s: no route", "smb://two/s: refused"))
    assert none_available([Unavailable("smb://one/s", "no route")]).hint == "syncd doctor"


@pytest.mark.parametrize(
    ("stand_bys", "problem"),
    [
        (["smb://v@H:445/Share/x"], "twice, or is the source itself"),
        (["smb://u@other/share/x", "smb://u@other/share/x"], "twice"),
        (["smb://u@other/share/x", "smb://u@h/share/y"], ""),
    ],
)
def test_a_server_is_named_once(tmp_path: Path, stand_bys: list[str], problem: str) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("s")
    file = tmp_path / "syncd.toml"
    file.write_text(
        f"""
        [host]
        state_dir = "{tmp_path}/state"
        [[mirror]]
        name = "M"
        source = "smb://u@h/share/x"
        target = "{tmp_path}/t"
        password_file = "{secret}"
        fallback_sources = {stand_bys}
        """
    )
    if not problem:
        assert len(config.load(file, {}).mirrors[0].sources) == 3
        return
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert any("fallback_sources" in each and problem in each for each in caught.value.problems)


def entry(name: str, size: int = 5, mtime_ns: int = 10, kind: Kind = Kind.FILE) -> Entry:
    return Entry(name, kind, size, mtime_ns, 0, 0)


HERE = LocalEntry(Kind.FILE, LocalStat(1, 5, 10))
RECORD = Record(5, 10, 7, 77, "0" * 64, 1, 1, 5, 10)


def compared(
    listed: list[Entry],
    held: dict[str, Record] | None = None,
    local: dict[str, LocalEntry] | None = None,
    folders: frozenset[str] = frozenset(),
) -> StandByPlan:
    entries = Sorted({each.name: each for each in listed if each.kind is Kind.FILE})
    entries.folders = [each.name for each in listed if each.kind is Kind.DIRECTORY]
    return compare_missing(entries, held or {}, folders, local or {}, NOW)


def test_what_is_not_held_arrives_unless_it_may_still_be_written_to() -> None:
    plan = compared([entry("new"), entry("hot", mtime_ns=NOW + 1)])
    assert [(each.name, reason) for each, reason in plan.arriving] == [("new", Reason.NEW)]
    assert [each.name for each in plan.unsettled] == ["hot"]


@pytest.mark.parametrize(("size", "adopted"), [(5, True), (6, False)])
def test_an_unknown_local_file_is_compared_or_left(size: int, adopted: bool) -> None:
    plan = compared([entry("x", size)], local={"x": HERE})
    assert [reason for _, reason in plan.arriving] == ([Reason.UNKNOWN_LOCAL] if adopted else [])
    assert len(plan.foreign_here) == (not adopted)


@pytest.mark.parametrize("listed", [entry("x"), entry("x", 6), entry("x", mtime_ns=9), entry("x", mtime_ns=11)])
def test_a_held_file_stays_whatever_is_listed(listed: Entry) -> None:
    plan = compared([listed], {"x": RECORD}, {"x": HERE})
    assert (plan.unchanged, plan.listed, plan.differs) == (1, 1, int(listed != entry("x")))
    assert not (plan.arriving or plan.changed or plan.lost or plan.recheck or plan.learned)


def test_what_is_not_listed_is_no_sighting_and_a_flip_is_none_either() -> None:
    plan = compared(
        [entry("folder"), entry("file", kind=Kind.DIRECTORY)],
        {"file": RECORD, "gone": RECORD},
        {"file": HERE, "gone": HERE},
        frozenset({"folder", "gone folder"}),
    )
    assert plan.differs == 2
    for found in (plan.absent, plan.absent_folders, plan.flipped_files, plan.flipped_folders, plan.arriving):
        assert found == []


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ({}, Reason.LOST),
        ({"x": LocalEntry(Kind.FILE, LocalStat(1, 6, 10))}, Reason.LOCAL_CHANGED),
        ({"x": LocalEntry(Kind.DIRECTORY, LocalStat(2, 5, 10))}, Reason.LOCAL_CHANGED),
        ({"x": LocalEntry(Kind.FILE, LocalStat(2, 5, 10))}, None),
    ],
)
def test_a_lost_or_changed_local_file_is_told_and_one_of_the_same_size_is_hashed_first(
    local: dict[str, LocalEntry], expected: Reason | None
) -> None:
    plan = compared([entry("x")], {"x": RECORD}, local)
    assert [reason for _, _, reason in plan.lost] == ([expected] if expected else [])
    assert len(plan.recheck) == (expected is None)


@pytest.mark.parametrize(
    ("mtime_ns", "known", "removed_ms", "expected"),
    [
        (5, None, 0, True),
        (5_000_000, None, 5, False),
        (5_000_001, None, 5, True),
        (5, Unheld(RelPath("x"), Reason.LOST, "", 1, 5), 9, True),
        (4, Unheld(RelPath("x"), Reason.LOST, "", 1, 5), 0, False),
        (4, Unheld(RelPath("x"), Reason.DAMAGED, "", 1, 5), 0, False),
        (4, Unheld(RelPath("x"), Reason.UNREADABLE, "", 1, 5), 9, True),
    ],
)
def test_what_may_come(mtime_ns: int, known: Unheld | None, removed_ms: int, expected: bool) -> None:
    assert may_come(Fingerprint(1, mtime_ns, 0, 0), known, removed_ms) is expected


# --- several servers as one source -----------------------------------------------------------------------------------


class Ticking:
    """A clock that a test sets, and what was told of servers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.moved: list[StandBy | None] = []
        self.standing = Standing(self.moved.append, clock=lambda: self.now)


def source_over(standing: Standing, *trees: MemorySource) -> FailoverSource:
    def opened(tree: MemorySource) -> MemorySource:
        tree._closed = False
        return tree

    return FailoverSource(
        [Server(f"smb://{n}/s", f"id {n}", lambda tree=tree: opened(tree)) for n, tree in enumerate(trees)],  # type: ignore[misc]
        standing,
    )


def test_a_dead_server_is_asked_again_after_a_while_and_moves_are_told_once() -> None:
    made, main, other = Ticking(), MemorySource(), MemorySource()
    main.down = True
    for _ in range(3):
        found = source_over(made.standing, main, other).check().stand_by
        assert found is not None
        assert (found.server, found.id) == ("smb://1/s", "id 1")
        assert found.why.startswith("smb://0/s: ")
    assert main.calls["check"] == 1
    made.now += DOWN_FIRST_S
    for _ in range(2):
        assert source_over(made.standing, main, other).check().stand_by is not None
    assert main.calls["check"] == 2
    main.down = False
    made.now += DOWN_FIRST_S
    assert source_over(made.standing, main, other).check().stand_by is not None
    made.now += DOWN_FIRST_S
    assert source_over(made.standing, main, other).check().stand_by is None
    assert [each is None for each in made.moved] == [False, True]


def test_when_all_were_down_all_are_asked_again() -> None:
    made, main, other = Ticking(), MemorySource(), MemorySource()
    main.down = other.down = True
    for asked in (1, 2):
        with pytest.raises(SourceUnavailable, match="none of 2 servers"):
            source_over(made.standing, main, other).check()
        assert (main.calls["check"], other.calls["check"]) == (asked, asked)


def test_one_server_a_use_even_when_it_is_lost_in_between() -> None:
    made, main, other = Ticking(), MemorySource({"a": b"1"}), MemorySource({"a": b"1"})
    source = source_over(made.standing, main, other)
    source.check()
    main.down = True
    with pytest.raises(SourceUnavailable, match="is down"):
        source.read(RelPath("a"))
    assert other.calls["check"] == 0
    assert source_over(made.standing, main, other).check().stand_by is not None


def test_what_is_closed_while_it_connects_ends_and_asks_nobody_else() -> None:
    made, main, other = Ticking(), MemorySource(), MemorySource()
    source = source_over(made.standing, main, other)
    real = main.check

    def closing() -> object:
        source.close()
        return real()

    main.check = closing  # type: ignore[method-assign, assignment]
    with pytest.raises(SourceUnavailable, match="closed"):
        source.check()
    assert (other.calls["check"], main._closed) == (0, True)
    with pytest.raises(SourceUnavailable, match="closed"):
        source.check()


def test_ids_of_a_stand_by_are_shown_to_nobody() -> None:
    made, main, other = Ticking(), MemorySource(), MemorySource({"a": b"1"})
    main.down = True
    source = source_over(made.standing, main, other)
    assert source.read(RelPath("a"))[2:] == (0, 0)
    (listing,) = source.scan([RelPath("")])
    assert [each[4:] for each in listing.entries] == [(0, 0)]
    assert listing.complete
