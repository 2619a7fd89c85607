"""Server paths -> verified local files by a mirror's exported manifest alone, as in a container without a daemon.

A held file is hashed against its line (RULES: inodes differ in containers); the verdict is kept for as long as the
descriptor's stat stays. The manifest says what is held, and nothing of what the source has beside: what it does not
know is UNAVAILABLE (nobody can be asked), never missing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from syncd.client.below import open_below, reason_of
from syncd.client.digests import Digests
from syncd.client.verified import Verified
from syncd.core.filters import Filters
from syncd.core.model import Record, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.core.resolution import (
    NOBODY,
    UNAVAILABLE_S,
    UNVERIFIED_S,
    Candidate,
    Look,
    Resolution,
    State,
    decide,
    ready,
)
from syncd.core.spelling import Spellings, SpellingTable, variants

MANIFEST = ".syncd/manifest.jsonl"
_LINES_AT_ONCE = 4_096
_CANNOT_TELL = "let the daemon be asked: set SYNCD_API (and SYNCD_API_TOKEN_FILE)"


class MountedMirror(NamedTuple):
    """A mirror, and the folder in which this process sees it."""

    name: str
    root: str
    spellings: Spellings
    excludes: Callable[[RelPath], bool]

    @classmethod
    def at(cls, name: str, root: str) -> MountedMirror:
        """Return a mirror of which nothing but this is known."""
        return cls(name, root, Spellings(name, root), Filters().drops)


class ManifestFiles:
    """Resolves by the manifests in some mounts. Thread-safe.

    for_daemon: stands in for one that cannot be reached, and that may know further names of the mirrors.
    """

    def __init__(self, mirrors: Sequence[MountedMirror], *, for_daemon: bool = False) -> None:
        self._names_missing = for_daemon and not all(mirror.spellings.share for mirror in mirrors)
        self._mirrors = {mirror.name: mirror for mirror in mirrors}
        self._manifests = {mirror.name: _Manifest(mirror.root) for mirror in mirrors}
        self._table = SpellingTable([mirror.spellings for mirror in mirrors])
        self._digests = Digests()

    def resolve(self, spelled: str) -> Resolution:
        """Say what a spelling means and how it is. The first time, a file is read to its end."""
        found = self.opened(spelled)
        if isinstance(found, Verified):
            os.close(found.descriptor)
            return found.resolution
        return found

    def opened(self, spelled: str) -> Verified | Resolution:
        """Open the file that a spelling means; its bytes have been hashed."""
        views = {name: manifest.view() for name, manifest in self._manifests.items()}
        asked = _Asked(self._mirrors, views)
        found = decide(spelled, self._table, asked, near=False)
        if isinstance(found, Resolution):
            return self._untold(spelled, found, asked) if self._cannot_tell(found) else found
        return self._verified(found)

    def close(self) -> None:
        """Nothing is kept open."""

    def _cannot_tell(self, found: Resolution) -> bool:
        """Say whether somebody who can be asked later may know better: what is held, or shares' names and aliases."""
        return found.reason is Reason.NEVER_LISTED or (self._names_missing and found.reason is Reason.OUTSIDE)

    def _untold(self, spelled: str, found: Resolution, asked: _Asked) -> Resolution:
        """Answer for a path that no manifest knows."""
        best = self._table.read(next(variants(spelled))).readings[:2]
        if best and (len(best) == 1 or best[0].rank > best[1].rank):
            _, mirror, path = best[0]
            candidate = Candidate(mirror, path, Look())
            if asked.views[mirror].problem:
                hint = f"the manifest cannot be read: {asked.views[mirror].problem}; mount the mirror's target there"
                return candidate.answer(State.UNAVAILABLE, Reason.TARGET_MISSING, UNAVAILABLE_S, hint)
            if not path or asked.look(mirror, path).folder:
                return candidate.answer(State.REFUSED, Reason.FOLDER)
        candidate = Candidate(found.mirror, RelPath(found.path), Look()) if found.mirror else NOBODY
        return candidate.answer(State.UNAVAILABLE, Reason.SOURCE_UNAVAILABLE, UNAVAILABLE_S, _CANNOT_TELL)

    def _verified(self, found: Candidate) -> Verified | Resolution:
        mirror, path, look = found
        try:
            opened = open_below(self._mirrors[mirror].root, path)
        except OSError as error:
            return found.answer(State.FETCHING, reason_of(error), UNVERIFIED_S)
        try:
            if look.record is not None and self._digests.of(opened, look.record.size) == look.record.sha256:
                return Verified(opened.descriptor, ready(found, self._mirrors[mirror].root))
        except OSError as error:
            os.close(opened.descriptor)
            return found.answer(State.FETCHING, reason_of(error), UNVERIFIED_S)
        except BaseException:
            os.close(opened.descriptor)
            raise
        os.close(opened.descriptor)
        return found.answer(State.FETCHING, Reason.LOCAL_CHANGED, UNVERIFIED_S)


