"""The ports of the engine: what it needs from a source, from the mirror on disk, the catalogue and a publisher.

The docstrings are the contract; tests/conformance holds every adapter to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from syncd.core.errors import SyncdError
from syncd.core.model import (
    Fact,
    FileEvent,
    Fingerprint,
    Intent,
    Listing,
    LocalEntry,
    LocalStat,
    Partial,
    Record,
    RelPath,
    Unheld,
    Wanted,
)

# --- source ----------------------------------------------------------------------------------------------------------


class SourceInfo(NamedTuple):
    """What check() learned. clock_offset_ns: server's clock minus ours (0 where the protocol tells no time)."""

    description: str
    clock_offset_ns: int = 0


class FetchQueue(Protocol):
    """Where a source takes its next file from; thread-safe."""

    def take(self, wait_s: float) -> Wanted | None:
        """Return the most urgent wanted file; None when there is none within `wait_s` (0: at once)."""

    @property
    def closed(self) -> bool:
        """True once no further file will ever come (a take() may still return what is left)."""


class Sink(Protocol):
    """Where one file's bytes go; called by one thread at a time, in order, without gaps, from Wanted.offset on."""

    def write(self, chunk: memoryview) -> None:
        """Take the next bytes; they are valid only during the call. Raises DiskFull or LocalIOError."""


class Fetched(NamedTuple):
    """All bytes went into the sink; `after` is the source's fingerprint after the last byte."""

    wanted: Wanted
    after: Fingerprint


class Failed(NamedTuple):
    """This file did not come; `error` has scope FILE. What the sink has is not to be used."""

    wanted: Wanted
    error: SyncdError


Outcome = Fetched | Failed


class Source(Protocol):
    """Where the originals live. Never written to, never locked against its users, no handle left open.

    Every call ends by its deadline. scan() and fetch() may run at the same time in two threads; each is used by one
    thread at a time. Names are validated by the caller before they come back in as paths, so an adapter may join them.
    """

    def check(self) -> SourceInfo:
        """Connect, log in, and see that the root folder is there.

        Raises: SourceUnavailable, SourceVanished (the root is not there) or SourceAuthFailed, each naming the hop that
                failed and what to try. A password is tried once.
        """

    def scan(self, pending: list[RelPath]) -> Iterator[Listing]:
        """List directories, many in flight, until `pending` is empty and every listing has been yielded.

        Directories are taken from the end of `pending`; the consumer appends to it between two yields (this is how a
        scan descends). Exactly one Listing for each directory taken, in any order. A directory that cannot be opened
        or read is a Listing with complete=False and its reason, never an empty complete one, never an exception.
        Symbolic links and reparse points are Kind.OTHER. "." and ".." are left out.
        Memory: bounded by the listings in flight.
        Raises: SourceUnavailable when the source stays unreachable after reconnecting, SourceAuthFailed.
        """

    def fetch(self, queue: FetchQueue, sink: Callable[[Wanted], Sink]) -> Iterator[Outcome]:
        """Read files, many in flight, until the queue is closed and empty and every outcome has been yielded.

        Exactly one Outcome for each file taken. sink(wanted) is called once a file, before its first byte (also for a
        file of no bytes). At most Wanted.fingerprint.size bytes are delivered; fewer is Failed(EntryChanged). The
        fingerprint is read again after the last byte, on the same open file where the protocol can; where size or
        mtime then differ from wanted.fingerprint the outcome is Failed(EntryChanged). Files are opened so that others
        may read, write, rename and delete them, and links are not followed. A stalled or dropped connection is
        replaced and the file goes on at its offset if its fingerprint is still the same.
        An error that the sink raises ends that file: as Failed if its scope is FILE, else it is raised from here.
        Raises: SourceUnavailable, SourceAuthFailed.
        """

    def read(self, path: RelPath) -> Fingerprint:
        """Look at one file now (its fingerprint). Raises EntryGone, EntryDenied, SourceUnavailable."""

    def close(self) -> None:
        """End all connections; safe to repeat, and from another thread to make a blocked call end."""


