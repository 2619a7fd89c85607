"""How much is in flight: less while the server is slow or says that it has not enough, and more again afterwards."""

from __future__ import annotations

import threading
import time

import pytest

from syncd.core.model import Fingerprint, RelPath, Wanted
from syncd.ports import Fetched
from syncd.sources import Unpaced
from syncd.sources.smb.delivering import Delivering
from syncd.sources.smb.lane import ReadLane
from syncd.sources.smb.limits import MIB, SmbLimits
from syncd.sources.smb.packets import READ
from syncd.sources.smb.reading import FileRead
from tests.support import hostile_smb
from tests.support.hostile_smb import HostileServer, Reply, Request, hostile_source
from tests.support.queues import fetch_all, scan_all, want_all

LIMITS = SmbLimits()
FEWEST = 8


class Answering:
    """What a lane needs of a channel to decide: how long the last answer took."""

    max_read = MIB
    latency_s = 0.0


def lane_over(channel: Answering) -> ReadLane:
    return ReadLane(channel, LIMITS, Delivering(), Unpaced())  # type: ignore[arg-type]


def amounts(lane: ReadLane) -> tuple[int, int]:
    return lane._most_files, lane._most_bytes


def answer(lane: ReadLane, channel: Answering, latencies_s: list[float]) -> None:
    for latency_s in latencies_s:
        channel.latency_s = latency_s
        lane.pace(lane._paced_at + latency_s + 1.0)


@pytest.mark.parametrize("round_trip_s", [0.0005, 0.02, 0.3])
def test_a_long_way_is_no_queue_but_a_longer_wait_is(round_trip_s: float) -> None:
    channel = Answering()
    lane = lane_over(channel)
    answer(lane, channel, [round_trip_s * 1.1, round_trip_s, round_trip_s * 1.3])
    assert amounts(lane) == (LIMITS.files_in_flight, LIMITS.bytes_in_flight)
    answer(lane, channel, [round_trip_s + 0.8] * 2)
    assert amounts(lane) == (LIMITS.files_in_flight // 4, LIMITS.bytes_in_flight // 4)
    answer(lane, channel, [round_trip_s + 3.0] * 20)
    assert amounts(lane) == (FEWEST, 2 * MIB), "something is always in flight"
    answer(lane, channel, [round_trip_s] * 10)
    assert amounts(lane) == (LIMITS.files_in_flight, LIMITS.bytes_in_flight)


def come(lane: ReadLane, count: int) -> None:
    """Have as many small files been asked for and answered."""
    wanted = Wanted(RelPath("a"), Fingerprint(1, 0, 0, 0))
    for _ in range(count):
        file = FileRead(wanted, "a", lambda _: None)  # type: ignore[arg-type,return-value]
        lane.files[file] = None
        lane._bytes += 1
        lane.came_whole(file)


@pytest.mark.parametrize(
    ("files_per_s", "round_trip_s", "most"),
    [(60, 0.001, 96), (1500, 0.001, 151), (9000, 0.01, 256), (900, 0.1, 180), (900, 0.001, 96)],
)
def test_more_files_are_in_flight_where_one_more_comes_soon_behind_them(
    files_per_s: int, round_trip_s: float, most: int
) -> None:
    channel = Answering()
    lane = lane_over(channel)
    answer(lane, channel, [round_trip_s])
    for _ in range(3):
        come(lane, int(files_per_s * (round_trip_s + 1.0)))
        answer(lane, channel, [round_trip_s])
    assert amounts(lane)[0] == pytest.approx(most, abs=1)
    answer(lane, channel, [round_trip_s])
    assert amounts(lane)[0] == LIMITS.files_in_flight, "nothing came since"


def test_an_answer_too_early_to_judge_by_changes_nothing() -> None:
    channel = Answering()
    lane = lane_over(channel)
    answer(lane, channel, [0.01, 2.0])
    before = amounts(lane)
    lane.pace(lane._paced_at + 1.0)
    assert amounts(lane) == before


def test_a_server_without_resources_is_asked_for_half_and_then_for_slowly_more() -> None:
    channel = Answering()
    lane = lane_over(channel)
    answer(lane, channel, [0.01])
    now_s = 100.0
    for _ in range(50):
        lane.crowded(now_s)  # fifty answers to one burst
    assert amounts(lane) == (LIMITS.files_in_flight // 2, LIMITS.bytes_in_flight // 2)
    lane.crowded(now_s + 1)
    assert amounts(lane) == (LIMITS.files_in_flight // 4, LIMITS.bytes_in_flight // 4)
    answer(lane, channel, [0.01])
    assert amounts(lane)[0] == LIMITS.files_in_flight // 4 * 9 // 8
    answer(lane, channel, [0.01] * 30)
    assert amounts(lane) == (LIMITS.files_in_flight, LIMITS.bytes_in_flight)


def test_a_server_with_room_for_a_few_files_gets_all_read_with_few_refusals() -> None:
    """It refuses READs while more than ten files are under way (as told by how many it was asked for lately)."""
    files = {f"f{number}": bytes([number]) * 2000 for number in range(150)}
    lock = threading.Lock()
    recent: list[float] = []
    refused = [0]

    def few(request: Request, reply: Reply) -> Reply:
        if request.command != READ:
            return reply
        with lock:
            now = time.monotonic()
            recent[:] = [at for at in recent if now - at < 0.02]
            if len(recent) >= 10 and refused[0] < 60:
                refused[0] += 1
                return (0xC000009A, hostile_smb.ERROR)
            recent.append(now)
        return reply

    server = HostileServer(files, spoil=few)
    with server, hostile_source(server) as source:
        sinks, outcomes = fetch_all(source, want_all(scan_all(source)))
    assert all(isinstance(each, Fetched) for each in outcomes.values())
    assert {path: sinks.content(path) for path in files} == files
    assert refused[0] > 0
