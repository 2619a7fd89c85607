"""The knobs of the source in memory; that it keeps the contract is shown in tests/conformance."""

from __future__ import annotations

import tracemalloc

import pytest

from syncd.core.errors import EntryChanged, EntryDenied, EntryGone, EntryUnreadable, SourceAuthFailed, SourceUnavailable
from syncd.core.model import ROOT, Kind, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Fetched
from syncd.sources.memory import Fault, GeneratedSource, MemorySource
from tests.support.queues import ListQueue, Sinks, error_of, fetch_all, files_in, scan_all, want_all

FILES = {"a/x.jpg": b"x" * 100, "a/y.jpg": b"y" * 100, "b/z.jpg": b"z" * 100}


@pytest.fixture
def source() -> MemorySource:
    return MemorySource(FILES)


def outcomes_of(source: MemorySource) -> dict[str, str]:
    _, outcomes = fetch_all(source, want_all(scan_all(source)))
    return {path: "ok" if isinstance(each, Fetched) else type(each.error).__name__ for path, each in outcomes.items()}


def test_the_tree_is_what_was_put_in(source: MemorySource) -> None:
    assert source.tree() == FILES
    source.put("a/x.jpg", b"new")
    source.remove("b")
    source.rename("a/y.jpg", "c/d/y.jpg")
    source.mkdir("empty")
    assert source.tree() == {"a/x.jpg": b"new", "c/d/y.jpg": FILES["a/y.jpg"]}
    assert scan_all(source).keys() == {"", "a", "c", "c/d", "empty"}


def test_every_put_has_a_new_time_and_an_overwritten_file_keeps_its_id(source: MemorySource) -> None:
    before = source.fingerprint("a/x.jpg")
    source.put("a/x.jpg", FILES["a/x.jpg"])
    after = source.fingerprint("a/x.jpg")
    assert after.mtime_ns > before.mtime_ns
    assert after.file_id == before.file_id
    source.rename("a", "elsewhere")
    assert source.fingerprint("elsewhere/x.jpg") == after
    source.put("a/x.jpg", b"another file")
    assert source.fingerprint("a/x.jpg").file_id != before.file_id
    source.put("exact", b"", mtime_ns=7)
    assert source.fingerprint("exact").mtime_ns == 7


def test_a_copy_lives_on_its_own(source: MemorySource) -> None:
    source.fault("a", Fault.DENIED)
    twin = source.copy()
    assert twin.tree() == FILES
    assert twin.fingerprint("a/x.jpg") == source.fingerprint("a/x.jpg")
    assert all(each.complete for each in scan_all(twin).values())
    source.put("a/x.jpg", b"new")
    twin.remove("b")
    assert twin.tree()["a/x.jpg"] == FILES["a/x.jpg"]
    assert "b/z.jpg" in source.tree()


@pytest.mark.parametrize(
    "edit", [lambda s: s.put("a", b""), lambda s: s.remove("no"), lambda s: s.put("a/x.jpg/y", b"")]
)
def test_edits_that_no_file_system_would_allow_are_errors(source: MemorySource, edit: object) -> None:
    with pytest.raises((OSError, KeyError)):
        edit(source)  # type: ignore[operator]
    assert source.tree() == FILES


def test_a_script_says_how_each_call_ends(source: MemorySource) -> None:
    wanted = want_all(scan_all(source))
    source.script("rEr")
    _, outcomes = fetch_all(source, wanted)
    assert [isinstance(outcomes[each.path], Fetched) for each in wanted] == [True, False, True]
    assert isinstance(error_of(outcomes[wanted[1].path]), EntryUnreadable)
    source.script("rrU")
    with pytest.raises(SourceUnavailable):
        fetch_all(source, wanted)
    with pytest.raises(SourceUnavailable):
        source.check()
    source.heal()
    assert set(outcomes_of(source).values()) == {"ok"}
    source.script("rE")
    listings = scan_all(source)
    assert [each.complete for each in listings.values()] == [True, False, True]
    with pytest.raises(ValueError, match="letters"):
        source.script("rx")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.DENIED, EntryDenied),
        (Fault.GONE, EntryGone),
        (Fault.UNREADABLE, EntryUnreadable),
        (Fault.SHORT, EntryChanged),
        (Fault.CHANGE_WHILE_READ, EntryChanged),
    ],
)
def test_a_fault_at_a_file_hits_that_file(source: MemorySource, fault: Fault, error: type[Exception]) -> None:
    source.fault("a/x.jpg", fault, times=1)
    assert outcomes_of(source) == {"a/x.jpg": error.__name__, "a/y.jpg": "ok", "b/z.jpg": "ok"}
    assert set(outcomes_of(source).values()) == {"ok"}


