"""Bytes before facts: groups of staged files, retires and moves become durable, then records and outbox rows.

A group: sync all staged files -> declare intents -> link(old, trash), rename(staged, final) -> sync every directory
touched -> commit records and outbox rows, intents gone. Recovery settles open intents by hashing what is there.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from syncd.core import paths
from syncd.core.errors import DiskFull, MirrorError, PathUnsafe, Scope, SyncdError
from syncd.core.model import (
    ROOT,
    Dropped,
    Fact,
    Fingerprint,
    Held,
    Intent,
    IntentKind,
    LocalStat,
    Record,
    RelPath,
)
from syncd.core.reasons import Reason
from syncd.engine.backlog import MAX_ATTEMPTS, Fetch
from syncd.engine.report import Report
from syncd.ports import Mirror, MirrorCatalogue, Staged

BATCH_FILES = 256
T = TypeVar("T")


class Arrived(NamedTuple):
    """One file whose bytes are here and hashed: staged, or (adopted) already lying at their place with stat `local`."""

    fetch: Fetch
    sha256: str
    staged: Staged | None
    local: LocalStat | None = None


class Committer:
    """Turns arrivals, retires and moves into durable facts. Each method is one writer at a time (a lock)."""

    def __init__(
        self,
        mirror: Mirror,
        catalogue: MirrorCatalogue,
        report: Report,
        batch: str,
        now_ms: Callable[[], int],
        writing: threading.RLock | None = None,
    ) -> None:
        """writing: the lock that other committers of the same mirror use too; None: there are no others."""
        self._mirror = mirror
        self._catalogue = catalogue
        self._report = report
        self._batch = batch
        self._now_ms = now_ms
        self._shared = writing is not None
        self._writing = writing or threading.RLock()
        self._serial = itertools.count(1)
        self.last_sync_s = 0.0
        self.only_missing = False
        """From a stand-by: what others have brought in meanwhile is not replaced."""

    # -- groups of fetched files

    def group(self, arrivals: Sequence[Arrived], folders: Sequence[RelPath] = ()) -> list[Fetch]:
        """Commit one group; return what has to be fetched again because its bytes could not be made durable.

        Raises: DiskFull after committing what was promoted; CatalogueError.
        """
        with self._writing:
            facts, fresh = self._sort_arrivals(arrivals)
            started = time.monotonic()
            try:
                self._mirror.sync([staged for _, staged in fresh])
            except MirrorError as error:
                again = self._throw_away(fresh, error)
                fresh = []
                if isinstance(error, DiskFull):
                    raise
            else:
                again = []
            self.last_sync_s = time.monotonic() - started
            self._promote(fresh, folders, facts)
            return again

    def _sort_arrivals(self, arrivals: Sequence[Arrived]) -> tuple[list[Fact], list[tuple[Arrived, Staged]]]:
        facts: list[Fact] = []
        fresh = []
        for arrived in arrivals:
            fetch, sha256, staged, local = arrived
            if local is not None:
                facts.append(Held(fetch.path, fetch.fingerprint, sha256, local))
                self._report.adopted += 1
                self._report.unchanged += 1
                continue
            if staged is None:
                continue
            # as the fetch was planned by; where others commit too, as it is by now
            held = self._catalogue.record(fetch.path) if self._shared else fetch.held
            if held is not None and (held.sha256 == sha256 or self.only_missing) and self._intact(fetch.path, held):
                staged.discard()
                fingerprint = held.fingerprint if self.only_missing else fetch.fingerprint
                facts.append(Held(fetch.path, fingerprint, held.sha256, held.local, announce=False))
                self._report.fetched += 1
            else:
                fresh.append((arrived, staged))
        return facts, fresh

    def _intact(self, path: RelPath, held: Record) -> bool:
        try:
            here = self._mirror.stat_local(path)
        except MirrorError:
            return False
        return here is not None and here.stat == held.local

    def _throw_away(self, fresh: list[tuple[Arrived, Staged]], error: MirrorError) -> list[Fetch]:
        again = []
        for arrived, staged in fresh:
            staged.discard()
            fetch = arrived.fetch
            if fetch.attempts + 1 < MAX_ATTEMPTS:
                again.append(replace(fetch, attempts=fetch.attempts + 1, offset=0))
            else:
                self._report.fail(fetch.path, error.reason, error.message)
        return again

    def _promote(self, fresh: list[tuple[Arrived, Staged]], folders: Sequence[RelPath], facts: list[Fact]) -> None:
        # tuple.__new__ takes a third of what calling the classes does, and this runs for every file
        new, intent, held, announced = tuple.__new__, Intent, Held, True
        kind, prefix, serial = IntentKind.PROMOTE, f"{self._report.run_id}.", self._serial
        intents = [
            new(intent, (f"{prefix}{next(serial)}", kind, fetch.path, sha256, fetch.fingerprint, staged.name, ROOT))
            for (fetch, sha256, _, _), staged in fresh
        ]
        if intents:
            self._catalogue.declare(intents)
        full: DiskFull | None = None
        promoted = 0
        promote, batch = self._mirror.promote, self._batch
        for (fetch, sha256, _, _), staged in fresh:
            path, fingerprint = fetch.path, fetch.fingerprint
            try:
                if full is not None:
                    raise full
                local = promote(staged, path, batch=batch)
            except MirrorError as error:
                staged.discard()
                self._report.fail(path, error.reason, error.message)
                if isinstance(error, DiskFull):
                    full = error
            else:
                promoted += 1
                facts.append(new(held, (path, fingerprint, sha256, local, announced)))
                if fetch.held is not None:
                    self._report.replaced += 1
                if not fingerprint.size:
                    self._report.zero_byte += 1
        self._make_folders(folders)
        try:
            self._mirror.sync_directories()
        except MirrorError as error:
            # the intents stay open and nothing is announced: the next run settles them by hashing what is there
            for arrived, _ in fresh:
                self._report.fail(arrived.fetch.path, error.reason, error.message)
            return
        if facts or intents:
            self._commit(facts, intents)
        self._report.fetched += promoted
        if full is not None:
            raise full

    def _make_folders(self, folders: Sequence[RelPath]) -> None:
        for folder in folders:
            try:
                self._mirror.make_directory(folder)
            except MirrorError as error:
                if error.scope is not Scope.FILE:
                    raise
                self._report.fail(folder, error.reason, error.message)

    def _commit(self, facts: Sequence[Fact], intents: Sequence[Intent]) -> None:
        self._catalogue.commit(facts, intents, run_id=self._report.run_id, now_ms=self._now_ms())

    def _next_id(self) -> str:
        return f"{self._report.run_id}.{next(self._serial)}"

    # -- what leaves, moves, or was lost

    def retire(self, leaving: Iterable[tuple[RelPath, Record]]) -> None:
        """Move files to the trash and drop their records; a local file that is not the record's stays where it is."""
        for batch in _batched(leaving):
            with self._writing:
                intents = [
                    Intent(self._next_id(), IntentKind.RETIRE, path, record.sha256, record.fingerprint)
                    for path, record in batch
                ]
                self._catalogue.declare(intents)
                gone = [path for path, record in batch if self._move_to_trash(path, record)]
                self._mirror.sync_directories()
                self._commit([Dropped(path) for path in gone], intents)
                self._report.retired += len(gone)

    def _move_to_trash(self, path: RelPath, record: Record) -> bool:
        """Say whether the file may be called retired; not when moving it failed (it stays held, and fails)."""
        if self._shared_by_folding(path):
            return True
        try:
            self._mirror.retire(path, record.local, batch=self._batch)
        except PathUnsafe:
            return True  # a link or a foreign thing lies in the place of its folder: what is behind is not ours to move
        except MirrorError as error:
            if error.scope is not Scope.FILE:
                raise
            self._report.fail(path, error.reason, error.message)
            return False
        return True

    def _shared_by_folding(self, path: RelPath) -> bool:
        """Say whether another record folds to this path, so that one local file serves both names."""
        traits = self._mirror.traits
        if not (traits.folds_case or traits.folds_unicode):
            return False
        directory, name = paths.split(path)
        folded = paths.fold(name, case=traits.folds_case, form=traits.folds_unicode)
        others = self._catalogue.held_in(directory).records
        return any(
            other != name and paths.fold(other, case=traits.folds_case, form=traits.folds_unicode) == folded
            for other in others
        )

    def move(
        self, moves: Iterable[tuple[RelPath, Record, RelPath, Fingerprint]]
    ) -> Iterator[tuple[RelPath, Record, RelPath, Fingerprint, bool]]:
        """Rename held files; yield each with whether it was done (if not, it has to be fetched)."""
        for batch in _batched(moves):
            with self._writing:
                done = self._move_batch(batch)
            yield from ((*each, ok) for each, ok in zip(batch, done, strict=True))

    def _move_batch(self, batch: Sequence[tuple[RelPath, Record, RelPath, Fingerprint]]) -> list[bool]:
        intents = [
            Intent(self._next_id(), IntentKind.MOVE, new, record.sha256, fingerprint, from_path=old)
            for old, record, new, fingerprint in batch
        ]
        self._catalogue.declare(intents)
        done, facts = [], list[Fact]()
        for old, record, new, fingerprint in batch:
            try:
                moved = self._mirror.move(old, new, record.local)
            except MirrorError as error:
                if error.scope is not Scope.FILE:
                    raise
                moved = False
            done.append(moved)
            if moved:
                facts += [Dropped(old), Held(new, fingerprint, record.sha256, record.local)]
        self._mirror.sync_directories()
        self._commit(facts, intents)
        self._report.renamed += sum(done)
        return done

    def drop(self, gone: Sequence[RelPath]) -> None:
        """Say of held files that they are no longer held (lost or damaged here); announced as removed."""
        with self._writing:
            self._commit([Dropped(path, Reason.LOST) for path in gone], [])

    def quarantine(self, path: RelPath, why: Reason, *, set_aside: bool) -> None:
        """Say of a held file that it is damaged or gone, and move what lies there to the trash."""
        with self._writing:
            self._commit([Dropped(path, why)], [])
            if set_aside:
                try:
                    self._mirror.set_aside(path, batch=self._batch)
                    self._mirror.sync_directories()
                except MirrorError as error:
                    if error.scope is not Scope.FILE:
                        raise

    def renew(self, held: Sequence[Held]) -> None:
        """Say of local files that they were re-hashed and are what their record or the manifest says."""
        with self._writing:
            self._commit(held, [])

    def make_folders(self, folders: Sequence[RelPath]) -> None:
        """Create folders of the source that hold no file (yet)."""
        with self._writing:
            self._promote([], folders, [])

    def remove_folders(self, folders: Iterable[RelPath]) -> None:
        """Remove folders that are gone at the source, the deepest first, where they are empty."""
        with self._writing:
            for folder in sorted(folders, key=lambda path: path.count("/"), reverse=True):
                try:
                    self._mirror.remove_directory(folder)
                except MirrorError as error:
                    if error.scope is not Scope.FILE:
                        raise
            self._mirror.sync_directories()

    # -- recovery

    def recover(self) -> None:
        """Settle every open intent by hashing what lies at its final and staged place; then sweep staging."""
        with self._writing:
            intents = self._catalogue.open_intents()
            settled = [(self._settle(intent), intent) for intent in intents]
            if intents:
                self._mirror.sync_directories()
                self._commit([fact for facts, _ in settled for fact in facts], intents)
            self._sweep()

    def sweep(self) -> None:
        """Remove from staging what no journalled partial needs."""
        with self._writing:
            self._sweep()

    def _sweep(self) -> None:
        self._mirror.sweep_staging(partial.staged for partial in self._catalogue.partials())

    def _settle(self, intent: Intent) -> list[Fact]:
        match intent.kind:
            case IntentKind.PROMOTE:
                return self._settle_promote(intent)
            case IntentKind.RETIRE:
                return [] if self._lies_at(intent.path) else [Dropped(intent.path)]
            case IntentKind.MOVE:
                local = self._digest_at(intent.path, intent.sha256)
                if local is None or self._lies_at(intent.from_path):
                    return []
                self._mirror.touch(intent.path)
                return [Dropped(intent.from_path), Held(intent.path, intent.fingerprint, intent.sha256, local)]

    def _settle_promote(self, intent: Intent) -> list[Fact]:
        local = self._digest_at(intent.path, intent.sha256)
        if local is not None:
            self._mirror.touch(intent.path)
        elif self._mirror.staged_digest(intent.staged) == intent.sha256:
            try:
                local = self._mirror.promote(intent.staged, intent.path, batch=self._batch)
            except MirrorError as error:
                if error.scope is not Scope.FILE:
                    raise
                return []
        else:
            return []
        return [Held(intent.path, intent.fingerprint, intent.sha256, local)]

    def _digest_at(self, path: RelPath, sha256: str) -> LocalStat | None:
        try:
            digest, local = self._mirror.hash_local(path)
        except MirrorError:
            return None
        return local if digest == sha256 else None

    def _lies_at(self, path: RelPath) -> bool:
        try:
            return self._mirror.stat_local(path) is not None
        except MirrorError:
            return False


def _batched(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH_FILES)):
        yield batch


def stops_run(error: SyncdError) -> bool:
    """Say whether an error ends the run (or more) rather than one file."""
    return error.scope is not Scope.FILE
