"""A source in memory: the reference for ports.Source, with knobs for faults and counters of calls.

MemorySource holds a tree that tests edit as a user would; GeneratedSource makes up a tree of any size on the fly, for
benchmarks. Both keep the whole contract, so what an engine does with them it does with a real server.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

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
from syncd.core.model import ROOT, Entry, Fingerprint, Kind, Listing, RelPath, Wanted
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


@dataclass
class _File:
    content: bytes
    mtime_ns: int
    file_id: int
    kind: Kind = Kind.FILE

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(len(self.content), self.mtime_ns, self.mtime_ns, self.file_id)


@dataclass
class _Folder:
    file_id: int
    children: dict[str, _File | _Folder] = field(default_factory=dict)


class _Fake:
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


class MemorySource(_Fake):
    """A tree that tests edit: put, remove, rename, mkdir. Thread-safe. Paths are "/"-separated, "" is the root.

    listeners are called with the folder of each edit, after it.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__()
        self._ids = 0
        self._clock_ns = FIRST_MTIME_NS
        self.listeners: list[Callable[[str], None]] = []
        self._root: _Folder | None = _Folder(self._new_id())
        for path, content in (files or {}).items():
            self.put(path, content)

    # --- editing -----------------------------------------------------------------------------------------------------

    def put(self, path: str, content: bytes, mtime_ns: int | None = None) -> None:
        """Create or overwrite a file, with the folders above it. An overwritten file keeps its id, as on a server.

        mtime_ns: by default one second after that of the last put().
        """
        with self._lock:
            folder, name = self._parent(path, make=True)
            old = folder.children.get(name)
            if isinstance(old, _Folder):
                raise IsADirectoryError(path)
            self._clock_ns += SECOND_NS
            mtime_ns = self._clock_ns if mtime_ns is None else mtime_ns
            keeps = old is not None and old.kind is Kind.FILE
            folder.children[name] = _File(content, mtime_ns, old.file_id if old and keeps else self._new_id())
        self._edited(path)

    def put_other(self, path: str) -> None:
        """Create a link, or anything else that is neither file nor folder."""
        with self._lock:
            folder, name = self._parent(path, make=True)
            folder.children[name] = _File(b"", FIRST_MTIME_NS, self._new_id(), Kind.OTHER)
        self._edited(path)

    def mkdir(self, path: str) -> None:
        """Create a folder and those above it; safe to repeat."""
        with self._lock:
            self._folder(path, make=True)
        self._edited(path)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; "" removes the root itself."""
        with self._lock:
            if not path:
                self._root = None
                return
            folder, name = self._parent(path)
            del folder.children[name]
        self._edited(path)

    def rename(self, old: str, new: str) -> None:
        """Move a file or folder, replacing what lies there; ids and mtimes stay."""
        with self._lock:
            folder, name = self._parent(old)
            node = folder.children.pop(name)
            target, new_name = self._parent(new, make=True)
            target.children[new_name] = node
        self._edited(old)
        self._edited(new)

    def _edited(self, path: str) -> None:
        """Tell of the folders from the root to the one that `path` lies in: any of them may be new."""
        parts = path.split("/")
        for depth in range(len(parts)):
            for listener in list(self.listeners):
                listener("/".join(parts[:depth]))

    # --- looking, for tests ------------------------------------------------------------------------------------------

    def tree(self) -> dict[str, bytes]:
        """Return the content of every file by its path: what a mirror should hold in the end."""
        with self._lock:
            return {path: node.content for path, node in self._walk() if node.kind is Kind.FILE}

    def fingerprint(self, path: str) -> Fingerprint:
        """Return a file's fingerprint, faults or not."""
        return self._look(RelPath(path))

    def copy(self) -> Self:
        """Return a source with an equal tree (ids too) and no faults; neither sees the other's later edits."""
        twin = type(self)()
        with self._lock:
            twin._ids, twin._clock_ns = self._ids, self._clock_ns  # noqa: SLF001 - of its own class
            twin._root = _copy(self._root) if self._root is not None else None  # noqa: SLF001 - of its own class
        return twin

    # --- parts -------------------------------------------------------------------------------------------------------

    def _new_id(self) -> int:
        self._ids += 1
        return self._ids

    def _folder(self, path: str, *, make: bool = False) -> _Folder:
        if self._root is None:
            raise FileNotFoundError("the root was removed")
        folder = self._root
        for name in path.split("/") if path else []:
            if make and name not in folder.children:
                folder.children[name] = _Folder(self._new_id())
            child = folder.children.get(name)
            if not isinstance(child, _Folder):
                raise FileNotFoundError(path) if child is None else NotADirectoryError(path)
            folder = child
        return folder

    def _parent(self, path: str, *, make: bool = False) -> tuple[_Folder, str]:
        above, _, name = path.rpartition("/")
        return self._folder(above, make=make), name

    def _walk(self) -> Iterator[tuple[str, _File]]:
        stack = [("", self._root)] if self._root is not None else []
        while stack:
            prefix, folder = stack.pop()
            for name, node in folder.children.items():
                if isinstance(node, _Folder):
                    stack.append((f"{prefix}{name}/", node))
                else:
                    yield prefix + name, node

    def _entries(self, directory: RelPath) -> list[Entry] | None:
        try:
            children = self._folder(directory).children
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [
            Entry(name, Kind.DIRECTORY, 0, FIRST_MTIME_NS, FIRST_MTIME_NS, node.file_id)
            if isinstance(node, _Folder)
            else Entry(name, node.kind, *node.fingerprint)
            for name, node in children.items()
        ]

    def _bytes(self, path: RelPath) -> tuple[Fingerprint, bytes] | None:
        try:
            folder, name = self._parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        node = folder.children.get(name)
        if not isinstance(node, _File) or node.kind is not Kind.FILE:
            return None
        return node.fingerprint, node.content

    def _touch(self, path: RelPath) -> None:
        with self._lock:
            found = self._bytes(path)
            if found is not None:
                self.put(path, found[1][::-1])


