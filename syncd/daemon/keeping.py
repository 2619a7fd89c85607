"""How the composition's commands run inside the daemon: with its catalogue, its open targets and its locks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from syncd.app.site import write_manifest
from syncd.app.verifying import Verifying
from syncd.config.settings import MirrorSettings, Settings
from syncd.core.errors import SyncdError
from syncd.core.model import ROOT, RelPath
from syncd.daemon.logins import Logins
from syncd.daemon.target import OpenTarget
from syncd.engine.clock import Clock
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions, Sharing
from syncd.engine.run import MirrorRun
from syncd.engine.verify import Verification
from syncd.ports import Source
from syncd.store.catalogue import Catalogue, SqliteMirrorCatalogue
from syncd.store.mirror import DiskMirror
from syncd.store.state import Host

if TYPE_CHECKING:
    from syncd.sources.failover import Refusals

FOCUS = 200
"""How many directories hints watch most closely (sources/smb keeps a handle of each)."""


class Keeping(Verifying):
    """Runs and verifications of one mirror, one at a time, in the daemon. `run` is the one that goes on now."""

    def __init__(
        self,
        settings: Settings,
        mirror: MirrorSettings,
        host: Host,
        catalogue: Catalogue,
        *,
        clock: Clock,
        source_of: Callable[[MirrorSettings], Source],
        yielding: Callable[[], bool],
    ) -> None:
        super().__init__(settings, clock, source_of)
        self.mirror = mirror
        self.host = host
        self.catalogue = catalogue
        self.facts: SqliteMirrorCatalogue = catalogue.mirror(mirror.name)
        self.logins, self._stand_by_logins = Logins(mirror.reveal_password), Logins(mirror.reveal_password)
        self.target = OpenTarget(mirror.target, self._open)
        self.run: MirrorRun | None = None
        self.at_stand_by = False
        self._ending: SyncdError | None = None
        self._together = Sharing(self.target.writing, yielding)

    def open_source(self) -> Source:
        """Build the source, unless its login was refused just now. Raises SourceAuthFailed."""
        self.logins.check()
        return self._open_source(self.mirror)

    def open_source_first(self) -> Source:
        """Build the source of what somebody waits for, from a stand-by if need be; the rate lets it go first."""
        self.logins.check()
        return self._open_servers(self.mirror, urgent=True)

    def forgive(self) -> None:
        """A person asked for a run: try each server and login again."""
        self.logins.forgive()
        self._stand_by_logins.forgive()
        self.main_is_there()

    def main_is_there(self) -> None:
        """The main server gave a sign of life: ask it first again."""
        if self.mirror.fallback_sources:
            self._standing(self.mirror.name).forget()

    def end(self, error: SyncdError) -> None:
        """End the run that goes on, with `error`, and every later one at once. From any thread."""
        self._ending = error
        if self.run is not None:
            self.run.stop(error)

    def execute_run(
        self, options: RunOptions, report: Report, *, new_target: bool = False, take_over: bool = False
    ) -> None:
        """Run once; how it went is in `report` (an error too)."""
        try:
            self._run_mirror(self.mirror, options, self.host, self.catalogue, report, new_target, take_over)
        except SyncdError as error:
            report.error = report.error or error
        finally:
            self.run = None
        self.at_stand_by = report.stand_by is not None
        self.logins.note(report.error)

    def verify_all(
        self,
        fraction: float,
        against_source: bool,
        against_checksums: bool,
        show: Callable[[Verification], None] | None,
    ) -> Verification:
        """Verify the mirror as `syncd verify` does."""
        return self._verify_mirror(
            self.mirror, self.host, self.catalogue, fraction, against_source, against_checksums, show
        )

    def refresh_manifest(self) -> None:
        """Rewrite the manifest if what is held has changed since. Raises TargetMissing and the like."""
        if self.facts.manifest_revision != self.facts.revision:
            with self.target.use() as mirror, self.target.writing:
                write_manifest(mirror, self.facts)

    def focus(self) -> list[RelPath]:
        """Return the directories that changed most recently, then others, as many as handles are kept for."""
        chosen: dict[RelPath, None] = {ROOT: None}
        for directory in self.catalogue.recent_directories(self.mirror.name, FOCUS):
            chosen[directory] = None
        for directory in self.facts.known_directories_below(ROOT):
            if len(chosen) >= FOCUS:
                break
            chosen[directory] = None
        return list(chosen)[:FOCUS]

    # -- hooks of the composition

    def _open(self, *, new_target: bool, take_over: bool) -> DiskMirror:
        return self._open_target(self.mirror, self.host, self.facts, new_target=new_target, take_over=take_over)

    @contextmanager
    def _target(
        self,
        settings: MirrorSettings,  # noqa: ARG002 - it is this one mirror's
        host: Host,  # noqa: ARG002
        facts: SqliteMirrorCatalogue,  # noqa: ARG002
        new_target: bool,
        take_over: bool,
    ) -> Iterator[DiskMirror]:
        with self.target.use(new_target=new_target, take_over=take_over) as mirror:
            yield mirror

    def _refusals(self) -> Refusals | None:
        return self._stand_by_logins

    def _sharing(self, name: str) -> Sharing | None:  # noqa: ARG002
        return self._together

    def _begins(self, run: MirrorRun) -> None:
        self.run = run
        if self._ending is not None:
            run.stop(self._ending)
