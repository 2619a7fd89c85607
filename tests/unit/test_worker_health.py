"""Heartbeat files, and what /metrics and /healthz make of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncd.client import heartbeats
from syncd.client.heartbeats import BEAT, LATE_S, LOCK, Heartbeat, Seen, file_of, read, read_all
from worker_glue.flow.hand import Hand, Phase
from worker_glue.health.beat import Beat
from worker_glue.health.meter import FOLDER_VARIABLE, NoMeter, meter
from worker_glue.health.server import HealthServer
from worker_glue.health.shown import Metrics
from worker_glue.health.staff import Staff, health
from worker_glue.model import Task
from worker_glue.running.ids import claim, sweep
from worker_glue.running.stuck import LIMIT_S, MARGIN_S, Stuck
from worker_glue.running.witness import Witnesses

NOW = 1_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def _beat(worker_id: str, at: float = NOW, **more: object) -> Heartbeat:
    return Heartbeat(worker_id=worker_id, pid=1, at=at)._replace(**more)  # type: ignore[arg-type]


# --- files


def test_what_is_told_is_read(tmp_path: Path) -> None:
    beat = Beat(tmp_path, "tod-mac-1", host="tod-mac", clock=Clock())
    beat.tell(state="working", task="Bhushanji/हिन्दी/x .JPG", pages_done=1, pages=7, job_id="not ours", pid=99)
    found = read(tmp_path, "tod-mac-1")
    assert found is not None
    assert found == beat.last
    assert (found.state, found.task, found.pages, found.pid) == ("working", "Bhushanji/हिन्दी/x .JPG", 7, os.getpid())
    beat.remove()
    beat.remove()
    assert read(tmp_path, "tod-mac-1") is None


def test_a_change_is_written_at_once_and_the_rest_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    beat = Beat(tmp_path, "w", every_s=3, clock=clock)
    beat.tell(state="idle")
    clock.now += 1
    beat.tell(done=1)
    written = read(tmp_path, "w")
    assert written is not None
    assert (written.done, written.at) == (0, NOW)
    beat.tell(state="working", task="a")
    assert (read(tmp_path, "w") or written).done == 1
    clock.now += 3
    beat.tell(done=2)
    last = read(tmp_path, "w") or written
    assert (last.done, last.at, last.since) == (2, NOW + 4, NOW + 1)
    clock.now -= 1000  # set back
    beat.tell(done=3)
    assert (read(tmp_path, "w") or written).done == 3


def test_a_disk_that_takes_nothing_stops_no_work(tmp_path: Path) -> None:
    beat = Beat(tmp_path / "gone", "w")
    beat.tell(state="working")
    beat.remove()
    assert beat.last.state == "working"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"worker_id": 1, "pid": 1, "at": 1}', b'{"worker_id": "w"}', b"[" * 99_999]
)
def test_what_is_no_heartbeat_is_none(tmp_path: Path, content: bytes) -> None:
    file_of(tmp_path, "w", BEAT).write_bytes(content)
    assert read(tmp_path, "w") is None


def test_any_id_is_a_file_name_in_the_folder(tmp_path: Path) -> None:
    for worker_id in ("../up", "a/b", ".", "..", "%2F", "काम"):
        file = file_of(tmp_path, worker_id, BEAT)
        assert file.parent == tmp_path
        Beat(tmp_path, worker_id).tell(state="idle")
        assert (read(tmp_path, worker_id) or _beat("")).worker_id == worker_id


def test_who_is_there_and_how(tmp_path: Path) -> None:
    (held,) = claim(tmp_path, iter(["w-10"]), 1)
    for name in ("w-10", "w-9"):
        Beat(tmp_path, name).tell(state="working")
    file_of(tmp_path, "w-9", LOCK).touch()
    file_of(tmp_path, "w-8", LOCK).touch()  # ended in order
    found = read_all(tmp_path)
    assert [(seen.worker_id, seen.alive) for seen in found] == [("w-9", False), ("w-10", True)]
    now = found[1].beat.at if found[1].beat else 0
    assert [seen.state(now + 1) for seen in found] == ["gone", "working"]
    assert found[1].state(now + LATE_S + 1) == "lost"
    assert Seen("w", True, None).state(now) == "starting"
    sweep(tmp_path)
    assert [seen.worker_id for seen in read_all(tmp_path)] == ["w-10"]
    held.release(tmp_path)
    assert read_all(tmp_path) == []
    assert read_all(tmp_path / "none") == []


def test_a_clock_that_was_set_back_loses_nobody() -> None:
    assert _beat("w", at=NOW + 5000).age_s(NOW) == 0


def test_states_are_known_to_the_page() -> None:
    page = (Path(heartbeats.__file__).parents[1] / "web/static/tables.js").read_text()
    levels = page.partition("const WORKER_LEVEL")[2].partition("};")[0]
    for state in (*heartbeats.STATES, "lost", "gone"):
        assert f"{state}:" in levels


# --- health


def test_a_worker_that_lives_is_healthy_whatever_is_away() -> None:
    beat = _beat("w", state="working", nsq=False, mongo=False, owed=3)
    found = health(Staff([Seen("w", True, beat)]), NOW)
    assert found["ok"]
    assert found["problems"] == []
    assert len(found["warnings"]) == 3


@pytest.mark.parametrize(
    ("staff", "problem"),
    [
        (Staff([]), "no worker is up"),
        (Staff([Seen("w", True, _beat("w", NOW - 200))]), "w: lost, silent for 200 s"),
        (Staff([Seen("w", False, None)], down={"w": "ended with exit code 1"}), "w: ended with exit code 1"),
    ],
)
def test_what_starting_again_may_help_against_is_unhealthy(staff: Staff, problem: str) -> None:
    found = health(staff, NOW)
    assert not found["ok"]
    assert found["problems"] == [problem]


# --- metrics

COUNTING = """
import sys
from worker_glue.health.meter import meter
m = meter(sys.argv[1])
m.count("recorded"); m.count("recorded_error"); m.count("pages", 3); m.count("retries"); m.count("unheard of")
m.observe("ocr", 2.5); m.observe("wait_file", -1); m.observe("save", 0.01); m.observe("unheard of", 1)
"""


def _count(folder: Path, worker_id: str) -> None:
    env = {**os.environ, FOLDER_VARIABLE: str(folder)}
    subprocess.run([sys.executable, "-c", COUNTING, worker_id], env=env, check=True, timeout=60)


def test_counts_are_summed_over_workers_and_their_successors(tmp_path: Path) -> None:
    _count(tmp_path, "host_a-1")
    _count(tmp_path, "host_a-1")
    files = sorted(each.name for each in tmp_path.iterdir())
    _count(tmp_path, "host_a-2")
    assert len(list(tmp_path.iterdir())) == 2 * len(files), "no file for each process"
    beat = _beat("host_a-1", owed=4, waiting=2, nsq=True)
    staff = Staff([Seen("host_a-1", True, beat), Seen("host_a-2", False, None)], {"host_a-1": 1})
    found = {}
    for family in text_string_to_metric_families(Metrics(tmp_path, lambda: staff).text().decode()):
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.values()))] = sample.value
    assert found["worker_glue_tasks_total", "result"] == 3
    assert found["worker_glue_tasks_total", "error"] == 3
    assert found["worker_glue_tasks_total", "malformed"] == 0
    assert found["worker_glue_pages_total",] == 9
    assert found["worker_glue_retries_total",] == 3
    assert found["worker_glue_ocr_seconds_sum",] == 7.5
    assert found["worker_glue_file_wait_seconds_count",] == 3
    assert found["worker_glue_results_owed",] == 4
    assert found["worker_glue_nsqd_connected", "host_a-1"] == 1
    assert ("worker_glue_mongodb_reachable", "host_a-1") not in found, "not known"
    assert found["worker_glue_workers", "gone"] == 1
    assert found["worker_glue_restarts_total", "host_a-1"] == 1


def test_nothing_is_counted_where_nobody_asks() -> None:
    assert isinstance(meter("w", {}), NoMeter)


def test_every_metric_is_documented(tmp_path: Path) -> None:
    _count(tmp_path, "w")
    staff = Staff([Seen("w", True, _beat("w", nsq=True, mongo=True, oldest_owed=1.0))], {"w": 1})
    page = (Path(heartbeats.__file__).parents[2] / "docs/worker.md").read_text()
    for family in text_string_to_metric_families(Metrics(tmp_path, lambda: staff).text().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in page


def test_health_over_http(tmp_path: Path) -> None:
    staff = [Staff([Seen("w", True, _beat("w", at=9e12))])]
    server = HealthServer(("127.0.0.1", 0), tmp_path, lambda: staff[0])
    try:
        base = f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(f"{base}/healthz", timeout=10) as answer:
            assert json.load(answer)["ok"]
        with urllib.request.urlopen(f"{base}/metrics", timeout=10) as answer:
            assert b"worker_glue_workers" in answer.read()
        staff[0] = Staff([])
        for path, code in (("/healthz", 503), ("/", 404)):
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(base + path, timeout=10)
            assert raised.value.code == code
            raised.value.close()
    finally:
        server.close()


# --- from the flow to all of them


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, name: str, **_: object) -> None:
        self.lines.append(("info", name))

    def warning(self, name: str, **_: object) -> None:
        self.lines.append(("warning", name))


def test_what_the_flow_describes_becomes_a_heartbeat(tmp_path: Path) -> None:
    beat = Beat(tmp_path, "w", every_s=0)
    log: Any = Log()
    witness = Witnesses(log, NoMeter(), beat, lambda: True, lambda: 7.0)
    described = {
        "task": "B/x.pdf",
        "job_id": "j",
        "since": 1.0,
        "pages_done": 1,
        "pages": 3,
        "in_hand": 2,
        "waiting": 1,
        "done": 5,
        "failed": 1,
        "owed": 4,
        "mongo_away_s": 3.5,
    }
    for phase, state in (("ocr", "working"), ("saving", "working"), ("waiting", "waiting"), ("stopping", "stopping")):
        witness.beat({**described, "state": phase})
        found = read(tmp_path, "w")
        assert found is not None
        assert found.state == state
        assert found.state in heartbeats.STATES
    assert (found.task, found.pages, found.in_hand, found.owed) == ("B/x.pdf", 3, 2, 4)
    assert (found.nsq, found.mongo, found.oldest_owed) == (True, False, 7.0)
    witness.beat({**described, "state": "idle", "owed": -1, "mongo_away_s": 0.0})
    last = read(tmp_path, "w") or found
    assert (last.owed, last.mongo, last.oldest_owed) == (0, True, None)


def test_what_a_person_should_read_is_a_warning(tmp_path: Path) -> None:
    log: Any = Log()
    witness = Witnesses(log, NoMeter(), Beat(tmp_path, "w"), lambda: True)
    for name in ("task.done", "mongo.away", "task.bug"):
        witness.event(name, path="x")
    assert log.lines == [("info", "task.done"), ("warning", "mongo.away"), ("warning", "task.bug")]


def test_of_two_readers_of_one_nsqd_one_says_what_hinders(tmp_path: Path) -> None:
    log: Any = Log()
    witness = Witnesses(log, NoMeter(), Beat(tmp_path, "w"), lambda: True)
    for said in ("nsqd is away", "nsqd is away", "nsqlookupd is away"):
        witness.trouble(said)
    assert log.lines == [("warning", "nsq.trouble")] * 2


def _hand(path: str) -> Hand:
    delivery: Any = None
    return Hand(delivery, Task("j", path, 0, (), False, "single", None, None, b"{}"))


@pytest.mark.parametrize(
    ("phase", "limit_s"), [(Phase.LOOKING, LIMIT_S), (Phase.SAVING, LIMIT_S), (Phase.OCR, 1000 + MARGIN_S)]
)
def test_a_task_that_does_not_get_on_silences_its_worker(tmp_path: Path, phase: Phase, limit_s: float) -> None:
    clock, hand, other = Clock(), _hand("B/x.pdf"), _hand("B/y.pdf")
    hands = [other, hand]
    hand.phase, other.phase = phase, Phase.WAITING
    stuck = Stuck(lambda: hands, lambda: 1000.0, clock)
    log: Any = Log()
    beat = Beat(tmp_path, "w", every_s=0)
    witness = Witnesses(log, NoMeter(), beat, lambda: True, stuck=stuck)

    def beats(after_s: float) -> bool:
        clock.now += after_s
        before = beat.last.number
        witness.beat({"state": "idle"})
        return beat.last.number > before

    assert beats(0)
    assert beats(limit_s - 1)
    assert not beats(2)
    assert not beats(2)
    assert log.lines == [("warning", "worker.stuck")]
    hand.phase = Phase.QUEUED
    assert beats(10 * limit_s), "waiting is bounded by others"
    hand.phase = phase
    assert beats(0)
    hands.remove(hand)
    assert beats(10 * limit_s)
