"""A consumer that believes nothing: it re-hashes every file that an announcement claims to be ready.

    with Claims(nsqd.tcp_port, "file_sync_ready", {"Bhushanji": target}) as claims:
        ...                                  # syncd runs, is killed, runs again
        claims.wait_for({"Bhushanji": expected_paths})
        assert claims.broken() == []

A claim holds if the file has those bytes when its message is read, or if a later announcement of that path supersedes
it (promise P3): between the message and the look the file may have been replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.nsqd import Consumer

READ_S = 0.2


@dataclass(frozen=True)
class Claim:
    """One announcement, and whether its file was as it said when it was read."""

    mirror: str
    path: str
    event: str
    generation: int
    sha256: str
    id: str
    held: bool


class Claims:
    """Reads a topic in a thread until the block ends; nsqd may be away meanwhile. targets: mirror -> its folder."""

    def __init__(self, port: int, topic: str, targets: Mapping[str, Path], channel: str = "claims") -> None:
        self.claims: list[Claim] = []
        self._port = port
        self._topic = topic
        self._channel = channel
        self._targets = targets
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, name="claims")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def ids(self) -> set[str]:
        return {claim.id for claim in self.claims}

    def newest(self) -> dict[tuple[str, str], Claim]:
        """Return the newest claim of each (mirror, path)."""
        found: dict[tuple[str, str], Claim] = {}
        for claim in list(self.claims):
            key = (claim.mirror, claim.path)
            if key not in found or claim.generation >= found[key].generation:
                found[key] = claim
        return found

    def broken(self) -> list[Claim]:
        """Return the claims that did not hold and that nothing later supersedes."""
        newest = self.newest()
        return [
            claim
            for claim in list(self.claims)
            if not claim.held and newest[claim.mirror, claim.path].generation == claim.generation
        ]

    def wait_for(self, expected: Mapping[str, Collection[str]], within_s: float = 60.0) -> None:
        """Wait until exactly these paths are claimed as held; AssertionError when that does not come."""
        wanted = {(mirror, path) for mirror, paths in expected.items() for path in paths}
        deadline = time.monotonic() + within_s
        while (claimed := {key for key, claim in self.newest().items() if claim.event != "removed"}) != wanted:
            assert time.monotonic() < deadline, f"missing {wanted - claimed}, too many {claimed - wanted}"
            time.sleep(0.05)

    def _read(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, RuntimeError), Consumer(self._port, self._topic, self._channel) as nsqd:
                while not self._ended.is_set():
                    for body in nsqd.take(100, READ_S):
                        self.claims.append(self._checked(json.loads(body)))
            self._ended.wait(READ_S)

    def _checked(self, message: dict[str, Any]) -> Claim:
        fields = (message["mirror"], message["path"], message["event"], message["generation"], message["sha256"])
        return Claim(*fields, message["id"], held=message["event"] == "removed" or self._holds(message))

    def _holds(self, message: dict[str, Any]) -> bool:
        try:
            content = (self._targets[message["mirror"]] / message["path"]).read_bytes()
        except OSError:
            return False
        return len(content) == message["size"] and hashlib.sha256(content).hexdigest() == message["sha256"]
