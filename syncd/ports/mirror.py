"""What the engine needs from the mirror on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from syncd.core.model import (
    LocalEntry,
    LocalStat,
    Partial,
    RelPath,
)
from syncd.core.named import NamedTuple


class Room(NamedTuple):
    """Space on the mirror's file system: bytes and inodes. total_inodes is 0 where the file system has no limit."""

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int


class Traits(NamedTuple):
    """What the mirror's file system does to names and links, as probed."""

    folds_case: bool
    folds_unicode: bool
    hard_links: bool


class Trashed(NamedTuple):
    """One file in the trash. batch: the trash folder it lies in (one a run), sorts by time."""

    batch: str
    path: RelPath
    size: int
    trashed_at_ns: int


class Staged(Protocol):
    """One file being received in staging. Bytes are hashed as they are written."""

    name: str
    size: int

    def write(self, chunk: memoryview) -> None:
        """Append and hash. Raises DiskFull (no space, no inodes, floor, quota) or LocalIOError."""

    def checkpoint(self) -> tuple[int, str]:
        """Sync what was written; return (bytes so far, their SHA-256 in hex). Raises as write()."""

    def seal(self, mtime_ns: int) -> str:
        """No more bytes: set the source's mtime and the fixed mode; return the SHA-256 in hex. Not yet durable."""

    def discard(self) -> None:
        """Throw the staged file away; safe to repeat and after a failed sync."""

    def keep(self) -> None:
        """Close it but leave it in staging, for a resume."""


class Mirror(Protocol):
    """The local data directory of one mirror. Its writing side is used by one thread at a time; stage() by any.

    Nothing outside the target is ever touched: every path is walked by directory handles from the target's, without
    following links. Paths are RelPaths validated by core.paths. Errors: OSError never leaves; ENOSPC, EDQUOT and EROFS
    are DiskFull (EROFS: TargetUnusable), a link or a file in the place of a folder is PathUnsafe, else LocalIOError.
    """

    traits: Traits

    def list_local(self, directory: RelPath) -> dict[str, LocalEntry] | None:
        """Return what lies in one local directory by lstat, `.syncd` at the root left out; None if it is not there.

        Raises: PathUnsafe when a component is a link or no folder.
        """

    def stat_local(self, path: RelPath) -> LocalEntry | None:
        """Return one name's lstat; None if it, or a folder above it, is not there. Raises PathUnsafe."""

    def hash_local(
        self, path: RelPath, *, past_page_cache: bool = False, durable: bool = False
    ) -> tuple[str, LocalStat]:
        """Return SHA-256 and stat (by fstat, before and after equal) of a regular file.

        durable: sync the file and its folder first (a file that somebody else put there is about to be held).

        Raises: PathUnsafe, LocalIOError (also when it is not there).
        """

    def read_small(self, path: RelPath, limit: int = ...) -> bytes:
        """Return the contents of a local file, at most `limit` bytes (4 MiB). Raises as hash_local()."""

    def stage(self) -> Staged:
        """Open a new staged file under a short name of our own. Any thread. Raises DiskFull, LocalIOError."""

    def resume(self, partial: Partial) -> Staged | None:
        """Re-open a partial for appending if its prefix still hashes to partial.sha256 (bytes beyond are cut off).

        None, and the file is removed, when it does not.
        """

    def staged_digest(self, name: str) -> str | None:
        """Return the SHA-256 of a file left in staging, None when it is not there (recovery of intents)."""

    def sync(self, staged: Sequence[Staged]) -> None:
        """Make all sealed files durable, or raise; after an error all of them must be discarded, never synced again.

        Raises: DiskFull, LocalIOError.
        """

    def promote(self, staged: Staged | str, path: RelPath, *, batch: str) -> LocalStat:
        """Move a synced staged file (or, in recovery, its name) to its final place; what lay there goes to the trash.

        Readers see the old bytes or the new, never a mix and never nothing: link(old, trash), rename(staged, final).
        Parents are created. Durable only after sync_directories(). Returns the stat as read back.
        Raises: PathUnsafe, PathCollision (a folder with contents lies there), DiskFull, LocalIOError.
        """

    def retire(self, path: RelPath, expected: LocalStat, *, batch: str) -> bool:
        """Move a file to the trash if its stat is `expected`; else leave it and return False. Safe to repeat."""

    def set_aside(self, path: RelPath, *, batch: str) -> bool:
        """Move whatever file lies there (not a folder) to the trash; False when nothing does."""

    def move(self, old: RelPath, new: RelPath, expected: LocalStat) -> bool:
        """Rename a held file inside the mirror if its stat is `expected` and nothing lies at `new`; else False."""

    def make_directory(self, path: RelPath) -> None:
        """Create a folder and its parents (0755 less umask); safe to repeat.

        Raises: PathUnsafe, PathCollision, DiskFull.
        """

    def remove_directory(self, path: RelPath) -> bool:
        """Remove a folder if it is empty; True when it is not there afterwards."""

    def touch(self, path: RelPath) -> None:
        """Have the next sync_directories() make the folder of `path` durable (recovery: the rename was made before)."""

    def sync_directories(self) -> None:
        """Make every promote, retire, move, make and remove since the last call durable.

        Syncs each directory touched, and for new directories their parents up to the first that was durable before.
        Raises LocalIOError: then nothing since the last call may be called done.
        """

    def sweep_staging(self, keep: Iterable[str]) -> int:
        """Remove everything from staging but the names in `keep`; return how many were removed."""

    def room(self) -> Room:
        """Return the space on the mirror's file system."""

    def trash(self) -> Iterator[Trashed]:
        """List the trash, oldest batch first."""

    def restore(self, trashed: Trashed, to: str) -> str:
        """Copy one trashed file to `to`/its path (outside .syncd), never over an existing file; return where it is."""

    def purge(self, batch: str) -> int:
        """Remove one batch of the trash; return the bytes freed."""

    def write_manifest(self, lines: Iterable[bytes]) -> None:
        """Replace `.syncd/manifest.jsonl` atomically and durably."""

    def read_manifest(self) -> Iterator[bytes]:
        """Return the lines of the manifest (none when there is none)."""

    def close(self) -> None:
        """Close all handles; safe to repeat."""
