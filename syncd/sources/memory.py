"""A source in memory: the reference for ports.Source, with knobs for faults and counters of calls.

MemorySource holds a tree that tests edit as a user would; GeneratedSource makes up a tree of any size on the fly, for
benchmarks. Both keep the whole contract, so what an engine does with them it does with a real server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from syncd.core.model import ROOT, Entry, Fingerprint, Kind, RelPath
from syncd.sources.memory_faults import FIRST_MTIME_NS, SECOND_NS, FakeSource, Fault

__all__ = ["Fault", "GeneratedSource", "MemorySource"]


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


class MemorySource(FakeSource):
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


class GeneratedSource(FakeSource):
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
