"""One pass of the engine over one mirror: gather, check, plan, act, and say what happened."""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syncd.core import paths
from syncd.core.errors import EntryGone, Scope, SourceEmpty, SourceForeign, SourceVanished, SyncdError
from syncd.core.model import ROOT, Entry, Fingerprint, LocalStat, RelPath, Unheld
from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason, hint_for
from syncd.core.shown import counted_are
from syncd.engine.acts import Acts, DryActs, ManifestDigest, RealActs
from syncd.engine.clock import Clock, utc_text
from syncd.engine.commit import Committer
from syncd.engine.judgement import HeldBack, Judgement
from syncd.engine.report import Report
from syncd.engine.rules import MirrorRules, RunOptions, Sharing
from syncd.engine.scan import Scan
from syncd.engine.space import Space
from syncd.engine.transfer import Transfer
from syncd.ports import Findings, Mirror, MirrorCatalogue, Source

if TYPE_CHECKING:  # few runs need it
    from syncd.engine.checksums import ShareChecksums

LOOKS = 2


class Outcome(NamedTuple):
    """A run's report, and what its last transaction needs: findings if the scan was whole, what was held back."""

    report: Report
    findings: Findings | None
    held_back: list[HeldBack]
    finished_at: str


class MirrorRun:
    """One run over one mirror; execute() once. `mirror` is None only for a dry run whose target does not exist yet."""

    def __init__(
        self,
        rules: MirrorRules,
        options: RunOptions,
        source: Source,
        mirror: Mirror | None,
        catalogue: MirrorCatalogue,
        report: Report,
        manifest_digest: ManifestDigest,
        clock: Clock | None = None,
        sharing: Sharing | None = None,
        trusted: ShareChecksums | None = None,
    ) -> None:
        self._sharing = sharing
        self._trusted = trusted
        self._stop: SyncdError | None = None
        self._rules = rules
        self._options = options
        self._source = source
        self._mirror = mirror
        self._catalogue = catalogue
        self.report = report
        self._clock = clock or Clock()
        self._transfer: Transfer | None = None
        self._committer: Committer | None = None
        self._acts = self._choose_acts(manifest_digest)
        self._findings: Findings | None = None
        self._held_back: list[HeldBack] = []
        self._clock_offset_ns = 0

    def _choose_acts(self, manifest_digest: ManifestDigest) -> Acts:
        if self._options.dry_run or self._mirror is None:
            self.report.plan = []
            return DryActs(self.report, manifest_digest)
        now_ns = self._clock.now_ns
        batch = datetime.fromtimestamp(now_ns() / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ-") + self.report.run_id
        writing, yielding = self._sharing or (None, None)
        self._committer = Committer(
            self._mirror, self._catalogue, self.report, batch, lambda: now_ns() // 1_000_000, writing
        )
        space = Space(self._mirror, self._rules.floor, now_ns)
        self._transfer = Transfer(
            self._source, self._mirror, self._catalogue, self._committer, space, self.report, yielding=yielding
        )
        proven = functools.partial(self._proven, self._trusted, self._mirror) if self._trusted is not None else None
        return RealActs(self._rules, self._transfer, self._committer, manifest_digest, proven)

    def _proven(
        self, trusted: ShareChecksums, mirror: Mirror, path: RelPath, fingerprint: Fingerprint
    ) -> tuple[str, LocalStat] | None:
        """Ask the main server's checksums; at a stand-by files are compared, as without them."""
        return trusted.proven(mirror, path, fingerprint) if self.report.stand_by is None else None

    def stop(self, error: SyncdError) -> None:
        """End the run early, with `error`: no new files, what has arrived is committed. From any thread."""
        self._stop = error
        if self._trusted is not None:
            self._trusted.close()
        if self._transfer is not None:
            self._transfer.abort(error)
        else:
            self._source.close()

    def execute(self) -> Outcome:
        """Run to the end. An error of scope RUN or PROCESS ends it early and is in the report, not raised."""
        started_ns, started = self._clock.now_ns(), time.monotonic()
        self.report.started_at = utc_text(started_ns)
        whole = False
        try:
            whole = self._pass()
        except SyncdError as error:
            if error.scope is Scope.FILE:
                raise
            self._end_early(self._stop or self._placed(error))
        except BaseException:
            self._abort_transfer()
            raise
        if self._trusted is not None:
            self.report.bytes += self._trusted.bytes
        self.report.duration_s = time.monotonic() - started
        findings = self._findings if whole and self._stop is None else None
        if findings is not None:
            for problem in self.report.failures:
                findings.unheld(Unheld(RelPath(problem.path), problem.reason, problem.detail))
        return Outcome(self.report, findings, self._held_back, utc_text(self._clock.now_ns()))

    def _pass(self) -> bool:
        """Scan, judge, transfer; return whether the findings may be kept (a whole scan, judged)."""
        if self._committer is not None:
            self._committer.recover()
        self._look_at_source()
        if self._committer is not None:
            self._catalogue.use_source(self._rules.source_id)
        findings = self._findings = self._catalogue.findings(self.report.run_id)
        scan = self._scan_all(findings)
        self._look_again(scan, findings)
        scan.flush()
        self.report.not_found.extend(scan.not_found)
        if not self._stopped:
            judgement = Judgement(
                self._rules, self._options, self._mirror, self._catalogue, findings, scan, self._acts, self.report
            )
            try:
                judgement.carry_out()
            finally:
                self._held_back = judgement.held_back
        if self._transfer is not None:
            self._transfer.finish()
        if self._stop is not None:
            raise self._stop
        if self._committer is not None and self._options.whole and self.report.stand_by is None:
            self._drop_partials(self._committer)
        return not self._options.only and not self._options.dry_run

    def _look_at_source(self) -> None:
        began = time.monotonic()
        try:
            info = self._source.check()
        except SourceVanished as error:
            raise _vanished(error, self._catalogue.totals().files) from error
        self.report.check_s = time.monotonic() - began
        self._clock_offset_ns = info.clock_offset_ns
        self.report.stand_by = info.stand_by
        if info.stand_by is not None and self._transfer is not None and self._committer is not None:
            self._transfer.only_missing(info.stand_by.id)
            self._committer.only_missing = True
            if self._trusted is not None:
                self._trusted.close()  # it would ask the main server, and what two servers say is never mixed
        if self._rules.marker:
            try:
                self._source.read(RelPath(self._rules.marker))
            except EntryGone as error:
                raise SourceEmpty(
                    f"{self._rules.name}: the marker {self._rules.marker!r} is not on {info.description}: "
                    "is the share mounted? Nothing was done",
                    hint="look at the share, then: syncd run-once",
                ) from error

    def _scan_class(self) -> type[Scan]:
        if self.report.stand_by is None:
            return Scan
        from syncd.engine.stand_by import StandByScan

        return StandByScan

    def _settled_before_ns(self) -> int:
        return self._clock.now_ns() + self._clock_offset_ns - int(self._rules.settle_s * 1e9)

    def _scan_all(self, findings: Findings) -> Scan:
        scan = self._scan_class()(
            self._rules,
            self._options,
            self._mirror,
            self._catalogue,
            findings,
            self._acts,
            self.report,
            self._settled_before_ns,
        )
        pending = list(self._options.hinted) or [ROOT]
        try:
            for listing in self._source.scan(pending):
                pending.extend(scan.visit(listing))
                if scan.root_is_empty and scan.census.held:
                    raise SourceEmpty(
                        f"{self._rules.name}: the source is empty, {_held(scan.census.held)}. Nothing was done",
                        hint="look at the share, then: syncd run-once",
                    )
                if self._stopped:
                    break
        except SourceVanished as error:
            raise _vanished(error, scan.census.held) from error
        return scan

    @property
    def _stopped(self) -> bool:
        return self._stop is not None or (self._transfer is not None and self._transfer.stopped)

    def _look_again(self, scan: Scan, findings: Findings) -> None:
        """Look twice at files that may still be written to; what changes even then waits for a later run."""
        waiting = scan.left.unsettled
        for _ in range(LOOKS):
            if not waiting or self._stopped:
                break
            self._clock.sleep(self._rules.settle_s)
            still: dict[RelPath, dict[str, Entry]] = {}
            for listing in self._source.scan(list(waiting)):
                now = {entry.name: entry for entry in listing.entries}
                for name, before in waiting[listing.directory].items():
                    entry = now.get(name)
                    if entry is None or entry.kind is not before.kind:
                        continue
                    if (entry.size, entry.mtime_ns) == (before.size, before.mtime_ns):
                        scan.settle(paths.join(listing.directory, name), entry)
                    else:
                        still.setdefault(listing.directory, {})[name] = entry
            waiting = still
        for directory, entries in waiting.items():
            for name, entry in entries.items():
                path = paths.join(directory, name)
                self.report.wait(path, Reason.UNSETTLED)
                findings.unheld(Unheld(path, Reason.UNSETTLED, "", entry.size, entry.mtime_ns))

    def _drop_partials(self, committer: Committer) -> None:
        """Forget partials of files that this whole run had no use for: they are gone at the source, or held by now."""
        failed = {problem.path for problem in self.report.failures}
        stale = [partial for partial in self._catalogue.partials() if partial.path not in failed]
        for partial in stale:
            self._catalogue.forget_partial(partial.path)
        if stale:
            committer.sweep()

    # -- the end

    def _placed(self, error: SyncdError) -> SyncdError:
        """Say of what a share looks like at which server it was seen, where that is not the main one."""
        stand_by = self.report.stand_by
        if stand_by is None or not isinstance(error, (SourceEmpty, SourceForeign)):
            return error
        hint = "see whether fallback_sources names a copy of this share, and look at it there"
        return type(error)(f"{error.message} (at the stand-by {stand_by.server})", hint=hint, reason=error.reason)

    def _end_early(self, error: SyncdError) -> None:
        if error.hint in ("", hint_for(error.reason)):  # raised where nobody knows whose target or login it is
            error.hint = hint_for(error.reason, mirror=self._rules.name)
        self.report.error = error
        self._abort_transfer()

    def _abort_transfer(self) -> None:
        """Fetch nothing more; what has arrived is committed. The error that ends the run is already known."""
        if self._transfer is None:
            return
        self._transfer.abort()
        try:
            self._transfer.finish()
        except SyncdError as error:
            if self.report.error is None:
                self.report.error = error


def _held(number: int) -> str:
    return f"{counted_are(number, 'file')} held"


def _vanished(error: SourceVanished, held: int) -> SyncdError:
    """Return what it means that the root is not there: with files held the guard's refusal, else a wrong address."""
    if not held:
        return SourceVanished(error.message, hint=error.hint)
    message = f"{error.message}; {_held(held)}. Nothing was done"
    return SourceEmpty(message, hint=error.hint, reason=Reason.SOURCE_VANISHED)
