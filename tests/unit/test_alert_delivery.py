"""Each channel is told of each alert once, through failures, restarts and damage; the others do not wait for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.alerts.kept import FILE, Kept
from syncd.alerts.model import Notice
from syncd.alerts.queue import _depths
from syncd.alerts.rules import Facts, MirrorFact, Queue
from tests.support.alerting import WELL, Post

HALTED = WELL._replace(mirrors=[MirrorFact("M", "halted", "214 of 412 files gone", "syncd approve --mirror M")])
BUSY = {"channel_name": "c", "depth": 3, "in_flight_count": 4, "deferred_count": 5}
OTHER = {"channel_name": "d"}
DAMAGES = [b"", b"{", b"[]", b'{"watched": 5}', b"\xff\xfe", b'{"watched":{"x":{}},"told":{},"looked":1}']
BOTH = HALTED._replace(mongodb=("down", "refused"))


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    made.channel.release()
    made.close()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_one_beginning_and_one_end(post: Post) -> None:
    post.look(3)
    post.state = HALTED
    post.look(3)
    post.state = WELL
    post.look(3)
    assert post.channel.told == ["+halted M", "-halted M"]
    assert post.logged == ["alert.begun halted M", "alert.over halted M"]


def test_what_begins_together_is_one_message(post: Post) -> None:
    post.state = BOTH
    post.look(2)
    (notice,) = post.channel.taken
    assert {alert.key for alert in notice.begun} == {"halted M", "mongodb"}
    assert notice.host == "one"


def test_a_message_that_is_refused_is_sent_again_and_said_once(post: Post) -> None:
    post.channel.script("EEEEEEr")
    post.state = HALTED
    post.look()
    assert post.channel.told == ["+halted M"]
    assert post.channel.tries == 7
    assert post.troubles == ["webhook: the script says so", "webhook: "]


def test_what_begins_and_ends_while_a_channel_is_away_is_not_told(post: Post) -> None:
    post.channel.script("E" * 10_000)
    post.state = HALTED
    post.look(settle=False)
    wait_for(lambda: post.channel.tries)
    post.state = WELL._replace(mongodb=("down", "refused"))
    post.look(settle=False)
    post.channel.script("")
    post.settle()
    post.look()
    assert post.channel.told == ["+mongodb"], "one message after an outage, whatever happened in it"


def test_pauses_between_tries_grow_to_a_bound_and_differ(post: Post) -> None:
    (delivery,) = post.watch._deliveries
    assert delivery._pause_s() == 0
    pauses = []
    for failures in (1, 2, 3, 30, 300):
        delivery._failures = failures
        pauses.append(delivery._pause_s())
        assert 0 < pauses[-1] <= 0.05
    assert len(set(pauses)) == len(pauses)


def test_a_channel_that_stalls_holds_up_neither_the_looks_nor_the_end(post: Post) -> None:
    post.channel.hold()
    post.state = HALTED
    began = time.monotonic()
    post.look(20, settle=False)
    wait_for(lambda: post.channel.tries)
    post.watch.close()
    assert time.monotonic() - began < 5
    post.channel.release()
    wait_for(lambda: post.kept.told_to("webhook"))


def test_a_restart_tells_nothing_again(post: Post) -> None:
    post.state = HALTED
    post.look(2)
    for _ in range(3):
        post.watch.close()
        post.start()
        post.look(2)
    assert post.channel.told == ["+halted M"]
    post.watch.close()
    post.start()
    post.state = WELL
    post.look(2)
    assert post.channel.told == ["+halted M", "-halted M"], "its end is told by whoever runs then"


def test_what_was_not_delivered_is_delivered_after_the_next_start(post: Post) -> None:
    post.channel.script("E" * 10_000)
    post.state = HALTED
    post.look(settle=False)
    wait_for(lambda: post.channel.tries)
    post.watch.close()
    post.channel.script("")
    post.start()
    post.look()
    assert post.channel.told == ["+halted M"]


@pytest.mark.parametrize("wrong", ["Infinity", "NaN", "1e300", "-1e300"])
@pytest.mark.parametrize("field", ["since", "gone", "ended", "flaps", "looked"])
def test_a_number_in_the_memory_that_is_none_is_damage_too(post: Post, field: str, wrong: str) -> None:
    post.state = HALTED
    post.look(2)
    post.watch.close()
    file = post.base / FILE
    text, changed = re.subn(rf'"{field}": [0-9.e+]+', f'"{field}": {wrong}', file.read_text())
    assert changed
    file.write_text(text)
    post.start()
    post.look(2)
    assert [alert.key for alert in post.kept.alerts()] == ["halted M"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_memory_costs_one_message_at_most(post: Post, damage: bytes) -> None:
    post.state = HALTED
    post.look(2)
    post.watch.close()
    (post.base / FILE).write_bytes(damage)
    post.start()
    post.look(2)
    assert post.channel.told == ["+halted M"] * 2


def test_a_memory_that_cannot_be_written_is_said_and_costs_nothing_meanwhile(post: Post) -> None:
    post.base.joinpath(f"{FILE}.new").mkdir()
    post.state = HALTED
    post.look(3)
    assert post.channel.told == ["+halted M"]
    assert "cannot be written" in post.kept.problem


def test_the_memory_is_the_owners_alone_and_reads_back(post: Post) -> None:
    post.state = BOTH
    post.look(2)
    file = post.base / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    again = Kept(file)
    assert again.watched == post.kept.watched
    assert again.told == post.kept.told
    assert [alert.key for alert in again.alerts()] == ["halted M", "mongodb"]


def test_without_mongodb_each_host_tells_of_nsqd_itself(post: Post) -> None:
    post.state = Facts(nsqd=("down", "refused"))
    post.look(2)
    assert post.channel.told == ["+nsqd"]


@pytest.mark.parametrize(
    ("told", "queue"),
    [
        ({"topics": []}, Queue(0, 0)),
        (
            {"topics": [{"topic_name": "t", "depth": 2, "channels": [BUSY, {**BUSY, "channel_name": "d"}]}]},
            Queue(10, 4),
        ),
        ({"topics": [{"topic_name": "t", "depth": "x", "channels": None}, 5]}, Queue(0, 0)),
        ([], None),
        ({"message": "no"}, None),
    ],
)
def test_what_nsqd_says_of_a_queue(told: object, queue: Queue | None) -> None:
    assert _depths(told, "t", "c") == queue


def test_a_bug_in_a_channel_is_reported_once_and_it_goes_on(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    send, tries = post.channel.send, []

    def broken(notice: Notice) -> None:
        tries.append(notice)
        if len(tries) < 4:
            raise RuntimeError("nobody foresaw this")
        send(notice)

    monkeypatch.setattr(post.channel, "send", broken)
    post.state = HALTED
    post.look()
    assert post.channel.told == ["+halted M"]
    assert [str(error) for error in post.bugs] == ["nobody foresaw this"]
    post.bugs.clear()


def test_a_bug_is_reported_once_and_the_looks_go_on(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def broken() -> None:
        turns.append("look")
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(post.watch, "look", broken)
    post.watch._every_s = 0.01
    post.watch._thread.start()
    wait_for(lambda: len(turns) >= 3)
    post.watch.close()
    assert [str(error) for error in post.bugs] == ["nobody foresaw this"]
    post.bugs.clear()
