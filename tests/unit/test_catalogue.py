"""The catalogue's writer: facts, generations, announcements, counters, intents, partials, approvals, runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import CatalogueError
from syncd.core.model import Dropped, FileEvent, Fingerprint, IntentKind, LocalStat, Partial, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.ports import MirrorCatalogue, Totals
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.run_end import KEPT_RUNS
from tests.support.catalogues import NOW_MS, digest, finish, held, hold, intent, open_catalogue, record_of, seen

A, B, C = RelPath("a.jpg"), RelPath("deep/er/b c .JPG"), RelPath("deep/ö/ü.pdf")
ROOT = RelPath("")


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


@pytest.fixture
def mirror(catalogue: Catalogue) -> SqliteMirrorCatalogue:
    return catalogue.mirror("M")


def events(catalogue: Catalogue) -> list[tuple[str, str, int]]:
    return [(row.event.value, row.path, row.generation) for row in catalogue.announcements(0, 1000)]


def test_it_is_the_engines_port(mirror: SqliteMirrorCatalogue) -> None:
    port: MirrorCatalogue = mirror
    assert port.totals() == Totals(0, 0)


# --- facts


def test_what_is_committed_is_held(mirror: SqliteMirrorCatalogue) -> None:
    facts = [held(A, seen(5)), held(B, seen(7)), held(C, seen(0))]
    hold(mirror, *facts)
    assert mirror.totals() == Totals(3, 12)
    assert [mirror.record(fact.path) for fact in facts] == [record_of(fact, NOW_MS) for fact in facts]
    assert mirror.record(RelPath("deep")) is None
    assert mirror.record(RelPath("deep/er/b c .jpg")) is None, "names are compared byte for byte"


def test_a_directory_shows_its_files_and_folders_only(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held(A), held(B), held(C), held("deep/er/x"), held("deeper/y"))
    assert mirror.held_in(ROOT).records.keys() == {A}
    assert mirror.held_in(ROOT).folders == {"deep", "deeper"}
    assert mirror.held_in(RelPath("deep")).folders == {"er", "ö"}
    assert mirror.held_in(RelPath("deep/er")).records.keys() == {"b c .JPG", "x"}
    for nowhere in ("dee", "nowhere"):
        assert not mirror.held_in(RelPath(nowhere)).records
        assert not mirror.held_in(RelPath(nowhere)).folders


def test_a_large_directory_is_read_whole(mirror: SqliteMirrorCatalogue) -> None:
    facts = [held(f"d/{n}", seen(n)) for n in range(2_500)]
    hold(mirror, *facts)
    assert mirror.held_in(RelPath("d")).records == {str(n): record_of(fact, NOW_MS) for n, fact in enumerate(facts)}


def test_numbers_at_their_limits_come_back(mirror: SqliteMirrorCatalogue) -> None:
    fact = held(A, Fingerprint(2**63 - 1, -(2**63), -1, 2**64 - 1))
    fact = type(fact)(A, fact.fingerprint, fact.sha256, LocalStat(2**64 - 1, 0, -(2**63)))
    hold(mirror, fact)
    assert mirror.record(A) == record_of(fact, NOW_MS)
    assert mirror.holds_identity(fact.fingerprint)


def test_times_beyond_any_clock_are_cut_and_do_not_stop_a_run(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held(A, Fingerprint(1, 10**30, -(10**30), 2**70)))
    record = mirror.record(A)
    assert record is not None
    assert record.fingerprint == Fingerprint(1, 2**63 - 1, -(2**63), 2**64 - 1)


def test_names_of_every_kind_come_back(mirror: SqliteMirrorCatalogue) -> None:
    names = ["'; DROP TABLE records; --", '"', "%", "_", "\\x", "a\nb", "\u202e", "😀", "é", "e\u0301", "0", ".", "~"]
    hold(mirror, *(held(f"f/{name}") for name in names))
    assert set(mirror.held_in(RelPath("f")).records) == set(names)
    assert [path for path, _ in mirror.records()] == [f"f/{name}" for name in sorted(names, key=str.encode)]


def test_records_are_streamed_in_order_and_below_a_directory(mirror: SqliteMirrorCatalogue) -> None:
    paths = ["z", "a/2", "a/1", "a b/1", "a/b/1", "a0/1", "b"]
    hold(mirror, *map(held, paths))
    assert [path for path, _ in mirror.records()] == ["b", "z", "a/1", "a/2", "a b/1", "a/b/1", "a0/1"]
    assert [path for path, _ in mirror.records(RelPath("a"))] == ["a/1", "a/2", "a/b/1"]
    assert list(mirror.records(RelPath("nowhere"))) == []


def test_records_may_change_while_they_are_streamed(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, *(held(f"{n // 100:02}/{n % 100:02}") for n in range(3_000)))
    streamed = 0
    for path, _ in mirror.records():
        mirror.commit([Dropped(path)], [], run_id="r", now_ms=NOW_MS) if streamed % 50 == 0 else None
        streamed += 1
    assert streamed == 3_000
    assert mirror.totals().files == 3_000 - 60


def test_dropping_forgets_and_what_is_not_held_stays_so(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held(B, seen(5)))
    mirror.commit([Dropped(B), Dropped(A), Dropped(RelPath("x/y/z"))], [], run_id="r1", now_ms=NOW_MS + 5)
    assert mirror.totals() == Totals(0, 0)
    assert mirror.record(B) is None
    assert [event for event, _, _ in events(catalogue)] == ["ready", "removed"]
    assert not mirror.knows_directory(RelPath("x")), "dropping makes no directory"


def test_one_commit_may_speak_of_a_path_twice(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held(A, seen(5)))
    mirror.commit([Dropped(A), held(A, seen(8), "new"), held(B), Dropped(B)], [], run_id="r1", now_ms=NOW_MS)
    assert mirror.totals() == Totals(1, 8)
    told = events(catalogue)[1:]
    assert [row for row in told if row[1] == A] == [("removed", A, NOW_MS + 1), ("ready", A, NOW_MS + 2)]
    assert [row for row in told if row[1] == B] == [("ready", B, NOW_MS), ("removed", B, NOW_MS + 1)]


# --- generations and announcements


def test_generation_is_the_time_and_never_falls(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held(A), now_ms=NOW_MS)
    hold(mirror, held(A, content="2"), now_ms=NOW_MS + 500)
    hold(mirror, held(A, content="3"), now_ms=NOW_MS - 10_000)
    mirror.commit([Dropped(A)], [], run_id="r", now_ms=NOW_MS - 10_000)
    hold(mirror, held(A, content="4"), now_ms=5)
    assert events(catalogue) == [
        ("ready", A, NOW_MS),
        ("updated", A, NOW_MS + 500),
        ("updated", A, NOW_MS + 501),
        ("removed", A, NOW_MS + 502),
        ("ready", A, NOW_MS + 503),
    ]


def test_generation_survives_trimming_and_a_restart(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        hold(mirror, held(A), now_ms=NOW_MS)
        mirror.commit([Dropped(A)], [], run_id="r", now_ms=NOW_MS)
        finish(mirror, "r1", mirror.findings("r1"))  # in 2026, two years later: the tombstone goes
        with catalogue.transaction() as db:
            assert db.execute("SELECT count(*) FROM tombstones").fetchone() == (0,)
    with open_catalogue(tmp_path) as catalogue:
        hold(catalogue.mirror("M"), held(A), now_ms=5)
        assert events(catalogue)[-1] == ("ready", A, NOW_MS + 2)


def test_silent_renewal_keeps_generation_and_says_nothing(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held(A, seen(5, 1), "x"))
    renewed = held(A, seen(5, 2, 3, 4), "x", announce=False)
    hold(mirror, renewed, now_ms=NOW_MS + 100)
    assert mirror.record(A) == record_of(renewed, NOW_MS)
    assert len(events(catalogue)) == 1
    assert mirror.totals() == Totals(1, 5)


@pytest.mark.parametrize("before", [[], [held(A, content="old")]])
def test_other_bytes_are_never_renewed_silently(
    mirror: SqliteMirrorCatalogue, catalogue: Catalogue, before: list[object]
) -> None:
    hold(mirror, *before)  # type: ignore[arg-type]
    hold(mirror, held(A, content="new", announce=False))
    assert catalogue.announcements(0, 10)[-1].sha256 == digest("new")


def test_an_announcement_carries_the_fact(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held(B, seen(77, 88), "x"), run_id="r7", now_ms=NOW_MS + 123)
    mirror.commit([Dropped(B)], [], run_id="r8", now_ms=NOW_MS + 124)
    ready, removed = catalogue.announcements(0, 10)
    assert (ready.mirror, ready.path, ready.event, ready.size) == ("M", B, FileEvent.READY, 77)
    assert (ready.sha256, ready.mtime_ns, ready.run_id, ready.at) == (digest("x"), 88, "r7", "2023-11-14T22:13:20.123Z")
    assert (removed.event, removed.size, removed.sha256, removed.run_id) == (FileEvent.REMOVED, 77, digest("x"), "r8")
    assert removed.seq == ready.seq + 1


def test_owed_until_published(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    other = catalogue.mirror("N")
    hold(mirror, held("1"), held("2"), now_ms=NOW_MS)
    hold(other, held("3"), now_ms=NOW_MS + 1_000)
    assert (catalogue.owed().count, catalogue.owed().oldest) == (3, "2023-11-14T22:13:20.000Z")
    first, second, third = catalogue.unpublished(10)
    catalogue.mark_published([second.seq, first.seq, first.seq], at="2026-01-01T00:00:00Z")
    catalogue.mark_published([first.seq], at="2026-01-02T00:00:00Z")
    assert catalogue.unpublished(10) == [third]
    assert (mirror.owed().count, mirror.owed().oldest) == (0, "")
    assert (other.owed().count, other.owed().oldest) == (1, "2023-11-14T22:13:21.000Z")
    assert catalogue.owed() == other.owed()
    catalogue.mark_published([third.seq], at="2026-01-01T00:00:00Z")
    assert (catalogue.owed().count, catalogue.owed().oldest) == (0, "")
    with catalogue.transaction() as db:  # what is owed is not looked for among all that was ever announced
        assert db.execute("SELECT published_through, next_seq - 1 FROM feed").fetchone() == (third.seq, third.seq)
    hold(mirror, held("4"))
    assert [row.path for row in catalogue.unpublished(10)] == ["4"]


def test_the_feed_is_numbered_without_gaps_and_trimmed_only_where_published(
    mirror: SqliteMirrorCatalogue, catalogue: Catalogue
) -> None:
    hold(mirror, *(held(str(n)) for n in range(5)))
    rows = catalogue.announcements(0, 10)
    assert [row.seq - rows[0].seq for row in rows] == [0, 1, 2, 3, 4]
    assert catalogue.announcements(rows[2].seq, 1) == [rows[3]]
    catalogue.mark_published([row.seq for row in rows[:4]], at="2026-01-01T00:00:00Z")
    assert catalogue.trim_announcements("2099-01-01T00:00:00Z") == 4
    assert catalogue.announcements(0, 10) == [rows[4]]
    assert catalogue.trim_announcements("2000-01-01T00:00:00Z") == 0
    assert catalogue.last_announcement() == rows[4].seq


def test_numbers_go_on_rising_in_a_new_catalogue(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        hold(catalogue.mirror("M"), held(A), held(B))
        last = catalogue.last_announcement()
    (tmp_path / "catalogue.db").unlink()
    with open_catalogue(tmp_path) as catalogue:
        hold(catalogue.mirror("M"), held(A))
        assert catalogue.announcements(last, 10)


def test_the_current_state_of_what_was_published_lately(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held("1"), held("2"), held("3"))
    hold(mirror, held("1", content="x"))
    rows = catalogue.announcements(0, 10)
    catalogue.mark_published([rows[1].seq], at="2026-01-01T00:00:00Z")
    catalogue.mark_published([rows[0].seq, rows[3].seq], at="2026-01-01T00:20:00Z")
    assert list(catalogue.published_since("2026-01-01T00:10:00Z")) == [rows[3].seq]


# --- intents and partials


def test_intents_stay_open_until_a_commit_closes_them(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    first = [intent("1", A), intent("2", B, IntentKind.RETIRE)]
    second = [intent("3", C, IntentKind.MOVE)]
    mirror.declare(first)
    mirror.declare(second)
    assert mirror.open_intents() == [*first, *second]
    assert catalogue.mirror("N").open_intents() == []
    mirror.commit([], first[:1], run_id="r", now_ms=NOW_MS)
    assert mirror.open_intents() == [*first[1:], *second]
    mirror.commit([held(B)], [*second, first[1]], run_id="r", now_ms=NOW_MS)
    assert mirror.open_intents() == []


def test_a_failed_commit_changes_nothing(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    opened = [intent("1", A)]
    mirror.declare(opened)
    broken = held("new folder/x")
    broken = type(broken)(broken.path, broken.fingerprint, "no hex", broken.local)
    with pytest.raises(ValueError, match="hex"):
        mirror.commit([held("new folder/a"), broken], opened, run_id="r", now_ms=NOW_MS)
    assert mirror.open_intents() == opened
    assert mirror.totals() == Totals(0, 0)
    assert catalogue.announcements(0, 10) == []
    assert not mirror.knows_directory(RelPath("new folder"))
    hold(mirror, held("new folder/a"))
    assert mirror.held_in(RelPath("new folder")).records.keys() == {"a"}


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.support.catalogues import *
from syncd.core.model import *
mirror = open_catalogue(Path(sys.argv[1])).mirror("M")
hold(mirror, held("before"))
mirror.declare([intent("1", "a"), intent("2", "b")])
if sys.argv[2] == "committed":
    mirror.commit([held("a")], [intent("1", "a")], run_id="r", now_ms=NOW_MS)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "left"), [("declared", ["1", "2"]), ("committed", ["2"])])
def test_a_killed_process_leaves_its_intents(tmp_path: Path, when: str, left: list[str]) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), when], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with open_catalogue(tmp_path) as catalogue:
        mirror = catalogue.mirror("M")
        assert [opened.id for opened in mirror.open_intents()] == left
        assert mirror.totals().files == 3 - len(left)
        assert catalogue.owed().count == 3 - len(left)


def test_partials_are_one_a_path_until_it_is_held(mirror: SqliteMirrorCatalogue) -> None:
    first = Partial(A, seen(9, file_id=2**64 - 1), "s1", 4, digest("1234"))
    second = Partial(A, seen(9), "s1", 8, digest("12345678"))
    mirror.save_partial(first)
    assert mirror.partial(A) == first
    mirror.save_partial(second)
    mirror.save_partial(Partial(B, seen(9), "s2", 1, digest("1")))
    assert [partial.path for partial in mirror.partials()] == [A, B]
    assert mirror.partial(A) == second
    hold(mirror, held(A))
    assert mirror.partial(A) is None
    mirror.forget_partial(B)
    assert mirror.partials() == []


# --- mirrors


def test_mirrors_are_apart(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    other = catalogue.mirror("N")
    hold(mirror, held(A, seen(1, file_id=7)))
    hold(other, held(A, seen(2, file_id=7)), held(B))
    assert catalogue.mirror("M").uid == mirror.uid != other.uid
    assert (mirror.totals(), other.totals()) == (Totals(1, 1), Totals(2, 12))
    assert not mirror.holds_identity(seen(2, file_id=7))
    other.set_target("/data/N")
    other.set_uid("taken over")
    assert [(m.name, m.target, m.totals.files) for m in catalogue.mirrors()] == [("M", "", 1), ("N", "/data/N", 2)]
    assert other.uid == "taken over"
    assert catalogue.forget_mirror("N")
    assert not catalogue.forget_mirror("N")
    assert [m.name for m in catalogue.mirrors()] == ["M"]
    assert (catalogue.owed().count, len(catalogue.announcements(0, 10))) == (1, 1)
    assert catalogue.mirror("N").totals() == Totals(0, 0)
    assert mirror.record(A) is not None


def test_revision_tells_whether_the_manifest_is_stale(mirror: SqliteMirrorCatalogue) -> None:
    assert mirror.revision != mirror.manifest_revision
    hold(mirror, held(A))
    mirror.manifest_written(mirror.revision)
    assert mirror.revision == mirror.manifest_revision
    hold(mirror, held(B))
    assert mirror.revision != mirror.manifest_revision


def test_notes(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    assert mirror.note("verified up to") == ""
    mirror.set_note("verified up to", "a/b")
    mirror.set_note("verified up to", "a/c")
    assert mirror.note("verified up to") == "a/c"
    assert catalogue.mirror("N").note("verified up to") == ""
    mirror.set_note("verified up to", "")
    assert mirror.note("verified up to") == ""


def test_another_server_voids_ids_and_change_times(mirror: SqliteMirrorCatalogue) -> None:
    fact = held(A, Fingerprint(5, 6, 7, 2**64 - 8))
    mirror.use_source("one")
    hold(mirror, fact)
    mirror.save_partial(Partial(B, seen(), "s", 1, digest("")))
    mirror.use_source("one")
    assert mirror.record(A) == record_of(fact, NOW_MS)
    assert mirror.partial(B) is not None
    mirror.use_source("two")
    assert mirror.record(A) == record_of(fact, NOW_MS)._replace(ctime_ns=0, file_id=0)
    assert not mirror.holds_identity(fact.fingerprint)
    assert mirror.partial(B) is None, "bytes of two servers are never joined"


def test_identity_needs_id_size_and_mtime(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held(A, Fingerprint(5, 6, 7, 8)), held(B, Fingerprint(5, 6, 7, 0)))
    assert mirror.holds_identity(Fingerprint(5, 6, 99, 8))
    for other in (Fingerprint(4, 6, 7, 8), Fingerprint(5, 7, 7, 8), Fingerprint(5, 6, 7, 9), Fingerprint(5, 6, 7, 0)):
        assert not mirror.holds_identity(other)


# --- runs and approvals


def test_runs_are_kept_with_their_report_and_trimmed(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    assert mirror.last_run() is None
    other = catalogue.mirror("N")
    finish(other, "r0", None)
    for n in range(KEPT_RUNS + 3):
        finish(mirror, f"r{n}", None, report={"scanned": n})
    runs = mirror.runs(1_000)
    assert [run.run_id for run in runs] == [f"r{n}" for n in range(KEPT_RUNS + 2, 2, -1)]
    assert runs[0].report == {"scanned": KEPT_RUNS + 2}
    assert mirror.last_run() == runs[0]
    assert [(run.mirror, run.run_id) for run in catalogue.run("r0")] == [("N", "r0")]
    assert len(catalogue.runs(7)) == 7


def test_a_look_at_the_source_and_a_success_are_noted(mirror: SqliteMirrorCatalogue) -> None:
    finish(mirror, "r1", None, day=1)
    assert (mirror.listed_at, mirror.last_success) == ("", "")
    finish(mirror, "r2", mirror.findings("r2"), exit_code=13, day=2)
    assert (mirror.listed_at, mirror.last_success) == ("2026-01-02T10:00:00Z", "")
    finish(mirror, "r3", mirror.findings("r3"), exit_code=3, day=3)
    assert (mirror.listed_at, mirror.last_success) == ("2026-01-03T10:00:00Z", "2026-01-03T10:00:05Z")


def test_days_on_which_syncd_ran(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    for day in (1, 1, 2, 9):
        finish(mirror, f"r{day}", None, day=day)
    catalogue.record_run_day("2026-01-20")
    catalogue.record_run_day("2026-01-20")
    assert catalogue.run_days_since("2026-01-01") == 3
    assert catalogue.run_days_since("2025-12-31") == 4
    assert catalogue.run_days_since("2026-01-20") == 0


def test_failures_without_a_scan_are_added_and_nothing_is_concluded(mirror: SqliteMirrorCatalogue) -> None:
    finish(mirror, "r1", None, failures=[Unheld(A, Reason.DENIED, "no", 5, 6)], day=1)
    finish(mirror, "r2", None, failures=[Unheld(B, Reason.TIMEOUT, "slow")], day=2)
    finish(mirror, "r3", None, failures=[Unheld(A, Reason.DENIED, "still no", 5, 6)], day=3)
    assert mirror.unheld() == [
        Unheld(A, Reason.DENIED, "still no", 5, 6, attempts=2, since="2026-01-01T10:00:05Z"),
        Unheld(B, Reason.TIMEOUT, "slow", attempts=1, since="2026-01-02T10:00:05Z"),
    ]
    assert mirror.count_unheld() == {Reason.DENIED: 1, Reason.TIMEOUT: 1}
    assert mirror.unheld_at(B) == mirror.unheld()[1]
    hold(mirror, held(A))
    assert [unheld.path for unheld in mirror.unheld()] == [B], "what becomes held is no longer unheld"


def test_approvals_let_exactly_that_set_through(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held(A), held(B), held(C))
    mirror.hold("r1", [(A, "retire"), (B, "retire"), (C, "replace")])
    assert mirror.halted() == [(A, "retire"), (B, "retire"), (C, "replace")]
    assert mirror.approved() == frozenset()
    assert mirror.approve([A, C, RelPath("unknown")]) == 2
    assert (mirror.approved(), mirror.halted()) == ({A, C}, [(B, "retire")])
    mirror.commit([Dropped(A)], [], run_id="r2", now_ms=NOW_MS)
    hold(mirror, held(C, content="new"))
    assert (mirror.approved(), mirror.halted()) == (frozenset(), [(B, "retire")])


def test_what_another_run_was_refused_takes_the_place_of_the_last(mirror: SqliteMirrorCatalogue) -> None:
    mirror.hold("r1", [(A, "retire"), (B, "retire")])
    mirror.approve([A])
    mirror.hold("r2", [(A, "retire"), (C, "retire")])
    assert (mirror.approved(), mirror.halted()) == ({A}, [(C, "retire")])


def test_a_later_complete_scan_lifts_the_halt_and_drops_what_came_back(mirror: SqliteMirrorCatalogue) -> None:
    hold(mirror, held(A), held(B), held(C))
    mirror.hold("r1", [(path, "retire") for path in (A, B, C)])
    finish(mirror, "r1", mirror.findings("r1"), exit_code=13)
    mirror.approve([A, B])
    findings = mirror.findings("r2")
    findings.absent(ROOT, [A])
    finish(mirror, "r2", findings)
    assert (mirror.approved(), mirror.halted()) == ({A}, [])


# --- threads


def test_reads_go_on_while_a_commit_is_open(mirror: SqliteMirrorCatalogue, catalogue: Catalogue) -> None:
    hold(mirror, held(A))
    with catalogue.transaction() as db:
        db.execute("DELETE FROM records")
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(mirror.record(A)))
        reader.start()
        reader.join(30)
        assert found != [None], "a reader waited for the writer or saw its half-done work"
        assert len(found) == 1


def test_threads_commit_one_after_the_other(mirror: SqliteMirrorCatalogue) -> None:
    def work(number: int) -> None:
        for n in range(20):
            hold(mirror, *(held(f"t{number}/{n}/{k}") for k in range(5)))
            mirror.held_in(RelPath(f"t{number}/{n}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert mirror.totals() == Totals(400, 4_000)
    assert sum(1 for _ in mirror.records()) == 400


def test_a_catalogue_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"catalogue\.db"):
        Catalogue.open(tmp_path / "missing" / "catalogue.db", app_version="1")


def test_the_file_is_private(tmp_path: Path) -> None:
    os.umask(before := os.umask(0))
    with open_catalogue(tmp_path) as catalogue:
        hold(catalogue.mirror("M"), held(A))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    os.umask(before)
