"""Server paths -> verified local files without a daemon: the same user's catalogue and mirrors, only read.

The one module of the client that is composed of engine and store (pyproject.toml names it): the resolver is the
daemon's own. It loads no package that speaks SMB, SSH, NSQ or MongoDB.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from syncd.client.below import open_below
from syncd.client.verified import Verified
from syncd.config.settings import MirrorSettings, Settings
from syncd.config.spellings import spellings_of
from syncd.core.errors import CatalogueError, TargetMissing
from syncd.core.filters import Filters
from syncd.core.model import LocalStat, RelPath
from syncd.core.reasons import Reason, hint_for
from syncd.core.resolution import UNVERIFIED_S, Candidate, Look, Resolution, State
from syncd.engine.resolving import KnownMirror, Resolver
from syncd.store.mirror import DiskMirror
from syncd.store.reading import ReadonlyCatalogue, open_readonly
from syncd.store.state import StateDirectory

_LOOKS = 3


class CatalogueFiles:
    """Resolves by the catalogue of a configuration. Thread-safe; not to be used on in a process that forked."""

    def __init__(self, settings: Settings) -> None:
        """Open the catalogue.

        Raises: CatalogueError (none there, damaged, another schema), ConfigError (the state directory).
        """
        state = StateDirectory.open(settings.host.state_dir, create=False)
        if not state.catalogue.is_file():
            raise CatalogueError(f"there is no catalogue in {state.path} yet", hint="syncd run-once")
        self._catalogue = open_readonly(state.catalogue)
        self._facts = {each.name: _Facts(self._catalogue, each.name) for each in settings.mirrors}
        self._targets = {each.name: str(each.target) for each in settings.mirrors}
        mirrors = [self._known(each, state) for each in settings.mirrors]
        self._resolver = Resolver(mirrors, _tell_nobody)

    def _known(self, settings: MirrorSettings, state: StateDirectory) -> KnownMirror:
        facts = self._facts[settings.name]
        return KnownMirror(
            settings.name,
            spellings_of(settings),
            facts,
            Filters(settings.include, settings.exclude).drops,
            _Target(settings, state, self._catalogue).use,
            self._targets[settings.name],
        )

    def resolve(self, spelled: str) -> Resolution:
        """Say what a spelling means and how it is, as of the last complete look. Raises CatalogueError."""
        return self._resolver.resolve(spelled)

    def opened(self, spelled: str) -> Verified | Resolution:
        """Open the file that a spelling means: the descriptor's stat is the record's. Raises CatalogueError."""
        for _ in range(_LOOKS):
            found = self._resolver.resolve(spelled)
            if found.state is not State.READY:
                return found
            descriptor = self._open(found)
            if descriptor is not None:
                return Verified(descriptor, found)
        candidate = Candidate(found.mirror, RelPath(found.path), Look(found.listed_at))
        return candidate.answer(State.FETCHING, Reason.LOCAL_CHANGED, UNVERIFIED_S)

    def _open(self, found: Resolution) -> int | None:
        """Return a descriptor of the very version that was resolved; None where it is another by now."""
        record = self._facts[found.mirror].look_up(RelPath(found.path)).record
        if record is None or (record.sha256, record.generation) != (found.sha256, found.generation):
            return None
        try:
            descriptor, status = open_below(self._targets[found.mirror], found.path)
        except OSError:
            return None
        inode = status.st_ino if record.local.inode else 0  # 0: inodes mean nothing on that file system
        if LocalStat(inode, status.st_size, status.st_mtime_ns) == record.local:
            return descriptor
        os.close(descriptor)
        return None

    def close(self) -> None:
        """Close the catalogue; safe to repeat. The mirrors' folders are closed when nobody looks into them any more."""
        self._catalogue.close()


def _tell_nobody(mirror: str, path: str) -> None:
    """Without a daemon nobody re-hashes a file that is not as its record says: the next run does."""


class _Facts:
    """One mirror's facts. What goes by its key is asked for anew: a catalogue that is lost is rebuilt with others."""

    def __init__(self, catalogue: ReadonlyCatalogue, name: str) -> None:
        self._catalogue = catalogue
        self._name = name
        by_name = catalogue.mirror(name)
        self.look_up = by_name.look_up
        self.fault_above = by_name.fault_above

    def near_names(self, path: RelPath) -> Sequence[RelPath]:
        """Return held paths that may be meant by a path that is not known."""
        return self._catalogue.mirror(self._name).near_names(path)


class _Opened:
    """A mirror's folder, open for as long as somebody has this. identity: which folder it was."""

    def __init__(self, mirror: DiskMirror, identity: tuple[int, int]) -> None:
        self.mirror = mirror
        self.identity = identity

    def __enter__(self) -> DiskMirror:
        return self.mirror

    def __exit__(self, *_: object) -> None:
        pass

    def __del__(self) -> None:
        self.mirror.close()


class _Target:
    """One mirror's folder, opened anew when another lies (or is mounted) in its place."""

    def __init__(self, settings: MirrorSettings, state: StateDirectory, catalogue: ReadonlyCatalogue) -> None:
        self._settings = settings
        self._state = state
        self._catalogue = catalogue
        self._target = os.fspath(settings.target)  # as text: looked at for every file
        self._lock = threading.Lock()
        self._current: _Opened | None = None

    def use(self) -> _Opened:
        """Give the open folder. Raises: TargetMissing, TargetForeign and the like."""
        identity = _identity(self._target)
        current = self._current
        if current is None or current.identity != identity:
            with self._lock:
                self._current = current = _Opened(self._open(), _identity(self._target))
        return current

    def _open(self) -> DiskMirror:
        target, host = self._settings.target, self._state.known_host()
        facts = self._catalogue.mirror(self._settings.name)
        mirror = DiskMirror.peek(
            target,
            mirror_name=self._settings.name,
            mirror_uid=facts.uid,
            host_id=host.id if host is not None else "",
            known=bool(facts.target) and facts.target == str(target),
        )
        if mirror is None:
            raise TargetMissing(
                f"the target {target} is not on disk", hint=hint_for(Reason.TARGET_MISSING, mirror=self._settings.name)
            )
        return mirror


def _identity(target: str) -> tuple[int, int]:
    try:
        found = os.stat(target)
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino
