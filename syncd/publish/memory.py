"""A publisher in memory: the reference for ports.Publisher, with a script of faults. It stands for an nsqd.

publisher = MemoryPublisher()
publisher.script("rLD")     # the next is right, the one after is lost, then one arrives that says it failed
publisher.accepted          # what arrived, in order, as (topic, body)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from syncd.core.errors import PublishFailed

MESSAGE_BYTES_MAX = 1 << 20


class MemoryPublisher:
    """Takes announcements as nsqd does. Knobs: script(), hold(), restart(), down; counters: connections, calls."""

    def __init__(self) -> None:
        self.connections = 0
        self.calls = 0
        self.accepted: list[tuple[str, bytes]] = []
        self.down = False
        self._script: deque[str] = deque()
        self._connected = False
        self._closed = threading.Event()
        self._free = threading.Event()
        self._free.set()

    # --- knobs

    def script(self, calls: str) -> None:
        """Fix how the next calls end, one letter a call. After the last letter all is right again.

        "r" right, "L" nothing arrives and it fails, "H" half of it arrives and it fails, "D" (done) all of it arrives
        and it fails.
        """
        if set(calls) - set("rLHD"):
            raise ValueError(f"a script has the letters r, L, H and D, not {calls!r}")
        self._script = deque(calls)

    def hold(self) -> None:
        """Let calls wait from now on, until release() or close()."""
        self._free.clear()

    def release(self) -> None:
        """Let calls go on."""
        self._free.set()

    def restart(self, *, forget: bool = False) -> None:
        """End the connection, as a restarted nsqd does; forget: with all that it had accepted."""
        self._connected = False
        if forget:
            self.accepted.clear()

    def bodies(self, topic: str) -> list[bytes]:
        """Return what arrived on one topic."""
        return [body for on, body in self.accepted if on == topic]

    # --- ports.Publisher

    def publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        self.calls += 1
        self._free.wait()
        self._connect()
        if any(not 0 < len(body) <= MESSAGE_BYTES_MAX for body in bodies):
            raise PublishFailed("a message of that size cannot be sent")
        turn = self._script.popleft() if self._script and bodies else "r"
        arriving = {"r": len(bodies), "L": 0, "H": len(bodies) // 2, "D": len(bodies)}[turn]
        self.accepted += [(topic, body) for body in bodies[:arriving]]
        if turn != "r":
            self._connected = False
            raise PublishFailed("nsqd in memory: the script says so")

    def close(self) -> None:
        self._closed.set()
        self._connected = False
        self._free.set()

    def _connect(self) -> None:
        if self._closed.is_set():
            raise PublishFailed("nsqd in memory: the publisher was closed")
        if self.down:
            self._connected = False
            raise PublishFailed("nsqd in memory: connection refused")
        if not self._connected:
            self._connected = True
            self.connections += 1
