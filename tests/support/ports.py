"""Loopback ports for the servers of tests and benchmarks."""

from __future__ import annotations

import collections
import contextlib
import os
import secrets
import socket

_LOWEST, _COUNT = 10_000, 20_000
_SHARES = 8  # one for each process that runs tests side by side
_lately: collections.deque[int] = collections.deque(maxlen=500)


def free_port() -> int:
    """Return a loopback TCP port that nobody uses, below the range that the kernel gives to outgoing connections.

    None is given again before hundreds of others were; processes that run tests side by side (the workers of
    pytest-xdist) share none.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    while True:
        port = _LOWEST + _SHARES * secrets.randbelow(_COUNT // _SHARES) + worker
        if port in _lately:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _lately.append(port)
            return port
