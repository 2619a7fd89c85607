"""Files being received: short names of our own in `.syncd/staging`, hashed as bytes arrive, synced in groups."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from syncd.core.errors import LocalIOError, SyncdError, TargetMissing
from syncd.core.model import Partial
from syncd.core.reasons import Reason, hint_for
from syncd.store.disk_errors import translate, translated
from syncd.store.durable import Syncer, sync_descriptor
from syncd.store.handles import CREATE, FOLDER, READ, demolish

FILE_MODE = 0o644
"""Mode of mirrored files, less the umask."""

_CHUNK = 1 << 20
_WANTED_DESCRIPTORS = 4096
_SPARE_DESCRIPTORS = 256
_MAX_SEALED = 600


class StagedFile:
    """One staged file (ports.Staged). Used by one thread at a time.

    descriptor: the open descriptor, -1 when closed. torn: a write, seal, sync or close failed: it is not to be used.
    """

    __slots__ = ("_digest", "_staging", "descriptor", "durable", "name", "size", "torn")

    def __init__(self, staging: Staging, name: str, descriptor: int, digest: hashlib._Hash, size: int) -> None:
        self.name = name
        self.size = size
        self.durable = False
        self.torn = False
        self.descriptor = descriptor
        self._staging = staging
        self._digest = digest

    def write(self, chunk: memoryview) -> None:
        """Append and hash. Raises DiskFull, LocalIOError; then the file can only be discarded."""
        length = len(chunk)
        try:
            written = os.write(self.descriptor, chunk)
            if written != length:
                self._write_rest(chunk[written:])
        except OSError as error:
            self.torn = True
            raise translate(error, "write a staged file") from error
        self._digest.update(chunk)
        self.size += length

    def _write_rest(self, chunk: memoryview) -> None:
        while len(chunk):
            written = os.write(self.descriptor, chunk)
            if not written:
                raise OSError(errno.EIO, "the system wrote nothing")
            chunk = chunk[written:]

    def checkpoint(self) -> tuple[int, str]:
        """Sync what was written; return (bytes so far, their SHA-256 in hex)."""
        try:
            self._check_whole()
            sync_descriptor(self.descriptor)
        except OSError as error:
            self.torn = True
            raise translate(error, "sync a staged file") from error
        return self.size, self._digest.hexdigest()

    def seal(self, mtime_ns: int) -> str:
        """No more bytes: set the source's mtime; return the SHA-256 in hex. Not yet durable."""
        try:
            self._check_whole()
            _set_mtime(self.descriptor, mtime_ns)
            self._staging.sealed(self)
        except OSError as error:
            self.torn = True
            raise translate(error, "finish a staged file") from error
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Throw the file away; safe to repeat, after a failed sync too. What cannot be removed now is swept later."""
        self._staging.released(self)
        with suppress(OSError):
            self.close()
        with suppress(OSError):
            self._staging.remove(self.name)

    def keep(self) -> None:
        """Close it but leave it in staging, for a resume (which hashes its prefix again)."""
        self._staging.released(self)
        with suppress(OSError):
            self.close()

    def close(self) -> None:
        """Close the descriptor; safe to repeat. Raises OSError: then its bytes may be lost."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check_whole(self) -> None:
        if self.torn:
            raise OSError(errno.EIO, "an earlier write or sync of this file failed")


