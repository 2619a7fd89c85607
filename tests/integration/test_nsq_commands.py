"""`syncd announce` and `syncd events` as processes: with a real nsqd, without a daemon and with one."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from syncd.client.address import SOCKET
from syncd.store.state import StateDirectory
from syncd.web.server import ApiServer
from tests.support.cli import COMMAND, Syncd
from tests.support.fake_service import FakeService
from tests.support.nsqd import NsqdServer, start_nsqd

TOPIC = "file_sync_ready"
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def nsqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsqdServer]:
    with start_nsqd(tmp_path_factory.mktemp("nsqd")) as server:
        yield server


@pytest.fixture
def syncd(tmp_path: Path) -> Syncd:
    return mirrored(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Syncd:
    """One host for the tests that look only at what they add."""
    return mirrored(tmp_path_factory.mktemp("host"))


def mirrored(base: Path) -> Syncd:
    """Return a host that has mirrored four files; nothing is sent yet, since no nsqd is configured."""
    share = base / "share"
    for path in ("a.pdf", "hin-typed/x 1 .JPG", "hin-typed/deep/y.jpg", "z.jpg"):
        (share / path).parent.mkdir(parents=True, exist_ok=True)
        (share / path).write_bytes(path.encode())
        os.utime(share / path, (10**9, 10**9))
    host = Syncd(base)
    host.add_mirror("Bhushanji", f"file://{share}", base / "data" / "Bhushanji")
    assert host.run_once().code == 0
    return host


def use_nsq(host: Syncd, port: int, topic: str = TOPIC, more: str = "") -> None:
    with host.config.open("a") as config:
        config.write(f'[nsq]\nnsqd_tcp_address = "127.0.0.1:{port}"\ntopic = "{topic}"\n{more}\n')


def feed(host: Syncd, *words: str) -> list[dict[str, Any]]:
    done = host("events", "--no-follow", "--json", *words)
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def key(event: dict[str, Any]) -> tuple[str, str]:
    return event["event"], event["path"]


# --- announce, without a daemon


def test_announced_again_with_the_same_ids(syncd: Syncd, nsqd: NsqdServer) -> None:
    topic = "again"
    nsqd.make_channel(topic, "c")
    use_nsq(syncd, nsqd.tcp_port, topic)
    first = {event["id"] for event in feed(syncd)}
    assert len(first) == 4
    done = syncd("announce", "--all")
    assert done.code == 0, done.err
    assert done.out == "4 announced again\n"
    sent = [json.loads(body) for body in nsqd.take_all(topic, "c")]
    assert {message["id"] for message in sent} == first
    assert {message["event"] for message in sent} == {"ready"}
    events = feed(syncd)
    assert {event["id"] for event in events} == first
    assert len(events) == 8
    assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[0]["seq"] + 8))


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["--path", "Bhushanji/a.pdf"], {"a.pdf"}),
        (["--path", "/app/Bhushanji/hin-typed"], {"hin-typed/x 1 .JPG", "hin-typed/deep/y.jpg"}),
        (["--path", "z.jpg", "--path", "hin-typed/deep"], {"z.jpg", "hin-typed/deep/y.jpg"}),
        (["--path", "hin-typed/deep", "--mirror", "Bhushanji"], {"hin-typed/deep/y.jpg"}),
        (["--since", "15m"], {"a.pdf", "z.jpg", "hin-typed/x 1 .JPG", "hin-typed/deep/y.jpg"}),
        (["--since", "15m", "--path", "hin-typed"], {"hin-typed/x 1 .JPG", "hin-typed/deep/y.jpg"}),
        (["--since", "2199-01-01T00:00"], set()),
        (["--all", "--mirror", "Bhushanji"], {"a.pdf", "z.jpg", "hin-typed/x 1 .JPG", "hin-typed/deep/y.jpg"}),
    ],
)
def test_what_is_chosen(shared: Syncd, words: list[str], paths: set[str]) -> None:
    last = feed(shared)[-1]["seq"]
    done = shared("announce", *words)
    assert done.code == 0, done.err
    assert done.out == f"{len(paths)} announced again in the feed (syncd events)\n"
    assert {event["path"] for event in feed(shared, "--since", str(last))} == paths


def test_since_tells_what_was_removed_too(syncd: Syncd) -> None:
    (syncd.base / "share" / "z.jpg").unlink()
    assert [syncd.run_once().code for _ in range(2)] == [0, 0]
    removed = feed(syncd)[-1]
    assert key(removed) == ("removed", "z.jpg")
    done = syncd("announce", "--since", "15m", "--json")
    assert done.json == {"announced_again": 4, "still_owed": 0, "daemon": False, "announce": "local"}
    again = feed(syncd, "--since", str(removed["seq"]))
    assert sorted(map(key, again)) == [
        ("ready", "a.pdf"),
        ("ready", "hin-typed/deep/y.jpg"),
        ("ready", "hin-typed/x 1 .JPG"),
        ("removed", "z.jpg"),
    ]
    assert next(event for event in again if event["path"] == "z.jpg")["id"] == removed["id"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--since", "soon"],
        ["--path", "nowhere/x.pdf"],
        ["--path", ""],
        ["--all", "--since", "1h"],
        ["--all", "--mirror", "other"],
    ],
)
def test_what_cannot_be_chosen_is_said(shared: Syncd, words: list[str]) -> None:
    last = feed(shared)[-1]["seq"]
    done = shared("announce", *words)
    assert done.code == 2
    assert "  next: " in done.err or "leave out" in done.err
    assert feed(shared)[-1]["seq"] == last


def test_nsqd_away_is_told_and_nothing_is_lost(syncd: Syncd, nsqd: NsqdServer) -> None:
    use_nsq(syncd, 1)
    done = syncd("announce", "--path", "a.pdf")
    assert done.code == 3
    assert "still owed" in done.out
    text = syncd.config.read_text()
    syncd.config.write_text(text.replace("127.0.0.1:1", f"127.0.0.1:{nsqd.tcp_port}").replace(TOPIC, "away"))
    nsqd.make_channel("away", "c")
    assert syncd("announce", "--path", "a.pdf").code == 0
    sent = [json.loads(body)["path"] for body in nsqd.take_all("away", "c")]
    assert sent.count("a.pdf") == 3
    assert len(sent) == 6


def test_off_means_off(syncd: Syncd, nsqd: NsqdServer) -> None:
    nsqd.make_channel("off", "c")
    use_nsq(syncd, nsqd.tcp_port, "off", 'announce = "off"')
    done = syncd("announce", "--all")
    assert done.code == 0
    assert "nothing is sent" in done.out
    assert nsqd.take_all("off", "c") == []


def test_beside_another_syncd_it_waits_for_nobody(syncd: Syncd) -> None:
    with StateDirectory.open(syncd.state, create=False).lock():
        done = syncd("announce", "--all")
    assert done.code == 11
    assert str(os.getpid()) in done.err


# --- events, without a daemon


def test_events_for_people(syncd: Syncd) -> None:
    done = syncd("events", "--no-follow")
    assert done.code == 0
    assert len(done.out.splitlines()) == 4
    assert "ready    Bhushanji/hin-typed/x 1 .JPG  18 B" in done.out


def test_a_gap_is_shown(syncd: Syncd) -> None:
    events = feed(syncd)
    with closing(sqlite3.connect(syncd.state / "catalogue.db")) as db, db:
        db.execute("DELETE FROM outbox WHERE seq <= ?", (events[2]["seq"],))
    gap, rest = feed(syncd, "--since", str(events[0]["seq"]))
    assert gap == {"gap": {"after": events[0]["seq"], "oldest": events[3]["seq"]}}
    assert rest == events[3]
    assert "-- a gap" in syncd("events", "--no-follow", "--since", str(events[0]["seq"])).out
    assert feed(syncd) == [events[3]], "from the beginning there is none"
    gap, rest = feed(syncd, "--since", str(events[3]["seq"] + 10**6))
    assert rest == events[3], "a number that was never given is of another catalogue"


class Following:
    """`syncd events` that goes on."""

    def __init__(self, host: Syncd, *words: str) -> None:
        argv = [*COMMAND, "-c", str(host.config), "events", *words]
        self._path = host.base / "events.out"
        self._out = self._path.open("w")
        self.process = subprocess.Popen(argv, stdout=self._out, stderr=subprocess.STDOUT)

    @property
    def lines(self) -> list[str]:
        # opened anew: a seek on a handle that the process has too would move where it writes
        return self._path.read_text().splitlines()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._out.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_followed_from_a_number_on(syncd: Syncd) -> None:
    first = feed(syncd)[0]["seq"]
    with Following(syncd, "--json", "--since", str(first)) as following:
        until(lambda: len(following.lines) == 3)
        assert syncd("announce", "--path", "a.pdf").code == 0
        until(lambda: len(following.lines) == 4)
        assert json.loads(following.lines[-1])["path"] == "a.pdf"
        assert following.interrupt() == 130


# --- with a daemon


@pytest.fixture
def daemon(syncd: Syncd) -> Iterator[FakeService]:
    service = FakeService()
    server = ApiServer(service, syncd.state / SOCKET)
    server.start()
    yield service
    server.close()


def test_the_daemon_is_asked_to_announce(syncd: Syncd, daemon: FakeService) -> None:
    words = ["--since", "2026-01-01T00:00:00+05:30", "--path", "hin-typed", "--mirror", "Bhushanji", "--json"]
    done = syncd("announce", *words)
    assert done.code == 0, done.err
    assert done.json["daemon"] is True
    wish = {"since": "2025-12-31T18:30:00.000Z", "paths": ["Bhushanji/hin-typed"], "all": False}
    assert daemon.changes == [("announce", wish)]


def test_the_daemons_feed_is_followed_while_it_lives(syncd: Syncd, daemon: FakeService) -> None:
    daemon.hold("before.pdf")
    with Following(syncd, "--json") as following:
        until(lambda: daemon.calls["events"] >= 2)
        daemon.hold("a.pdf")
        until(lambda: len(following.lines) == 1)
        daemon.announce_event("removed", "a.pdf")
        until(lambda: len(following.lines) == 2)
        assert [key(json.loads(line)) for line in following.lines] == [("ready", "a.pdf"), ("removed", "a.pdf")]
        assert following.interrupt() == 130


# --- the topic


def test_the_topic_is_read_by_name(syncd: Syncd, nsqd: NsqdServer) -> None:
    nsqd.make_channel("named", "mine")
    use_nsq(syncd, nsqd.tcp_port, "named")
    for _ in range(2):
        assert syncd("announce", "--all").code == 0
    done = syncd("events", "--nsq", "mine", "--no-follow", "--json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(map(key, events)) == sorted(map(key, feed(syncd)[:4])), "each once, though it was sent twice"
    assert "seq" not in events[0]
    assert nsqd.channels("named")["mine"]["depth"] == 0


def test_the_topic_needs_an_nsqd_and_has_no_numbers(syncd: Syncd) -> None:
    assert syncd("events", "--nsq", "mine").code == 2
    assert syncd("events", "--nsq", "mine", "--since", "5").code == 2
