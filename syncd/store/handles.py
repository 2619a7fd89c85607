"""Folders by handle: every path is walked component by component from an open root, no link is ever followed.

Source: openat(2) (O_NOFOLLOW and O_DIRECTORY: a link or a file is ELOOP or ENOTDIR, which the error table calls
PathUnsafe).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from syncd.store.disk_errors import translate
from syncd.store.durable import Syncer

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "apfs"})

MAX_OPEN = 256
"""Folders that one Handles keeps open at the start of an operation."""

_MAX_CHAIN = 32
_MAX_KNOWN = 50_000


def open_below(root: int, directory: str) -> int | None:
    """Open a folder below `root` for reading; None when it is not there. The caller closes it. Any thread.

    Raises OSError (ELOOP, ENOTDIR: a component is a link or no folder).
    """
    if not directory:
        return os.dup(root)
    descriptor = root
    try:
        for name in directory.split("/"):
            below = os.open(name, FOLDER, dir_fd=descriptor)
            if descriptor != root:
                os.close(descriptor)
            descriptor = below
    except BaseException as error:
        if descriptor != root:
            os.close(descriptor)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    return descriptor


def is_there(name: str, folder: int) -> bool:
    """Say whether there is something of this name in an open folder, a link that leads nowhere too. Raises OSError."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def looks_for_names(folder: int, file_system: str) -> Callable[[str, int], bool]:
    """Return the quickest form of is_there() that can be trusted on this file system, as a look into `folder` shows.

    faccessat2(2) makes no exception of what is the rule, a name that is free. But it says no for every error too: so
    only where a look-up does not fail for a moment (a network, FUSE), and old sandboxes refuse the whole call.
    """
    if file_system not in _LOCAL:
        return is_there

    def quick(name: str, folder: int) -> bool:
        return os.access(name, os.F_OK, dir_fd=folder, effective_ids=True, follow_symlinks=False)

    try:
        works = quick(".", folder) and not quick(f"~{os.urandom(8).hex()}", folder)
    except NotImplementedError:
        works = False
    return quick if works else is_there


@contextmanager
def folder_below(root: int, directory: str, doing: str = "look into") -> Iterator[int | None]:
    """Give open_below()'s descriptor for the length of a block, in which OSErrors become ours."""
    try:
        descriptor = open_below(root, directory)
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)
    except OSError as error:
        raise translate(error, doing, directory) from error


