"""verify: re-hash what is held, and with --repair fetch at once what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd.app.runs import Running
from syncd.app.site import batch_name, new_run_id, write_manifest
from syncd.config.settings import MirrorSettings
from syncd.engine.commit import Committer
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions
from syncd.engine.verify import Verification, Verifier
from syncd.store.catalogue import Catalogue
from syncd.store.state import Host


class Verifying(Running):
    """Verification."""

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
        sharing = self._sharing(settings.name)
        with self._target(settings, host, facts, new_target=False, take_over=False) as mirror:
            report = Report(settings.name, batch[17:])
            writing = sharing.writing if sharing is not None else None
            committer = Committer(mirror, facts, report, batch, lambda: now_ns() // 1_000_000, writing)
            committer.recover()
            verifier = Verifier(mirror, facts, committer, batch, result)
            step = (lambda: show(result)) if show is not None else (lambda: None)
            verifier.local(fraction=fraction, progress=step)
            if against_source:
                source = self._open_source(settings)
                try:
                    source.check()
                    verifier.against_source(source, step)
                finally:
                    source.close()
            if against_checksums:
                verifier.against_checksums()
            write_manifest(mirror, facts)
        return result

    def _repair(self, settings: MirrorSettings, host: Host, catalogue: Catalogue, result: Verification) -> None:
        report = Report(settings.name, new_run_id())
        self._run_mirror(settings, RunOptions(only=tuple(result.wrong)), host, catalogue, report, False, False)
        facts = catalogue.mirror(settings.name)
        result.repaired = sum(1 for path in result.wrong if facts.record(path) is not None)