# --- what core.resolution asks ---------------------------------------------------------------------------------------


class _View(NamedTuple):
    """One state of a manifest. problem: why it cannot be read ("" = it was)."""

    lines: Mapping[str, tuple[int, str, int]]
    folders: frozenset[str]
    problem: str = ""


class _Asked:
    """Answers for one resolution, all from the same states of the manifests."""

    def __init__(self, mirrors: Mapping[str, MountedMirror], views: Mapping[str, _View]) -> None:
        self._mirrors = mirrors
        self.views = views

    def look(self, mirror: str, path: RelPath) -> Look:
        view = self.views[mirror]
        line = view.lines.get(path)
        if line is None:
            return Look(folder=path in view.folders)
        size, sha256, generation = line
        return Look(record=Record(size, 0, 0, 0, sha256, generation, 0, size, 0))

    def excludes(self, mirror: str, path: RelPath) -> bool:
        return self._mirrors[mirror].excludes(path)

    def fault_above(self, mirror: str, path: RelPath) -> Unheld | None:  # noqa: ARG002 (asked of what was listed)
        return None

    def near(self, mirror: str, path: RelPath) -> Sequence[RelPath]:  # noqa: ARG002 (nothing is ever missing)
        return ()


class _Manifest:
    """One mirror's manifest, read again when it was replaced."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = str(Path(root, MANIFEST))
        self._lock = threading.Lock()
        self._signature: tuple[int, ...] = ()
        self._view = _View({}, frozenset())

    def view(self) -> _View:
        """Return what the manifest says now."""
        try:
            if _replaced(os.stat(self._path, follow_symlinks=False)) != self._signature:
                with self._lock:
                    self._read()
        except OSError as error:
            return _View({}, frozenset(), f"{self._path}: {error.strerror or error}")
        return self._view

    def _read(self) -> None:
        descriptor, status = open_below(self._root, MANIFEST)
        with open(descriptor, "rb") as file:
            if _replaced(status) == self._signature:
                return  # another thread was faster
            lines = dict(_lines(file))
        self._view = _View(lines, frozenset(_folders_of(lines)))
        self._signature = _replaced(status)


def _replaced(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _lines(file: Iterator[bytes]) -> Iterator[tuple[str, tuple[int, str, int]]]:
    """Yield what each line says; one that is torn or foreign is left out."""
    for number, line in enumerate(file):
        if number % _LINES_AT_ONCE == 0:
            time.sleep(0)  # under gevent the others run meanwhile
        try:
            found = json.loads(line)
            path, size, sha256, generation = (found[key] for key in ("path", "size", "sha256", "generation"))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if isinstance(path, str) and isinstance(sha256, str) and type(size) is int and type(generation) is int:
            yield path, (size, sha256, generation)


def _folders_of(paths: Iterator[str] | Mapping[str, object]) -> set[str]:
    folders: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    return folders
