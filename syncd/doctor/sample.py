"""A bounded look at what a source lists: how much would be mirrored, what cannot be read, which names are odd."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from syncd.config import MirrorSettings
from syncd.core.errors import SyncdError
from syncd.core.filters import Filters
from syncd.core.model import ROOT, Entry, Kind, Listing, RelPath
from syncd.core.paths import fold, join, printable, refuse_name
from syncd.core.reasons import MEANING, Reason, hint_for
from syncd.core.shown import counted
from syncd.doctor.checks import Check, Pace, TimedOut, fail, failed, ok, size, warn, within
from syncd.ports import Source, Traits

SHOWN_NAMES = 3
ASKED_AT_ONCE = 32


@dataclass(slots=True)
class Sample:
    """What was seen. left: folders known but not looked into (0: everything was looked at)."""

    folders: int = 0
    entries: int = 0
    files: int = 0
    bytes: int = 0
    left: int = 0
    unreadable: list[tuple[RelPath, Reason, str]] = field(default_factory=list)
    odd: dict[Reason, list[str]] = field(default_factory=dict)

    def note(self, reason: Reason, path: str) -> None:
        self.odd.setdefault(reason, []).append(path)


class Sampler:
    """Looks at the root and at folders below it, the higher ones first, until `pace` is used up."""

    def __init__(self, mirror: MirrorSettings, traits: Traits | None, pace: Pace) -> None:
        self._filters = Filters(mirror.include, mirror.exclude)
        self._traits = traits
        self._pace = pace
        self.seen = Sample()

    def look(self, source: Source) -> None:
        """Fill `seen`. Raises SourceUnavailable, SourceAuthFailed; what was seen until then stays."""
        until = time.monotonic() + self._pace.sample_s
        known: deque[RelPath] = deque()
        pending = [ROOT]
        asked = 1
        seen = self.seen
        listings = source.scan(pending)
        for listing in listings:
            known.extend(self._take(listing))
            if seen.entries >= self._pace.entries or time.monotonic() >= until:
                break
            while known and len(pending) < ASKED_AT_ONCE and asked < self._pace.folders:
                pending.append(known.popleft())
                asked += 1
        seen.left = len(known) + asked - seen.folders

    def _take(self, listing: Listing) -> list[RelPath]:
        """Count one listing; return the folders in it that a run would descend into."""
        seen = self.seen
        seen.folders += 1
        seen.entries += len(listing.entries)
        for name in listing.undecodable:
            seen.note(Reason.NAME_UNDECODABLE, _below(listing.directory, name))
        if not listing.complete and listing.reason is not None and listing.reason is not Reason.NAME_UNDECODABLE:
            seen.unreadable.append((listing.directory, listing.reason, listing.detail))
        kept = [entry for entry in listing.entries if self._keeps(listing, entry)]
        self._note_twins(listing.directory, kept)
        return [join(listing.directory, entry.name) for entry in kept if entry.kind is Kind.DIRECTORY]

    def _keeps(self, listing: Listing, entry: Entry) -> bool:
        """Say whether a run would mirror this entry, or look into it; count it or note why not."""
        path = RelPath(_below(listing.directory, entry.name))
        refused = refuse_name(entry.name)
        folder = entry.kind is Kind.DIRECTORY
        if refused is None and (self._filters.drops_folder if folder else self._filters.drops_file)(path, entry.name):
            return False
        if refused is None and entry.name in listing.mangled:
            refused = Reason.NAME_MANGLED
        elif refused is None and entry.kind is Kind.OTHER:
            refused = Reason.LINK
        if refused is not None:
            self.seen.note(refused, path)
            return False
        if not folder:
            self.seen.files += 1
            self.seen.bytes += entry.size
        return True

    def _note_twins(self, directory: RelPath, kept: Iterable[Entry]) -> None:
        traits = self._traits
        if traits is None or not (traits.folds_case or traits.folds_unicode):
            return
        first: dict[str, str] = {}
        for entry in kept:
            folded = fold(entry.name, case=traits.folds_case, form=traits.folds_unicode)
            if first.setdefault(folded, entry.name) != entry.name:
                self.seen.note(
                    Reason.CASE_TWIN if traits.folds_case else Reason.UNICODE_TWIN, _below(directory, entry.name)
                )


def check_listing(
    source: Source, mirror: MirrorSettings, traits: Traits | None, room: int | None, pace: Pace
) -> list[Check]:
    """List a source for a while; room: bytes that may still be written to the target, on top of what is held there."""
    sampler = Sampler(mirror, traits, pace)
    seen = sampler.seen
    try:
        within(pace.listing_s, lambda: sampler.look(source), source.close)
    except TimedOut as error:
        said = f"{error.message}; until then {counted(seen.folders, 'folder')} listed"
        return [fail("listing", said, "see whether the server is overloaded, then: syncd doctor"), *_names(seen)]
    except SyncdError as error:
        return [failed("listing", error), *_names(seen)]
    return [*_listed(seen), *_unreadable(seen), *_names(seen), *_fits(seen, room)]


def _listed(seen: Sample) -> list[Check]:
    if seen.left:
        extent = (
            f"in the first {counted(seen.folders, 'folder')}; at least {counted(seen.left, 'folder')} not looked into"
        )
    else:
        extent = f"in {counted(seen.folders, 'folder')}, which is everything"
    text = f"{counted(seen.files, 'file')} ({size(seen.bytes)}) to be mirrored {extent}"
    if seen.files or seen.left or seen.unreadable:
        return [ok("listing", text)] if seen.folders > len(seen.unreadable) else []
    held = counted(seen.entries, "name")
    return [warn("listing", f"no file to be mirrored among {held}", "check source, include and exclude of the mirror")]


def _unreadable(seen: Sample) -> list[Check]:
    if not seen.unreadable:
        return []
    path, reason, detail = seen.unreadable[0]
    others = f" (and {counted(len(seen.unreadable) - 1, 'more folder')})" if len(seen.unreadable) > 1 else ""
    shown = printable(path) or "the root folder"
    text = f"{shown} cannot be listed{others}: {printable(detail) or MEANING[reason][0]}"
    return [fail("folders", text, hint_for(reason, path) or "look at it on the server")]


def _names(seen: Sample) -> list[Check]:
    checks = []
    for reason, paths in seen.odd.items():
        examples = ", ".join(f'"{printable(path)}"' for path in paths[:SHOWN_NAMES])
        more = ", ..." if len(paths) > SHOWN_NAMES else ""
        text = f"{counted(len(paths), 'name')} not mirrored: {examples}{more}: {MEANING[reason][0]}"
        checks.append(warn("names", text, hint_for(reason)))
    if not checks and seen.entries:
        checks.append(ok("names", f"no odd one among {counted(seen.entries, 'name')}"))
    return checks


def _fits(seen: Sample, room: int | None) -> list[Check]:
    if room is None or seen.bytes <= room:
        return []
    at_least = "at least " if seen.left else ""
    text = f"{at_least}{size(seen.bytes)} are to be held, and there is room for {size(room)} above the floor"
    return [fail("room", text, "free some space, leave something out (exclude), or lower min_free")]


def _below(directory: RelPath, name: str) -> str:
    return f"{directory}/{name}" if directory else name
