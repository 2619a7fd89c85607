"""The other ends of ports.Source in tests: a queue over a list, and sinks that keep what they get."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from syncd.core.errors import SyncdError
from syncd.core.model import ROOT, Entry, Kind, Listing, RelPath, Wanted
from syncd.ports import Failed, Outcome, Source


class ListQueue:
    """A FetchQueue over a list; more can be put in until close(). Thread-safe."""

    def __init__(self, wanted: Iterable[Wanted] = (), *, closed: bool = True) -> None:
        self._items = deque(wanted)
        self._changed = threading.Condition()
        self._closed = closed

    def put(self, wanted: Wanted, *, first: bool = False) -> None:
        with self._changed:
            assert not self._closed, "put() after close()"
            self._items.appendleft(wanted) if first else self._items.append(wanted)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, wait_s: float) -> Wanted | None:
        with self._changed:
            if not self._items and not self._closed and wait_s > 0:
                self._changed.wait_for(lambda: self._items or self._closed, wait_s)
            return self._items.popleft() if self._items else None

    @property
    def closed(self) -> bool:
        with self._changed:
            return self._closed

    def __len__(self) -> int:
        return len(self._items)


class KeptBytes:
    """One file's sink: keeps the bytes; raises `error` once `error_at` bytes have come."""

    def __init__(self, error: SyncdError | None = None, error_at: int = 0) -> None:
        self.content = bytearray()
        self.largest_chunk = 0
        self._error = error
        self._error_at = error_at

    def write(self, chunk: memoryview) -> None:
        assert isinstance(chunk, memoryview)
        self.content += chunk
        self.largest_chunk = max(self.largest_chunk, len(chunk))
        if self._error is not None and len(self.content) >= self._error_at:
            raise self._error


class Sinks:
    """Makes one KeptBytes a file; asserts that it is asked for once a file. errors: path -> what its sink raises."""

    def __init__(self, errors: dict[str, SyncdError] | None = None, *, error_at: int = 0) -> None:
        self.kept: dict[str, KeptBytes] = {}
        self._errors = errors or {}
        self._error_at = error_at

    def __call__(self, wanted: Wanted) -> KeptBytes:
        assert wanted.path not in self.kept, f"a second sink for {wanted.path!r}"
        kept = self.kept[wanted.path] = KeptBytes(self._errors.get(wanted.path), self._error_at)
        return kept

    def content(self, path: str) -> bytes:
        return bytes(self.kept[path].content)


def scan_all(source: Source, start: RelPath = ROOT) -> dict[str, Listing]:
    """Scan everything below `start`; return listings by directory, each exactly once."""
    pending = [start]
    found: dict[str, Listing] = {}
    for listing in source.scan(pending):
        assert listing.directory not in found, f"{listing.directory!r} was listed twice"
        assert listing.complete == (listing.reason is None)
        found[listing.directory] = listing
        pending += [join(listing.directory, each.name) for each in listing.entries if each.kind is Kind.DIRECTORY]
    assert not pending
    return found


def files_in(listings: dict[str, Listing]) -> Iterator[tuple[RelPath, Entry]]:
    """Give every file that was listed, with its path."""
    for directory, listing in listings.items():
        for each in listing.entries:
            if each.kind is Kind.FILE:
                yield join(RelPath(directory), each.name), each


def join(directory: RelPath, name: str) -> RelPath:
    return RelPath(f"{directory}/{name}" if directory else name)


def want_all(listings: dict[str, Listing]) -> list[Wanted]:
    return [Wanted(path, entry.fingerprint) for path, entry in files_in(listings)]


def fetch_all(source: Source, wanted: Iterable[Wanted], sinks: Sinks | None = None) -> tuple[Sinks, dict[str, Outcome]]:
    """Fetch the given files; return what their sinks kept and the outcomes, exactly one a file."""
    wanted = list(wanted)
    sinks = sinks or Sinks()
    outcomes: dict[str, Outcome] = {}
    for outcome in source.fetch(ListQueue(wanted), sinks):
        assert outcome.wanted.path not in outcomes, f"two outcomes for {outcome.wanted.path!r}"
        outcomes[outcome.wanted.path] = outcome
    assert outcomes.keys() == {each.path for each in wanted}
    return sinks, outcomes


def error_of(outcome: Outcome) -> SyncdError:
    """Return the error of an outcome that must be a failure."""
    assert isinstance(outcome, Failed), f"{outcome.wanted.path!r} was fetched"
    return outcome.error
