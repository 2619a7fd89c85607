"""The loop that keeps the registry current: heartbeats, and every change of what is held, off the critical path.

Files come from the numbered feed. How far they are in the registry stands there beside them; where that is missing or
does not fit the feed (a registry that was lost, another catalogue, a feed trimmed meanwhile, other mirrors), all that
is held is compared with what is stored, a part at a time, and only what differs is written.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, NamedTuple

from syncd.core.errors import ConfigError, PublishFailed, SyncdError
from syncd.core.model import ROOT, FileEvent, Record, RelPath
from syncd.core.paths import split
from syncd.core.wire import server_path
from syncd.ports import Announcement, BeatAnswer, Bookmark, Holdings, Registry, RegistryEntry

ROWS_AT_ONCE = 200
COMPARED_AT_ONCE = 500
KEPT_REMOVED_MS = 3_600_000
"""A removed entry is kept so long: a write that was held up on its way must not bring its file back."""


class EnrolPace(NamedTuple):
    """How often, in seconds.

    beat_s: heartbeats. look_s: looking for changes without being woken. least_s: between two looks, however often it is
    woken. pause_s: after a first failure; doubled up to pause_max_s, jittered. whole_s: comparing everything.
    """

    beat_s: float = 30.0
    look_s: float = 5.0
    least_s: float = 1.0
    pause_s: float = 1.0
    pause_max_s: float = 60.0
    whole_s: float = 86_400.0


UNHURRIED = EnrolPace()


class EnrolState(NamedTuple):
    """How it goes, for status. connected: the last call went well; since: since when that is so or not (ISO 8601 UTC).

    since is "" before the first call has ended. error, hint: of the last failure, "" while connected. behind:
    announcements that the registry does not have yet, None when files are not recorded or that is not known. comparing:
    all that is held is being compared. warnings: for the operator. latency_s: how long the last heartbeat took; None
    while not connected.
    """

    connected: bool
    since: str
    error: str
    hint: str
    failures: int
    behind: int | None
    comparing: bool
    warnings: tuple[str, ...]
    latency_s: float | None = None


class Enrolment:
    """Keeps one host's part of the registry current. One thread: run(); wake(), stop() and state from any thread.

    host: returns what the host says of itself now (ports.Registry.beat); called in this thread, every few seconds.
    files: record single files, not only the host.
    """

    def __init__(
        self,
        registry: Registry,
        holdings: Holdings,
        *,
        host_id: str,
        host: Callable[[], Mapping[str, Any]],
        files: bool,
        pace: EnrolPace = UNHURRIED,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._registry = registry
        self._host_id = host_id
        self._host = host
        self._pace = pace
        self._now_ns = now_ns
        self._files = _Files(registry, holdings, host_id, pace, now_ns) if files else None
        self._said: object = None
        self._beat_due = 0.0
        self._beat_s: float | None = None
        self._failures = 0
        self._state = EnrolState(False, "", "", "", 0, None, False, ())
        self._woken = threading.Event()
        self._stopped = threading.Event()

    @property
    def state(self) -> EnrolState:
        """How it goes; takes no lock and does no I/O."""
        return self._state

    def run(self) -> None:
        """Keep the registry current until stop(). Raises CatalogueError; a registry out of reach is tried for ever."""
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                more = self._step()
            except (PublishFailed, ConfigError) as error:
                if not self._stopped.is_set():
                    self._rest(self._failed(error))
            else:
                self._went_well()
                if not more:
                    self._rest(min(self._pace.look_s, max(0.0, self._beat_due - time.monotonic())))

    def settle(self, deadline_s: float) -> bool:
        """Bring the registry up to date once, for a command without a daemon; whether that was done in time.

        One failure is enough to leave it: the next run does it. Raises CatalogueError.
        """
        deadline = time.monotonic() + deadline_s
        while not self._stopped.is_set() and time.monotonic() < deadline:
            try:
                more = self._step()
            except (PublishFailed, ConfigError) as error:
                self._failed(error)
                return False
            self._went_well()
            if not more:
                return True
        return False

    def wake(self) -> None:
        """Look at once: something changed, or there is a reason to think that MongoDB is back."""
        self._woken.set()

    def stop(self) -> None:
        """End run(), also while MongoDB keeps it waiting: the registry is closed. Safe to repeat."""
        self._stopped.set()
        self._woken.set()
        self._registry.close()

    # --- one step

    def _step(self) -> bool:
        """Send a heartbeat if one is due, then a part of what is not stored yet; True: there is more."""
        host = {**self._host(), "files": self._files is not None}
        saying = host.get("name"), host.get("version"), host.get("workers"), _states(host)
        if time.monotonic() >= self._beat_due or saying != self._said:
            self._beat(host)
            self._said = saying
            self._beat_due = time.monotonic() + self._pace.beat_s
        return self._files is not None and self._files.send_some()

    def _beat(self, host: Mapping[str, Any]) -> None:
        began = time.monotonic()
        answer = self._registry.beat(host)
        self._beat_s = time.monotonic() - began
        self._state = self._state._replace(warnings=_warnings(self._host_id, str(host.get("name")), answer))
        if self._files is not None:
            self._files.adopt(answer.bookmark, sorted({str(mirror["name"]) for mirror in host.get("mirrors", ())}))

    # --- how it goes

    def _went_well(self) -> None:
        self._failures = 0
        self._note(connected=True, error="", hint="")

    def _failed(self, error: SyncdError) -> float:
        """Note a failure and return how long to wait; the next step begins with a heartbeat."""
        self._failures += 1
        self._beat_due = 0.0
        self._note(connected=False, error=error.message, hint=error.hint)
        pause_s = min(self._pace.pause_s * 2.0 ** min(self._failures - 1, 16), self._pace.pause_max_s)
        return pause_s * random.uniform(0.5, 1)  # noqa: S311  (jitter, not a secret)

    def _note(self, *, connected: bool, error: str, hint: str) -> None:
        before = self._state
        since = before.since if before.since and before.connected == connected else _iso(self._now_ns())
        behind = self._files.behind if self._files is not None else None
        comparing = self._files is not None and self._files.comparing
        latency_s = self._beat_s if connected else None
        told = error, hint, self._failures, behind, comparing, before.warnings, latency_s
        self._state = EnrolState(connected, since, *told)

    def _rest(self, pause_s: float) -> None:
        """Wait; being woken shortens it, but not below the least pause."""
        least_s = min(self._pace.least_s, pause_s)
        if not self._stopped.wait(least_s):
            self._woken.wait(pause_s - least_s)


class _Files:
    """The files' part: what of the feed, and of a comparison, is to be stored next. Used by the loop's thread."""

    def __init__(
        self, registry: Registry, holdings: Holdings, host_id: str, pace: EnrolPace, now_ns: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._holdings = holdings
        self._host_id = host_id
        self._pace = pace
        self._now_ns = now_ns
        self._mirrors: list[str] = []
        self._bookmark: Bookmark | None = None
        self._parts: Iterator[_Part] | None = None  # of the comparison that goes on
        self.behind: int | None = None

    @property
    def comparing(self) -> bool:
        """Whether all that is held is being compared."""
        return self._bookmark is not None and self._bookmark.place is not None

    def adopt(self, stored: Bookmark | None, mirrors: list[str]) -> None:
        """Go on from what the registry says, where that fits the feed and the mirrors; else compare everything."""
        if stored is not None and stored == self._bookmark and mirrors == self._mirrors:
            return
        self._mirrors = mirrors
        self._parts = None
        if stored is not None and self._fits(stored):
            self._bookmark = stored
        else:
            self._begin_comparing()

    def send_some(self) -> bool:
        """Store the next part; True: there is more."""
        assert self._bookmark is not None  # noqa: S101  (a heartbeat comes first)
        last = self._holdings.last_announcement()
        self.behind = max(0, last - self._bookmark.through)
        if self._bookmark.place is not None:
            self._compare_some()
            return True
        rows = self._holdings.announcements(self._bookmark.through, ROWS_AT_ONCE)
        reached = rows[-1].seq if rows else last
        if reached != self._bookmark.through + len(rows) or self._whole_is_due():
            self._begin_comparing()
            return True
        if rows:
            self._registry.record(self._host_id, [_told(row) for row in rows if row.mirror in self._mirrors])
            self._move(self._bookmark._replace(through=reached, mark=self._mark_of(rows[-1])))
            self.behind = max(0, last - reached)
        return len(rows) == ROWS_AT_ONCE

    # --- the bookmark

    def _fits(self, stored: Bookmark) -> bool:
        """Say whether the feed has the announcement that the bookmark names, and all that came after it."""
        if stored.through > self._holdings.last_announcement():
            return False
        return stored.mark == self._mark_at(stored.through)

    def _mark_at(self, number: int) -> str:
        """Return the mark of an announcement, also of one that is not kept any more, or of none (0)."""
        if number == 0:
            return self._marked("")
        rows = self._holdings.announcements(number - 1, 1)
        return self._mark_of(rows[0]) if rows and rows[0].seq == number else self._marked("not kept")

    def _mark_of(self, row: Announcement) -> str:
        return self._marked(f"{row.mirror}|{row.path}|{row.sha256}|{row.generation}")

    def _marked(self, announcement: str) -> str:
        """Return a mark that fits only while the same mirrors are configured."""
        return "\n".join((*self._mirrors, announcement))

    def _move(self, bookmark: Bookmark) -> None:
        self._registry.mark(self._host_id, bookmark, self._bookmark)
        self._bookmark = bookmark

    # --- comparing everything

    def _whole_is_due(self) -> bool:
        assert self._bookmark is not None  # noqa: S101
        return abs(self._now_ms() - self._bookmark.whole_ms) >= self._pace.whole_s * 1000

    def _begin_comparing(self) -> None:
        """Note where the feed is first: what is committed from now on comes after, and is stored again."""
        self._parts = None
        self._bookmark = None
        through = self._holdings.last_announcement()
        self._move(Bookmark(through, self._mark_at(through), 0, ("", "")))

    def _compare_some(self) -> None:
        """Make one part of what is stored equal to what is held."""
        assert self._bookmark is not None  # noqa: S101
        assert self._bookmark.place is not None  # noqa: S101
        parts = self._parts or _parts(self._holdings, self._mirrors, self._bookmark.place)
        self._parts = None  # a part that fails is taken again
        part = next(parts, None)
        if part is not None:
            self._correct(part)
        if part is not None and part.next_place is not None:
            self._move(self._bookmark._replace(place=part.next_place))
            self._parts = parts
        else:
            self._registry.keep_only(self._host_id, self._mirrors)
            self._move(self._bookmark._replace(place=None, whole_ms=self._now_ms()))

    def _correct(self, part: _Part) -> None:
        held = {entry.server_path: entry for entry in part.held}
        for page in self._stored(part):
            wrong = [entry for entry in page if self._is_wrong(entry, held.get(entry.server_path))]
            if wrong:
                self._registry.drop(self._host_id, wrong)
            for entry in page:
                if held.get(entry.server_path) == entry:
                    del held[entry.server_path]
        if held:
            self._registry.record(self._host_id, list(held.values()))

    def _stored(self, part: _Part) -> Iterator[list[RegistryEntry]]:
        """Yield what is stored of a part, a page at a time."""
        after = part.after
        while True:
            page = self._registry.entries(self._host_id, part.mirror, after, part.until, COMPARED_AT_ONCE)
            yield page
            if len(page) < COMPARED_AT_ONCE:
                return
            after = RelPath(page[-1].server_path.removeprefix(f"{part.mirror}/"))

    def _is_wrong(self, stored: RegistryEntry, held: RegistryEntry | None) -> bool:
        """Say whether an entry has to go before the right one can be stored, which an older one need not."""
        if held is None:
            return not stored.removed or self._now_ms() - stored.generation > KEPT_REMOVED_MS
        return stored != held and stored.generation >= held.generation

    def _now_ms(self) -> int:
        return self._now_ns() // 1_000_000


class _Part(NamedTuple):
    """A part of what a mirror holds, in the catalogue's order: what comes after one path, up to another.

    until None: to the mirror's end. next_place: what follows, None when nothing does.
    """

    mirror: str
    after: RelPath
    until: RelPath | None
    held: list[RegistryEntry]
    next_place: tuple[str, str] | None


def _parts(holdings: Holdings, mirrors: Sequence[str], place: tuple[str, str]) -> Iterator[_Part]:
    """Yield all that is held in parts, from a place on. The last part of a mirror may be empty. mirrors: sorted."""
    left = [mirror for mirror in mirrors if mirror >= place[0]]
    for at, mirror in enumerate(left, 1):
        following = (left[at], ROOT) if at < len(left) else None
        after = RelPath(place[1]) if mirror == place[0] else ROOT
        records = _records_after(holdings, mirror, after)
        while len(held := [_held(mirror, *each) for each in islice(records, COMPARED_AT_ONCE)]) == COMPARED_AT_ONCE:
            until = RelPath(held[-1].server_path.removeprefix(f"{mirror}/"))
            yield _Part(mirror, after, until, held, (mirror, until))
            after = until
        yield _Part(mirror, after, None, held, following)


def _records_after(holdings: Holdings, mirror: str, after: RelPath) -> Iterator[tuple[RelPath, Record]]:
    place = split(after)
    records = iter(holdings.mirror(mirror).records())
    for path, record in records:
        if split(path) > place:
            return chain([(path, record)], records)
    return iter(())


def _held(mirror: str, path: RelPath, record: Record) -> RegistryEntry:
    where = server_path(mirror, path)
    return RegistryEntry(mirror, where, record.size, record.sha256, record.generation, removed=False)


def _told(row: Announcement) -> RegistryEntry:
    removed = row.event is FileEvent.REMOVED
    return RegistryEntry(row.mirror, server_path(row.mirror, row.path), row.size, row.sha256, row.generation, removed)


def _states(host: Mapping[str, Any]) -> list[tuple[object, object]]:
    """Return what of a host's mirrors is worth a heartbeat of its own: which there are, and their states."""
    return [(mirror.get("name"), mirror.get("state")) for mirror in host.get("mirrors", ())]


def _warnings(host_id: str, name: str, answer: BeatAnswer) -> tuple[str, ...]:
    if not answer.namesakes:
        return ()
    ids = ", ".join((host_id, *answer.namesakes))
    return (f'{1 + len(answer.namesakes)} live hosts are called "{name}" (ids {ids}): set another name in [host]',)


def _iso(now_ns: int) -> str:
    at = datetime.fromtimestamp(now_ns / 1e9, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
