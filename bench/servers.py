"""The servers of one benchmark: smbd with and without encryption, an rsync daemon, and latency in front of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.measure import BenchError
from tests.support.faultproxy import proxy_process
from tests.support.ports import free_port
from tests.support.smbd import SmbServer, start_smbd

READY_TIMEOUT_S = 10.0
MODULE = "corpora"
SIGNED = {"server signing": "mandatory"}
ENCRYPTED = {**SIGNED, "server smb encrypt": "required"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a contestant finds the corpora; rsync_port is 0 when there is no rsync."""

    server: SmbServer
    smb_port: int
    rsync_port: int


@dataclass
class Servers:
    """Starts each server when it is first asked for; all end with the block. Every share is `corpora` as a whole."""

    corpora: Path
    base: Path
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _smbd: dict[bool, SmbServer] = field(default_factory=dict)
    _rsync_port: int = -1
    _proxies: dict[tuple[int, int], int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(None, None, None)

    def endpoint(self, *, rtt_ms: int, encrypt: bool) -> Endpoint:
        """Return ports that answer after `rtt_ms` milliseconds (0: the servers' own)."""
        server = self._server(encrypt)
        return Endpoint(server, self._through(server.port, rtt_ms), self._through(self._rsync(), rtt_ms))

    def _server(self, encrypt: bool) -> SmbServer:
        if encrypt not in self._smbd:
            base = self.base / ("enc" if encrypt else "plain")
            base.mkdir()
            options = ENCRYPTED if encrypt else SIGNED
            self._smbd[encrypt] = self._stack.enter_context(start_smbd(base, root=self.corpora, options=options))
        return self._smbd[encrypt]

    def _through(self, port: int, rtt_ms: int) -> int:
        if not rtt_ms or not port:
            return port
        if (port, rtt_ms) not in self._proxies:
            proxy = proxy_process(("127.0.0.1", port), latency_s=rtt_ms / 2000)
            self._proxies[port, rtt_ms] = self._stack.enter_context(proxy)
        return self._proxies[port, rtt_ms]

    def _rsync(self) -> int:
        if self._rsync_port < 0:
            self._rsync_port = self._stack.enter_context(_rsync_daemon(self.corpora, self.base))
        return self._rsync_port


@contextlib.contextmanager
def _rsync_daemon(corpora: Path, base: Path) -> Iterator[int]:
    program = shutil.which("rsync")
    if program is None:
        yield 0
        return
    port = free_port()
    lines = ["use chroot = no", f"log file = {base / 'rsyncd.log'}", f"[{MODULE}]", f"path = {corpora}"]
    if os.geteuid() == 0:
        lines += ["uid = root", "gid = root"]
    config = base / "rsyncd.conf"
    config.write_text("\n".join([*lines, "read only = yes"]) + "\n")
    argv = [program, "--daemon", "--no-detach", f"--config={config}", "--address=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        _wait_ready(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(READY_TIMEOUT_S)


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise BenchError("the rsync daemon did not come up")
