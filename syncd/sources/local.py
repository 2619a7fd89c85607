"""file:// source: a folder of this machine, or one that the operating system has mounted.

Every path below the root is walked by directory handles without following links; the root itself may be a link. A call
that hangs in the kernel on a dead mount cannot be interrupted from here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote

from syncd.core.errors import (
    EntryChanged,
    EntryDenied,
    EntryGone,
    EntryUnreadable,
    SourceUnavailable,
    SourceVanished,
    SyncdError,
)
from syncd.core.model import ROOT, Entry, Fingerprint, Kind, Listing, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.core.shown import counted_are
from syncd.ports import Fetched, FetchQueue, Outcome, Pace, Sink, SourceInfo
from syncd.sources import Unpaced, each_wanted, failed, require_unchanged, wait_for_pace

BUFFER_BYTES = 1 << 20
OPEN_FOLDERS_MAX = 32
OPEN_FOLDERS_AGE_S = 1.0

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should a FIFO have taken the file's place since it was listed, the open must not wait for a writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOATIME: int = getattr(os, "O_NOATIME", 0)  # Linux only, and only for a file's owner: open(2)

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # ELOOP: O_NOFOLLOW met a link
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_SOURCE_LOST = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN, errno.EHOSTDOWN})


class LocalSource:
    """A folder on this machine as ports.Source; scan(), fetch() and read() hold handles only while they run."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._closed = False
        self._device = -1
        self._pace: Pace = Unpaced()

    def check(self) -> SourceInfo:
        with self._folders():
            return SourceInfo(f"folder {self._root}")

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        with self._folders() as folders:
            while pending:
                self._still_open()
                yield self._list(pending.pop(), folders)

    def fetch(self, queue: FetchQueue, sink: Callable[[Wanted], Sink]) -> Iterator[Outcome]:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        with self._folders() as folders:
            for wanted in each_wanted(queue, self._still_open):
                try:
                    outcome: Outcome = Fetched(wanted, self._deliver(wanted, folders, sink, buffer))
                except SyncdError as error:
                    outcome = failed(wanted, error)
                yield outcome

    def keep_pace(self, pace: Pace) -> None:
        self._pace = pace

    def read(self, path: RelPath) -> Fingerprint:
        self._still_open()
        above, _, name = path.rpartition("/")
        with self._folders() as folders, _translated(path):
            found = os.stat(name, dir_fd=folders.open(above), follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise EntryGone(f"{path!r} is not a file any more")
        return self._fingerprint(found)

    def close(self) -> None:
        self._closed = True

    # --- parts -------------------------------------------------------------------------------------------------------

    def _still_open(self) -> None:
        if self._closed:
            raise SourceUnavailable(f"the source {self._root} was closed")

    @contextlib.contextmanager
    def _folders(self) -> Iterator[_Folders]:
        """Open the root for one call; its handle and those below it are closed at the end."""
        self._still_open()
        folders = _Folders(self._open_root())
        try:
            yield folders
        finally:
            folders.close()

    def _open_root(self) -> int:
        try:
            self._device = os.stat(self._root).st_dev
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SourceVanished(
                f"the source folder {self._root} is not there", hint=f"is it mounted? ls -ld {quote(str(self._root))}"
            ) from error
        except NotADirectoryError as error:
            raise SourceUnavailable(f"the source {self._root} is not a folder") from error
        except PermissionError as error:
            look = f"ls -ld {quote(str(self._root))}"
            raise SourceUnavailable(
                f"the source folder {self._root} may not be read by this user",
                hint=f"let this user read it ({look}); on macOS also allow access to the volume",
            ) from error
        except OSError as error:
            raise SourceUnavailable(f"the source folder {self._root} cannot be opened: {error.strerror}") from error

    def _fingerprint(self, found: os.stat_result) -> Fingerprint:
        file_id = found.st_ino
        if found.st_dev != self._device:
            # Another file system below the root: its inode numbers must not meet ours. 63 bits, as SQLite keeps them.
            file_id = (file_id ^ (found.st_dev * 0x9E3779B97F4A7C15)) & 0x7FFF_FFFF_FFFF_FFFF
        return Fingerprint(found.st_size, found.st_mtime_ns, found.st_ctime_ns, file_id)

    def _list(self, directory: RelPath, folders: _Folders) -> Listing:
        entries: list[Entry] = []
        undecodable: list[str] = []
        try:
            with _translated(directory), os.scandir(folders.open(directory)) as found:
                for each in found:
                    if not _decodable(each.name):
                        undecodable.append(os.fsencode(each.name).decode("utf-8", "backslashreplace"))
                        continue
                    with contextlib.suppress(FileNotFoundError):  # removed since: it is absent from this listing
                        status = each.stat(follow_symlinks=False)
                        entries.append(Entry(each.name, _kind(status.st_mode), *self._fingerprint(status)))
        except (EntryGone, EntryDenied, EntryUnreadable) as error:
            reason = Reason.LISTING_INCOMPLETE if entries else error.reason
            return Listing(directory, entries, False, reason, error.message, tuple(undecodable))
        if undecodable:
            detail = f"{counted_are(len(undecodable), 'name')} not UTF-8"
            return Listing(directory, entries, False, Reason.NAME_UNDECODABLE, detail, tuple(undecodable))
        return Listing(directory, entries)

    def _deliver(
        self, wanted: Wanted, folders: _Folders, sink: Callable[[Wanted], Sink], buffer: memoryview
    ) -> Fingerprint:
        """Send one file into its sink; return its fingerprint as of after the last byte, by the same descriptor."""
        path = wanted.path
        with _translated(path):
            descriptor = folders.open_file(path)
        try:
            with _translated(path):
                status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise EntryChanged(f"{path!r} is not a file any more")
            require_unchanged(path, wanted.fingerprint, self._fingerprint(status))
            self._pour(wanted, descriptor, sink(wanted), buffer)
            with _translated(path):
                after = self._fingerprint(os.fstat(descriptor))
            require_unchanged(path, wanted.fingerprint, after)
            return after
        finally:
            os.close(descriptor)

    def _pour(self, wanted: Wanted, descriptor: int, sink: Sink, buffer: memoryview) -> None:
        offset, size = wanted.offset, wanted.fingerprint.size
        if size - offset > BUFFER_BYTES and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, offset, size - offset, os.POSIX_FADV_SEQUENTIAL)
        if offset:
            os.lseek(descriptor, offset, os.SEEK_SET)
        while offset < size:
            self._still_open()
            wait_for_pace(self._pace, self._still_open)
            length = min(self._pace.piece(BUFFER_BYTES), size - offset)
            self._pace.charge(length)
            with _translated(wanted.path):
                count = os.readv(descriptor, [buffer[:length]])
            if count == 0:
                raise EntryChanged(f"{wanted.path!r} ended after {offset} of {size} bytes")
            sink.write(buffer[:count])
            offset += count


