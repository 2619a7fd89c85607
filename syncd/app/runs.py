"""run-once and its dry run: one pass after the other over the mirrors, under the state's lock."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from syncd.app.owing import announce_owed
from syncd.app.site import Site, new_run_id, write_manifest
from syncd.app.wiring import rules_of
from syncd.config.settings import MirrorSettings
from syncd.core.errors import MirrorError, RunStopped, SyncdError
from syncd.core.model import Dropped, Fingerprint, RelPath
from syncd.core.named import NamedTuple
from syncd.core.reasons import Reason
from syncd.engine.clock import utc_text
from syncd.engine.report import Report
from syncd.engine.rules import HINT_SETTLE_S, RunOptions, Sharing
from syncd.engine.run import MirrorRun, Outcome
from syncd.ports import Mirror, MirrorCatalogue
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.manifest import ManifestIndex
from syncd.store.mirror import DiskMirror
from syncd.store.mirror_reads import STARTED_OVER_NOTE
from syncd.store.reading import open_readonly
from syncd.store.state import Host

if TYPE_CHECKING:
    from syncd.engine.checksums import ShareChecksums

STORED_DETAILS = 200
TICK_S = 0.1
DROPPED_AT_ONCE = 1_000
SWITCH_S = 0.0005
"""A run's threads hand the interpreter over this often: sqlite3 lets go of it at every step, and at the default of 5 ms
waits as long for it again beside a busy thread."""

ProgressTo = Callable[[Report], None]
"""Shown how far a run is, ten times a second; called from one thread."""


class RunResult(NamedTuple):
    """What `run-once` prints: one run over one or several mirrors."""

    run_id: str
    reports: list[Report]

    @property
    def exit_code(self) -> int:
        """The gravest of the mirrors' exit codes: a person first, then what only waiting helps, then single files."""
        codes = {report.exit_code for report in self.reports}
        return next((code for code in (12, 15, 2, 13, 14, 10, 3) if code in codes), max(codes, default=0))

    @property
    def errors(self) -> list[SyncdError]:
        """What ended or held back mirrors, for stderr."""
        return [report.error for report in self.reports if report.error is not None]

    def as_json(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "mirrors": [report.as_json() for report in self.reports]}


class Running(Site):
    """Runs."""

    def run_once(
        self,
        names: Sequence[str] = (),
        only: Sequence[str] = (),
        *,
        new_target: bool = False,
        take_over: bool = False,
        progress: Callable[[str], ProgressTo] | None = None,
    ) -> RunResult:
        """Bring mirrors up to date (all, or those named), one after the other, under the state's lock.

        A mirror's trouble does not stop the next one; it is in its report. Raises: AlreadyRunning, CatalogueError,
        ConfigError.
        """
        mirrors = self._chosen(names)
        wanted = self.in_mirrors(mirrors, only)
        result = RunResult(new_run_id(), [])
        sys.setswitchinterval(SWITCH_S)
        with self._writing() as (host, catalogue):
            for settings in mirrors:
                options = RunOptions(only=wanted[settings.name])
                if only and not options.only:
                    continue
                report = Report(settings.name, result.run_id)
                result.reports.append(report)
                with _ticking(report, progress(settings.name) if progress else None):
                    self._run_mirror(settings, options, host, catalogue, report, new_target, take_over)
            announce_owed(catalogue, self.settings.nsq, host.name)
        fail_not_found(result.reports, wanted)
        return result

    def dry_run(
        self,
        names: Sequence[str] = (),
        only: Sequence[str] = (),
        *,
        new_target: bool = False,
        take_over: bool = False,
    ) -> RunResult:
        """Say what run_once() would do. Takes no lock and writes nothing."""
        mirrors = self._chosen(names)
        wanted = self.in_mirrors(mirrors, only)
        result = RunResult(new_run_id(), [])
        host = self._state.known_host()
        with open_readonly(self._state.catalogue) as catalogue:
            for settings in mirrors:
                options = RunOptions(dry_run=True, only=wanted[settings.name])
                if only and not options.only:
                    continue
                report = Report(settings.name, result.run_id, plan=[])
                result.reports.append(report)
                reading = catalogue.mirror(settings.name)
                try:
                    mirror = self._peek_target(settings, host, reading, new_target=new_target, take_over=take_over)
                except SyncdError as error:
                    report.error = error
                    continue
                if new_target:
                    reading = catalogue.blank(settings.name)  # as _start_over() leaves it
                reading.use_source(settings.source.id)
                self._execute(settings, options, mirror, reading, report)
        fail_not_found(result.reports, wanted)
        return result

    def _run_mirror(
        self,
        settings: MirrorSettings,
        options: RunOptions,
        host: Host,
        catalogue: Catalogue,
        report: Report,
        new_target: bool,
        take_over: bool,
    ) -> None:
        facts = catalogue.mirror(settings.name)
        started_at = utc_text(self._clock.now_ns())
        with ExitStack() as stack:
            try:
                mirror = stack.enter_context(self._target(settings, host, facts, new_target, take_over))
            except SyncdError as error:
                report.error, report.started_at = error, started_at
                self._record(facts, Outcome(report, None, [], started_at))
                return
            if new_target:
                self._start_over(facts, report.run_id)
            outcome = self._execute(settings, options, mirror, facts, report)
            if outcome.held_back:
                facts.hold(report.run_id, outcome.held_back)
            self._record(facts, outcome)
            try:
                if options.whole:
                    self._expire_trash(catalogue, mirror, settings.trash_days)
                if not options.hinted:
                    write_manifest(mirror, facts)
            except MirrorError as error:
                report.error = report.error or error  # what ended the run is more often the cause of this, too

    @contextmanager
    def _target(
        self, settings: MirrorSettings, host: Host, facts: SqliteMirrorCatalogue, new_target: bool, take_over: bool
    ) -> Iterator[DiskMirror]:
        """Open the target for one run."""
        mirror = self._open_target(settings, host, facts, new_target=new_target, take_over=take_over)
        try:
            yield mirror
        finally:
            mirror.close()

    def _sharing(self, name: str) -> Sharing | None:  # noqa: ARG002 - the daemon's answer depends on the mirror
        """Return what a run of this mirror shares with other work; a run by hand has it for itself."""
        return None

    def _begins(self, run: MirrorRun) -> None:
        """Tell of a run before it executes (the daemon keeps it, to be able to stop it)."""

    def _start_over(self, facts: SqliteMirrorCatalogue, run_id: str) -> None:
        """Hold nothing any more: what lies in the target is then compared and adopted, the rest fetched."""
        records = facts.records()
        while batch := list(islice(records, DROPPED_AT_ONCE)):
            now_ms = self._clock.now_ns() // 1_000_000
            facts.commit([Dropped(path) for path, _ in batch], [], run_id=run_id, now_ms=now_ms)
        facts.set_note(STARTED_OVER_NOTE, str(self._clock.now_ns() // 1_000_000))

    def _execute(
        self,
        settings: MirrorSettings,
        options: RunOptions,
        mirror: Mirror | None,
        facts: MirrorCatalogue,
        report: Report,
    ) -> Outcome:
        source = self._open_servers(settings)
        digest, close_index = _manifest_digest(mirror, facts)
        trusted = self._trusted(settings) if settings.trust_checksums and not options.dry_run else None
        try:
            sharing = self._sharing(settings.name)
            rules = rules_of(settings)
            if options.hinted:
                rules = rules._replace(settle_s=min(rules.settle_s, HINT_SETTLE_S))
            run = MirrorRun(rules, options, source, mirror, facts, report, digest, self._clock, sharing, trusted)
            self._begins(run)
            return run.execute()
        finally:
            source.close()
            if trusted is not None:
                trusted.close()
                _tell_unused(settings.name, trusted)
            close_index()

    def _trusted(self, settings: MirrorSettings) -> ShareChecksums:
        from syncd.engine.checksums import ShareChecksums  # start-up time: few mirrors have the setting

        return ShareChecksums(lambda: self._open_source(settings))

    def _record(self, facts: SqliteMirrorCatalogue, outcome: Outcome) -> None:
        report = outcome.report
        stored = report.as_json()
        for details in ("failures", "refusals"):
            stored[details] = stored[details][:STORED_DETAILS]
        facts.finish_run(
            stored,
            run_id=report.run_id,
            state=report.state,
            exit_code=report.exit_code,
            started_at=report.started_at,
            finished_at=outcome.finished_at,
            findings=outcome.findings,  # type: ignore[arg-type] # facts.findings() made them
            partial=report.hinted or report.stand_by is not None,
            keep=report.changed or not (report.hinted or report.exit_code == RunStopped.exit_code),
        )

    def _expire_trash(self, catalogue: Catalogue, mirror: Mirror, trash_days: int) -> None:
        """Purge batches that are older than `trash_days` days on which syncd ran: a clock jump expires nothing."""
        for batch in sorted({trashed.batch for trashed in mirror.trash()}):
            day = f"{batch[:4]}-{batch[4:6]}-{batch[6:8]}"
            if catalogue.run_days_since(day) >= trash_days:
                mirror.purge(batch)


def fail_not_found(reports: Sequence[Report], only: Mapping[str, Sequence[RelPath]]) -> None:
    """Say of each path of --only that it is not on the source, unless another mirror had it.

    only: what was looked for in each mirror.
    """
    finished = [report for report in reports if report.error is None]
    told = {str(path) for report in finished for path in only.get(report.name, ()) if path not in report.not_found}
    for report in finished:
        for path in report.not_found:
            if path not in told:
                told.add(path)
                text, hint = "not on the source, or left out by a pattern", f"syncd why {shlex.quote(path)}"
                report.fail(path, Reason.GONE, text, hint)


def _manifest_digest(
    mirror: Mirror | None, facts: MirrorCatalogue
) -> tuple[Callable[[RelPath, Fingerprint], str | None], Callable[[], None]]:
    """Return the look-up into the manifest of a lost catalogue; in the usual case, one that finds nothing."""
    if mirror is None or facts.totals().files:
        return (lambda _path, _fingerprint: None), (lambda: None)
    index = ManifestIndex(mirror.read_manifest())
    return index.digest, index.close


def _tell_unused(name: str, trusted: ShareChecksums) -> None:
    """Say which SHA256SUMS of the share were of no use, so that nobody has to guess why files were read after all."""
    if trusted.unused:
        from syncd.log import logger

        for path, why in trusted.unused:
            logger().warning("checksums.unused", mirror=name, path=path, why=why)


@contextmanager
def _ticking(report: Report, show: ProgressTo | None) -> Iterator[None]:
    """Call `show` with the report while the work goes on."""
    if show is None:
        yield
        return
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(TICK_S):
            show(report)

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
