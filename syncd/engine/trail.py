"""One path, followed through the source's listings: is it there, and spelled exactly so?

Servers open a name in another case, or by its short form, too; but a file's identity is its path byte for byte as the
server spells it. Only a complete listing without a name says that it is missing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
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
    stand-in for another name. near: that name in another case or Unicode form, if there is one.
    """

    at: RelPath
    certain: bool
    kind: Kind | None = None
    mangled: bool = False
    near: RelPath | None = None


class Trail:
    """Follows paths over one source; used by one thread. What was listed just now is not listed again."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: OrderedDict[RelPath, tuple[float, dict[str, Kind]]] = OrderedDict()

    def follow(self, path: RelPath, *, fresh: bool = False) -> Ending | None:
        """Return None where the path is listed as a file. fresh: its folder is listed now, whatever is known.

        Raises: SourceUnavailable, SourceAuthFailed.
        """
        for above in paths.parents(path):
            ending = self._step(above, Kind.DIRECTORY, fresh=False)
            if ending is not None:
                return ending
        return self._step(path, Kind.FILE, fresh=fresh)

    def _step(self, path: RelPath, wanted: Kind, *, fresh: bool) -> Ending | None:
        directory, name = paths.split(path)
        if not fresh and self._known(directory).get(name) is wanted:
            return None
        listing = self._list(directory)
        if listing is None:
            return Ending(path, certain=False)
        kinds = {entry.name: entry.kind for entry in listing.entries if entry.name not in listing.mangled}
        self._keep(directory, kinds)
        if kinds.get(name) is wanted:
            return None
        near = next((other for other in kinds if other != name and paths.fold(other) == paths.fold(name)), None)
        return Ending(
            path,
            certain=listing.complete or listing.reason is Reason.GONE,
            kind=kinds.get(name),
            mangled=name in listing.mangled,
            near=None if near is None else paths.join(directory, near),
        )

    def _known(self, directory: RelPath) -> dict[str, Kind]:
        listed_at, kinds = self._kept.get(directory, (0.0, {}))
        return kinds if time.monotonic() - listed_at < KEPT_S else {}

    def _keep(self, directory: RelPath, kinds: dict[str, Kind]) -> None:
        self._kept.pop(directory, None)
        if len(kinds) <= KEPT_NAMES:
            self._kept[directory] = time.monotonic(), kinds
        if len(self._kept) > KEPT_FOLDERS:
            self._kept.popitem(last=False)

    def _list(self, directory: RelPath) -> Listing | None:
        return next((each for each in self._source.scan([directory]) if each.directory == directory), None)
