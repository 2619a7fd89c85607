"""When a machine is held awake: work in hand that gets on, a grace, and an end for what is stuck."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.core.errors import PlanRefused, RunStopped, SourceUnavailable, SyncdError
from syncd.core.wakefulness import Wakefulness, Work
from syncd.daemon.progress import owed_after
from syncd.engine.report import Report

RUN = Work(("a run of M",))


def looks(decide: Wakefulness, *at: tuple[float, Work]) -> Sequence[bool]:
    return [decide.look(work, now) for now, work in at]


def test_it_is_held_while_there_is_work_and_for_a_short_time_after() -> None:
    decide = Wakefulness(grace_s=15)
    idle = Work()
    assert looks(decide, (0, idle), (2, RUN), (4, RUN), (6, idle), (18.9, idle), (19, idle), (21, RUN)) == [
        False, True, True, True, True, False, True,
    ]  # fmt: skip


def bytes_done(count: float) -> Work:
    return Work(RUN.doing, {"M: bytes": count})


def test_work_that_does_not_get_on_holds_it_no_more_and_what_gets_on_does_again() -> None:
    decide = Wakefulness(grace_s=15, patience_s=100)
    assert looks(decide, (0, bytes_done(5)), (99, bytes_done(5))) == [True, True]
    assert not decide.gave_up
    assert looks(decide, (100, bytes_done(5)), (5_000, bytes_done(5))) == [False, False], "not for the grace either"
    assert decide.gave_up
    assert looks(decide, (5_002, bytes_done(6)), (5_101, bytes_done(6))) == [True, True]
    assert not decide.gave_up
    assert looks(decide, (5_102, bytes_done(6))) == [False]


def test_given_up_work_that_ends_leaves_no_grace_and_the_next_work_is_held_for() -> None:
    decide = Wakefulness(grace_s=15, patience_s=100)
    assert looks(decide, (0, RUN), (100, RUN), (101, Work())) == [True, False, False]
    assert not decide.gave_up
    assert looks(decide, (102, RUN)) == [True]


def test_a_figure_that_falls_or_is_new_is_no_progress() -> None:
    """A run that is ended as stuck and begun again counts its bytes from 0 again."""
    decide = Wakefulness(patience_s=100)
    begun_again = [(60, bytes_done(0)), (99, Work(RUN.doing, {"N: bytes": 7})), (100, bytes_done(9))]
    assert looks(decide, (0, bytes_done(5)), *begun_again) == [True, True, True, False]


def test_one_of_many_figures_is_enough() -> None:
    decide = Wakefulness(patience_s=100)
    first = Work(RUN.doing, {"M: bytes": 5, "leases": 1})
    second = Work(RUN.doing, {"M: bytes": 0, "leases": 2})
    assert looks(decide, (0, first), (90, second), (189, second)) == [True, True, True]


# --- what a run leaves to the next one


def report(error: SyncdError | None, wanted: int = 0, fetched: int = 0) -> Report:
    return Report("M", "1", wanted=wanted, fetched=fetched, error=error)


def test_files_are_owed_after_a_run_that_broke_off_for_what_passes() -> None:
    broke_off = SourceUnavailable("gone")
    assert owed_after(report(broke_off, 10, 4), 0) == 6
    assert owed_after(report(broke_off), 6) == 6, "it did not come so far as to know"
    assert owed_after(report(broke_off), 0) == 0, "nothing is known to be owed"
    assert owed_after(report(None, 6, 6), 6) == 0
    assert owed_after(report(PlanRefused("a person is to decide"), 10, 4), 6) == 0
    assert owed_after(report(RunStopped("asked to"), 10, 9), 6) == 6
