"""What sources in memory have in common: ports.Source over the tree that they give, with faults and counters."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from enum import Enum

from syncd.core.errors import (
    EntryChanged,
    EntryDenied,
    EntryGone,
    EntryUnreadable,
    SourceAuthFailed,
    SourceUnavailable,
    SourceVanished,
    SyncdError,
)
from syncd.core.model import ROOT, Entry, Fingerprint, Listing, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.ports import Fetched, FetchQueue, Outcome, Pace, Sink, SourceInfo
from syncd.sources import Unpaced, each_wanted, failed, require_unchanged, wait_for_pace

SECOND_NS = 1_000_000_000
FIRST_MTIME_NS = 1_577_836_800 * SECOND_NS  # 2020-01-01: settled by any clock
CHUNK_BYTES = 65_536


class Fault(Enum):
    """What goes wrong at one path."""

    DENIED = "denied"  # file: cannot be read; folder: cannot be listed
    GONE = "gone"  # listed by its parent, not there when asked for
    UNREADABLE = "unreadable"  # an I/O error at the server, in the middle of a file
    CHANGE_WHILE_READ = "change_while_read"  # edited between its first and its last byte
    SHORT = "short"  # fewer bytes than listed
    INCOMPLETE = "incomplete"  # folder: the listing breaks off half-way
    UNDECODABLE = "undecodable"  # folder: one more name that cannot be decoded
    UNAVAILABLE = "unavailable"  # the connection is lost for good when this path is asked for


class FakeSource:
    """Everything of ports.Source but the tree itself, which subclasses give by _entries() and _bytes()."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.down = False
        self.refuse_login = False
        self.refused_logins = 0
        self.clock_offset_ns = 0
        self.chunk_bytes = CHUNK_BYTES
        self.before_chunk: Callable[[Wanted, int], None] | None = None
        self._script: deque[str] = deque()
        self._faults: dict[str, tuple[Fault, int]] = {}
        self._bytes_left: int | None = None
        self._closed = False
        self._pace: Pace = Unpaced()
        self._lock = threading.RLock()

    # --- knobs -------------------------------------------------------------------------------------------------------

    def script(self, calls: str) -> None:
        """Fix how the next listings, fetches and reads end, one letter a call.

        "r" right, "E" this entry fails, "U" the source is unavailable. After the last letter all is right again.
        """
        if set(calls) - set("rEU"):
            raise ValueError(f"a script has the letters r, E and U, not {calls!r}")
        self._script = deque(calls)

    def fault(self, path: str, fault: Fault, times: int = -1) -> None:
        """Let `path` fail the next `times` times that it is listed (a folder) or fetched (a file); -1: always."""
        self._faults[path] = (fault, times)

    def heal(self) -> None:
        """Take back every fault."""
        self._faults.clear()
        self._script.clear()
        self._bytes_left = None
        self.down = self.refuse_login = False
        self.refused_logins = 0

    def unavailable_after(self, count: int) -> None:
        """Lose the connection for good once `count` more bytes of content were delivered (exactly there)."""
        self._bytes_left = count

    # --- ports.Source ------------------------------------------------------------------------------------------------

    def check(self) -> SourceInfo:
        self.calls["check"] += 1
        self._still_open()
        if self._entries(ROOT) is None:
            raise SourceVanished("the root folder of the source in memory is not there")
        return SourceInfo("memory", self.clock_offset_ns)

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        self.calls["scan"] += 1
        while pending:
            self._still_open()
            directory = pending.pop()
            self.calls["list"] += 1
            yield self._list(directory)

    def fetch(self, queue: FetchQueue, sink: Callable[[Wanted], Sink]) -> Iterator[Outcome]:
        self.calls["fetch"] += 1
        for wanted in each_wanted(queue, self._still_open):
            self.calls["get"] += 1
            try:
                outcome: Outcome = Fetched(wanted, self._deliver(wanted, sink))
            except SyncdError as error:
                outcome = failed(wanted, error)
            yield outcome

    def keep_pace(self, pace: Pace) -> None:
        self._pace = pace

    def read(self, path: RelPath) -> Fingerprint:
        self.calls["read"] += 1
        self._still_open()
        self._raise_for(path, self._strike(path))
        return self._look(path)

    def close(self) -> None:
        self.calls["close"] += 1
        self._closed = True

    # --- parts -------------------------------------------------------------------------------------------------------

    def _entries(self, directory: RelPath) -> list[Entry] | None:
        raise NotImplementedError

    def _bytes(self, path: RelPath) -> tuple[Fingerprint, bytes] | None:
        raise NotImplementedError

    def _touch(self, path: RelPath) -> None:
        """Edit a file behind the reader's back."""
        raise NotImplementedError

    def _still_open(self) -> None:
        if self._closed:
            raise SourceUnavailable("the source in memory was closed")
        if self.down:
            raise SourceUnavailable("the source in memory is down")
        if self.refuse_login:
            self.refused_logins += not self.refused_logins  # the same secret is not tried again
            raise SourceAuthFailed("the source in memory refuses the login")

    def _strike(self, path: str) -> Fault | None:
        """Return the fault that hits this call, if any, and count it off."""
        letter = self._script.popleft() if self._script else "r"
        if letter != "r":
            return Fault.UNREADABLE if letter == "E" else Fault.UNAVAILABLE
        if path not in self._faults:
            return None
        fault, times = self._faults[path]
        if times == 1:
            del self._faults[path]
        elif times > 1:
            self._faults[path] = (fault, times - 1)
        return fault

    def _raise_for(self, path: str, fault: Fault | None) -> None:
        if fault is Fault.UNAVAILABLE:
            self.down = True
            raise SourceUnavailable(f"the connection to the source in memory was lost at {path!r}")
        if fault is Fault.DENIED:
            raise EntryDenied(f"{path!r} may not be read")
        if fault is Fault.GONE:
            raise EntryGone(f"{path!r} is not there any more")

    def _list(self, directory: RelPath) -> Listing:
        fault = self._strike(directory)
        try:
            self._raise_for(directory, fault)
        except (EntryDenied, EntryGone) as error:
            return Listing(directory, [], False, error.reason, error.message)
        with self._lock:
            entries = self._entries(directory)
        if entries is None:
            return Listing(directory, [], False, Reason.GONE, "the folder is not there any more")
        if fault is Fault.UNREADABLE:
            return Listing(directory, [], False, Reason.UNREADABLE, "the folder could not be read")
        if fault is Fault.INCOMPLETE:
            half = entries[: len(entries) // 2]
            return Listing(directory, half, False, Reason.LISTING_INCOMPLETE, "the listing broke off")
        if fault is Fault.UNDECODABLE:
            detail = "a name could not be decoded"
            return Listing(directory, entries, False, Reason.NAME_UNDECODABLE, detail, undecodable=("\\xff",))
        return Listing(directory, entries)

    def _look(self, path: RelPath) -> Fingerprint:
        with self._lock:
            found = self._bytes(path)
        if found is None:
            raise EntryGone(f"{path!r} is not there any more")
        return found[0]

    def _deliver(self, wanted: Wanted, sink: Callable[[Wanted], Sink]) -> Fingerprint:
        fault = self._strike(wanted.path)
        self._raise_for(wanted.path, fault)
        with self._lock:
            found = self._bytes(wanted.path)
        if found is None:
            raise EntryGone(f"{wanted.path!r} is not there any more")
        before, content = found
        require_unchanged(wanted.path, wanted.fingerprint, before)
        end = len(content) // 2 if fault in (Fault.SHORT, Fault.UNREADABLE) else len(content)
        self._pour(wanted, content, end, sink(wanted))
        if fault is Fault.UNREADABLE:
            raise EntryUnreadable(f"{wanted.path!r}: I/O error at byte {end}")
        if fault is Fault.SHORT:
            raise EntryChanged(f"{wanted.path!r} ended after {end} of {len(content)} bytes")
        if fault is Fault.CHANGE_WHILE_READ:
            self._touch(wanted.path)
        after = self._look(wanted.path)
        require_unchanged(wanted.path, wanted.fingerprint, after)
        return after

    def _pour(self, wanted: Wanted, content: bytes, end: int, sink: Sink) -> None:
        view = memoryview(content)
        for start in range(wanted.offset, end, self.chunk_bytes):
            if self.before_chunk is not None:
                self.before_chunk(wanted, start)
            self._still_open()
            wait_for_pace(self._pace, self._still_open)
            chunk = view[start : min(start + self.chunk_bytes, end)]
            self._pace.charge(len(chunk))
            if self._bytes_left is not None:
                chunk = chunk[: self._bytes_left]
                self._bytes_left -= len(chunk)
            if chunk:
                self.calls["bytes"] += len(chunk)
                sink.write(chunk)
            if self._bytes_left == 0:
                self._raise_for(wanted.path, Fault.UNAVAILABLE)
