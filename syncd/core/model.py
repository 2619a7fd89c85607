"""The values that the packages exchange. Pure: no I/O, no clock.

Sizes are bytes, times are nanoseconds since the Unix epoch (UTC) unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NewType

from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason

RelPath = NewType("RelPath", str)
"""A path below a mirror's root as the server spells it: "/"-separated, validated by core.paths, "" is the root."""

ROOT = RelPath("")


class Kind(IntEnum):
    """What an entry is. OTHER: symbolic link, reparse point, FIFO, socket, device: never followed, never fetched."""

    FILE = 0
    DIRECTORY = 1
    OTHER = 2


class Fingerprint(NamedTuple):
    """A cheap hint that a file changed; never proof that it did not. file_id and ctime_ns are 0 where unknown."""

    size: int
    mtime_ns: int
    ctime_ns: int
    file_id: int


class Entry(NamedTuple):
    """One name in a directory at the source, as the server sent it (the name is not validated)."""

    name: str
    kind: Kind
    size: int
    mtime_ns: int
    ctime_ns: int
    file_id: int

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(*self[2:])


class Listing(NamedTuple):
    """What one look at one directory of the source gave.

    complete: every entry of the directory is in `entries`; only then may absence be concluded.
    reason:   why it is not complete (GONE: the directory itself is not there any more; DENIED, TIMEOUT, UNREADABLE,
              NAME_UNDECODABLE, LISTING_INCOMPLETE), None when complete.
    undecodable: printable forms of names that could not be decoded; they make the listing incomplete.
    mangled:  names in `entries` that the source knows to be stand-ins for names it cannot express (SMB 8.3 names).
    """

    directory: RelPath
    entries: list[Entry]
    complete: bool = True
    reason: Reason | None = None
    detail: str = ""
    undecodable: tuple[str, ...] = ()
    mangled: frozenset[str] = frozenset()


class LocalStat(NamedTuple):
    """The stat of a local file that makes a record verified (not ctime: link() changes it)."""

    inode: int
    size: int
    mtime_ns: int


class LocalEntry(NamedTuple):
    """One name in a local directory, by lstat."""

    kind: Kind
    stat: LocalStat


class Record(NamedTuple):
    """One verified file in the mirror (its path is the key it is kept under).

    size, mtime_ns, ctime_ns, file_id: the source's fingerprint as listed when the bytes were read; ctime_ns and file_id
    are 0 where unknown (then they take no part in comparisons). sha256 is lower-case hex. local_*: the stat read back
    after promotion. absent_run: the run that first did not see the file at the source ("" = seen).
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    file_id: int
    sha256: str
    generation: int
    local_inode: int
    local_size: int
    local_mtime_ns: int
    absent_run: str = ""

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.file_id)

    @property
    def local(self) -> LocalStat:
        return LocalStat(self.local_inode, self.local_size, self.local_mtime_ns)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to be fetched: what the listing said of it, and from which byte (a resumed partial) to start."""

    path: RelPath
    fingerprint: Fingerprint
    offset: int = 0


class FileEvent(StrEnum):
    """What an announcement says of a file (FileReady v1 `event`)."""

    READY = "ready"
    UPDATED = "updated"
    REMOVED = "removed"


class IntentKind(StrEnum):
    """What a journalled intent is about to do to the mirror."""

    PROMOTE = "promote"
    RETIRE = "retire"
    MOVE = "move"


class Intent(NamedTuple):
    """A journalled change of the mirror, open until the facts that follow from it are committed.

    id: unique in the catalogue. staged: name in the staging folder (PROMOTE). from_path: the old path (MOVE).
    sha256, fingerprint: of the bytes that will lie at `path` (of those that leave, for RETIRE).
    """

    id: str
    kind: IntentKind
    path: RelPath
    sha256: str
    fingerprint: Fingerprint
    staged: str = ""
    from_path: RelPath = ROOT


class Held(NamedTuple):
    """Fact: these bytes lie at `path`, durably. announce False renews the record silently (same digest as before)."""

    path: RelPath
    fingerprint: Fingerprint
    sha256: str
    local: LocalStat
    announce: bool = True


class Dropped(NamedTuple):
    """Fact: `path` is no longer held (retired, renamed away, found damaged or gone); announced as removed.

    why: what happened to it here, where the source lists it still: then it is unheld for that reason, not unknown.
    """

    path: RelPath
    why: Reason | None = None


Fact = Held | Dropped


class Partial(NamedTuple):
    """A resumable prefix of a large file: its first `offset` bytes are durable in staging and hash to `sha256`."""

    path: RelPath
    fingerprint: Fingerprint
    staged: str
    offset: int
    sha256: str


class Unheld(NamedTuple):
    """A path the source listed that is not held, or not current, and why (failed, refused, waiting)."""

    path: RelPath
    reason: Reason
    detail: str
    size: int = 0
    mtime_ns: int = 0
    attempts: int = 0
    since: str = ""


class Look(NamedTuple):
    """What is known of one path in one mirror, as of the last complete look at its source.

    listed_at: when that look began ("" = never). unheld: listed, and not held or not as listed. held_back: listed with
    other bytes, which the guard holds back until a person decides. folder: it is one.
    """

    listed_at: str = ""
    record: Record | None = None
    unheld: Unheld | None = None
    held_back: bool = False
    folder: bool = False

    @property
    def file(self) -> bool:
        """Whether a file of this path is held or was listed."""
        return self.record is not None or (self.unheld is not None and not self.folder)