@pytest.mark.parametrize(
    ("fault", "reason", "listed"),
    [
        (Fault.DENIED, Reason.DENIED, 0),
        (Fault.GONE, Reason.GONE, 0),
        (Fault.UNREADABLE, Reason.UNREADABLE, 0),
        (Fault.INCOMPLETE, Reason.LISTING_INCOMPLETE, 1),
        (Fault.UNDECODABLE, Reason.NAME_UNDECODABLE, 2),
    ],
)
def test_a_fault_at_a_folder_makes_its_listing_incomplete(
    source: MemorySource, fault: Fault, reason: Reason, listed: int
) -> None:
    source.fault("a", fault, times=2)
    for _ in range(2):
        listings = scan_all(source)
        assert listings["a"].reason is reason
        assert len(listings["a"].entries) == listed
        assert listings["b"].complete
    assert scan_all(source)["a"].complete


def test_a_change_while_read_is_there_at_the_next_look(source: MemorySource) -> None:
    before = source.fingerprint("a/x.jpg")
    source.fault("a/x.jpg", Fault.CHANGE_WHILE_READ, times=1)
    outcomes_of(source)
    assert source.fingerprint("a/x.jpg") != before


def test_a_fault_can_take_the_source_down(source: MemorySource) -> None:
    source.fault("b/z.jpg", Fault.UNAVAILABLE)
    with pytest.raises(SourceUnavailable):
        outcomes_of(source)
    assert source.down


@pytest.mark.parametrize("count", [1, 100, 150, 299])
def test_the_connection_can_be_lost_after_so_many_bytes(source: MemorySource, count: int) -> None:
    source.unavailable_after(count)
    wanted = want_all(scan_all(source))
    sinks = Sinks()
    with pytest.raises(SourceUnavailable):
        list(source.fetch(ListQueue(wanted), sinks))
    assert sum(len(kept.content) for kept in sinks.kept.values()) == count == source.calls["bytes"]


def test_a_refused_login_stops_everything(source: MemorySource) -> None:
    source.refuse_login = True
    with pytest.raises(SourceAuthFailed):
        source.check()
    with pytest.raises(SourceAuthFailed):
        list(source.scan([ROOT]))


def test_calls_are_counted(source: MemorySource) -> None:
    source.check()
    outcomes_of(source)
    source.read(RelPath("a/x.jpg"))
    assert source.calls == {"check": 1, "scan": 1, "list": 3, "fetch": 1, "get": 3, "bytes": 300, "read": 1}


def test_a_hook_sees_every_chunk_before_it_goes(source: MemorySource) -> None:
    source.chunk_bytes = 40
    seen: list[tuple[str, int]] = []
    source.before_chunk = lambda wanted, start: seen.append((wanted.path, start))
    fetch_all(source, [Wanted(RelPath("a/x.jpg"), source.fingerprint("a/x.jpg"), 10)])
    assert seen == [("a/x.jpg", 10), ("a/x.jpg", 50), ("a/x.jpg", 90)]


def test_other_kinds_are_listed_and_not_fetched(source: MemorySource) -> None:
    source.put_other("a/link")
    kinds = {each.name: each.kind for each in scan_all(source)["a"].entries}
    assert kinds == {"x.jpg": Kind.FILE, "y.jpg": Kind.FILE, "link": Kind.OTHER}
    with pytest.raises(EntryGone):
        source.read(RelPath("a/link"))


# --- generated -------------------------------------------------------------------------------------------------------


def test_a_generated_tree_is_the_same_every_time() -> None:
    source = GeneratedSource(2500, per_folder=1000, size=50)
    twin = GeneratedSource(2500, per_folder=1000, size=50)
    listings = scan_all(source)
    assert listings == scan_all(twin)
    assert {path for path, _ in files_in(listings)} == {source.path_of(number) for number in range(2500)}
    assert len({entry.file_id for _, entry in files_in(listings)}) == 2500
    sinks, outcomes = fetch_all(source, want_all(listings))
    assert all(isinstance(each, Fetched) for each in outcomes.values())
    assert all(sinks.content(source.path_of(number)) == twin.content_of(number) for number in range(2500))
    assert len({bytes(kept.content) for kept in sinks.kept.values()}) == 2500


def test_a_generated_file_can_be_edited() -> None:
    source = GeneratedSource(10, size=50)
    before, content = want_all(scan_all(source))[3], source.content_of(3)
    source.revision[3] = 1
    assert isinstance(error_of(fetch_all(source, [before])[1][before.path]), EntryChanged)
    assert source.content_of(3) != content


@pytest.mark.parametrize(
    "path", ["folder-00099/page-0000001.jpg", "x", "folder-00000/page-0000010.jpg", "folder-00000"]
)
def test_what_is_not_generated_is_gone(path: str) -> None:
    source = GeneratedSource(10)
    with pytest.raises(EntryGone):
        source.read(RelPath(path))
    (listing,) = source.scan([RelPath("folder-1")])
    assert listing.reason is Reason.GONE


def test_a_large_generated_tree_is_not_kept_in_memory() -> None:
    source = GeneratedSource(100_000)
    tracemalloc.start()
    try:
        pending, seen = [ROOT], 0
        for listing in source.scan(pending):
            pending += [RelPath(each.name) for each in listing.entries if each.kind is Kind.DIRECTORY]
            seen += sum(each.kind is Kind.FILE for each in listing.entries)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == 100_000
    assert peak < 5 << 20
