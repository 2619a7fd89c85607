"""The rate cap: what may be read when, with a clock of our own."""

from __future__ import annotations

import random

import pytest

from syncd.config.values import rate
from syncd.core.pacing import BURST_S, SMALLEST_PIECE, Bucket, piece
from syncd.engine.pacing import Lane, Pacing

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def read_for(clock: Clock, lane: Lane, seconds: float, late_s: float = 0.0, longest: int = MIB) -> int:
    """Read as fast as the lane allows, each look up to `late_s` late; return how many bytes that were."""
    rng, until, count = random.Random(1), clock.now_s + seconds, 0
    while clock.now_s < until:
        wait_s = lane.wait_s()
        if wait_s > 0:
            clock.now_s += wait_s + rng.uniform(0, late_s)
        else:
            lane.charge(asked := lane.piece(longest))
            count += asked
            clock.now_s += 0.0001
    return count


@pytest.mark.parametrize("bytes_per_s", [10_000, 300_000, 1_000_000, 20 * MIB, 500 * MIB])
@pytest.mark.parametrize("late_s", [0.0, 0.02])
def test_the_rate_is_kept_within_five_percent(bytes_per_s: int, late_s: float) -> None:
    clock = Clock()
    pacing = Pacing(lambda: bytes_per_s, clock)
    seconds = 20 if bytes_per_s > 100_000 else 400
    read = read_for(clock, pacing.lane(), seconds, late_s)
    assert 0.95 <= read / (bytes_per_s * seconds) <= 1.05


def test_what_was_not_used_is_caught_up_with_for_a_moment_only() -> None:
    bucket = Bucket(0.0)
    free = 0
    while bucket.wait_s(MIB, 3600.0) == 0:
        bucket.charge(1000, MIB, 3600.0)
        free += 1000
    assert free <= BURST_S * MIB + 1000


def test_a_clock_that_stands_or_goes_back_lets_nothing_through() -> None:
    bucket = Bucket(100.0)
    bucket.charge(MIB, MIB, 100.0)
    assert bucket.wait_s(MIB, 100.0) == pytest.approx(1.0)
    assert bucket.wait_s(MIB, 50.0) == pytest.approx(1.0)


def test_a_change_of_rate_takes_effect_within_a_second() -> None:
    clock, holds = Clock(), [1000]
    pacing = Pacing(lambda: holds[0], clock)
    lane = pacing.lane()
    assert lane.wait_s() == 0
    lane.charge(SMALLEST_PIECE)  # more than a minute's worth
    assert lane.wait_s() > 0
    holds[0] = 0
    clock.now_s += lane.wait_s()
    assert lane.wait_s() == 0, "unlimited from now on"
    holds[0] = MIB
    clock.now_s += 1.0
    assert lane.wait_s() == 0
    lane.charge(MIB)
    assert lane.wait_s() == pytest.approx(1.0 - BURST_S)


def test_time_windows_hold_at_their_borders() -> None:
    """As the configuration has it: the minute of the day decides."""
    clock, kept = Clock(), rate("22:00-06:00 0; 1M")
    minute = [21 * 60 + 59]
    lane = Pacing(lambda: kept.at(minute[0]), clock).lane()
    limited = read_for(clock, lane, 10)
    minute[0] = 22 * 60
    clock.now_s += 1.0
    assert lane.wait_s() == 0
    assert lane.piece(8 * MIB) == 8 * MIB
    minute[0] = 6 * 60
    clock.now_s += 1.0
    again = read_for(clock, lane, 10)
    assert 0.9 <= again / limited <= 1.1


def test_pieces_are_small_where_the_rate_is_and_never_tiny() -> None:
    assert piece(0, MIB) == MIB
    assert piece(100 * MIB, MIB) == MIB
    assert piece(2 * MIB, MIB) == 2 * MIB // 20
    assert piece(1000, MIB) == SMALLEST_PIECE
    assert piece(1000, 1000) == 1000


def test_all_lanes_together_keep_the_rate_and_urgent_ones_go_first() -> None:
    clock = Clock()
    pacing = Pacing(lambda: MIB, clock)
    lanes = {"run": pacing.lane(), "demand": pacing.lane(urgent=True)}
    counts = dict.fromkeys(lanes, 0)
    for step in range(10_000):
        name = ("run", "demand")[step % 2]
        if lanes[name].wait_s() == 0:
            lanes[name].charge(SMALLEST_PIECE)
            counts[name] += SMALLEST_PIECE
        clock.now_s += 0.001
    assert 0.95 <= sum(counts.values()) / (10 * MIB) <= 1.05
    assert counts["demand"] > 0.9 * sum(counts.values()), counts


def test_when_nobody_urgent_asks_any_more_the_others_go_on() -> None:
    clock = Clock()
    pacing = Pacing(lambda: 10_000, clock)
    run, demand = pacing.lane(), pacing.lane(urgent=True)
    demand.charge(20_000)
    assert demand.wait_s() > 0
    assert run.wait_s() > 0
    clock.now_s += 3.0
    assert run.wait_s() == 0
