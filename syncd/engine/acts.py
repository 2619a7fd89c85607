"""What a run does about its decisions: carried out for real, or only written down (a dry run)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from syncd.core import paths
from syncd.core.model import Entry, Fingerprint, Held, LocalStat, Record, RelPath
from syncd.core.planner import Action
from syncd.core.reasons import Reason
from syncd.engine.backlog import Fetch
from syncd.engine.commit import Committer
from syncd.engine.report import Report
from syncd.engine.rules import MirrorRules
from syncd.engine.transfer import Transfer

Move = tuple[RelPath, Record, RelPath, Fingerprint]


class Acts(Protocol):
    """The verbs of a run."""

    def fetch(self, path: RelPath, fingerprint: Fingerprint, reason: Reason, held: Record | None) -> None:
        """Bring this file in (UNKNOWN_LOCAL: compare the local bytes with the server's first)."""

    def fetch_new(self, directory: RelPath, entries: Iterable[Entry]) -> None:
        """Bring in these files of one directory, of which nothing is held and nothing lies here."""

    def drop(self, gone: Sequence[RelPath]) -> None:
        """Held files are lost or damaged here: they are no longer held."""

    def renew(self, held: Sequence[Held]) -> None:
        """These local files were re-hashed and are what their record or the manifest says."""

    def rebuilt(self, path: RelPath, fingerprint: Fingerprint) -> str | None:
        """Return the digest that the manifest of a lost catalogue gives for this very version of the file."""

    def retire(self, leaving: Iterable[tuple[RelPath, Record]], reason: Reason) -> None:
        """Move these held files to the trash."""

    def move(self, moves: Iterable[Move]) -> Iterator[tuple[RelPath, RelPath, Fingerprint, bool]]:
        """Rename held files; yield (old, new, fingerprint, done)."""

    def make_folders(self, folders: Sequence[RelPath]) -> None:
        """Create these folders."""

    def remove_folders(self, folders: Iterable[RelPath]) -> None:
        """Remove those of these folders that are empty."""


ManifestDigest = Callable[[RelPath, Fingerprint], str | None]
Proven = Callable[[RelPath, Fingerprint], tuple[str, LocalStat] | None]
"""Digest and stat of a local file that is known to be this version of the server's without reading it there."""


class RealActs:
    """Carries out."""

    def __init__(
        self,
        rules: MirrorRules,
        transfer: Transfer,
        committer: Committer,
        manifest_digest: ManifestDigest,
        proven: Proven | None = None,
    ) -> None:
        """proven: asked first where a file lies here already (None: each is compared with the server's bytes)."""
        self._rank = rules.rank
        self._transfer = transfer
        self._committer = committer
        self._proven = proven
        self.rebuilt = manifest_digest

    def fetch(self, path: RelPath, fingerprint: Fingerprint, reason: Reason, held: Record | None) -> None:
        adopt = reason is Reason.UNKNOWN_LOCAL
        fetch = Fetch(path, fingerprint, reason=reason, held=held, adopt=adopt, rank=self._rank(path))
        if adopt and self._proven is not None and (known := self._proven(path, fingerprint)) is not None:
            self._transfer.keep(fetch, *known)
        else:
            self._transfer.want(fetch)

    def fetch_new(self, directory: RelPath, entries: Iterable[Entry]) -> None:
        rank, want, new = self._rank, self._transfer.want, Reason.NEW
        prefix = directory + "/" if directory else ""
        for entry in entries:
            path = RelPath(prefix + entry.name)
            # by position: by name takes twice as long
            want(Fetch(path, entry.fingerprint, 0, new, None, False, 0, rank(path)))

    def drop(self, gone: Sequence[RelPath]) -> None:
        self._committer.drop(gone)

    def renew(self, held: Sequence[Held]) -> None:
        self._committer.renew(held)

    def retire(self, leaving: Iterable[tuple[RelPath, Record]], reason: Reason) -> None:  # noqa: ARG002 - a dry run prints it
        self._committer.retire(leaving)

    def move(self, moves: Iterable[Move]) -> Iterator[tuple[RelPath, RelPath, Fingerprint, bool]]:
        for old, _, new, fingerprint, done in self._committer.move(moves):
            yield old, new, fingerprint, done

    def make_folders(self, folders: Sequence[RelPath]) -> None:
        self._committer.make_folders(folders)

    def remove_folders(self, folders: Iterable[RelPath]) -> None:
        self._committer.remove_folders(folders)


class DryActs:
    """Writes down, touches nothing."""

    def __init__(self, report: Report, manifest_digest: ManifestDigest) -> None:
        self._report = report
        self.rebuilt = manifest_digest

    def fetch(self, path: RelPath, fingerprint: Fingerprint, reason: Reason, held: Record | None) -> None:  # noqa: ARG002
        action = Action.ADOPT if reason is Reason.UNKNOWN_LOCAL else Action.FETCH
        self._report.wanted += 1
        self._report.wanted_bytes += fingerprint.size
        self._report.step(action, path, reason, fingerprint.size)

    def fetch_new(self, directory: RelPath, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.fetch(paths.join(directory, entry.name), entry.fingerprint, Reason.NEW, None)

    def drop(self, gone: Sequence[RelPath]) -> None:
        """The fetch that follows says it."""

    def renew(self, held: Sequence[Held]) -> None:
        for each in held:
            if each.announce:
                self._report.step(Action.ADOPT, each.path, Reason.REBUILT, each.fingerprint.size)

    def retire(self, leaving: Iterable[tuple[RelPath, Record]], reason: Reason) -> None:
        for path, record in leaving:
            self._report.step(Action.RETIRE, path, reason, record.size)

    def move(self, moves: Iterable[Move]) -> Iterator[tuple[RelPath, RelPath, Fingerprint, bool]]:
        for old, record, new, fingerprint in moves:
            self._report.step(Action.RENAME, new, Reason.MOVED, record.size, from_path=old)
            yield old, new, fingerprint, True

    def make_folders(self, folders: Sequence[RelPath]) -> None:
        """Folders are no lines of a plan: its counts are files."""

    def remove_folders(self, folders: Iterable[RelPath]) -> None:
        """Folders are no lines of a plan: its counts are files."""
