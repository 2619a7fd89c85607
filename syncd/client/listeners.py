"""Who listens where this machine's own programs do, as far as this user may know without being root.

Sources: proc(5) (/proc/net/tcp, /proc/PID/fd), unix(7) (SO_PEERCRED), macOS: lsof(8), unix(4) (LOCAL_PEERPID).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from syncd.client.address import short_path

CONNECT_S = 0.5
LSOF_S = 5.0
_LISTENING = "0A"
_SOL_LOCAL, _LOCAL_PEERPID = 0, 2


class Holder(NamedTuple):
    """Who has an address. pid 0: it is not known, since it is another user's, or in another container."""

    pid: int = 0
    name: str = ""

    def __str__(self) -> str:
        if not self.pid:
            return "another program (this user may not see which)"
        return f"process {self.pid} ({self.name})" if self.name else f"process {self.pid}"


def tcp_holder(port: int) -> Holder:
    """Return who listens on a TCP port of this machine, on whatever address."""
    if sys.platform == "darwin":
        return holder_of_lsof(_lsof(port))
    inodes = {inode for table in ("tcp", "tcp6") for inode in listening_inodes(_lines(f"/proc/net/{table}"), port)}
    return next(_owners(inodes), Holder()) if inodes else Holder()


def socket_holder(path: Path) -> Holder | None:
    """Return who listens at a Unix socket; None where nobody does."""
    try:
        with short_path(path) as name, contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
            end.settimeout(CONNECT_S)
            end.connect(name)
            pid = _peer(end)
    except (TimeoutError, BlockingIOError):
        return Holder()  # so many wait there already
    except OSError:
        return None
    return Holder(pid, _name(pid)) if pid else Holder()


def listening_inodes(lines: Iterable[str], port: int) -> Iterator[str]:
    """Yield the inodes of the sockets in /proc/net/tcp that listen on a port."""
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING and fields[1].rpartition(":")[2] == f"{port:04X}":
            yield fields[9]


def holder_of_lsof(text: str) -> Holder:
    """Read what `lsof -Fpc` prints: a line pPID, then one cNAME."""
    lines = text.splitlines()
    pid = next((line[1:] for line in lines if line.startswith("p") and line[1:].isdecimal()), "")
    name = next((line[1:] for line in lines if line.startswith("c")), "")
    return Holder(int(pid), name) if pid else Holder()


def _owners(inodes: set[str]) -> Iterator[Holder]:
    """Yield the processes that have one of these sockets open; those of other users are passed over."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            folder = f"/proc/{process}/fd"
            if any(_link(f"{folder}/{each}") in wanted for each in os.listdir(folder)):
                yield Holder(int(process), _name(int(process)))


def _link(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return ""


def _name(pid: int) -> str:
    """Return what a process is called: of a Python program the program's name. Arguments are nobody's business."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        first = os.path.basename(words[0])
        if first.startswith("python") and len(words) > 2:
            first = words[2] if words[1] == "-m" else first if words[1].startswith("-") else os.path.basename(words[1])
        return first if first.isprintable() else ""
    return ""


def _lines(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(path).read_text("ascii", "replace").splitlines()
    return []


def _peer(end: socket.socket) -> int:
    """Return the pid of who listens at the other end; 0 where it is in another container, or cannot be told."""
    with contextlib.suppress(OSError, struct.error):
        if sys.platform == "darwin":
            return int(struct.unpack("i", end.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))[0])
        return int(struct.unpack("iii", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    return 0


def _lsof(port: int) -> str:
    command = ["/usr/sbin/lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LSOF_S, check=False)
        return done.stdout.decode(errors="replace")
    return ""
