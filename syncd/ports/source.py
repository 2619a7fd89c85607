"""What the engine needs from where the originals live: listings, bytes, and hints of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from syncd.core.errors import SyncdError
from syncd.core.model import (
    Fingerprint,
    Listing,
    RelPath,
    Wanted,
)
from syncd.core.named import NamedTuple

if TYPE_CHECKING:  # mirrors with one server do not load what several need
    from syncd.core.stand_by import StandBy


class SourceInfo(NamedTuple):
    """What check() learned. clock_offset_ns: server's clock minus ours (0 where the protocol tells no time).

    stand_by: the stand-by that is in use, None at the mirror's own server. What a stand-by lists has no ids.
    """

    description: str
    clock_offset_ns: int = 0
    stand_by: StandBy | None = None


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


class Pace(Protocol):
    """How fast a source may read; thread-safe, shared with other sources of the same mirror."""

    def piece(self, longest: int) -> int:
        """Return how many bytes one read should ask for at most, `longest` where nothing limits."""

    def wait_s(self) -> float:
        """Return the seconds after which to ask again; 0: a read may be sent now."""

    def charge(self, count: int) -> None:
        """A read of so many bytes is sent."""


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

    def keep_pace(self, pace: Pace) -> None:
        """Ask `pace` before each read of a file's bytes from now on (listings are not counted). Before fetch()."""

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
