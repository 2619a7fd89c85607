"""One path, followed through the source's listings: is it there, and spelled exactly so?

Servers open a name in another case, or by its short form, too; but a file's identity is its path byte for byte as the
server spells it. Only a complete listing without a name says that it is missing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import cached_property
from typing import NamedTuple

from syncd.core import paths
from syncd.core.model import Kind, Listing, RelPath
from syncd.core.reasons import Reason
from syncd.ports import Source

KEPT_S = 10.0
KEPT_FOLDERS = 32
KEPT_NAMES = 20_000


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
    """One listing of a folder. began: when it was asked for, by time.monotonic()."""

    def __init__(self, began: float, listing: Listing) -> None:
        self.began = began
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

    def follow(self, path: RelPath, *, absent_since: float | None = None) -> Ending | None:
        """Return None where the path is listed as a file.

        absent_since: the server does not open it, and this is when somebody asked for it, by time.monotonic(). Then
        only a listing that is made now shows it, and any that began since then is good enough to say that it lacks it:
        many who ask at once cost one listing. Raises: SourceUnavailable, SourceAuthFailed.
        """
        for above in paths.parents(path):
            ending = self._step(above, Kind.DIRECTORY, absent_since, trust=True)
            if ending is not None:
                return ending
        return self._step(path, Kind.FILE, absent_since, trust=absent_since is None)

    def _step(self, path: RelPath, wanted: Kind, absent_since: float | None, *, trust: bool) -> Ending | None:
        """trust: what is known to be there is not looked for again."""
        directory, name = paths.split(path)
        known, now = self._kept.get(directory), time.monotonic()
        if known is not None and now - known.began < KEPT_S:
            if known.kinds.get(name) is wanted:
                if trust:
                    return None
            elif absent_since is not None and known.began >= absent_since:
                return known.ending(path, now - known.began)
        listing = self._list(directory)
        if listing is None:
            return Ending(path, certain=False)
        listed = _Listed(now, listing)
        self._keep(directory, listed)
        return None if listed.kinds.get(name) is wanted else listed.ending(path, 0.0)

    def _keep(self, directory: RelPath, listed: _Listed) -> None:
        self._kept.pop(directory, None)
        if len(listed.kinds) <= KEPT_NAMES:
            self._kept[directory] = listed
        if len(self._kept) > KEPT_FOLDERS:
            self._kept.popitem(last=False)

    def _list(self, directory: RelPath) -> Listing | None:
        return next((each for each in self._source.scan([directory]) if each.directory == directory), None)
