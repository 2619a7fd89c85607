"""What a proxy costs: the same work through nothing, through socat as the deployment's image runs it, through two of
them in a row, and through HAProxy with deploy/proxy/haproxy.cfg as it is.

Three things, on loopback: a message of 658 bytes to a real nsqd and its OK, on a connection that stands; a new
connection until nsqd has greeted; and a file sent over plain TCP, with the CPU time that the proxies took for it. The
ways take turns within each run. The topic is an ephemeral one, so that nsqd writes nothing to disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from bench.measure import BenchError
from bench.row import say
from tests.support.gobuild import BuildFailed, built
from tests.support.nsqd import RECIPE, NsqdServer, start_nsqd
from tests.support.ocr_site import descendants
from tests.support.ports import free_port

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
TOPIC = "bench#ephemeral"
BODY_BYTES = 658
"""Of an announcement, on average."""
GIB = 1 << 30
TIMEOUT_S = 30.0
TRANSFER_TIMEOUT_S = 300.0
_PIECE_BYTES = 1 << 20
_PUB = f"PUB {TOPIC}\n".encode() + struct.pack(">i", BODY_BYTES) + bytes(BODY_BYTES)
_WISHES = b'{"heartbeat_interval": -1}'
_HELLO = b"  V2IDENTIFY\n" + struct.pack(">i", len(_WISHES)) + _WISHES
_OK = struct.pack(">ii", 6, 0) + b"OK"


class Amounts(NamedTuple):
    """How much is done in one run of each way. bytes: of the file."""

    messages: int
    connections: int
    bytes: int


FULL = Amounts(messages=2_000, connections=100, bytes=256 << 20)
QUICK = Amounts(messages=100, connections=10, bytes=16 << 20)


@dataclass(slots=True)
class Cost:
    """What one way took, in seconds, each time. cpu_s: of its proxies, for all transfers together."""

    file_bytes: int
    messages_s: list[float] = field(default_factory=list)
    connections_s: list[float] = field(default_factory=list)
    transfers_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def mib_per_s(self) -> float:
        return self.file_bytes / (1 << 20) / statistics.median(self.transfers_s)

    @property
    def cpu_s_per_gib(self) -> float:
        return self.cpu_s / (self.file_bytes * len(self.transfers_s) / GIB)

    def as_json(self) -> dict[str, object]:
        return {
            "messages": len(self.messages_s),
            "message_p50_ms": round(quantile_ms(self.messages_s, 50), 4),
            "message_p99_ms": round(quantile_ms(self.messages_s, 99), 4),
            "connections": len(self.connections_s),
            "connection_p50_ms": round(quantile_ms(self.connections_s, 50), 4),
            "connection_p99_ms": round(quantile_ms(self.connections_s, 99), 4),
            "file_bytes": self.file_bytes,
            "transfers_s": [round(each, 4) for each in self.transfers_s],
            "mib_per_s": round(self.mib_per_s, 1),
            "proxy_cpu_s_per_gib": round(self.cpu_s_per_gib, 3),
        }


class _Way(NamedTuple):
    """Where nsqd and the file are found. pids: of the proxies in front of the file."""

    nsqd: int
    file: int
    pids: tuple[int, ...]


def quantile_ms(times_s: list[float], percent: int) -> float:
    """Return a percentile in milliseconds."""
    return sorted(times_s)[(len(times_s) - 1) * percent // 100] * 1000


def measure(folder: Path, runs: int, amounts: Amounts = FULL) -> dict[str, Cost]:
    """Measure each way `runs` times, in turns. folder: takes the file and nsqd's log."""
    try:
        built(RECIPE)
    except BuildFailed as error:
        raise BenchError(f"nsqd cannot be built: {error}") from error
    with contextlib.ExitStack() as stack:
        nsqd = stack.enter_context(start_nsqd(folder))
        ways = _ways(stack, nsqd.tcp_port, stack.enter_context(_file_server(folder / "file", amounts.bytes)))
        costs = {name: Cost(amounts.bytes) for name in ways}
        lines = {name: stack.enter_context(_greeted(way.nsqd)) for name, way in ways.items()}
        for run in range(runs):
            for name, way in ways.items():
                say(f"proxy: {name}, run {run + 1} of {runs}")
                _measure_once(way, lines[name], amounts, costs[name])
        _require_arrived(nsqd, runs * len(ways) * amounts.messages)
    return costs


def _measure_once(way: _Way, line: socket.socket, amounts: Amounts, cost: Cost) -> None:
    cost.messages_s += [_timed(lambda: _publish(line)) for _ in range(amounts.messages)]
    cost.connections_s += [_timed(lambda: _greeted(way.nsqd).close()) for _ in range(amounts.connections)]
    wall_s, cpu_s = _fetch(way, amounts.bytes)
    cost.transfers_s.append(wall_s)
    cost.cpu_s += cpu_s


def _require_arrived(nsqd: NsqdServer, messages: int) -> None:
    topics = nsqd.http(f"/stats?format=json&topic={quote(TOPIC)}")["topics"]
    arrived = sum(each["message_count"] for each in topics or ())
    if arrived != messages:
        raise BenchError(f"{arrived} of {messages} messages arrived")


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# --- the work --------------------------------------------------------------------------------------------------------


