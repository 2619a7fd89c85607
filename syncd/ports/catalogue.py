"""What the engine needs from the catalogue: the facts about one mirror, and what a run finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from syncd.core.model import (
    Entry,
    Fact,
    FileEvent,
    Fingerprint,
    Intent,
    LocalEntry,
    Partial,
    Record,
    RelPath,
    Unheld,
)
from syncd.core.named import NamedTuple


class HeldDirectory:
    """What the catalogue knows of one directory: records of files in it, and names of folders known below it."""

    __slots__ = ("_records", "folders")

    def __init__(self, records: Mapping[str, Record], folders: frozenset[str]) -> None:
        self._records = records
        self.folders = folders

    @property
    def records(self) -> Mapping[str, Record]:
        """The records by name."""
        return self._records

    def are_exactly(self, _files: Mapping[str, Entry], _local: Mapping[str, LocalEntry]) -> bool:
        """Say whether it is certain at a glance that these files are held, no others, and each as its record says.

        As listed at the source, and as it lies here; none was absent in a run before. False says nothing.
        """
        return False


class Totals(NamedTuple):
    """Files and bytes."""

    files: int
    bytes: int


class Announcement(NamedTuple):
    """One row of the outbox, which is also the numbered event feed."""

    seq: int
    mirror: str
    path: RelPath
    event: FileEvent
    size: int
    sha256: str
    mtime_ns: int
    generation: int
    run_id: str
    at: str


class Findings(Protocol):
    """What one run's scan found, kept in a temporary table on disk, not in memory; used by one thread.

    "Absent" = held, and not in a complete listing where it should be. Judged after the scan.
    """

    def absent(self, directory: RelPath, names: Iterable[str]) -> None:
        """These held files of this directory were not in its complete listing."""

    def absent_below(self, directory: RelPath) -> None:
        """Everything held at or below this directory is absent (it was not in its parent's complete listing)."""

    def seen_again(self, path: RelPath) -> None:
        """A held file with an absent_run was seen in this scan."""

    def arrived(self, path: RelPath, fingerprint: Fingerprint) -> None:
        """A path that is not held was listed whose file id, size and mtime are those of a record: perhaps a rename."""

    def replaced(self, path: RelPath, fingerprint: Fingerprint) -> None:
        """A held path was listed with another fingerprint."""

    def flipped(self, path: RelPath) -> None:
        """A held file's name is a folder (or special) now; or a held file lies where a folder is absent: proof."""

    def unheld(self, unheld: Unheld) -> None:
        """A listed path that will not be held by this run as it stands (refused, failed, waiting)."""

    def directory(self, path: RelPath, seen: bool) -> None:
        """A directory was listed (it is to exist in the mirror), or a known one is absent."""

    def renames(self) -> Iterator[tuple[RelPath, Record, RelPath, Fingerprint]]:
        """Return (old path, its record, new path, its fingerprint) for each proven rename.

        Proven: absent old path and arrived new path with equal, non-zero file id, size and mtime; the id belongs to no
        other arrival, replacement or record.
        """

    def settle_rename(self, old: RelPath, new: RelPath) -> None:
        """A rename was carried out: `old` counts as absent and `new` as arrived no more."""

    def arrivals(self) -> Iterator[tuple[RelPath, Fingerprint]]:
        """Arrivals that are not (or not yet) settled as renames."""

    def replacements(self) -> Iterator[tuple[RelPath, Fingerprint]]:
        """Held paths listed with another fingerprint."""

    def flips(self) -> Iterator[tuple[RelPath, Record]]:
        """Held files whose name is something else now."""

    def absences(self, *, confirmed: bool) -> Iterator[tuple[RelPath, Record]]:
        """Absent files; confirmed: an earlier run had not seen them either. Not those settled as renames."""

    def count_absences(self, *, confirmed: bool) -> int:
        """Return how many absences() would yield."""

    def count_replacements(self) -> int:
        """Return how many replacements differ from their record in size or mtime (not only in ids)."""


class MirrorCatalogue(Protocol):
    """The facts about one mirror. Thread-safe; one transaction at a time, `synchronous=FULL`.

    Raises CatalogueError (disk full on the state's file system: DiskFull).
    """

    def totals(self) -> Totals:
        """Return what is held: files and bytes (kept as a counter, not counted)."""

    def held_in(self, directory: RelPath) -> HeldDirectory:
        """Return records and known folders of one directory."""

    def record(self, path: RelPath) -> Record | None:
        """Return one record."""

    def records(self, below: RelPath = ...) -> Iterator[tuple[RelPath, Record]]:
        """Stream all records below a directory, ordered by directory and name."""

    def near_names(self, path: RelPath) -> list[RelPath]:
        """Return held paths that somebody who says `path` may mean, at most three; takes some milliseconds."""

    def known_directories_below(self, path: RelPath) -> Iterator[RelPath]:
        """Return the folders known below a directory, the deepest first (itself left out)."""

    def holds_identity(self, fingerprint: Fingerprint) -> bool:
        """Say whether some record has this (non-zero) file id with this size and mtime."""

    def unheld_at(self, path: RelPath) -> Unheld | None:
        """Return why one path is not held, or not as listed; None where nothing is known."""

    def removed_at(self, paths: Sequence[RelPath]) -> dict[RelPath, int]:
        """Return when those of these paths that were held once left the mirror last (ms since the epoch)."""

    def use_source(self, source_id: str) -> None:
        """Tell which server the coming fingerprints are from; if it is another, ctime and file ids are set to 0."""

    def findings(self, run_id: str) -> Findings:
        """Start collecting what a run's scan finds (temporary; works on a read-only catalogue too)."""

    def declare(self, intents: Sequence[Intent]) -> None:
        """Transaction 1 of a group: write the intents, durably."""

    def commit(self, facts: Sequence[Fact], closes: Sequence[Intent], *, run_id: str, now_ms: int) -> None:
        """Transaction 2: records and outbox rows, intents gone; durable when it returns.

        generation = max(previous of that path + 1, now_ms), previous kept also after removal. Held announces UPDATED
        if the path was held, else READY; with announce=False only fingerprint and local stat are renewed. Dropped
        announces REMOVED with the dropped record's size and digest; nothing when it was not held.
        A path that becomes held is no longer unheld and its partial is forgotten.
        """

    def open_intents(self) -> list[Intent]:
        """Return intents that no commit has closed, oldest first."""

    def save_partial(self, partial: Partial) -> None:
        """Journal a checkpoint (one a path)."""

    def partial(self, path: RelPath) -> Partial | None:
        """Return the journalled partial of a path."""

    def partials(self) -> list[Partial]:
        """Return all journalled partials."""

    def forget_partial(self, path: RelPath) -> None:
        """Drop a partial's row."""

    def approved(self) -> frozenset[RelPath]:
        """Return the paths that `syncd approve` let through and that have not been carried out."""

    def close(self) -> None: ...
