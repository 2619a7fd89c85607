"""SHA256SUMS on the share, believed where a file that lies in the target already is to be held (`trust_checksums`).

A line is believed only if its file is not older than the file that it names: one that is older proves nothing about it.
Nobody's word is taken for the local bytes: they are hashed here, and what is held is announced with that digest.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from syncd.core import paths
from syncd.core.checksums import CHECKSUM_FILE, MAX_LINES, parse_checksums
from syncd.core.errors import EntryGone, MirrorError, Scope, SyncdError
from syncd.core.model import ROOT, Fingerprint, LocalStat, RelPath
from syncd.core.named import NamedTuple
from syncd.engine.backlog import Backlog, Fetch
from syncd.ports import Fetched, Mirror, Source

MAX_BYTES = 16 << 20
"""What one SHA256SUMS may have, and what all that are kept in memory at once may have together."""
MAX_BYTES_READ = 256 << 20
"""What is read of SHA256SUMS in one run, some two million lines: a share of nothing else must not take for ever."""
MAX_FOLDERS = 4_096
MAX_UNUSED = 20


class _Sums(NamedTuple):
    """One SHA256SUMS as it was read, and what its own bytes hash to.

    lines None: it cannot be used; what it names is not known, so nothing farther away is believed either.
    """

    size: int
    mtime_ns: int
    sha256: str
    lines: dict[RelPath, str] | None


_UNUSABLE = _Sums(0, 0, "", None)


class ShareChecksums:
    """Looks digests up in the SHA256SUMS of a share, over a connection of its own: scan and fetches go on meanwhile.

    Used by one thread; close() by any. Nothing is raised: whatever is wrong, the server's bytes are read as usual.
    bytes: read so far. unused: the first files that could not be used, and why.
    """

    def __init__(self, open_source: Callable[[], Source]) -> None:
        self._open_source = open_source
        self._source: Source | None = None
        self._kept: OrderedDict[RelPath, _Sums | None] = OrderedDict()
        self._kept_bytes = 0
        self._ended = False
        self.bytes = 0
        self.unused: list[tuple[RelPath, str]] = []

    def proven(self, mirror: Mirror, path: RelPath, fingerprint: Fingerprint) -> tuple[str, LocalStat] | None:
        """Return digest and stat of the local file, made durable, if the share vouches for it and the size is right."""
        sha256 = self.digest(path, fingerprint)
        if sha256 is None:
            return None
        try:
            here = mirror.stat_local(path)
            if here is None or here.stat.size != fingerprint.size:
                return None
            digest, local = mirror.hash_local(path, durable=True)
        except MirrorError:
            return None
        return (digest, local) if digest == sha256 and local.size == fingerprint.size else None

    def digest(self, path: RelPath, fingerprint: Fingerprint) -> str | None:
        """Return the SHA-256 that the share gives for this version of a file; None when the server must be read.

        The nearest SHA256SUMS that names the file decides, from its own folder up to the share's root. Of a SHA256SUMS
        itself it is what was read here.
        """
        directory, name = paths.split(path)
        if name == CHECKSUM_FILE:
            here = self._sums(directory)
            return here.sha256 or None if here is not None and here[:2] == fingerprint[:2] else None
        for folder in reversed([ROOT, *paths.parents(path)]):
            sums = self._sums(folder)
            if sums is None:
                continue
            below = RelPath(path[len(folder) + 1 :] if folder else path)
            if sums.lines is None:
                return None
            if below in sums.lines:
                return sums.lines[below] if sums.mtime_ns >= fingerprint.mtime_ns else None
        return None

    def close(self) -> None:
        """End the connection; from another thread it makes a blocked call end. Safe to repeat."""
        self._ended = True
        if self._source is not None:
            self._source.close()

    def _sums(self, folder: RelPath) -> _Sums | None:
        """Return a folder's SHA256SUMS, None where there is none; read once, as long as there is room to keep it."""
        if folder in self._kept:
            self._kept.move_to_end(folder)
            return self._kept[folder]
        sums = self._read(paths.join(folder, CHECKSUM_FILE))
        self._kept[folder] = sums
        self._kept_bytes += sums.size if sums is not None else 0
        if len(self._kept) > MAX_FOLDERS:
            self._drop_oldest()
        return sums

    def _drop_oldest(self) -> None:
        _, sums = self._kept.popitem(last=False)
        self._kept_bytes -= sums.size if sums is not None else 0

    def _read(self, path: RelPath) -> _Sums | None:
        if self._ended:
            return _UNUSABLE
        try:
            return self._parse(path)
        except EntryGone:
            return None
        except SyncdError as error:
            if error.scope is not Scope.FILE:
                self._ended = True  # the run's own connection tells of it, if it is not only this one
            return self._unusable(path, error.message)

    def _parse(self, path: RelPath) -> _Sums:
        source = self._connected()
        found = source.read(path)
        if found.size > MAX_BYTES:
            return self._unusable(path, f"it has more than {MAX_BYTES >> 20} MiB")
        if self.bytes + found.size > MAX_BYTES_READ:
            return self._unusable(path, f"{MAX_BYTES_READ >> 20} MiB of such files were read in this run")
        while self._kept and self._kept_bytes + found.size > MAX_BYTES:
            self._drop_oldest()
        text = self._fetch(source, path, found)
        lines = parse_checksums(text)
        if lines is None:
            return self._unusable(path, f"it has more than {MAX_LINES} lines")
        return _Sums(found.size, found.mtime_ns, hashlib.sha256(text).hexdigest(), lines)

    def _connected(self) -> Source:
        if self._source is None:
            self._source = self._open_source()
            self._source.check()
        return self._source

    def _fetch(self, source: Source, path: RelPath, found: Fingerprint) -> bytes:
        """Return a small file's bytes. Raises what ends it."""
        queue, sink = Backlog(), _MemorySink()
        queue.put(Fetch(path, found))
        queue.close()
        try:
            outcomes = list(source.fetch(queue, lambda _: sink))
        finally:
            self.bytes += len(sink.text)
        for outcome in outcomes:
            if not isinstance(outcome, Fetched):
                raise outcome.error
        return bytes(sink.text)

    def _unusable(self, path: RelPath, why: str) -> _Sums:
        if len(self.unused) < MAX_UNUSED:
            self.unused.append((path, why))
        return _UNUSABLE


class _MemorySink:
    """Keeps what it is given: at most what was asked for, by the contract of a source."""

    def __init__(self) -> None:
        self.text = bytearray()

    def write(self, chunk: memoryview) -> None:
        self.text += chunk
