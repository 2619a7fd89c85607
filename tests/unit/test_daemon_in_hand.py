"""What the daemon counts as work in hand, and as getting on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from syncd.core.wakefulness import Work
from syncd.daemon.awake import work_of
from syncd.daemon.progress import Current, Progress
from syncd.engine.report import Report


def mirror(
    report: Report | None = None, kind: str = "run", *, owed: int = 0, paused: bool = False, queued: int = 0
) -> Any:
    current = None if report is None else Current(kind, report, "", 0.0)
    keeper = SimpleNamespace(current=current, owed=owed, paused=paused, progress=Progress())
    return SimpleNamespace(name="M", keeper=keeper, demand=SimpleNamespace(queued=queued, fetched_bytes=0))


def work(kept: Any, leases: int = 0) -> Work:
    answers = SimpleNamespace(leases_given=3, lease_counts=lambda: {"count": leases, "pins": leases})
    daemon: Any = SimpleNamespace(kept={"M": kept}, answers=answers)
    return work_of(daemon)


def test_an_idle_daemon_has_nothing_in_hand() -> None:
    assert list(work(mirror()).doing) == []


def test_each_kind_of_work_is_named() -> None:
    assert list(work(mirror(Report("M", "1"), "hint")).doing) == ["a run of M"]
    assert list(work(mirror(Report("M", "1"), "verify")).doing) == ["a verification of M"]
    assert list(work(mirror(owed=2)).doing) == ["2 files of M for the next try"]
    assert list(work(mirror(queued=1)).doing) == ["1 file of M on demand"]
    assert list(work(mirror(), leases=3).doing) == ["3 leases"]


def test_verification_in_the_background_is_not_work_in_hand() -> None:
    assert list(work(mirror(Report("M", "1", duration_s=0.2))).doing) == []


def test_what_a_paused_mirror_owes_is_not_waited_for() -> None:
    assert list(work(mirror(owed=2, paused=True)).doing) == []


def test_a_listing_is_no_progress_and_bytes_files_checks_and_leases_are() -> None:
    report = Report("M", "1")
    kept = mirror(report)
    before = work(kept).done
    report.scanned = report.unchanged = report.wanted = 7
    assert work(kept).done == before
    report.bytes, report.fetched = 100, 1
    kept.keeper.progress.note()
    kept.demand.fetched_bytes = 5
    after = work(kept).done
    assert {name for name in after if after[name] > before[name]} == {
        "M: bytes", "M: files", "M: verified", "M: on demand",
    }  # fmt: skip
    assert after["leases"] == 3
