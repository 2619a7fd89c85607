"""Does the mirror still hold what the catalogue says? Re-hash it, and on request compare with the source's bytes.

What is found wrong is no longer held: its record is dropped (announced as removed), its file goes to the trash, and the
next run fetches it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from syncd.core import paths
from syncd.core.errors import EntryChanged, EntryGone, LocalIOError, MirrorError, Scope, SourceError
from syncd.core.model import Held, Kind, Record, RelPath, Wanted
from syncd.core.reasons import Reason
from syncd.core.resolution import COMES_AGAIN
from syncd.engine.backlog import Backlog, Fetch
from syncd.engine.commit import Committer
from syncd.engine.report import KEPT_DETAILS, Problem
from syncd.engine.transfer import DigestSink
from syncd.ports import Failed, Fetched, Mirror, MirrorCatalogue, Sink, Source


@dataclass(slots=True)
class Verification:
    """Counts of one verification, in files and bytes."""

    name: str
    checked: int = 0
    bytes: int = 0
    total: int = 0
    source_checked: int = 0
    damaged: int = 0
    repaired: int = 0
    problems: list[Problem] = field(default_factory=list)
    wrong: list[RelPath] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 3 if self.damaged > self.repaired else 0

    def note(self, path: RelPath, reason: Reason, detail: str, *, dropped: bool) -> None:
        """Count one file that is wrong; dropped: it is no longer held and has to be fetched."""
        self.damaged += 1
        if dropped:
            self.wrong.append(path)
        if len(self.problems) < KEPT_DETAILS:
            self.problems.append(Problem(path, reason, detail))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": "ok" if self.exit_code == 0 else "failing",
            "checked": self.checked,
            "bytes": self.bytes,
            "source_checked": self.source_checked,
            "damaged": self.damaged,
            "repaired": self.repaired,
            "problems": [{**problem.as_json(), "detail": problem.detail} for problem in self.problems],
        }


class Verifier:
    """Verifies one mirror; used under the state's lock."""

    def __init__(
        self, mirror: Mirror, catalogue: MirrorCatalogue, committer: Committer, batch: str, result: Verification
    ) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        self._committer = committer
        self._batch = batch
        self.result = result

    def local(self, *, fraction: float = 1.0, progress: Callable[[], None] = lambda: None) -> None:
        """Re-hash held files (a random fraction of them), read past the page cache where the OS allows."""
        self.result.total = self._catalogue.totals().files
        for path, record in self._catalogue.records():
            if fraction >= 1.0 or random.random() < fraction:  # noqa: S311 - a sample, no secret
                self.check(path, record)
                progress()

    def check(self, path: RelPath, record: Record) -> None:
        """Re-hash one held file; what is wrong is dropped and set aside."""
        self.result.checked += 1
        try:
            here = self._mirror.stat_local(path)
            if here is None:
                self._drop(path, Reason.LOST, "gone from the mirror's folder")
                return
            if here.kind is not Kind.FILE:
                self._drop(path, Reason.PATH_UNSAFE, "no regular file any more")
                return
            digest, local = self._mirror.hash_local(path, past_page_cache=True)
        except LocalIOError as error:
            self._drop(path, Reason.DAMAGED, error.message)
            return
        except MirrorError as error:
            if error.scope is not Scope.FILE:
                raise
            self._drop(path, error.reason, error.message, set_aside=False)
            return
        self.result.bytes += local.size
        if digest != record.sha256:
            self._drop(
                path, Reason.DAMAGED, f"its bytes hash to {digest[:12]}..., the record says {record.sha256[:12]}..."
            )
        elif local != record.local:
            self._committer.renew([Held(path, record.fingerprint, record.sha256, local, announce=False)])

    def _drop(self, path: RelPath, reason: Reason, detail: str, *, set_aside: bool = True) -> None:
        self.result.note(path, reason, detail, dropped=True)
        why = reason if reason in COMES_AGAIN else Reason.LOST
        self._committer.quarantine(path, why, set_aside=set_aside)

    # -- against the source

    def against_source(
        self,
        source: Source,
        progress: Callable[[], None] = lambda: None,
        records: Iterable[tuple[RelPath, Record]] | None = None,
    ) -> None:
        """Read held files (None: all) at the source and compare digests; finds edits that restore size and mtime."""
        records = self._catalogue.records() if records is None else records
        sinks: dict[RelPath, DigestSink] = {}

        def sink(wanted: Wanted) -> Sink:
            return sinks.setdefault(wanted.path, DigestSink())

        for outcome in source.fetch(_RecordQueue(iter(records)), sink):
            path = outcome.wanted.path
            digest = sinks.pop(path, None)
            self.result.source_checked += 1
            match outcome:
                case Fetched(wanted=Fetch(held=Record(sha256=sha256))) if digest is not None:
                    self.result.bytes += outcome.wanted.fingerprint.size
                    if digest.hexdigest() != sha256:
                        self._drop(path, Reason.CHANGED, "the server has other bytes under the same size and mtime")
                case Failed(error=EntryChanged() | EntryGone()):
                    pass  # every listing shows that: the next run deals with it
                case Failed(error=SourceError(reason=reason, message=message)):
                    self.result.note(path, reason, message, dropped=False)
            progress()

    def against_checksums(self) -> None:
        """Compare held digests with the SHA256SUMS files that the share itself carries."""
        from syncd.core.checksums import CHECKSUM_FILE, parse_checksums  # start-up time: every run imports this module

        for path, _ in self._catalogue.records():
            directory, name = paths.split(path)
            if name == CHECKSUM_FILE:
                found = parse_checksums(self._mirror.read_small(path)) or {}
                for listed, sha256 in found.items():
                    self._compare(paths.join(directory, listed), sha256, path)

    def _compare(self, path: RelPath, sha256: str, found_in: RelPath) -> None:
        record = self._catalogue.record(path)
        if record is not None and record.sha256 != sha256:
            self.result.note(path, Reason.DIGEST_MISMATCH, f"{found_in} says {sha256[:12]}...", dropped=False)


class _RecordQueue(Backlog):
    """Feeds a source with held files as fast as it takes them, without holding them all in memory."""

    def __init__(self, records: Iterator[tuple[RelPath, Record]]) -> None:
        super().__init__()
        self._records = records
        self._ended = False

    def take(self, wait_s: float) -> Fetch | None:  # noqa: ARG002 - it never has to wait
        for path, record in self._records:
            return Fetch(path, record.fingerprint, held=record)
        self._ended = True
        return None

    @property
    def closed(self) -> bool:
        return self._ended
