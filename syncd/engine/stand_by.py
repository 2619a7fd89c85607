"""A look at a stand-by: what is missing here is fetched, nothing else is concluded (core.stand_by has the rules)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.core import paths
from syncd.core.model import Entry, Fingerprint, Held, Listing, LocalEntry, Record, RelPath, Unheld
from syncd.core.planner import DirectoryPlan, Sorted
from syncd.core.reasons import Reason
from syncd.core.stand_by import StandByPlan, compare_missing, is_older, may_come
from syncd.engine.scan import Scan, arrival_reason
from syncd.ports import HeldDirectory, MirrorCatalogue

OLDER = "the stand-by has an older version only"


class StandByScan(Scan):
    """Visits the listings of a stand-by."""

    def _compare(
        self,
        listing: Listing,  # noqa: ARG002 - nothing follows from what it lacks, complete or not
        entries: Sorted,
        held: HeldDirectory,
        here: Mapping[str, LocalEntry],
    ) -> DirectoryPlan:
        plan = compare_missing(entries, held.records, held.folders, here, self._settled_before_ns())
        entries.folders = [name for name in entries.folders if name not in held.records]  # held files stay
        return plan

    def _act(self, directory: RelPath, plan: DirectoryPlan, held: HeldDirectory) -> None:
        super()._act(directory, plan, held)
        if not isinstance(plan, StandByPlan):
            return
        self._report.differs += plan.differs
        for entry, record, reason in plan.lost:
            self._restore(paths.join(directory, entry.name), entry, record, reason)
        for entry in plan.foreign_here:
            self._leave(paths.join(directory, entry.name), Reason.UNKNOWN_LOCAL, entry.fingerprint)

    def settle(self, path: RelPath, entry: Entry) -> None:
        """See Scan; a file that has come meanwhile, for somebody who waits for it, stays."""
        if self._catalogue.record(path) is None:
            self._arrive_all(paths.split(path)[0], [(entry, arrival_reason(self._mirror, path))])

    def _arrive_all(self, directory: RelPath, arriving: list[tuple[Entry, Reason]]) -> None:
        if self.census.held:
            arriving = self._worth_having(directory, arriving)
        super()._arrive_all(directory, arriving)

    def _worth_having(self, directory: RelPath, arriving: Sequence[tuple[Entry, Reason]]) -> list[tuple[Entry, Reason]]:
        """Leave out what left the mirror since it was last changed, and what is older than the version lost here."""
        removed = self._catalogue.removed_at([paths.join(directory, entry.name) for entry, _ in arriving])
        chosen = []
        for entry, reason in arriving:
            path = paths.join(directory, entry.name)
            known = self._catalogue.unheld_at(path)
            if may_come(entry.fingerprint, known, removed.get(path, 0)):
                chosen.append((entry, reason))
            elif known is not None:
                self._report.wait(path, known.reason)
            else:
                self._report.differs += 1
        return chosen

    def _recheck(self, path: RelPath, entry: Entry, record: Record) -> None:
        """The local stat is not the record's, but the size is: the record's digest decides, and its print stays."""
        local = self._local_if(path, record.sha256)
        if local is not None:
            self._report.unchanged += 1
            self._renew(Held(path, record.fingerprint, record.sha256, local, announce=False))
        else:
            self._restore(path, entry, record, Reason.LOCAL_CHANGED)

    def _restore(self, path: RelPath, entry: Entry, record: Record, reason: Reason) -> None:
        """Fetch a held file that was lost or changed here; an older version stays away, and it is held no more."""
        if not is_older(entry.fingerprint, record.mtime_ns):
            self._repair(path, entry, reason)
            return
        self._acts.drop([path])
        self._leave(path, Reason.LOST, record.fingerprint, OLDER)

    def _leave(self, path: RelPath, reason: Reason, fingerprint: Fingerprint, detail: str = "") -> None:
        self._report.wait(path, reason)
        self._findings.unheld(Unheld(path, reason, detail, fingerprint.size, fingerprint.mtime_ns))

    def _refuse(self, directory: RelPath, name: str, reason: Reason) -> None:
        """See Scan; a held file is served whatever a stand-by has in its place."""
        path = RelPath(f"{directory}/{name}" if directory else name)
        if self._catalogue.record(path) is None:
            super()._refuse(directory, name, reason)
        else:
            self._report.differs += 1


def waits_for_main(catalogue: MirrorCatalogue, path: RelPath, fingerprint: Fingerprint) -> bool:
    """Say whether what a stand-by has of a wanted file is older than the version that was held here."""
    held, known = catalogue.record(path), catalogue.unheld_at(path)
    if held is not None:
        return is_older(fingerprint, held.mtime_ns)
    return known is not None and not may_come(fingerprint, known, 0)