def _greeted(port: int) -> socket.socket:
    """Return a connection to nsqd that has been greeted: what lies between is set up, all the way."""
    line = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(_HELLO)
    _expect_ok(line)
    return line


def _publish(line: socket.socket) -> None:
    line.sendall(_PUB)
    _expect_ok(line)


def _expect_ok(line: socket.socket) -> None:
    if (said := line.recv(len(_OK), socket.MSG_WAITALL)) != _OK:
        raise BenchError(f"nsqd answered {said!r}")


def _fetch(way: _Way, size: int) -> tuple[float, float]:
    """Have the file sent once; return wall time, and CPU time of the proxies."""
    piece = bytearray(_PIECE_BYTES)
    before = _cpu_s(way.pids)
    with socket.create_connection(("127.0.0.1", way.file), timeout=TRANSFER_TIMEOUT_S) as line:
        began = time.perf_counter()
        line.sendall(b"?")
        left = size
        while left and (count := line.recv_into(piece)):
            left -= count
        wall_s = time.perf_counter() - began
        if left:
            raise BenchError(f"{left:,} of {size:,} bytes did not come")
        return wall_s, _cpu_s(way.pids) - before  # while socat's child is there: it takes its figures along


def _cpu_s(pids: tuple[int, ...]) -> float:
    """Return the CPU time of processes, their threads and children that are there."""
    every = {pid for each in pids for pid in (each, *descendants(each))}
    total_ns = 0
    for pid in every:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # a child that ends meanwhile
                total_ns += int(task.read_text().split()[0])
    return total_ns / 1e9


@contextlib.contextmanager
def _file_server(path: Path, size: int) -> Iterator[int]:
    """Send a file to everyone who asks with a byte, one after the other; yields the port."""
    block = os.urandom(min(size, 16 << 20))
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, path), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends accept()
            thread.join(TIMEOUT_S)


def _serve(listener: socket.socket, path: Path) -> None:
    while True:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        with line, path.open("rb") as file, contextlib.suppress(OSError):
            line.settimeout(TRANSFER_TIMEOUT_S)
            if line.recv(1):  # else it was a health check
                line.sendfile(file)
                line.shutdown(socket.SHUT_WR)
                line.recv(1)


# --- the proxies -----------------------------------------------------------------------------------------------------


def _ways(stack: contextlib.ExitStack, nsqd: int, file: int) -> dict[str, _Way]:
    """Start all proxies, in the order in which one leads to another."""
    nsqd_once, _ = stack.enter_context(_socat(nsqd))
    nsqd_twice, _ = stack.enter_context(_socat(nsqd_once))
    file_once, first = stack.enter_context(_socat(file))
    file_twice, second = stack.enter_context(_socat(file_once))
    return {
        "no proxy": _Way(nsqd, file, ()),
        "socat": _Way(nsqd_once, file_once, (first,)),
        "socat twice": _Way(nsqd_twice, file_twice, (first, second)),
        "HAProxy": stack.enter_context(_haproxy(nsqd, file)),
    }


@contextlib.contextmanager
def _socat(target: int) -> Iterator[tuple[int, int]]:
    """Run the command of the deployment's proxy image; yields port and pid."""
    _program("socat")
    image = (DEPLOY / "images" / "proxy.Dockerfile").read_text()
    argv = json.loads(image.partition("\nCMD [")[2].join("[\n"))
    port = free_port()
    env = {"LISTEN": f"{port},bind=127.0.0.1", "UPSTREAM": f"127.0.0.1:{target}"}
    with _running(argv, env, (port,)) as pid:
        yield port, pid


@contextlib.contextmanager
def _haproxy(nsqd: int, file: int) -> Iterator[_Way]:
    """Run HAProxy with the deployment's own configuration, the file in the place of the share; no stand-by is up."""
    binds = {name: free_port() for name in ("NSQD", "NSQLOOKUPD", "MONGODB", "SAMBA")}
    ports = {f"{name}_BIND_PORT": port for name, port in binds.items()}
    ports |= {f"{name}{kind}_PORT": free_port() for name in binds for kind in ("", "_STANDBY")}
    ports |= {"NSQD_PORT": nsqd, "SAMBA_PORT": file, "STATS_PORT": free_port()}
    env = {"PRIMARY": "127.0.0.1", "STANDBY": "127.0.0.1", **{name: str(port) for name, port in ports.items()}}
    argv = [_program("haproxy"), "-db", "-f", str(DEPLOY / "proxy" / "haproxy.cfg")]
    with _running(argv, env, (binds["NSQD"], binds["SAMBA"])) as pid:
        yield _Way(binds["NSQD"], binds["SAMBA"], (pid,))


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if found is None:
        raise BenchError(f"{name} is not installed (Debian package {name})")
    return found


@contextlib.contextmanager
def _running(argv: list[str], env: Mapping[str, str], ports: tuple[int, ...]) -> Iterator[int]:
    """Run a proxy until the block ends, with the children that it has then; yields its pid once all ports answer."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, env={**os.environ, **env}, stdin=quiet, stderr=quiet, start_new_session=True)
    try:
        for port in ports:
            _wait_until_listening(process, port)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT_S)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise BenchError(f"{process.args!r} does not listen on port {port}")
