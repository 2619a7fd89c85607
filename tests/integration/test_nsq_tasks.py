"""The look ahead into the queue of tasks, on a real nsqd: it sees every task, and takes none from the workers."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.publish.nsq import Patience, TaskPeek
from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.socat import start_socat

DEADLINE_S = 20.0
PATIENCE = Patience(connect_s=1.0, reply_s=1.0)
WORKERS = "bulk_ocr_workers"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server:
        yield server


@pytest.fixture
def topic() -> str:
    return f"tasks-{next(_numbers)}"


def task(path: str) -> bytes:
    return json.dumps({"job_id": "j", "file_path": path, "file_index": 0}).encode()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def peek(nsqd: NsqdServer, topic: str) -> Iterator[tuple[TaskPeek, list[str]]]:
    seen: list[str] = []
    made = TaskPeek([nsqd.address], topic, "ab12-cd34-ef56-7890", seen.append, patience=PATIENCE)
    yield made, seen
    made.close()


def test_every_task_is_seen_and_the_workers_get_it_all_the_same(
    nsqd: NsqdServer, topic: str, peek: tuple[TaskPeek, list[str]]
) -> None:
    looking, seen = peek
    assert looking.state.startswith("off: ")
    nsqd.make_channel(topic, WORKERS)
    looking.start()
    until(lambda: looking.state == "on")
    odd = [b"x", b"[]", b'"x"', b"{}", b"\xff", b'{"file_path": 7}', b'{"file_path": ""}', b"[" * 100_000]
    odd += [b'{"file_path": "\\ud800"}', task("x" * 10_000)]
    paths = ["Bhushanji/a.pdf", "/app/Bhushanji/हिन्दी .JPG", "./b.jpg"]
    nsqd.publish(topic, *odd, *map(task, paths))
    until(lambda: len(seen) == 3)
    assert seen == paths
    channels = nsqd.channels(topic)
    assert channels.keys() == {WORKERS, "syncd-ab12cd34ef56#ephemeral"}
    until(lambda: nsqd.channels(topic)["syncd-ab12cd34ef56#ephemeral"]["in_flight_count"] == 0)
    assert nsqd.channels(topic)["syncd-ab12cd34ef56#ephemeral"]["depth"] == 0
    assert len(nsqd.take_all(topic, WORKERS)) == len(odd) + 3
    looking.close()
    until(lambda: nsqd.channels(topic).keys() == {WORKERS})


def test_tasks_that_wait_for_the_first_worker_are_left_to_it(
    nsqd: NsqdServer, topic: str, peek: tuple[TaskPeek, list[str]]
) -> None:
    """A topic without a channel gives all it has kept to the first that comes: that must not be ours."""
    looking, _seen = peek
    nsqd.publish(topic, *(task(f"{n}") for n in range(20)))
    assert nsqd.depth(topic) == 20
    looking.start()
    until(lambda: looking.state == "on")
    assert len(nsqd.take_all(topic, WORKERS)) == 20


def test_a_topic_that_is_not_there_yet(nsqd: NsqdServer, topic: str, peek: tuple[TaskPeek, list[str]]) -> None:
    looking, seen = peek
    looking.start()
    until(lambda: looking.state == "on")
    nsqd.publish(topic, task("a"))
    until(lambda: seen == ["a"])
    assert nsqd.take_all(topic, WORKERS) == [task("a")]


def test_a_flood_of_tasks_is_taken_as_it_comes(nsqd: NsqdServer, topic: str, peek: tuple[TaskPeek, list[str]]) -> None:
    looking, seen = peek
    nsqd.make_channel(topic, WORKERS)
    looking.start()
    until(lambda: looking.state == "on")
    for n in range(0, 10_000, 2_000):
        nsqd.http(f"/mpub?topic={topic}", b"\n".join(task(f"{m}") for m in range(n, n + 2_000)))
    until(lambda: len(seen) == 10_000)
    assert nsqd.channels(topic)[WORKERS]["depth"] == 10_000


def test_connections_are_made_again_and_several_are_read(tmp_path: Path, nsqd: NsqdServer, topic: str) -> None:
    seen: list[str] = []
    with start_nsqd(tmp_path) as other, start_socat(other.tcp_port) as port:
        looking = TaskPeek([nsqd.address, ("127.0.0.1", port)], topic, "ab", seen.append, patience=PATIENCE)
        looking.start()
        until(lambda: looking.state == "on")
        other.stop()
        until(lambda: looking.state.startswith(f"partly: 127.0.0.1:{port}: "))
        nsqd.publish(topic, task("a"))
        until(lambda: seen == ["a"])
        other.start()
        until(lambda: looking.state == "on")
        other.publish(topic, task("b"))
        until(lambda: seen == ["a", "b"])
        looking.close()


def test_closed_at_any_time_it_leaves_nothing(nsqd: NsqdServer, topic: str) -> None:
    before = set(threading.enumerate())
    for pause_s in (*(n / 500 for n in range(20)), 0.3):
        for addresses in ([nsqd.address], [("127.0.0.1", 1)]):
            looking = TaskPeek(addresses, topic, "ab", [].append, patience=PATIENCE)
            looking.start()
            time.sleep(pause_s)
            looking.close()
            looking.close()
    assert set(threading.enumerate()) <= before
