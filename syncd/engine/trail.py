"""One path, followed through the source's listings: is it there, and spelled exactly so?

Servers open a name in another case, or by its short form, too; but a file's identity is its path byte for byte as the
server spells it. Only a complete listing without a name says that it is missing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from syncd.core import paths
from syncd.core.errors import Scope, SyncdError
from syncd.core.model import Fingerprint, Kind, Listing, RelPath
from syncd.core.reasons import Reason
from syncd.ports import Source

KEPT_S = 10.0
KEPT_FOLDERS = 32
KEPT_NAMES = 200_000
"""In all folders together; a listing with more is not kept."""


class Ending(NamedTuple):
    """Where a path ends before it comes to a file. at: what is not listed so: a folder above it, or the path itself.

    certain: a complete listing said so. kind: what is listed there instead (None: nothing). mangled: it is listed, as a
    stand-in for another name. near: that name in another case or Unicode form, if there is one. age_s: for how long
    that listing had been kept.
    """

    at: RelPath
    certain: bool
    kind: Kind | None = None
    mangled: bool = False
    near: RelPath | None = None
    age_s: float = 0.0


class _Listed:
    """One listing of a folder. began, ended: when it was asked for and when it was there, by time.monotonic()."""

    def __init__(self, began: float, listing: Listing) -> None:
        self.began = began
        self.ended = time.monotonic()
        self.kinds = {entry.name: entry.kind for entry in listing.entries if entry.name not in listing.mangled}
        self._mangled = listing.mangled
        self._certain = listing.complete or listing.reason is Reason.GONE

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        spellings: dict[str, list[str]] = {}
        for name in self.kinds:
            spellings.setdefault(paths.fold(name), []).append(name)
        return spellings

    def ending(self, path: RelPath, age_s: float) -> Ending:
        """Say what it has in the place of a path that it does not list as wanted."""
        directory, name = paths.split(path)
        near = next((other for other in self._spellings.get(paths.fold(name), ()) if other != name), None)
        return Ending(
            path,
            certain=self._certain,
            kind=self.kinds.get(name),
            mangled=name in self._mangled,
            near=None if near is None else paths.join(directory, near),
            age_s=age_s,
        )


class Trail:
    """Follows paths over one source; used by one thread. What was listed just now is not listed again."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: OrderedDict[RelPath, _Listed] = OrderedDict()

    def follow(self, path: RelPath, asked_at: float, opened: Fingerprint | None) -> Ending | None:
        """Return None where the path is listed as a file.

        asked_at: when somebody asked for it, by time.monotonic(). A listing that began since then is good enough to say
        that it lacks the path: many who ask at once cost one listing. opened: what the server opens by that path, None
        where it opens nothing: then only a listing that is made now shows the path. What is opened and not listed may
        be younger than a listing, so that is made anew, except where the listing has another spelling of the same file.
        Raises: SourceUnavailable, SourceAuthFailed.
        """

        def suffices(ending: Ending) -> bool:
            return opened is None or self._is_spelled_otherwise(path, ending, opened)

        for above in paths.parents(path):
            ending = self._step(above, Kind.DIRECTORY, asked_at, suffices, trust=True)
            if ending is not None:
                return ending
        return self._step(path, Kind.FILE, asked_at, suffices, trust=opened is not None)

    def _step(
        self, path: RelPath, wanted: Kind, asked_at: float, suffices: Callable[[Ending], bool], *, trust: bool
    ) -> Ending | None:
        """suffices: whether to believe a listing that was kept. trust: what is known to be there is not looked for."""
        directory, name = paths.split(path)
        known, now = self._kept.get(directory), time.monotonic()
        if known is not None and known.kinds.get(name) is wanted:
            if trust and now - known.ended < KEPT_S:
                return None
        elif known is not None and known.began >= asked_at:
            ending = known.ending(path, now - known.began)
            if suffices(ending):
                return ending
        listing = self._list(directory)
        if listing is None:
            return Ending(path, certain=False)
        listed = _Listed(now, listing)
        self._keep(directory, listed)
        return None if listed.kinds.get(name) is wanted else listed.ending(path, 0.0)

    def _is_spelled_otherwise(self, path: RelPath, ending: Ending, opened: Fingerprint) -> bool:
        """Say whether the listed name that is near opens the same file, by its id."""
        if ending.near is None or not opened.file_id:
            return False
        try:
            return self._source.read(RelPath(ending.near + path[len(ending.at) :])) == opened
        except SyncdError as error:
            if error.scope is not Scope.FILE:
                raise
            return False

    def _keep(self, directory: RelPath, listed: _Listed) -> None:
        self._kept.pop(directory, None)
        if len(listed.kinds) > KEPT_NAMES:
            return
        self._kept[directory] = listed
        while len(self._kept) > KEPT_FOLDERS or sum(len(each.kinds) for each in self._kept.values()) > KEPT_NAMES:
            self._kept.popitem(last=False)

    def _list(self, directory: RelPath) -> Listing | None:
        return next((each for each in self._source.scan([directory]) if each.directory == directory), None)