class Hint(NamedTuple):
    """Something may have changed in these directories; None: anywhere (overflow, a new watch): look at everything."""

    directories: frozenset[RelPath] | None


class HintSource(Protocol):
    """Tells of changes at the source as they happen. Every hint may be wrong, doubled or late, and any may be missing.

    Nothing is locked against the source's users, and no handle is left open after close().
    """

    def watch(self, tell: Callable[[Hint], None]) -> None:
        """Call `tell` for changes until close(); blocks, and runs in a thread of its own.

        The first call of `tell` is Hint(None), once watching has begun: what changed before is not told. Where a
        connection is lost it is made again (with pauses, capped at 60 s), followed by Hint(None). Directories that do
        not exist are left out. `tell` returns at once and does not raise.
        Raises: SourceUnavailable when this source cannot tell of changes at all (message says why), SourceAuthFailed.
        """

    def focus(self, directories: Sequence[RelPath]) -> None:
        """Watch these directories most closely, the most important first, as many as the adapter's cap allows.

        From any thread, at any time; replaces the last call's. Changes made on the server itself are told of these.
        """

    @property
    def state(self) -> str:
        """Say in a few words how watching goes: "on", "off: why", "partly: why"; for status."""

    def close(self) -> None:
        """End watch(); safe to repeat, and from another thread."""


# --- mirror on disk --------------------------------------------------------------------------------------------------


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


# --- catalogue -------------------------------------------------------------------------------------------------------


class HeldDirectory(NamedTuple):
    """What the catalogue knows of one directory: records of files in it, and names of folders known below it."""

    records: dict[str, Record]
    folders: frozenset[str]


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

    def known_directories_below(self, path: RelPath) -> Iterator[RelPath]:
        """Return the folders known below a directory, the deepest first (itself left out)."""

    def holds_identity(self, fingerprint: Fingerprint) -> bool:
        """Say whether some record has this (non-zero) file id with this size and mtime."""

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


# --- announcements ---------------------------------------------------------------------------------------------------


class ClosedRun(NamedTuple):
    """A finished run of one mirror that changed something; report: the mirror's object of DESIGN 4.2."""

    mirror: str
    run_id: str
    state: str
    finished_at: str
    report: dict[str, Any]


class Outbox(Protocol):
    """What is to be announced, durably kept; the relay's view of the catalogue. Thread-safe. Raises CatalogueError."""

    def unpublished(self, limit: int) -> list[Announcement]:
        """Return the oldest announcements that have not been accepted, in the order of commit."""

    def mark_published(self, numbers: Iterable[int], *, at: str) -> None:
        """Note, durably, that these announcements were accepted (ISO 8601 UTC)."""

    def last_announcement(self) -> int:
        """Return the number of the newest announcement."""

    def published_since(self, at: str) -> Sequence[int]:
        """Return the numbers of what was accepted at or after `at` and is the newest of its path, owed rows counted."""

    def still_newest(self, numbers: Sequence[int], after: int) -> list[Announcement]:
        """Return those of these announcements whose path has not been announced again with a number above `after`."""

    def runs_to_announce(self, limit: int) -> list[ClosedRun]:
        """Return runs whose message is due since all their announcements were accepted, the oldest first."""

    def mark_run_announced(self, run: ClosedRun) -> None:
        """Note, durably, that a run's message was accepted."""

    def trim_announcements(self, before: str, *, owed_too: bool = False) -> int:
        """Remove what was accepted before a time (owed_too: all committed before it), a part at a time: how many."""

    def count_owed(self) -> int:
        """Return how many announcements have not been accepted."""


