"""A registry in memory: the reference for ports.Registry, with a script of faults. It stands for a MongoDB.

registry = MemoryRegistry()
registry.script("rLD")      # the next call is right, the one after is lost, then one is done and says it failed
registry.stored("host")     # what it has of a host's files, removed ones left out
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from syncd.core.errors import PublishFailed
from syncd.core.model import RelPath
from syncd.ports import BeatAnswer, Bookmark, RegistryEntry
from syncd.registry import documents as doc
from syncd.registry.documents import Holding, HostRow

T = TypeVar("T")


class MemoryRegistry:
    """Keeps what it is told. Knobs: script(), down, hold(), forget(), now_s; counters: calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.database = self.place = "memory"
        self.down = False
        self.now_s: Callable[[], float] = time.time
        self._hosts: dict[str, dict[str, Any]] = {}
        self._files: dict[str, tuple[str, RegistryEntry]] = {}
        self._script: deque[str] = deque()
        self._closed = False
        self._free = threading.Event()
        self._free.set()

    # --- knobs

    def script(self, calls: str) -> None:
        """Fix how the next calls end, one letter a call. After the last letter all is right again.

        "r" right, "L" nothing is done and it fails, "H" half of what it is to store is and it fails, "D" (done) all is
        done and it fails.
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

    def forget(self) -> None:
        """Lose everything, as a MongoDB without a volume does."""
        self._hosts.clear()
        self._files.clear()

    def stored(self, host_id: str) -> dict[str, RegistryEntry]:
        """Return a host's entries by server path, without removed ones."""
        return {
            entry.server_path: entry for host, entry in self._files.values() if host == host_id and not entry.removed
        }

    def bookmark(self, host_id: str) -> Bookmark | None:
        """Return how far a host's files are."""
        return doc.bookmark_of(self._hosts.get(host_id, {}).get("bookmark"))

    # --- ports.Registry

    def beat(self, host: Mapping[str, Any]) -> BeatAnswer:
        host_id, fields = str(host["id"]), doc.host_fields(host)

        def work(_share: int) -> BeatAnswer:
            now = self._now()
            self._hosts.setdefault(host_id, {"_id": host_id}).update(fields, at=now)
            others = [
                other
                for other, known in self._hosts.items()
                if other != host_id
                and known.get("name") == fields["name"]
                and (now - known["at"]).total_seconds() < doc.STALE_AFTER_S
            ]
            return BeatAnswer(self.bookmark(host_id), tuple(sorted(others)))

        return self._call("beat", work)

    def mark(self, host_id: str, bookmark: Bookmark, before: Bookmark | None) -> None:
        def work(_share: int) -> None:
            known = self.bookmark(host_id)
            if host_id not in self._hosts or (before is not None and (known is None or known[:2] != before[:2])):
                raise PublishFailed("the registry in memory: it does not know any more how far this host's files were")
            self._hosts[host_id]["bookmark"] = doc.bookmark_fields(bookmark)

        self._call("mark", work)

    def record(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        def work(share: int) -> None:
            for entry in entries[: len(entries) // share]:
                _, known = self._files.get(doc.key_of(host_id, entry), ("", None))
                if known is None or known.generation < entry.generation:
                    self._files[doc.key_of(host_id, entry)] = host_id, entry

        self._call("record", work)

    def entries(
        self, host_id: str, mirror: str, after: RelPath, until: RelPath | None, limit: int
    ) -> list[RegistryEntry]:
        first = doc.key(host_id, mirror, after)
        last = doc.after_mirror(host_id, mirror) if until is None else doc.key(host_id, mirror, until)

        def work(_share: int) -> list[RegistryEntry]:
            return [self._files[key][1] for key in sorted(self._files) if first < key <= last][:limit]

        return self._call("entries", work)

    def drop(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        def work(share: int) -> None:
            for entry in entries[: len(entries) // share]:
                key = doc.key_of(host_id, entry)
                if key in self._files and self._files[key][1].generation == entry.generation:
                    del self._files[key]

        self._call("drop", work)

    def keep_only(self, host_id: str, mirrors: Sequence[str]) -> None:
        def work(share: int) -> None:
            others = [
                key for key, (host, entry) in self._files.items() if host == host_id and entry.mirror not in mirrors
            ]
            for key in others[: len(others) // share]:
                del self._files[key]

        self._call("keep_only", work)

    def close(self) -> None:
        self._closed = True
        self._free.set()

    # --- for people

    def hosts(self) -> list[HostRow]:
        """Return all hosts, by name and id."""
        rows = self._call("hosts", lambda _: [doc.host_row(known, self._now()) for known in self._hosts.values()])
        return sorted(rows, key=lambda row: (row.name, row.id))

    def holdings(self, server_paths: Sequence[str]) -> list[Holding]:
        """Return which hosts hold these files, by path and host."""

        def work(_share: int) -> list[Holding]:
            return [
                doc.holding_of({"_id": key, **doc.file_fields(host, entry)})
                for key, (host, entry) in self._files.items()
                if entry.server_path in server_paths and not entry.removed
            ]

        return sorted(self._call("holdings", work), key=lambda held: (held.server_path, held.host_id))

    # --- plumbing

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s(), UTC)

    def _call(self, name: str, work: Callable[[int], T]) -> T:
        """Do the work as the script says; it is told to do one half (2) or all (1) of what it stores."""
        self.calls.append(name)
        self._free.wait()
        if self._closed or self.down:
            raise PublishFailed(f"the registry in memory: {'closed' if self._closed else 'connection refused'}")
        turn = self._script.popleft() if self._script else "r"
        if turn == "L":
            raise PublishFailed("the registry in memory: the script says so")
        result = work(2 if turn == "H" else 1)
        if turn != "r":
            raise PublishFailed("the registry in memory: the script says so")
        return result
