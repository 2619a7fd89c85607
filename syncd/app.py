"""The composition root: turns settings into a running engine; with doctor the only one that names concrete adapters."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd import __version__
from syncd.config.settings import MirrorSettings, Settings
from syncd.config.urls import SourceUrl
from syncd.core.errors import CatalogueDamaged, ConfigError, SyncdError
from syncd.core.filters import Filters
from syncd.core.guard import Caps
from syncd.core.model import Dropped, Fingerprint, RelPath
from syncd.core.paths import refuse_name
from syncd.core.reasons import Reason
from syncd.core.spelling import Spellings, candidates
from syncd.engine.commit import Committer
from syncd.engine.report import Report
from syncd.engine.rules import MirrorRules, RunOptions
from syncd.engine.run import Clock, MirrorRun, Outcome, utc_text
from syncd.engine.status import LastRun, MirrorFacts, Status, assess
from syncd.engine.verify import Verification, Verifier
from syncd.engine.why import Known
from syncd.ports import Mirror, Source, Trashed
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.manifest import ManifestIndex, manifest_lines
from syncd.store.mirror import DiskMirror
from syncd.store.reading import ReadonlyCatalogue, ReadonlyMirrorCatalogue, open_readonly
from syncd.store.schema import set_aside
from syncd.store.state import Host, StateDirectory

if TYPE_CHECKING:
    from syncd.ports import MirrorCatalogue

STORED_DETAILS = 200
TICK_S = 0.1
DROPPED_AT_ONCE = 1_000

ProgressTo = Callable[[Report], None]
"""Shown how far a run is, ten times a second; called from one thread."""


def open_source(settings: MirrorSettings) -> Source:
    """Build the source of a mirror; nothing connects yet. Only the adapter that is needed is imported."""
    return _open_source(settings, settings.source)


def _open_source(settings: MirrorSettings, url: SourceUrl) -> Source:
    password = settings.password.reveal if settings.password is not None else None
    match url.scheme:
        case "smb":
            from syncd.sources.smb.source import SmbSource

            return SmbSource(
                host=url.host,
                port=url.port,
                share=url.share,
                folder=url.folder.strip("/"),
                username=url.user,
                domain=url.domain,
                password=password,
                encrypt=settings.encrypt,
                auth=settings.auth,
                connections=settings.connections,
                secret_hint=f"syncd secret {settings.name}",
            )
        case "sftp":
            from syncd.sources.sftp import SftpSource

            return SftpSource(
                host=url.host,
                port=url.port,
                username=url.user,
                folder=url.folder,
                key_file=settings.key_file,
                password=password,
                known_hosts_file=settings.known_hosts_file,
                connections=settings.connections,
            )
        case _:
            from syncd.sources.local import LocalSource

            return LocalSource(Path(url.folder))


def rules_of(settings: MirrorSettings) -> MirrorRules:
    """Turn one mirror's settings into the engine's rules."""
    return MirrorRules(
        name=settings.name,
        source_id=settings.source.id,
        filters=Filters(settings.include, settings.exclude),
        caps=Caps(settings.max_retire),
        settle_s=settings.settle_s,
        trash_days=settings.trash_days,
        floor=settings.min_free.floor,
        rank=_ranking(settings.priority),
        marker=settings.marker or "",
    )


def _ranking(priority: Sequence[str]) -> Callable[[RelPath], int]:
    """Return the fetch order of `priority`: the first pattern that matches, then everything else."""
    if not priority:
        return lambda path: 0 * len(path)
    from pathspec import GitIgnoreSpec

    specs = [GitIgnoreSpec.from_lines([pattern]) for pattern in priority]
    return lambda path: next((n for n, spec in enumerate(specs) if spec.match_file(path)), len(specs))


@dataclass(slots=True)
class RunResult:
    """What `run-once` prints: one run over one or several mirrors."""

    run_id: str
    reports: list[Report] = field(default_factory=list)

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


class App:
    """syncd on this machine, for one configuration."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        source_of: Callable[[MirrorSettings], Source] = open_source,
    ) -> None:
        self.settings = settings
        self._source_of = source_of
        self._clock = clock or Clock()
        self._state = StateDirectory.open(settings.host.state_dir, create=False)

    # -- running

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
        result = RunResult(new_run_id())
        with self._writing() as (host, catalogue):
            for settings in mirrors:
                options = RunOptions(only=self._in_mirror(settings, only))
                if only and not options.only:
                    continue
                report = Report(settings.name, result.run_id)
                result.reports.append(report)
                with _ticking(report, progress(settings.name) if progress else None):
                    self._run_mirror(settings, options, host, catalogue, report, new_target, take_over)
        _fail_not_found(result.reports)
        return result

    def dry_run(self, names: Sequence[str] = (), only: Sequence[str] = ()) -> RunResult:
        """Say what run_once() would do. Takes no lock and writes nothing."""
        result = RunResult(new_run_id())
        host = self._state.known_host()
        with open_readonly(self._state.catalogue) as catalogue:
            for settings in self._chosen(names):
                report = Report(settings.name, result.run_id, plan=[])
                result.reports.append(report)
                reading = catalogue.mirror(settings.name)
                try:
                    mirror = self._peek_target(settings, host, reading)
                except SyncdError as error:
                    report.error = error
                    continue
                options = RunOptions(dry_run=True, only=self._in_mirror(settings, only))
                reading.use_source(settings.source.id)
                self._execute(settings, options, mirror, reading, report)
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
        try:
            mirror = self._open_target(settings, host, facts, new_target=new_target, take_over=take_over)
        except SyncdError as error:
            report.error, report.started_at = error, started_at
            self._record(facts, Outcome(report, None, [], started_at))
            return
        try:
            if new_target:
                self._start_over(facts, report.run_id)
            outcome = self._execute(settings, options, mirror, facts, report)
            if outcome.held_back:
                facts.hold(report.run_id, outcome.held_back)
            self._record(facts, outcome)
            self._expire_trash(catalogue, mirror, settings.trash_days)
            write_manifest(mirror, facts)
        finally:
            mirror.close()

    def _start_over(self, facts: SqliteMirrorCatalogue, run_id: str) -> None:
        """Hold nothing any more: what lies in the target is then compared and adopted, the rest fetched."""
        records = facts.records()
        while batch := list(islice(records, DROPPED_AT_ONCE)):
            now_ms = self._clock.now_ns() // 1_000_000
            facts.commit([Dropped(path) for path, _ in batch], [], run_id=run_id, now_ms=now_ms)

    def _open_target(
        self,
        settings: MirrorSettings,
        host: Host,
        facts: SqliteMirrorCatalogue,
        *,
        new_target: bool = False,
        take_over: bool = False,
    ) -> DiskMirror:
        mirror = DiskMirror.open(
            settings.target,
            mirror_name=settings.name,
            mirror_uid=facts.uid,
            host_id=host.id,
            host_name=host.name,
            known=bool(facts.target) and facts.target == str(settings.target),
            new_target=new_target,
            take_over=take_over,
        )
        if mirror.owner.mirror_uid != facts.uid:
            facts.set_uid(mirror.owner.mirror_uid)
        if facts.target != str(settings.target):
            facts.set_target(str(settings.target))
        return mirror

    def _execute(
        self,
        settings: MirrorSettings,
        options: RunOptions,
        mirror: Mirror | None,
        facts: MirrorCatalogue,
        report: Report,
    ) -> Outcome:
        source = self._source_of(settings)
        digest, close_index = _manifest_digest(mirror, facts)
        try:
            return MirrorRun(rules_of(settings), options, source, mirror, facts, report, digest, self._clock).execute()
        finally:
            source.close()
            close_index()

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
        )

    def _expire_trash(self, catalogue: Catalogue, mirror: Mirror, trash_days: int) -> None:
        """Purge batches that are older than `trash_days` days on which syncd ran: a clock jump expires nothing."""
        for batch in sorted({trashed.batch for trashed in mirror.trash()}):
            day = f"{batch[:4]}-{batch[4:6]}-{batch[6:8]}"
            if catalogue.run_days_since(day) >= trash_days:
                mirror.purge(batch)

    # -- verifying

    def verify(
        self,
        names: Sequence[str] = (),
        *,
        fraction: float = 1.0,
        against_source: bool = False,
        against_checksums: bool = False,
        repair: bool = False,
        progress: Callable[[str], Callable[[Verification], None]] | None = None,
    ) -> list[Verification]:
        """Re-hash what is held; what is wrong is no longer held, and with `repair` fetched at once."""
        results = []
        with self._writing() as (host, catalogue):
            for settings in self._chosen(names):
                show = progress(settings.name) if progress else None
                results.append(
                    self._verify_mirror(settings, host, catalogue, fraction, against_source, against_checksums, show)
                )
                if repair and results[-1].wrong:
                    self._repair(settings, host, catalogue, results[-1])
        return results

    def _verify_mirror(
        self,
        settings: MirrorSettings,
        host: Host,
        catalogue: Catalogue,
        fraction: float,
        against_source: bool,
        against_checksums: bool,
        show: Callable[[Verification], None] | None,
    ) -> Verification:
        facts = catalogue.mirror(settings.name)
        result = Verification(settings.name)
        now_ns = self._clock.now_ns
        batch = batch_name(now_ns(), "verify-" + new_run_id())
        mirror = self._open_target(settings, host, facts)
        try:
            report = Report(settings.name, batch[17:])
            committer = Committer(mirror, facts, report, batch, lambda: now_ns() // 1_000_000)
            committer.recover()
            verifier = Verifier(mirror, facts, committer, batch, result)
            step = (lambda: show(result)) if show is not None else (lambda: None)
            verifier.local(fraction=fraction, progress=step)
            if against_source:
                source = self._source_of(settings)
                try:
                    source.check()
                    verifier.against_source(source, step)
                finally:
                    source.close()
            if against_checksums:
                verifier.against_checksums()
            write_manifest(mirror, facts)
        finally:
            mirror.close()
        return result

    def _repair(self, settings: MirrorSettings, host: Host, catalogue: Catalogue, result: Verification) -> None:
        report = Report(settings.name, new_run_id())
        self._run_mirror(settings, RunOptions(only=tuple(result.wrong)), host, catalogue, report, False, False)
        facts = catalogue.mirror(settings.name)
        result.repaired = sum(1 for path in result.wrong if facts.record(path) is not None)

    # -- telling

    def status(self) -> Status:
        """Say how every configured mirror is; takes no lock and writes nothing."""
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        with open_readonly(self._state.catalogue) as catalogue:
            summaries = {summary.name: summary for summary in catalogue.mirrors()}
            lines = []
            for settings in self.settings.mirrors:
                facts = catalogue.mirror(settings.name)
                last = facts.last_run()
                summary = summaries.get(settings.name)
                lines.append(
                    assess(
                        MirrorFacts(
                            name=settings.name,
                            totals=facts.totals(),
                            last_success=summary.last_success if summary else "",
                            last_run=None
                            if last is None
                            else LastRun(
                                last.run_id, last.started_at, last.finished_at, last.state, last.exit_code, last.report
                            ),
                            unheld=facts.unheld(),
                            owed=facts.owed().count,
                            every_s=settings.every_s,
                        ),
                        now=now,
                        daemon=False,
                    )
                )
        return Status(__version__, self._host_name(), lines)

    def _host_name(self) -> str:
        known = self._state.known_host()
        if self.settings.host.name or known is None:
            import socket

            return self.settings.host.name or socket.gethostname().partition(".")[0]
        return known.name

    @contextmanager
    def reading(self) -> Iterator[ReadonlyCatalogue]:
        """Open the catalogue to read it, without the lock."""
        with open_readonly(self._state.catalogue) as catalogue:
            yield catalogue

    @contextmanager
    def writing(self) -> Iterator[Catalogue]:
        """Open the catalogue for a command that changes it, under the lock."""
        with self._writing() as (_, catalogue):
            yield catalogue

    @contextmanager
    def opened_target(self, name: str) -> Iterator[DiskMirror]:
        """Open one mirror's target under the lock (the trash commands)."""
        (settings,) = self._chosen([name])
        with self._writing() as (host, catalogue):
            mirror = self._open_target(settings, host, catalogue.mirror(name))
            try:
                yield mirror
            finally:
                mirror.close()

    def trash(self, names: Sequence[str]) -> list[tuple[str, Trashed]]:
        """List the trash of these mirrors, the oldest first; takes no lock."""
        found = []
        host = self._state.known_host()
        with open_readonly(self._state.catalogue) as catalogue:
            for settings in self._chosen(names):
                mirror = self._peek_target(settings, host, catalogue.mirror(settings.name))
                if mirror is not None:
                    found += [(settings.name, each) for each in mirror.trash()]
                    mirror.close()
        return found

    def _peek_target(
        self, settings: MirrorSettings, host: Host | None, facts: ReadonlyMirrorCatalogue
    ) -> DiskMirror | None:
        return DiskMirror.peek(
            settings.target,
            mirror_name=settings.name,
            mirror_uid=facts.uid,
            host_id=host.id if host is not None else "",
            known=bool(facts.target) and facts.target == str(settings.target),
        )

    def spelled(self, path: str) -> list[tuple[str, RelPath]]:
        """Return what a spelling of a path may mean: (mirror, path) candidates, the most specific first."""
        return candidates(path, [spellings_of(settings) for settings in self.settings.mirrors])

    def why(self, spelled: str) -> list[Known]:
        """Tell what is known about a path: one answer for each mirror that knows it, or the likeliest reading."""
        host = self._state.known_host()
        answers = []
        with open_readonly(self._state.catalogue) as catalogue:
            for name, path in self.spelled(spelled):
                settings = self._chosen([name])[0]
                answers.append(self._know(settings, path, host, catalogue.mirror(name)))
        certain = [known for known in answers if known.state != "unknown" or known.local is not None]
        return certain or answers[:1]

    def _know(
        self, settings: MirrorSettings, path: RelPath, host: Host | None, facts: ReadonlyMirrorCatalogue
    ) -> Known:
        try:
            mirror = self._peek_target(settings, host, facts)
            local = mirror.stat_local(path) if mirror is not None and path else None
        except SyncdError:
            mirror, local = None, None
        if mirror is not None:
            mirror.close()
        return Known(
            mirror=settings.name,
            path=path,
            target=str(settings.target),
            record=facts.record(path),
            unheld=facts.unheld_at(path),
            excluded_by=Filters(settings.include, settings.exclude).rule_for(path),
            refused=next((reason for part in path.split("/") if (reason := refuse_name(part))), None),
            local=local,
            listed_at=facts.listed_at,
            near=facts.near_names(path),
            held_back=dict(facts.halted()).get(path, ""),
        )

    # -- plumbing

    @contextmanager
    def _writing(self) -> Iterator[tuple[Host, Catalogue]]:
        self._state = StateDirectory.open(self.settings.host.state_dir, create=True)
        with self._state.lock():
            host = self._state.host(self.settings.host.name or "")
            with self._open_catalogue() as catalogue:
                catalogue.record_run_day(utc_text(self._clock.now_ns())[:10])
                yield host, catalogue

    def _open_catalogue(self) -> Catalogue:
        """Open the catalogue; a damaged one is kept aside and rebuilt by the run that follows."""
        try:
            return Catalogue.open(self._state.catalogue, app_version=__version__)
        except CatalogueDamaged as error:
            from syncd.log import logger

            kept = set_aside(self._state.catalogue)
            logger().warning("catalogue.damaged", detail=error.message, kept=str(kept), next="rebuilt by this run")
            return Catalogue.open(self._state.catalogue, app_version=__version__)

    def _chosen(self, names: Sequence[str]) -> Sequence[MirrorSettings]:
        if not names:
            return self.settings.mirrors
        chosen = []
        for name in names:
            settings = self.settings.mirror(name)
            if settings is None:
                known = ", ".join(mirror.name for mirror in self.settings.mirrors)
                raise ConfigError(f'there is no mirror "{name}" in {self.settings.path}', hint=f"one of: {known}")
            chosen.append(settings)
        return chosen

    def _in_mirror(self, settings: MirrorSettings, only: Sequence[str]) -> tuple[RelPath, ...]:
        """Return what the paths of --only mean in this mirror: the most specific reading of each."""
        found = []
        for path in only:
            mirror, rel = self.spelled(path)[0]
            if mirror == settings.name:
                found.append(rel)
            elif len(self.settings.mirrors) == 1 or self.spelled(path)[0][1] == path:
                found.extend(rel for name, rel in self.spelled(path) if name == settings.name)
        return tuple(found)


def spellings_of(settings: MirrorSettings) -> Spellings:
    """Return the names under which a mirror's files are known."""
    url = settings.source
    share = "/".join(part for part in (url.share, url.folder.strip("/")) if part)
    return Spellings(settings.name, str(settings.target), share, settings.aliases)


def _fail_not_found(reports: Sequence[Report]) -> None:
    """Say of a path of --only that it is not on the source, unless another mirror had it."""
    finished = [report for report in reports if report.error is None]
    if finished and all(report.not_found for report in finished):
        for path in finished[0].not_found:
            finished[0].fail(path, Reason.GONE, "not on the source, or left out by a pattern")


def new_run_id() -> str:
    """Return a short random id."""
    return secrets.token_hex(6)


def batch_name(now_ns: int, run_id: str) -> str:
    """Return a trash batch's name; sorts by time."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ-") + run_id


def write_manifest(mirror: Mirror, facts: SqliteMirrorCatalogue) -> None:
    """Rewrite the exported manifest if what is held has changed since it was written."""
    revision = facts.revision
    if facts.manifest_revision != revision:
        mirror.write_manifest(manifest_lines(facts.records()))
        facts.manifest_written(revision)


def _manifest_digest(
    mirror: Mirror | None, facts: MirrorCatalogue
) -> tuple[Callable[[RelPath, Fingerprint], str | None], Callable[[], None]]:
    """Return the look-up into the manifest of a lost catalogue; in the usual case, one that finds nothing."""
    if mirror is None or facts.totals().files:
        return (lambda _path, _fingerprint: None), (lambda: None)
    index = ManifestIndex(mirror.read_manifest())
    return index.digest, index.close


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