class Publisher(Protocol):
    """Takes announcements; used by one thread (close() by any). Connects when first needed.

    topic and bodies are as on the wire (core.wire). Every call ends by its deadline.
    """

    connections: int
    """How many connections have been made so far: what an earlier one took may be lost when this rises."""

    def publish(self, topic: str, bodies: Sequence[bytes]) -> None:
        """Return once all bodies were accepted, in their order. No bodies: once there is a connection that is alive.

        Raises: PublishFailed when it is not certain that all were: none, some or all of them may have arrived, so that
                all are to be sent again. The connection is given up then; the next call makes a new one.
        """

    def close(self) -> None:
        """End the connection; safe to repeat, and from another thread to make a blocked call end."""


# --- who holds what --------------------------------------------------------------------------------------------------


class RegistryEntry(NamedTuple):
    """One file that a host holds (or, removed, does not hold any more), for the registry.

    server_path: as core.wire.server_path() makes it. generation: also says when, in ms since the Unix epoch.
    """

    mirror: str
    server_path: str
    size: int
    sha256: str
    generation: int
    removed: bool


class Bookmark(NamedTuple):
    """How far a host's files are in the registry. It lies there beside them, so that both are lost together.

    through: what was announced up to this number is stored. mark: the key of that announcement ("" = there was none),
    by which another catalogue is noticed. whole_ms: when all that is held was last compared with what is stored (Unix
    ms, 0 = never). place: while such a comparison goes on, the last (mirror, path) that was compared, ("", "") at its
    beginning; None: none goes on.
    """

    through: int
    mark: str
    whole_ms: int
    place: tuple[str, str] | None


class BeatAnswer(NamedTuple):
    """What the registry knows when it hears from a host. bookmark: None where it has none of this host's files.

    namesakes: ids of other hosts of the same name that were heard of lately.
    """

    bookmark: Bookmark | None
    namesakes: tuple[str, ...]


class Registry(Protocol):
    """Where people and dashboards see which host holds what. Never on the critical path: nothing waits for it.

    Used by one thread (close() by any). Connects when first needed, and anew after a failure. Every call ends by its
    deadline and may raise PublishFailed: then what it was to store is stored in full, in part, or not at all, so it is
    to be stored again. ConfigError where the secret with the address cannot be read.
    """

    def beat(self, host: Mapping[str, Any]) -> BeatAnswer:
        """Store what a host says of itself, and that it was heard of now, by the registry's own clock.

        host: id, name, version, started_at (ISO 8601 UTC), files (whether files are recorded), workers (how many) and
        mirrors, each {name, state, files, bytes, last_success, source, target}.
        """

    def mark(self, host_id: str, bookmark: Bookmark, before: Bookmark | None) -> None:
        """Store how far a host's files are, after what it says has been stored.

        before: the bookmark that is there, None: any or none. Where it is not, or the host has not been heard of, all
        may have been lost: PublishFailed, and nothing is stored.
        """

    def record(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        """Store what changed; idempotent, in any order, also late.

        An entry that is there with the same or a higher generation stays as it is; so does a removed one.
        """

    def entries(
        self, host_id: str, mirror: str, after: RelPath, until: RelPath | None, limit: int
    ) -> list[RegistryEntry]:
        """Return what is stored of a mirror, removed entries too, ordered by directory and name as the catalogue is.

        after: the path that they come after (ROOT: all do). until: the last path that is asked for, None: to the end.
        """

    def drop(self, host_id: str, entries: Sequence[RegistryEntry]) -> None:
        """Take entries out; one that has another generation by now stays."""

    def keep_only(self, host_id: str, mirrors: Sequence[str]) -> None:
        """Take out what is stored of a host's other mirrors."""

    def close(self) -> None:
        """End the connection for good; safe to repeat, and from another thread to make a call that waits end."""


class Holdings(Protocol):
    """What the registry is told of: the numbered feed, and all that is held. Thread-safe. Raises CatalogueError."""

    def announcements(self, since: int, limit: int) -> list[Announcement]:
        """Return the feed after a number, in order, accepted by nsqd or not."""

    def last_announcement(self) -> int:
        """Return the number of the newest announcement, also of one that is not kept any more."""

    def mirror(self, name: str) -> MirrorCatalogue:
        """Return one mirror's facts."""
