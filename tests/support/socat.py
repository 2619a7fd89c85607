"""socat in front of a server, as the deployment has it: TCP4-LISTEN:P,reuseaddr,fork TCP4:HOST:P."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.support.ports import free_port
from tests.support.require import require

READY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


@contextlib.contextmanager
def start_socat(target_port: int, port: int = 0) -> Iterator[int]:
    """Pass connections on to a loopback port until the block ends; yields the port to dial.

    Its children, one a connection, end with it.
    """
    program = require("socat", "socat")
    port = port or free_port()
    argv = [program, f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"TCP4:127.0.0.1:{target_port}"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_listening(process, port)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"socat does not listen on port {port}")
