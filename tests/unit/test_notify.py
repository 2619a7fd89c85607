"""What the service manager is told, received on a real datagram socket."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd import notify
from syncd.notify import Notifier, watchdog_interval_s


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sun_path, wherever the tests' own folders lie."""
    with tempfile.TemporaryDirectory(prefix="n") as name:
        yield Path(name)


@pytest.fixture
def manager(folder: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(10)
        yield listening


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_every_message_as_the_manual_spells_it(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    assert notifier.listened_to
    sent = [
        (notifier.ready(), ["READY=1"]),
        (notifier.ready("3 mirrors"), ["READY=1", "STATUS=3 mirrors"]),
        (notifier.status("Bhushanji: हस्तलिखित"), ["STATUS=Bhushanji: हस्तलिखित"]),
        (notifier.status(""), ["STATUS="]),
        (notifier.watchdog(), ["WATCHDOG=1"]),
        (notifier.stopping("a group is committed"), ["STOPPING=1", "STATUS=a group is committed"]),
        (notifier.extend_timeout(1.5), ["EXTEND_TIMEOUT_USEC=1500000"]),
    ]
    for taken, expected in sent:
        assert taken
        assert told(manager) == expected


def test_a_reload_carries_the_monotonic_time(manager: socket.socket) -> None:
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert Notifier({"NOTIFY_SOCKET": manager.getsockname()}).reloading("new configuration")
    reloading, at, status = told(manager)
    assert (reloading, status) == ("RELOADING=1", "STATUS=new configuration")
    name, _, value = at.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_text_cannot_smuggle_in_another_message(manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).status("one\nSTOPPING=1\r\n\ttwo")
    assert told(manager) == ["STATUS=one STOPPING=1 two"]


def test_a_name_that_is_no_text_is_still_sent(manager: socket.socket) -> None:
    assert Notifier({"NOTIFY_SOCKET": manager.getsockname()}).status("page \udc80.jpg")
    assert told(manager) == ["STATUS=page ?.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_address() -> None:
    name = f"syncd-test-{os.getpid()}-{time.monotonic_ns()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind("\0" + name)
        manager.settimeout(10)
        assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert told(manager) == ["READY=1"]


@pytest.mark.parametrize(
    "address", ["", "@", "vsock:2:1234", "relative/notify", "/nowhere/notify", "/" + "x" * 300, "/a\0b"]
)
def test_nobody_listening_is_no_failure(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert not Notifier({}).listened_to


def test_the_process_environment_is_the_default(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    assert Notifier().ready()
    assert told(manager) == ["READY=1"]
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_interval_s() == 1.5


def test_a_manager_that_reads_nothing_costs_a_bounded_time(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "SEND_TIMEOUT_S", 0.05)
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    # the queue of a datagram socket holds a few hundred messages (net.unix.max_dgram_qlen)
    assert not all(notifier.status(f"line {n}") for n in range(100_000))


@pytest.mark.parametrize(
    ("env", "interval_s"),
    [
        ({"WATCHDOG_USEC": "120000000"}, 60),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid())}, 60),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({}, None),
    ],
)
def test_how_often_the_watchdog_is_fed(env: dict[str, str], interval_s: float | None) -> None:
    assert watchdog_interval_s(env) == interval_s