class Handles:
    """Open folders below one root, for one writing thread, and which of them have yet to be made durable.

    Folders are opened on first use and closed by release_all(), so that a folder that somebody moves away is a target
    for one group at most. The root stays open and belongs to the caller.
    """

    def __init__(self, root: int, syncer: Syncer, mode: int = 0o755) -> None:
        self._root = root
        self._syncer = syncer
        self._mode = mode
        self._open: dict[str, int] = {"": root}
        self._touched: set[str] = set()
        self._walked: set[str] = set()
        self._durable: set[str] = set()
        self._closed_early = False
        self._failed: OSError | None = None

    def find(self, directory: str) -> int | None:
        """Return the handle of a folder, None when it is not there. Raises OSError."""
        found = self._open.get(directory)
        return found if found is not None else self._walk(directory, create=False)

    def make(self, directory: str) -> int:
        """Return the handle of a folder, made with its parents where it is not there. Raises OSError."""
        found = self._open.get(directory)
        if found is None:
            found = self._walk(directory, create=True)
            assert found is not None  # noqa: S101 - create=True makes it or raises
        return found

    def make_to_change(self, directory: str) -> int:
        """trim(), make() and touch() in one, for each file that is put in place. Raises OSError."""
        if len(self._open) > MAX_OPEN:
            self.trim()
        found = self._open.get(directory)
        if found is None:
            found = self.make(directory)
        self._touched.add(directory)
        return found

    def touch(self, directory: str) -> None:
        """Note that names in this (open) folder changed."""
        self._touched.add(directory)

    def touch_chain(self, directory: str) -> None:
        """Note that this folder and all above it may not be durable (an earlier process may have made them)."""
        while True:
            if self.find(directory) is not None:
                self._touched.add(directory)
            if not directory:
                return
            directory = directory.rpartition("/")[0]

    def forget(self, directory: str) -> None:
        """Close a folder that was removed, and what is open below it. The root stays open, gone or not."""
        if not directory:
            return
        below = directory + "/"
        for path in [path for path in self._open if path == directory or path.startswith(below)]:
            os.close(self._open.pop(path))
            self._touched.discard(path)
            self._walked.discard(path)
        self._durable.discard(directory)

    def trim(self) -> None:
        """Close the oldest folders when many are open; only between operations, which hold handles."""
        if len(self._open) > MAX_OPEN:
            for directory in list(self._open)[1 : MAX_OPEN // 2]:
                self._close_early(directory)

    def unsynced(self) -> tuple[list[int], bool]:
        """Return what has to be synced: descriptors, the deepest first, and whether some were closed before it.

        Raises OSError when a folder that had to be closed early could not be synced.
        """
        if self._failed is not None:
            raise self._failed
        ordered = sorted(self._touched, key=len, reverse=True)
        return [self._open[directory] for directory in ordered if directory in self._open], self._closed_early

    def release_all(self, *, durable: bool) -> None:
        """Close everything but the root. durable: what unsynced() returned was synced."""
        if durable:
            if len(self._durable) > _MAX_KNOWN:
                self._durable.clear()
            self._durable.update(self._walked)
        del self._open[""]
        for descriptor in self._open.values():
            with suppress(OSError):  # nothing was written through it: closing a folder loses nothing
                os.close(descriptor)
        self._open = {"": self._root}
        self._touched.clear()
        self._walked.clear()
        self._closed_early = False
        self._failed = None

    def _walk(self, directory: str, *, create: bool) -> int | None:
        missing = []
        top = directory
        while top not in self._open:
            top, _, name = top.rpartition("/")
            missing.append(name)
        start = top
        descriptor = self._open[top]
        deep = len(missing) > _MAX_CHAIN
        while missing:
            name = missing.pop()
            child = f"{top}/{name}" if top else name
            below = self._enter(descriptor, top, name, child, create)
            if below is None:
                return None
            self._open[child] = below
            if deep and top != start:
                self._close_early(top)
            top, descriptor = child, below
        return descriptor

    def _enter(self, descriptor: int, parent: str, name: str, child: str, create: bool) -> int | None:
        try:
            below = os.open(name, FOLDER, dir_fd=descriptor)
        except FileNotFoundError:
            if not create:
                return None
            self._durable.discard(child)
            with suppress(FileExistsError):  # somebody else made it just now
                os.mkdir(name, self._mode, dir_fd=descriptor)
            below = os.open(name, FOLDER, dir_fd=descriptor)
        if child not in self._durable:
            # made now, or by a process that was killed before it synced: its name in the parent has to become durable
            self._touched.add(parent)
            self._walked.add(child)
        return below

    def _close_early(self, directory: str) -> None:
        descriptor = self._open.pop(directory)
        if directory in self._touched:
            if self._syncer.may_close_folders:
                self._closed_early = True
            else:
                try:
                    os.fsync(descriptor)
                except OSError as error:
                    self._failed = error
            self._touched.discard(directory)
        os.close(descriptor)


def demolish(folder: int, name: str) -> int:
    """Remove a file, link or whole tree `name` in `folder`; return the bytes that this frees. Follows nothing.

    A subtree is hoisted beside `name` before it is taken apart, so that the depth of a tree costs neither handles nor
    stack; a crash leaves it there for the next sweep of `folder`. Raises OSError.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=folder)
        return _freed(status)
    freed = 0
    pending = [name]
    while pending:
        tree = pending.pop()
        descriptor = os.open(tree, FOLDER, dir_fd=folder)
        try:
            freed += _empty(descriptor, folder, pending)
        finally:
            os.close(descriptor)
        os.rmdir(tree, dir_fd=folder)
    return freed


def _empty(tree: int, folder: int, hoisted: list[str]) -> int:
    freed = 0
    with os.scandir(tree) as names:
        entries = list(names)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            aside = f"~{os.urandom(8).hex()}"
            os.rename(entry.name, aside, src_dir_fd=tree, dst_dir_fd=folder)
            hoisted.append(aside)
        else:
            freed += _freed(os.stat(entry.name, dir_fd=tree, follow_symlinks=False))
            os.unlink(entry.name, dir_fd=tree)
    return freed


def _freed(status: os.stat_result) -> int:
    return status.st_size if status.st_nlink == 1 else 0
