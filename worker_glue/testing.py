"""For the tests of those who use worker_glue: a resolver without a mirror, that answers as the real one does.

files = FakeResolver({"Bhushanji/hin-typed/x.JPG": b"bytes", "Bhushanji/gone.pdf": State.MISSING})
with files:
    handle(task, files)
assert files.calls == [("hold", "/app/Bhushanji/hin-typed/x.JPG")]
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from syncd.core.filters import Filters
from syncd.core.model import Record, RelPath, Unheld
from syncd.core.reasons import Reason
from syncd.core.resolution import NOBODY, Candidate, Look, Resolution, State, decide, ready
from syncd.core.spelling import Spellings, SpellingTable
from worker_glue.ports import Hold
from worker_glue.resolver.forms import Forms, Spelled, text_of
from worker_glue.resolver.holds import CopyHold

__all__ = ["FakeHold", "FakeResolver", "State", "Thing"]

Thing = bytes | Path | State | Resolution
"""What a path is: a file with these bytes (or those of a file of the test's), a state, or a whole answer."""

LISTED_AT = "2026-01-01T00:00:00Z"
_ANSWERS: dict[State, tuple[Reason, float | None]] = {
    State.FETCHING: (Reason.NEW, 2.0),
    State.MISSING: (Reason.NOT_LISTED, None),
    State.REFUSED: (Reason.DENIED, None),
    State.AMBIGUOUS: (Reason.AMBIGUOUS, None),
    State.UNAVAILABLE: (Reason.SOURCE_UNAVAILABLE, 10.0),
    State.NO_MIRROR: (Reason.NO_MIRROR, None),
}


class FakeHold(CopyHold):
    """A hold that a test may lose."""

    lost = False

    def renew(self) -> bool:
        return not self.lost and super().renew()

    def release(self) -> bool:
        return super().release() and not self.lost


class FakeResolver(Forms):
    """Holds what it is told, by server path (MIRROR/PATH), and takes every spelling that the real one takes.

    Nothing is waited for: what ensure() and prefetch() bring is told beforehand with arrives(). calls: what it was
    asked, in order, as (what, path): "resolve", "ensure", "hold" (lease() and local_file() too), "open", "prefetch".
    Thread-safe. close() removes its files.
    """

    def __init__(self, files: Mapping[str, Thing] | None = None) -> None:
        self.calls: list[tuple[str, str]] = []
        self.holds: list[FakeHold] = []
        self._things: dict[tuple[str, RelPath], Thing | Record] = {}
        self._arriving: dict[tuple[str, RelPath], Thing] = {}
        self._generation = 1_700_000_000_000
        self._lock = threading.RLock()
        self._folder = Path(tempfile.mkdtemp(prefix="fake-resolver-"))
        self._end = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for path, thing in (files or {}).items():
            self.put(path, thing)

    # -- what tests do

    def put(self, server_path: str, thing: Thing) -> None:
        """Have a path be something (else) from now on; a file that is there already has a new version."""
        key = _key(server_path)
        with self._lock:
            content = _content(thing)
            self._things[key] = thing if content is None else self._written(key, content)

    def drop(self, server_path: str) -> None:
        """Have a path be on the source no more."""
        with self._lock:
            self._things.pop(_key(server_path), None)

    def arrives(self, server_path: str, thing: Thing) -> None:
        """Have a path be something once it has been asked for by ensure() or prefetch()."""
        self._arriving[_key(server_path)] = thing

    def lose_leases(self) -> None:
        """Lose all holds that are out."""
        for hold in self.holds:
            hold.lost = True

    # -- as the real one

    def prefetch(self, paths: Iterable[Spelled]) -> int:
        wanted = [text_of(path) for path in paths]
        count = 0
        for spelled in dict.fromkeys(wanted):
            self.calls.append(("prefetch", spelled))
            count += self._find(spelled).state is State.READY
            self._bring(spelled)
        return count

    def close(self) -> None:
        """Remove its files; safe to repeat. It is of no use afterwards."""
        self._end()

    def _resolve(self, spelled: str) -> Resolution:
        self.calls.append(("resolve", spelled))
        return self._find(spelled)

    def _ensure(self, spelled: str, timeout_s: float) -> Resolution:  # noqa: ARG002 (nothing is waited for)
        self.calls.append(("ensure", spelled))
        self._bring(spelled)
        return self._find(spelled)

    def _hold(self, spelled: str, ttl_s: float) -> Hold | Resolution:  # noqa: ARG002 (time does not pass)
        self.calls.append(("hold", spelled))
        with self._lock:
            found = self._find(spelled)
            if found.local_path is None:
                return found
            pin, name = Path(tempfile.mkdtemp(dir=self._folder, prefix=".pin-")), Path(found.local_path).name
            shutil.copy2(found.local_path, pin / name)
            self.holds.append(FakeHold(found, pin, name))
            return self.holds[-1]

    def _open(self, spelled: str) -> int | Resolution:
        self.calls.append(("open", spelled))
        with self._lock:
            found = self._find(spelled)
            return found if found.local_path is None else os.open(found.local_path, os.O_RDONLY | os.O_CLOEXEC)

    # -- inside

    def _bring(self, spelled: str) -> None:
        with self._lock:
            found = self._decided(spelled)
            key = (found.mirror, RelPath(found.path))
            if key in self._arriving:
                self.put("/".join(key), self._arriving.pop(key))

    def _find(self, spelled: str) -> Resolution:
        with self._lock:
            found = self._decided(spelled)
            if isinstance(found, Resolution):
                return found
            thing = self._things[found.mirror, found.path]
            match thing:
                case Resolution():
                    return thing
                case State():
                    return _answer(found, thing)
                case _:
                    return ready(found, str(self._folder / found.mirror))

    def _decided(self, spelled: str) -> Candidate | Resolution:
        names = dict.fromkeys(mirror for mirror, _ in (*self._things, *self._arriving))
        table = SpellingTable([Spellings(name, str(self._folder / name)) for name in names])
        return decide(spelled, table, _Asked(self._things))

    def _written(self, key: tuple[str, RelPath], content: bytes) -> Record:
        """Write a version of a file, as a mirror does: whole, under its name."""
        place = self._folder / key[0] / key[1]
        place.parent.mkdir(parents=True, exist_ok=True)
        new = self._folder / ".new"
        new.write_bytes(content)
        new.replace(place)
        self._generation += 1
        return Record(len(content), 0, 0, 0, hashlib.sha256(content).hexdigest(), self._generation, 0, len(content), 0)


def _key(server_path: str) -> tuple[str, RelPath]:
    mirror, _, path = server_path.partition("/")
    if not mirror or not path:
        raise ValueError(f"{server_path!r} is not MIRROR/PATH")
    return mirror, RelPath(path)


def _content(thing: Thing) -> bytes | None:
    if isinstance(thing, Path):
        return thing.read_bytes()
    if thing is State.READY:
        return b""
    return thing if isinstance(thing, bytes) else None


def _answer(found: Candidate, state: State) -> Resolution:
    reason, retry_after_s = _ANSWERS[state]
    if state is State.NO_MIRROR:
        return NOBODY.answer(state, reason)
    if state is State.AMBIGUOUS:
        meant = (f"{found.mirror}/{found.path}", f"another/{found.path}")
        return NOBODY.answer(state, reason)._replace(candidates=meant)
    return found.answer(state, reason, retry_after_s)


class _Asked:
    """What core.resolution asks: all mirrors have been listed to their end."""

    def __init__(self, things: Mapping[tuple[str, RelPath], Thing | Record]) -> None:
        self._things = things
        self._folders = {(mirror, path[:at]) for mirror, path in things for at in range(len(path)) if path[at] == "/"}

    def look(self, mirror: str, path: RelPath) -> Look:
        thing = self._things.get((mirror, path))
        if thing is None:
            return Look(LISTED_AT, folder=(mirror, path) in self._folders)
        record = thing if isinstance(thing, Record) else Record(0, 0, 0, 0, "", 0, 0, 0, 0)
        return Look(LISTED_AT, record)

    def excludes(self, mirror: str, path: RelPath) -> bool:  # noqa: ARG002 (all are the same)
        return Filters().drops(path)

    def fault_above(self, mirror: str, path: RelPath) -> Unheld | None:  # noqa: ARG002 (all was listed)
        return None

    def near(self, mirror: str, path: RelPath) -> Sequence[RelPath]:
        wanted = "".join(path.casefold().split())
        return [held for name, held in self._things if name == mirror and "".join(held.casefold().split()) == wanted]
