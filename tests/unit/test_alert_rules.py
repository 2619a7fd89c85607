"""What is worth a message, and that each has one beginning and one end."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from syncd.alerts.leasing import Sharing
from syncd.alerts.memory import REMEMBERED_S, Watched, alerts_of, step
from syncd.alerts.model import Alert, Rule, alert_of
from syncd.alerts.rules import Facts, HostFact, JobFact, MirrorFact, Queue, Thresholds, WorkerFact, judge
from syncd.ports.alerting import AlertLease

LIMITS = Thresholds(hold_s=60, failing_s=900, owed_s=900, stuck_s=900)
MINUTE = 60.0
JOB = "3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7"
HALTED = Facts(mirrors=[MirrorFact("M", "halted", "214 of 412 files gone", "syncd approve --mirror M")])
WELL = Facts(
    mirrors=[MirrorFact("M", "ok", free=10, floor=5)],
    nsqd=("ok", ""),
    mongodb=("ok", ""),
    on_duty=True,
    jobs=[],
    hosts=[],
)


class TakenOver:
    """ports.alerting.AlertLeases: one lease, that of a host which has fallen silent."""

    def __init__(self, key: str, alert: Alert) -> None:
        self._lease = AlertLease(key, True, alert.as_json(), taken=True)

    def sync(self, *_asked: object) -> dict[str, AlertLease]:
        return {self._lease.key: self._lease}

    def release(self, keys: Collection[str]) -> None: ...

    def jobs(self) -> Collection[tuple[str, int, int]]:
        return ()

    def hosts(self) -> Collection[tuple[str, str, float, bool]]:
        return ()

    def close(self) -> None: ...


class Story:
    """Looks at facts once a minute, and writes down what begins (+) and ends (-)."""

    def __init__(self, limits: Thresholds = LIMITS) -> None:
        self.limits = limits
        self.now = 1_000_000.0
        self.watched: dict[str, Watched] = {}
        self.told: list[str] = []

    def look(self, facts: Facts, minutes: int = 1, *, slept: bool = False) -> None:
        for _ in range(minutes):
            before = alerts_of(self.watched).keys()
            self.watched = step(self.watched, judge(facts, self.limits), self.now, self.limits.hold_s, slept=slept)
            after = alerts_of(self.watched).keys()
            self.told += [f"+{key}" for key in after - before] + [f"-{key}" for key in before - after]
            self.now += MINUTE


def keys(facts: Facts) -> set[str]:
    return set(judge(facts, LIMITS).conditions)


# --- rules


def test_what_is_well_is_no_condition() -> None:
    judged = judge(WELL, LIMITS)
    assert not judged.conditions
    assert not judged.unknown


@pytest.mark.parametrize(
    ("facts", "key", "said"),
    [
        (HALTED, "halted M", "214 of 412 files gone"),
        (Facts(mirrors=[MirrorFact("M", "failing", "2 failed")]), "failing M", "2 failed"),
        (Facts(mirrors=[MirrorFact("M", "behind", "never mirrored")]), "behind M", "never mirrored"),
        (Facts(mirrors=[MirrorFact("M", "ok", free=5_000_000, floor=6_000_000)]), "disk M", "5.0 MB free"),
        (Facts(workers=[WorkerFact("w-1", "lost", "2026-01-01T00:00:00Z")]), "worker w-1", "says nothing"),
        (Facts(workers=[WorkerFact("w-1", "gone", "2026-01-01T00:00:00Z")]), "worker w-1", "without saying so"),
        (Facts(owed=1200, oldest_owed_s=901, nsqd=("ok", "")), "owed", "1,200 announcements"),
        (Facts(nsqd=("down", "connection refused")), "nsqd", "connection refused"),
        (Facts(mongodb=("down", "no answer in time")), "mongodb", "no answer in time"),
    ],
)
def test_each_rule(facts: Facts, key: str, said: str) -> None:
    (found,) = judge(facts, LIMITS).conditions.values()
    assert found.key == key
    assert said in found.text
    assert found.remedy


@pytest.mark.parametrize(
    "facts",
    [
        Facts(mirrors=[MirrorFact("M", "paused", "no scans until it is resumed")]),
        Facts(mirrors=[MirrorFact("M", "ok", free=0, floor=0)]),
        Facts(workers=[WorkerFact(f"w-{state}", state) for state in ("starting", "idle", "working", "paused")]),
        Facts(owed=3, oldest_owed_s=899, nsqd=("ok", "")),
        Facts(nsqd=("unknown", ""), mongodb=("unknown", "")),
        Facts(jobs=[JobFact(JOB, 30, 30)], on_duty=True),
    ],
)
def test_what_is_no_reason_to_call_anybody(facts: Facts) -> None:
    assert not keys(facts)


def test_while_nsqd_is_down_that_is_what_is_wrong() -> None:
    assert keys(Facts(owed=3, oldest_owed_s=10_000, nsqd=("down", "refused"))) == {"nsqd"}


@pytest.mark.parametrize(
    ("queue", "said", "remedy"),
    [
        (Queue(0, 0), "the queue is empty", f"worker-glue job {JOB} --requeue"),
        (Queue(12, 3), "the queue is not empty: 12 tasks wait, 3 are in hand", "doctor --live"),
        (Queue(0, 1), "the queue is not empty", "doctor --live"),
        (None, "whether the queue is empty is not known", "see whether workers run"),
    ],
)
def test_a_job_that_is_stuck_says_how_the_queue_is(queue: Queue | None, said: str, remedy: str) -> None:
    facts = Facts(jobs=[JobFact(JOB, 30, 12)], on_duty=True, queue=queue)
    (found,) = judge(facts, LIMITS).conditions.values()
    assert "12 of 30 tasks are done" in found.text
    assert said in found.text
    assert remedy in found.remedy
    assert f"worker-glue job {JOB} --requeue" in found.remedy


def test_a_silent_host_is_told_of_unless_it_sleeps_by_plan() -> None:
    story = Story()
    annex = HostFact("id-1", "annex", silent_s=121)
    on_duty = Facts(on_duty=True, jobs=[], hosts=[annex])
    story.look(on_duty._replace(hosts=[annex._replace(away=True)]), 600)
    story.look(on_duty._replace(hosts=[annex._replace(silent_s=119)]), 600)
    assert story.told == []
    story.look(on_duty, 17)
    assert story.told == ["+host id-1"]
    (alert,) = alerts_of(story.watched).values()
    assert (alert.about, alert.shared) == ("annex", True)
    story.look(on_duty._replace(hosts=[annex._replace(silent_s=8 * 86_400)]), 5)
    story.look(on_duty._replace(hosts=None), 5)
    assert story.told == ["+host id-1"], "that it was forgotten is no end"
    story.look(on_duty._replace(hosts=[annex._replace(silent_s=3)]), 3)
    assert story.told == ["+host id-1", "-host id-1"]
    assert keys(on_duty._replace(hosts=[annex._replace(silent_s=8 * 86_400)])) == set()


def test_names_from_elsewhere_move_no_cursor_and_end_no_line() -> None:
    facts = Facts(jobs=[JobFact("x\r\nBcc: all@example.org\x1b[2J", 2, 1)], on_duty=True)
    (found,) = judge(facts, LIMITS).conditions.values()
    for said in (found.about, found.text, found.remedy):
        assert said.isprintable()


@pytest.mark.parametrize("field", ["about", "text", "remedy", "since"])
def test_nor_do_alerts_that_another_host_began(field: str) -> None:
    told = dict.fromkeys(("key", "about", "text", "remedy", "since"), "x") | {"rule": "nsqd"}
    alert = alert_of(told | {field: "x\r\nBcc: all@example.org\x1b[2J" + "y" * 10_000})
    assert getattr(alert, field).isprintable()
    assert len(getattr(alert, field)) <= 500


@pytest.mark.parametrize(("key", "adopted"), [("nsqd", {"nsqd"}), ("halted M", set())])
def test_an_alert_is_taken_over_under_its_own_key_only(key: str, adopted: set[str]) -> None:
    alert = Alert(key, Rule.NSQD, "", "nsqd cannot be reached", "syncd doctor", "2026-01-01T00:00:00Z")
    sharing = Sharing(TakenOver("nsqd", alert), lambda: 0.0)
    assert sharing.sync({}, (), ()) == {"nsqd"}
    assert set(sharing.adopted) == adopted


# --- one beginning, one end


def test_a_halted_mirror_begins_once_and_ends_once() -> None:
    story = Story()
    story.look(HALTED, 60)
    assert story.told == ["+halted M"]
    story.look(WELL, 60)
    assert story.told == ["+halted M", "-halted M"]


def test_what_does_not_last_is_not_told() -> None:
    story = Story()
    for _ in range(50):
        story.look(HALTED)
        story.look(WELL)
    assert story.told == []


def test_a_failure_of_one_run_is_not_told() -> None:
    story = Story()
    failing = Facts(mirrors=[MirrorFact("M", "failing", "source away")])
    story.look(failing, 14)
    story.look(WELL, 1)
    story.look(failing, 14)
    assert story.told == []
    story.look(failing, 3)
    assert story.told == ["+failing M"]


def test_what_comes_and_goes_all_day_is_no_storm() -> None:
    story = Story()
    for _ in range(24 * 12):  # a day in which it is wrong for 3 minutes of every 5
        story.look(HALTED, 3)
        story.look(WELL, 2)
    assert len(story.told) <= 4, story.told
    story.look(WELL, 120)
    assert story.told.count("+halted M") == story.told.count("-halted M")


def test_the_end_comes_after_quiet_time_that_has_a_bound() -> None:
    story = Story()
    for _ in range(20):
        story.look(HALTED, 30)
        story.look(WELL, 61)
    assert story.told == ["+halted M", "-halted M"] * 20


def test_what_is_not_known_stays_as_it_was() -> None:
    story = Story()
    on_duty = Facts(on_duty=True, jobs=[JobFact(JOB, 30, 12)])
    story.look(on_duty, 20)
    assert story.told == [f"+job {JOB}"]
    story.look(Facts(on_duty=True, jobs=None), 600)
    assert story.told == [f"+job {JOB}"]
    story.look(Facts(on_duty=True, jobs=[]), 3)
    assert story.told == [f"+job {JOB}", f"-job {JOB}"]


def test_a_disk_that_was_not_looked_at_yet_stays_as_it_was_and_others_do_not() -> None:
    story = Story()
    low = MirrorFact("M", "ok", free=5, floor=6)
    story.look(Facts(mirrors=[low, low._replace(name="N")]), 3)
    story.look(Facts(mirrors=[low._replace(free=None, floor=None), low._replace(name="N", free=7)]), 3)
    assert sorted(story.told) == ["+disk M", "+disk N", "-disk N"]


def test_a_job_that_moves_is_not_stuck() -> None:
    story = Story()
    for done in range(10):
        story.look(Facts(on_duty=True, jobs=[JobFact(JOB, 30, done)]), 14)
    assert story.told == []
    story.look(Facts(on_duty=True, jobs=[JobFact(JOB, 30, 9)]), 5)
    assert story.told == [f"+job {JOB}"]
    for done in range(10, 14):
        story.look(Facts(on_duty=True, jobs=[JobFact(JOB, 30, done)]))
    assert story.told == [f"+job {JOB}", f"-job {JOB}"], "it goes on"


def test_jobs_that_another_host_looks_after_are_forgotten_without_a_word() -> None:
    story = Story()
    story.look(Facts(on_duty=True, jobs=[JobFact(JOB, 30, 12)]), 20)
    story.watched = step(story.watched, judge(Facts(on_duty=False), LIMITS), story.now, 60)
    assert not story.watched


def test_sleep_counts_as_nothing() -> None:
    """A machine that slept for nine hours is given its time before anything begins."""
    story = Story()
    behind = Facts(mirrors=[MirrorFact("M", "behind", "late")])
    story.look(behind)
    story.now += 9 * 3600
    story.look(behind, slept=True)
    assert story.told == []
    story.look(WELL, 10)
    assert story.told == []


def test_a_clock_that_was_set_back_counts_anew() -> None:
    story = Story()
    story.look(HALTED)
    story.now -= 86_400
    story.look(HALTED)
    assert story.told == []
    story.look(HALTED)
    assert story.told == ["+halted M"]


def test_nothing_of_its_own_begins_while_a_host_is_away() -> None:
    story = Story()
    failing = Facts(mirrors=[MirrorFact("M", "failing", "source away")])
    story.look(failing._replace(away=True), 600)
    assert story.told == []
    story.look(failing, 14)
    assert story.told == [], "its time counts from the morning on"
    story.look(failing, 1)
    assert story.told == ["+failing M"]
    story.look(WELL._replace(away=True), 5)
    assert story.told == ["+failing M", "-failing M"], "what is over may be told at night"


def test_what_all_hosts_see_begins_also_while_this_one_is_away() -> None:
    story = Story()
    story.look(Facts(nsqd=("down", "refused"), away=True), 20)
    assert story.told == ["+nsqd"]


def test_what_is_remembered_goes_away() -> None:
    story = Story()
    story.look(HALTED, 5)
    story.look(WELL, 5)
    assert story.watched
    story.look(WELL, int(REMEMBERED_S / MINUTE) + 1)
    assert not story.watched


def test_without_hold_each_look_counts() -> None:
    story = Story(Thresholds(0, 0, 0, 0))
    story.look(HALTED)
    story.look(WELL)
    assert story.told == ["+halted M", "-halted M"]


def test_an_alert_survives_its_json() -> None:
    story = Story()
    story.look(HALTED, 5)
    (alert,) = alerts_of(story.watched).values()
    assert alert_of(alert.as_json()) == alert
    assert (alert.rule, alert.severity, alert.since) == (Rule.HALTED, "critical", "1970-01-12T13:46:40Z")
    wrong: Sequence[dict[str, object]] = [{}, alert.as_json() | {"rule": "no such"}, alert.as_json() | {"text": 5}]
    for told in wrong:
        with pytest.raises((KeyError, ValueError, TypeError)):
            alert_of(told)
