"""deploy/proxy/haproxy.cfg as it is, before real nsqd: it takes the stand-by when the primary dies, and goes back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nsqd import NsqdServer, start_nsqd
from tests.support.ports import free_port
from tests.support.require import require

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "proxy" / "haproxy.cfg"
PATIENCE_S = 30.0
PORTS = ("NSQLOOKUPD", "MONGODB", "SAMBA")


@contextlib.contextmanager
def haproxy(primary: int, standby: int) -> Iterator[tuple[int, int]]:
    """Run HAProxy over two nsqd; give the port that it listens on for them, and that of its stats page."""
    program = require("haproxy", "haproxy")
    bind, stats = free_port(), free_port()
    ports = {"NSQD_PORT": primary, "NSQD_STANDBY_PORT": standby, "NSQD_BIND_PORT": bind, "STATS_PORT": stats}
    for name in PORTS:
        ports |= {f"{name}{kind}_PORT": free_port() for kind in ("", "_STANDBY", "_BIND")}
    env = {**os.environ, "PRIMARY": "127.0.0.1", "STANDBY": "127.0.0.1", **{k: str(v) for k, v in ports.items()}}
    with subprocess.Popen([program, "-db", "-f", str(CONFIG)], env=env, stderr=subprocess.PIPE) as process:
        try:
            yield bind, stats
        finally:
            process.terminate()


def topics_through(port: int, name: str) -> bool:
    """Say whether the nsqd behind a port takes a message for a topic."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.settimeout(2)
            sock.sendall(b"  V2" + f"PUB {name}\n".encode() + (1).to_bytes(4, "big") + b"x")
            return sock.recv(10)[8:] == b"OK"
    except OSError:
        return False


def topics(server: NsqdServer) -> set[str]:
    return {each["topic_name"] for each in server.http("/stats?format=json")["topics"]}


def until(true: Callable[[], object], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[NsqdServer, NsqdServer]]:
    with contextlib.ExitStack() as stack:
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
        yield tuple(stack.enter_context(start_nsqd(folder)) for folder in folders)  # type: ignore[misc]


def test_the_stand_by_is_taken_and_left_again(pair: tuple[NsqdServer, NsqdServer]) -> None:
    primary, standby = pair
    with haproxy(primary.tcp_port, standby.tcp_port) as (port, stats):
        assert until(lambda: topics_through(port, "first"), PATIENCE_S)
        assert "first" in topics(primary) and "first" not in topics(standby)
        page = urllib.request.urlopen(f"http://127.0.0.1:{stats}/", timeout=5).read()
        assert b"nsqlookupd" in page
        with socket.create_connection(("127.0.0.1", port), timeout=5) as kept:
            kept.sendall(b"  V2")
            primary.kill()
            assert until(lambda: topics_through(port, "second"), PATIENCE_S)
            kept.settimeout(PATIENCE_S)
            with contextlib.suppress(ConnectionError):
                while kept.recv(100):
                    pass  # it is ended, so that its client connects anew
        assert "second" in topics(standby)
        primary.start()
        assert until(lambda: topics_through(port, "third") and "third" in topics(primary), PATIENCE_S)
