"""Somebody changed the mirror's own folder: what is held and is not what it was is no longer held; the rest is foreign.

Under the lock of everybody who commits: between a rename and its record a file of ours would look foreign.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from syncd.core.errors import MirrorError, Scope
from syncd.core.model import Held, Kind, Record, RelPath
from syncd.core.reasons import Reason
from syncd.engine.commit import Committer
from syncd.ports import Mirror, MirrorCatalogue

FOREIGN_SHOWN = 1_000


@dataclass(slots=True)
class Found:
    """damaged: held until now, changed or gone. foreign: not ours, left alone. gone: nothing lies there (any more)."""

    damaged: list[RelPath] = field(default_factory=list)
    foreign: list[RelPath] = field(default_factory=list)
    gone: list[RelPath] = field(default_factory=list)


class Tending:
    """One look at some paths, or at all that is held."""

    def __init__(
        self, mirror: Mirror, catalogue: MirrorCatalogue, committer: Committer, writing: threading.RLock
    ) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        self._committer = committer
        self._writing = writing
        self._found = Found()

    def look(self, changed: frozenset[RelPath] | None) -> Found:
        """Look at these paths (None: at everything held); drop, announce as removed and set aside what is wrong."""
        if changed is None:
            for path, _ in self._catalogue.records():
                self._look_at(path)
        else:
            for path in sorted(changed):
                self._look_at(path)
        return self._found

    def _look_at(self, path: RelPath) -> None:
        with self._writing:
            record = self._catalogue.record(path)
            try:
                here = self._mirror.stat_local(path)
            except MirrorError as error:
                if error.scope is not Scope.FILE:
                    raise
                here = None
            if record is not None:
                self._check(path, record, here.stat if here is not None and here.kind is Kind.FILE else None)
                return
        below = list(self._below(path)) if here is None or here.kind is Kind.DIRECTORY else []
        for inner in below:
            self._look_at(inner)
        if here is None:
            self._found.gone.append(path)
        elif here.kind is not Kind.DIRECTORY and len(self._found.foreign) < FOREIGN_SHOWN:
            self._found.foreign.append(path)

    def _below(self, path: RelPath) -> Iterator[RelPath]:
        return (inner for inner, _ in self._catalogue.records(path) if inner != path)

    def _check(self, path: RelPath, record: Record, here: object) -> None:
        if here == record.local:
            return
        try:
            digest, local = self._mirror.hash_local(path)
        except MirrorError as error:
            if error.scope is not Scope.FILE:
                raise
        else:
            if digest == record.sha256:
                self._committer.renew([Held(path, record.fingerprint, record.sha256, local, announce=False)])
                return
        self._committer.quarantine(path, Reason.LOCAL_CHANGED if here else Reason.LOST, set_aside=True)
        self._found.damaged.append(path)