class Staging:
    """The staging folder. stage() and what it returns may be used from any thread, sync() from one."""

    def __init__(self, folder: int, syncer: Syncer, max_open: int) -> None:
        self._folder = folder
        self._syncer = syncer
        self._max_open = max_open
        self._session = os.urandom(4).hex() + "-"
        self._serial = itertools.count(1)
        self._live: set[str] = set()
        self._sealed: set[StagedFile] = set()

    def stage(self) -> StagedFile:
        """Open a new staged file. Raises DiskFull, LocalIOError, TargetMissing (the folder is gone)."""
        name = f"{self._session}{next(self._serial):x}"
        self._live.add(name)
        try:
            descriptor = os.open(name, CREATE, FILE_MODE, dir_fd=self._folder)
        except OSError as error:
            self._live.discard(name)
            raise self._cannot_open(error) from error
        return StagedFile(self, name, descriptor, hashlib.sha256(), 0)

    @staticmethod
    def _cannot_open(error: OSError) -> SyncdError:
        if error.errno == errno.ENOENT:
            hint = hint_for(Reason.TARGET_MISSING)
            return TargetMissing("the target's .syncd/staging was removed while syncd was at work", hint=hint)
        return translate(error, "open a staged file")

    def resume(self, partial: Partial) -> StagedFile | None:
        """Re-open a partial for appending, cut to its durable prefix; None, and it is gone, if that hashes wrong."""
        with translated("resume a staged file"):
            try:
                descriptor = os.open(partial.staged, READ & ~os.O_RDONLY | os.O_RDWR, dir_fd=self._folder)
            except FileNotFoundError:
                return None
            try:
                digest = digest_of(descriptor, partial.offset)
                if digest is not None and digest.hexdigest() == partial.sha256:
                    os.ftruncate(descriptor, partial.offset)
                    os.lseek(descriptor, partial.offset, os.SEEK_SET)
                    self._live.add(partial.staged)
                    return StagedFile(self, partial.staged, descriptor, digest, partial.offset)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            self.remove(partial.staged)
            return None

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of a file left in staging; None when no regular file is there."""
        with translated("hash a staged file"):
            try:
                descriptor = os.open(name, READ, dir_fd=self._folder)
            except FileNotFoundError:
                return None
            try:
                digest = digest_of(descriptor)
            finally:
                os.close(descriptor)
        return digest.hexdigest() if digest is not None else None

    def sealed(self, staged: StagedFile) -> None:
        """Keep a sealed file open for its group's sync; above the bound it is closed, or synced at once. OSError."""
        if len(self._sealed) < self._max_open:
            self._sealed.add(staged)
            return
        if self._syncer.needs_descriptors:
            sync_descriptor(staged.descriptor)
            staged.durable = True
        staged.close()

    def released(self, staged: StagedFile) -> None:
        """A staged file is no longer ours to protect from the sweep: promoted, discarded or kept."""
        self._sealed.discard(staged)
        self._live.discard(staged.name)

    def sync(self, group: Sequence[StagedFile]) -> None:
        """Make sealed files durable and close them, or raise; after an error none of them can be promoted."""
        try:
            opened, closed = [], False
            for staged in group:
                if staged.torn:
                    raise OSError(errno.EIO, "an earlier write or sync of one of these files failed")
                if staged.descriptor >= 0:
                    opened.append(staged.descriptor)
                elif not staged.durable:
                    closed = True
            self._syncer.files(opened, closed=closed)
            for staged in group:
                staged.close()
        except OSError as error:
            for staged in group:
                staged.torn = True
            raise translate(error, f"sync {len(group)} staged files") from error
        finally:
            self._sealed.difference_update(group)
        for staged in group:
            staged.durable = True

    def remove(self, name: str) -> None:
        """Remove one name; none there is fine. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def sweep(self, keep: Iterable[str]) -> int:
        """Remove everything but `keep` and what this process is working on; return how many names were removed."""
        kept = frozenset(keep)
        removed = 0
        with translated("sweep the staging folder"):
            for name in os.listdir(self._folder):
                if name not in kept and name not in self._live:
                    with suppress(FileNotFoundError):
                        demolish(self._folder, name)
                        removed += 1
        return removed

    def reserve(self, purpose: str) -> str:
        """Return a free name that the sweep leaves alone until let_go()."""
        name = f"{self._session}{purpose}{next(self._serial):x}"
        self._live.add(name)
        return name

    @contextmanager
    def folder_named(self, name: str) -> Iterator[int]:
        """Give a folder of this (reserved) name for the length of a block; it must be empty at its end. OSError."""
        os.mkdir(name, 0o700, dir_fd=self._folder)
        descriptor = os.open(name, FOLDER, dir_fd=self._folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            os.rmdir(name, dir_fd=self._folder)

    def let_go(self, name: str) -> None:
        """End reserve()."""
        self._live.discard(name)


def need_durable(staged: StagedFile) -> None:
    """Refuse a file whose bytes no sync has confirmed. Raises LocalIOError."""
    if staged.torn or not staged.durable:
        raise LocalIOError("a staged file was not synced, so it is not put in place")


def may_keep_open() -> int:
    """Return how many sealed files may stay open until their sync; raises the soft limit of descriptors for them."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _WANTED_DESCRIPTORS if hard == unlimited else min(hard, _WANTED_DESCRIPTORS)
    if soft != unlimited and soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it: then fewer stay open
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    left = _WANTED_DESCRIPTORS if soft == unlimited else soft
    return max(8, min(_MAX_SEALED, (left - _SPARE_DESCRIPTORS) // 3))


def _set_mtime(descriptor: int, mtime_ns: int) -> None:
    try:
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    except (OverflowError, ValueError):
        # a time that no C type holds; the record keeps the source's, the local stat is read back
        os.utime(descriptor, ns=(0, 0))


def digest_of(descriptor: int, length: int | None = None) -> hashlib._Hash | None:
    """Hash the first `length` bytes (all: None) of a regular file; None when it is shorter or not regular."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or (length is not None and status.st_size < length):
        return None
    digest = hashlib.sha256()
    left = status.st_size if length is None else length
    buffer = memoryview(bytearray(min(_CHUNK, left) or 1))
    while left:
        count = os.readv(descriptor, [buffer[: min(len(buffer), left)]])
        if not count:
            return None
        digest.update(buffer[:count])
        left -= count
    return digest
