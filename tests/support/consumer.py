"""A consumer that believes nothing: every announcement that arrives is compared with the bytes on disk at once.

    with Consuming(nsqd.tcp_port, {"M": target}) as consumer:
        ...
        consumer.assert_true()        # P3: those bytes with that SHA-256, or superseded by a later announcement

It reads the topic by a few lines of its own (tests.support.nsqd.Consumer), sees every duplicate, and connects again
where nsqd went away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.nsqd import Consumer

TOPIC = "file_sync_ready"
RUNS_TOPIC = "file_sync_runs"
CHANNEL = "verifier"
FIELDS = (
    "v", "event", "id", "mirror", "path", "server_path", "size", "sha256", "mtime_ns", "generation", "host", "run_id",
    "at",
)  # fmt: skip
"""Of FileReady v1, in its order (DESIGN 4.3)."""

LOOK_S = 0.2
WHOLE_WITHIN_S = 30.0
Key = tuple[str, str]


@dataclass(frozen=True)
class Heard:
    """One announcement as it came. found: the SHA-256 of what lay there at that moment, "" for nothing."""

    event: str
    key: Key
    sha256: str
    generation: int
    id: str
    found: str
    message: Mapping[str, Any]

    @property
    def true_at_once(self) -> bool:
        return self.event == "removed" or self.found == self.sha256


class _Reading(Consumer):
    """Reads one message after the other."""

    def messages(self, ended: threading.Event) -> Iterator[tuple[bytes, bytes]]:
        """Yield (id, body) until `ended`, or the connection is."""
        while not ended.is_set():
            if not self._buffer and not select.select([self._socket], [], [], LOOK_S)[0]:
                continue
            frame = self._frame(time.monotonic() + WHOLE_WITHIN_S)  # once begun, it is read to its end
            if frame is None:
                return
            if frame[0] == 2:
                yield frame[1][10:26], frame[1][26:]
            elif frame[1] == b"_heartbeat_":
                self._socket.sendall(b"NOP\n")

    def finish(self, message_id: bytes) -> None:
        self._socket.sendall(b"FIN " + message_id + b"\n")


class Consuming:
    """Reads the announcements of an nsqd in a thread, as long as the block lasts. targets: mirror -> folder."""

    def __init__(self, port: int, targets: Mapping[str, Path], topic: str = TOPIC, channel: str = CHANNEL) -> None:
        self.heard: list[Heard] = []
        self._port = port
        self._targets = targets
        self._names = (topic, channel)
        self._ended = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="consuming", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._connected.wait(20), "nsqd takes no consumer"
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)

    # -- what came

    def of(self, path: str, mirror: str = "M") -> list[str]:
        """Return the events of one path in the order in which they came, each announcement once."""
        once = {heard.id: heard.event for heard in list(self.heard) if heard.key == (mirror, path)}
        return list(once.values())

    def newest(self) -> dict[Key, Heard]:
        """Return each path's announcement of the highest generation."""
        found: dict[Key, Heard] = {}
        for heard in list(self.heard):
            if heard.key not in found or heard.generation >= found[heard.key].generation:
                found[heard.key] = heard
        return found

    def untrue(self) -> list[Heard]:
        """Return the announcements that were not true when they came, and that no later one supersedes."""
        newest = self.newest()
        doubtful = [heard for heard in list(self.heard) if not heard.true_at_once]
        return [heard for heard in doubtful if newest[heard.key].generation <= heard.generation]

    def unannounced(self, manifest: Mapping[Key, Mapping[str, Any]]) -> list[str]:
        """Return what is held, or was, and of which the newest announcement says something else."""
        newest = self.newest()
        wrong = []
        for key, line in manifest.items():
            heard = newest.get(key)
            told = None if heard is None else (heard.event != "removed", heard.sha256, heard.generation)
            if told != (True, line["sha256"], line["generation"]):
                wrong.append(f"{key}: held {line['sha256'][:8]} {line['generation']}, announced {told}")
        wrong += [f"{key}: not held, announced {h.event}" for key, h in newest.items()
                  if key not in manifest and h.event != "removed"]  # fmt: skip
        return wrong

    def assert_true(self) -> None:
        """Each announcement had the form of FileReady v1, and was true or superseded."""
        for heard in self.heard:
            assert tuple(heard.message) == FIELDS, heard.message
            assert heard.message["server_path"] == "/".join(heard.key)
            named = (heard.message["host"], *heard.key, heard.sha256, str(heard.generation))
            assert heard.id == "|".join(named)
        untrue = self.untrue()
        assert not untrue, "\n".join(f"{heard}" for heard in untrue[:10])

    # -- the thread

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, RuntimeError), _Reading(self._port, *self._names) as reading:
                self._connected.set()
                for message_id, body in reading.messages(self._ended):
                    self.heard.append(self._check(json.loads(body)))
                    reading.finish(message_id)
            self._ended.wait(0.1)

    def _check(self, message: Mapping[str, Any]) -> Heard:
        key = (message["mirror"], message["path"])
        found = "" if message["event"] == "removed" else _digest(self._targets[key[0]] / key[1])
        return Heard(
            message["event"], key, message["sha256"], message["generation"], message["id"], found, message
        )  # fmt: skip


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""
