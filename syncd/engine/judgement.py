"""After the scan: the guard judges what the findings would take away or replace, then it is carried out in order.

Order: flips (the old entry leaves first), renames, arrivals, replacements, folders, retires, empty folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from shlex import quote

from syncd.core import guard, paths
from syncd.core.errors import SourceForeign, TooManyRetires
from syncd.core.model import Fingerprint, Record, RelPath
from syncd.core.reasons import Reason
from syncd.engine.acts import Acts
from syncd.engine.report import Report
from syncd.engine.rules import MirrorRules, RunOptions
from syncd.engine.scan import Scan, arrival_reason
from syncd.ports import Findings, Mirror, MirrorCatalogue

RENAMES_AT_ONCE = 4096
HELD_BACK_KEPT = 100_000

HeldBack = tuple[RelPath, str]


class Judgement:
    """One scan's findings, judged and carried out through `acts`."""

    def __init__(
        self,
        rules: MirrorRules,
        options: RunOptions,
        mirror: Mirror | None,
        catalogue: MirrorCatalogue,
        findings: Findings,
        scan: Scan,
        acts: Acts,
        report: Report,
    ) -> None:
        self._rules = rules
        self._hinted = bool(options.hinted)
        self._partial = not options.whole
        self._replaced_before = 0 if report.stand_by is not None else options.replaced_before
        self._mirror = mirror
        self._catalogue = catalogue
        self._findings = findings
        self._scan = scan
        self._acts = acts
        self._report = report
        self._approved = catalogue.approved()
        self.held_back: list[HeldBack] = []

    def carry_out(self) -> None:
        """Judge and act. Raises SourceForeign (nothing done); notes TooManyRetires in the report and goes on.

        After a hint nothing is retired, flipped or pruned, and what the guard would hold back is left: the whole run
        that `report.whole_run_needed` asks for judges it.
        """
        verdict = guard.judge(self._census(), self._rules.caps)
        if self._hinted:
            self._carry_out_hinted(verdict)
            return
        if verdict.foreign:
            raise SourceForeign(
                f"{self._rules.name}: {verdict.message}",
                hint="check source in the configuration; if this is right: "
                f"syncd run-once --new-target --mirror {quote(self._rules.name)}",
            )
        if verdict.message:
            self._report.error = TooManyRetires(
                f"{self._rules.name}: {verdict.message}", hint=f"syncd approve --mirror {quote(self._rules.name)}"
            )
        self._flip(verdict)
        self._rename()
        self._respell()
        self._bring_in()
        self._replace(verdict)
        self._acts.make_folders([f for f in self._scan.left.missing_folders if not self._is_blocked(f)])
        self._retire(verdict)
        self._prune()

    def _carry_out_hinted(self, verdict: guard.Verdict) -> None:
        flips = any(True for _ in self._findings.flips())
        self._report.whole_run_needed = flips or not verdict.replacements
        self._rename()
        self._respell()
        if not flips:
            self._bring_in()
        if verdict.replacements:
            self._replace(verdict)
        self._acts.make_folders(self._scan.left.missing_folders)
        self._report.absent = sum(1 for _ in self._findings.absences(confirmed=False))

    def _census(self) -> guard.Census:
        counted, findings = self._scan.census, self._findings
        flips = sum(1 for _ in findings.flips())
        # a look at a part says nothing of how much of what is held is still on the share
        listed = counted.held if self._partial else counted.listed + sum(1 for _ in findings.renames())
        return guard.Census(
            held=counted.held,
            listed=listed,
            arriving=counted.arriving,
            retires=findings.count_absences(confirmed=True) + flips,
            approved_retires=self._count_approved(path for path, _ in self._leaving()),
            replacements=findings.count_replacements() + self._replaced_before,
            approved_replacements=self._count_approved(path for path, _ in findings.replacements()),
        )

    def _leaving(self) -> Iterator[tuple[RelPath, Record]]:
        yield from self._findings.flips()
        yield from self._findings.absences(confirmed=True)

    def _count_approved(self, asked: Iterable[RelPath]) -> int:
        return sum(1 for path in asked if path in self._approved) if self._approved else 0

    # -- one kind after the other

    def _allowed(
        self, leaving: Iterable[tuple[RelPath, Record]], verdict: guard.Verdict
    ) -> Iterator[tuple[RelPath, Record]]:
        for path, record in leaving:
            if verdict.retires or path in self._approved:
                yield path, record
            else:
                self._hold_back(path, "retire")

    def _hold_back(self, path: RelPath, action: str) -> None:
        if len(self.held_back) < HELD_BACK_KEPT:
            self.held_back.append((path, action))

    def _flip(self, verdict: guard.Verdict) -> None:
        self._acts.retire(self._allowed(self._findings.flips(), verdict), Reason.TYPE_CHANGED)
        left = self._scan.left
        for folder in left.flipped_folders:
            if not self._is_blocked(folder):
                self._acts.remove_folders([folder, *self._catalogue.known_directories_below(folder)])

    def _is_blocked(self, path: RelPath) -> bool:
        """Say whether a flip that was held back leaves something in the way of this path."""
        if not self.held_back:
            return False
        above = {*paths.parents(path), path}
        return any(held in above or paths.is_below(held, path) for held, _ in self.held_back)

    def _rename(self) -> None:
        while batch := list(islice(self._findings.renames(), RENAMES_AT_ONCE)):
            for old, new, fingerprint, done in self._acts.move(batch):
                self._findings.settle_rename(old, new)
                if not done:
                    self._acts.fetch(new, fingerprint, Reason.NEW, None)

    def _respell(self) -> None:
        """Give held files the new spelling of a name that this file system folds; changed ones are fetched too."""
        for old, new, entry in self._scan.left.respelled:
            record = self._catalogue.record(old)
            if record is None:
                continue
            for _, path, _, done in self._acts.move([(old, record, new, record.fingerprint)]):
                same = (entry.size, entry.mtime_ns) == (record.size, record.mtime_ns)
                if not (done and same):
                    self._acts.fetch(path, entry.fingerprint, Reason.CHANGED, self._catalogue.record(path))

    def _bring_in(self) -> None:
        for path, fingerprint in self._findings.arrivals():
            if not self._is_blocked(path):
                self._acts.fetch(path, fingerprint, arrival_reason(self._mirror, path), None)

    def _replace(self, verdict: guard.Verdict) -> None:
        for path, fingerprint in self._findings.replacements():
            record = self._catalogue.record(path)
            if record is None:
                self._acts.fetch(path, fingerprint, Reason.LOST, None)
            elif verdict.replacements or path in self._approved or _looks_same(record, fingerprint):
                self._acts.fetch(path, fingerprint, Reason.CHANGED, record)
            else:
                self._hold_back(path, "replace")

    def _retire(self, verdict: guard.Verdict) -> None:
        self._acts.retire(self._allowed(self._findings.absences(confirmed=True), verdict), Reason.REMOVED)
        self._report.absent = sum(1 for _, action in self.held_back if action == "retire")
        for path, _ in self._findings.absences(confirmed=False):
            self._report.absent += 1
            self._report.wait(path, Reason.ABSENT_ONCE)

    def _prune(self) -> None:
        for folder in self._scan.left.absent_folders:
            if folder not in self._scan.left.flipped_folders:
                self._acts.remove_folders([folder, *self._catalogue.known_directories_below(folder)])


def _looks_same(record: Record, fingerprint: Fingerprint) -> bool:
    return record.size == fingerprint.size and record.mtime_ns == fingerprint.mtime_ns
