"""Real nsqd and nsqlookupd on free loopback ports, built from source (gobuild.py); needs no root and no pytest.

with start_nsqd(directory) as server:
    server.tcp_port
    server.restart(forget=True)       # killed, and started again on the same port with nothing
    server.suspend(); server.resume() # a black hole whose kernel still takes connections
    server.take("topic", "channel", 3)
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.gobuild import Recipe, Workshop, program
from tests.support.ports import free_port

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
HTTP_TIMEOUT_S = 10.0

_GO_MOD = """
module syncd-tests

go 1.21

require github.com/nsqio/nsq v1.3.0

replace github.com/judwhite/go-svc => github.com/mreiferson/go-svc v1.2.2-0.20210815184239-7a96e00010f6
"""


def _build(shop: Workshop) -> None:
    """Build with a go.mod of our own: nsq's has a `replace`, which `go install ...@v1.3.0` refuses."""
    (shop.folder / "go.mod").write_text(_GO_MOD)
    shop.go("install", "github.com/nsqio/nsq/apps/nsqd", "github.com/nsqio/nsq/apps/nsqlookupd")


RECIPE = Recipe("nsq", "1.3.0", programs=("nsqd", "nsqlookupd"), build=_build, inputs=(_GO_MOD,))


@dataclass
class _Server:
    """One program and the arguments that start it again on the same ports."""

    directory: Path
    argv: list[str]
    tcp_port: int
    http_port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.tcp_port)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the program and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.argv[0]} does not come up:\n{self.log[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as an operator does (what is in memory goes to disk); safe to repeat."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once: what it has in memory is lost."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let it hang: connections are still made by the kernel, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not _is_stopped(self.process.pid) and time.monotonic() < deadline:
            time.sleep(0.005)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def http(self, path: str, body: bytes | None = None) -> Any:
        """Ask its HTTP port; return the JSON, or the text where it is none. body: POST."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(url, data=body, method="GET" if body is None else "POST")
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            content = answer.read()
        try:
            return json.loads(content)
        except ValueError:
            return content.decode()

    def _answers(self) -> bool:
        try:
            return bool(self.http("/ping") == "OK")
        except (OSError, urllib.error.URLError):
            return False

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)


def _is_stopped(pid: int) -> bool:
    """Say whether each thread has stopped: on a busy machine one may run for a while after SIGSTOP (proc(5), state)."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        time.sleep(0.2)
        return True
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir())


class LookupdServer(_Server):
    """One running nsqlookupd."""


class NsqdServer(_Server):
    """One running nsqd."""

    def restart(self, *, forget: bool = False) -> None:
        """Stop and start it on the same ports; forget: it is killed, and what it had on disk goes too."""
        self.kill() if forget else self.stop()
        if forget:
            shutil.rmtree(self.directory / "queue")
            (self.directory / "queue").mkdir()
        self.start()

    def publish(self, topic: str, *bodies: bytes) -> None:
        """Publish over HTTP, as another program would."""
        for body in bodies:
            self.http(f"/pub?topic={topic}", body)

    def channels(self, topic: str) -> dict[str, Mapping[str, Any]]:
        """Return the channels of a topic, each with its depth, in_flight_count, message_count ..."""
        found = self.http(f"/stats?format=json&topic={topic}")["topics"]
        return {each["channel_name"]: each for topic_ in found for each in topic_["channels"]}

    def depth(self, topic: str) -> int:
        """Return how many messages of a topic wait for its first channel."""
        found = self.http(f"/stats?format=json&topic={topic}")["topics"]
        return sum(int(each["depth"]) for each in found)

    def make_channel(self, topic: str, channel: str) -> None:
        """Make a topic and a channel, where messages then wait."""
        self.http(f"/topic/create?topic={topic}", b"")
        self.http(f"/channel/create?topic={topic}&channel={channel}", b"")

    def take(self, topic: str, channel: str, count: int, *, within_s: float = 20.0) -> list[bytes]:
        """Read and finish `count` messages; fewer when no more came within the time."""
        with Consumer(self.tcp_port, topic, channel) as consumer:
            return consumer.take(count, within_s)

    def take_all(self, topic: str, channel: str, *, quiet_s: float = 0.5) -> list[bytes]:
        """Read and finish what a channel has, until `quiet_s` brings no more."""
        with Consumer(self.tcp_port, topic, channel) as consumer:
            return consumer.take(1 << 30, quiet_s, quiet=True)


class Consumer:
    """A consumer in a few lines, to be sure that what is tested is not tested with itself. NSQ's TCP protocol spec."""

    def __init__(self, port: int, topic: str, channel: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._buffer = b""
        wishes = b'{"output_buffer_size": -1, "output_buffer_timeout": -1}'  # nsqd waits 250 ms for more, else
        self._socket.sendall(b"  V2IDENTIFY\n" + struct.pack(">i", len(wishes)) + wishes)
        self._socket.sendall(f"SUB {topic} {channel}\nRDY 2500\n".encode())

    def take(self, count: int, within_s: float, *, quiet: bool = False) -> list[bytes]:
        """Read and finish messages, in the order in which nsqd sends them; quiet: the time counts from the last."""
        found: list[bytes] = []
        deadline = time.monotonic() + within_s
        while len(found) < count and (frame := self._frame(deadline)) is not None:
            kind, payload = frame
            if kind == 2:
                self._socket.sendall(b"FIN " + payload[10:26] + b"\n")
                found.append(payload[26:])
                deadline = time.monotonic() + within_s if quiet else deadline
            elif payload == b"_heartbeat_":
                self._socket.sendall(b"NOP\n")
            elif kind == 1:
                raise RuntimeError(f"nsqd: {payload!r}")
        self._settle(deadline)
        return found

    def _settle(self, deadline: float) -> None:
        """Wait until nsqd has read the last FIN: it answers an unknown command after it."""
        self._socket.sendall(b"HELLO\n")
        deadline = max(deadline, time.monotonic() + 5)
        while (frame := self._frame(deadline)) is not None and frame[0] != 1:
            pass

    def _frame(self, deadline: float) -> tuple[int, bytes] | None:
        header = self._read(8, deadline)
        if header is None:
            return None
        size, kind = struct.unpack(">ii", header)
        payload = self._read(size - 4, deadline)
        return None if payload is None else (kind, payload)

    def _read(self, size: int, deadline: float) -> bytes | None:
        while len(self._buffer) < size:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            if not piece:
                return None
            self._buffer += piece
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextlib.contextmanager
def start_lookupd(base: Path) -> Iterator[LookupdServer]:
    """Run nsqlookupd until the block ends."""
    directory = base / f"nsqlookupd-{free_port()}"
    directory.mkdir(parents=True)
    tcp, http = free_port(), free_port()
    argv = [program(RECIPE, "nsqlookupd"), f"-tcp-address=127.0.0.1:{tcp}", f"-http-address=127.0.0.1:{http}"]
    server = LookupdServer(directory, argv, tcp, http)
    yield from _running(server)


@contextlib.contextmanager
def start_nsqd(
    base: Path, *, lookupd: LookupdServer | None = None, broadcast: str = "127.0.0.1", options: Mapping[str, str] = {}
) -> Iterator[NsqdServer]:
    """Run nsqd until the block ends.

    broadcast: what nsqlookupd is told; 127.0.0.9, where nothing listens, shows who believes it. options: more flags.
    """
    tcp, http = free_port(), free_port()
    directory = base / f"nsqd-{tcp}"
    (directory / "queue").mkdir(parents=True)
    flags = {
        "tcp-address": f"127.0.0.1:{tcp}",
        "http-address": f"127.0.0.1:{http}",
        "broadcast-address": broadcast,
        "data-path": str(directory / "queue"),
        **({"lookupd-tcp-address": f"127.0.0.1:{lookupd.tcp_port}"} if lookupd else {}),
        **options,
    }
    argv = [program(RECIPE, "nsqd"), *(f"-{name}={value}" for name, value in flags.items())]
    yield from _running(NsqdServer(directory, argv, tcp, http))


def _running(server: Any) -> Iterator[Any]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