def _copy(folder: _Folder) -> _Folder:
    return _Folder(
        folder.file_id,
        {
            name: _copy(node)
            if isinstance(node, _Folder)
            else _File(node.content, node.mtime_ns, node.file_id, node.kind)
            for name, node in folder.children.items()
        },
    )


class GeneratedSource(_Fake):
    """`files` files of `size` bytes in folders of `per_folder`, made up as they are asked for; nothing is kept.

    File n is folder-AAAAA/page-NNNNNNN.jpg; its content follows from its path alone. `revision` of a file number (0 by
    default) changes its content and mtime, so that a benchmark can edit a few.
    """

    def __init__(self, files: int, *, per_folder: int = 1000, size: int = 18_000) -> None:
        super().__init__()
        self.files = files
        self.per_folder = per_folder
        self.size = size
        self.revision: dict[int, int] = {}

    def path_of(self, number: int) -> RelPath:
        """Return the path of file `number` (from 0)."""
        return RelPath(f"folder-{number // self.per_folder:05d}/page-{number:07d}.jpg")

    def content_of(self, number: int) -> bytes:
        """Return the bytes of file `number`."""
        seed = f"{self.path_of(number)}|{self.revision.get(number, 0)}".encode()
        block = hashlib.sha256(seed).digest()
        return (block * (self.size // len(block) + 1))[: self.size]

    def _fingerprint(self, number: int) -> Fingerprint:
        mtime_ns = FIRST_MTIME_NS + (number + self.revision.get(number, 0)) * SECOND_NS
        return Fingerprint(self.size, mtime_ns, mtime_ns, number + 1)

    def _entries(self, directory: RelPath) -> list[Entry] | None:
        folders = -(-self.files // self.per_folder)
        if directory == ROOT:
            return [
                Entry(f"folder-{each:05d}", Kind.DIRECTORY, 0, FIRST_MTIME_NS, FIRST_MTIME_NS, self.files + each + 1)
                for each in range(folders)
            ]
        number = directory.removeprefix("folder-")
        if not number.isdigit() or directory != f"folder-{int(number):05d}" or int(number) >= folders:
            return None
        first = int(number) * self.per_folder
        last = min(first + self.per_folder, self.files)
        return [Entry(f"page-{each:07d}.jpg", Kind.FILE, *self._fingerprint(each)) for each in range(first, last)]

    def _bytes(self, path: RelPath) -> tuple[Fingerprint, bytes] | None:
        number = path.rpartition("/page-")[2].removesuffix(".jpg")
        if not number.isdigit() or int(number) >= self.files or path != self.path_of(int(number)):
            return None
        return self._fingerprint(int(number)), self.content_of(int(number))

    def _touch(self, path: RelPath) -> None:
        number = int(path.rpartition("/page-")[2].removesuffix(".jpg"))
        self.revision[number] = self.revision.get(number, 0) + 1