class _Folders:
    """Open handles of folders below the root, a few of the latest, so that neighbours need one open each.

    They are dropped after a second: a folder that was moved away must not be read under its old path for long.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._open: dict[str, int] = {}
        self._since = time.monotonic()

    def open(self, directory: str) -> int:
        """Return the handle of a folder; it stays ours. Raises OSError (ELOOP, ENOTDIR where a link is in the way)."""
        now = time.monotonic()
        if now - self._since > OPEN_FOLDERS_AGE_S or len(self._open) > OPEN_FOLDERS_MAX:
            self._drop()
            self._since = now
        return self._walk(directory)

    def _walk(self, directory: str) -> int:
        if directory == ROOT:
            return self.root
        handle = self._open.get(directory)
        if handle is None:
            above, _, name = directory.rpartition("/")
            handle = self._open[directory] = os.open(name, _FOLDER_FLAGS, dir_fd=self._walk(above))
        return handle

    def open_file(self, path: str) -> int:
        """Open a file for reading, its access time left alone where that is allowed."""
        above, _, name = path.rpartition("/")
        try:
            return _open_quietly(name, self.open(above))
        except FileNotFoundError:
            self._drop()  # the folder may be another one by now: walk again, once
            return _open_quietly(name, self.open(above))

    def _drop(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def close(self) -> None:
        self._drop()
        os.close(self.root)


def _open_quietly(name: str, folder: int) -> int:
    if _NOATIME:
        with contextlib.suppress(PermissionError):
            return os.open(name, _FILE_FLAGS | _NOATIME, dir_fd=folder)
    return os.open(name, _FILE_FLAGS, dir_fd=folder)


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Turn what the operating system says about one path into our errors."""
    try:
        yield
    except OSError as error:
        raise _error_for(error, path) from error


def _error_for(error: OSError, path: str) -> SyncdError:
    said = f"{path!r}: {error.strerror}"
    if error.errno in _GONE:
        return EntryGone(f"{path!r} is not there any more ({error.strerror})")
    if error.errno in _DENIED:
        return EntryDenied(said, hint="let the user that runs syncd read it")
    if error.errno in _SOURCE_LOST:
        return SourceUnavailable(f"the source folder cannot be read: {said}")
    return EntryUnreadable(said)


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    return Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.OTHER


def _decodable(name: str) -> bool:
    """Whether a name was UTF-8 on disk (os.scandir smuggles other bytes through as lone surrogates, PEP 383)."""
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
