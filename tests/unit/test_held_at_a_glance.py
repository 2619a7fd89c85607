"""A directory that is exactly as recorded is known at a glance: never one in which anything has changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Entry, Fingerprint, Kind, Listing, LocalEntry, LocalStat, Record, RelPath
from syncd.core.planner import Sorted, all_unchanged, compare
from syncd.store.held import HeldRows
from syncd.store.sql import pack_record

LARGE = (1 << 63) - 1
few = st.integers(0, 2)
prints = st.builds(Fingerprint, few, st.sampled_from([-1, 0, 1, LARGE]), few, st.sampled_from([0, 1, LARGE * 2 + 1]))
stats = st.builds(LocalStat, st.sampled_from([0, 1, LARGE * 2 + 1]), few, st.sampled_from([-1, 0, LARGE]))
names = st.sampled_from(["a", "b", "ü"])
records = st.tuples(prints, stats, st.sampled_from(["", "", "", "run"]))
changed = st.sampled_from([True, False, False, False])


def held_rows(held: dict[str, tuple[Fingerprint, LocalStat, str]], *, ids_known: bool = True) -> HeldRows:
    packed = b"".join(pack_record(print_, bytearray(32), 7, local) for print_, local, _absent in held.values())
    return HeldRows(list(held), packed, [absent for *_rest, absent in held.values()], frozenset(), ids_known=ids_known)


def entry(name: str, print_: Fingerprint) -> Entry:
    return Entry(name, Kind.FILE, *print_)


@given(st.dictionaries(names, records), st.data())
def test_what_is_certain_at_a_glance_is_what_comparing_each_file_says(
    held: dict[str, tuple[Fingerprint, LocalStat, str]], data: st.DataObject
) -> None:
    files, local = {}, {}
    for name in ["a", "b", "ü"]:
        as_recorded = held.get(name) and not data.draw(changed)
        print_, stat, _ = held[name] if as_recorded else data.draw(records)
        if as_recorded or data.draw(changed):
            files[name] = entry(name, print_)
        if as_recorded or data.draw(changed):
            local[name] = LocalEntry(Kind.FILE, stat)
    rows, listing, entries = held_rows(held), Listing(RelPath("d"), list(files.values())), Sorted(files)
    plan = compare(listing, entries, rows.records, frozenset(), local, 0)
    glance = rows.are_exactly(files, local)
    unchanged = plan.unchanged == len(files) == len(held) and not plan.seen_again
    assert glance == (unchanged and all(files[name].fingerprint == print_ for name, (print_, *_) in held.items()))
    if glance:
        assert vars(all_unchanged(listing, entries, frozenset(), local)) == vars(plan)


def test_another_server_s_ids_are_never_exact() -> None:
    print_, stat = Fingerprint(1, 2, 3, 4), LocalStat(5, 6, 7)
    rows = held_rows({"a": (print_, stat, "")}, ids_known=False)
    assert not rows.are_exactly({"a": entry("a", print_)}, {"a": LocalEntry(Kind.FILE, stat)})
    assert rows.records == {"a": Record(1, 2, 0, 0, "00" * 32, 7, 5, 6, 7)}
