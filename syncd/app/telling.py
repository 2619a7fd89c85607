"""status, why, trash list: what is known, without a lock and without writing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from syncd import __version__
from syncd.app.site import Site
from syncd.config.settings import MirrorSettings, Settings
from syncd.core.errors import SyncdError
from syncd.core.filters import Filters
from syncd.core.model import RelPath
from syncd.core.paths import printable, refuse_name
from syncd.engine.status import PAUSED_NOTE, LastRun, MirrorFacts, MirrorStatus, Status, assess, is_paused
from syncd.engine.why import Known
from syncd.ports import Trashed
from syncd.store.mirror_reads import MirrorReads
from syncd.store.reading import ReadonlyCatalogue, ReadonlyMirrorCatalogue, open_readonly
from syncd.store.state import Host


class Telling(Site):
    """Answers."""

    def status(self) -> Status:
        """Say how every configured mirror is; takes no lock and writes nothing."""
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        with open_readonly(self._state.catalogue) as catalogue:
            lines = [
                mirror_status(self.settings, each, catalogue.mirror(each.name), now) for each in self.settings.mirrors
            ]
        return Status(__version__, self._host_name(), lines)

    def _host_name(self) -> str:
        known = self._state.known_host()
        if self.settings.host.name or known is None:
            import socket

            return self.settings.host.name or socket.gethostname().partition(".")[0]
        return known.name

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

    def why(self, spelled: str) -> list[Known]:
        """Tell what is known about a path: one answer for each mirror that knows it, or the likeliest reading."""
        host = self._state.known_host()
        answers = []
        with open_readonly(self._state.catalogue) as catalogue:
            for name, path in self.spelled(spelled):
                settings = self._chosen([name])[0]
                answers.append(self._know(settings, path, host, catalogue.mirror(name)))
            if shown := self._as_shown(spelled, host, catalogue):
                answers = [*(known for known in answers if known.record is not None), *shown]
        certain = [known for known in answers if known.is_fact]
        likely = [known for known in answers if known.state != "unknown"]
        named = answers[0].path != answers[-1].path  # the last reading takes the whole text for a path
        return certain or (likely[:1] if named else likely) or answers[:1]

    def _as_shown(self, spelled: str, host: Host | None, catalogue: ReadonlyCatalogue) -> list[Known]:
        """Find a refused name as reports show it: its backslashes and escapes are part of no other spelling."""
        shown = printable(os.fsencode(spelled).decode("utf-8", "backslashreplace"))
        found = []
        for settings in self.settings.mirrors if "\\" in shown else ():
            path, facts = RelPath(shown.removeprefix(f"{settings.name}/")), catalogue.mirror(settings.name)
            if facts.unheld_at(path) is not None:
                found.append(self._know(settings, path, host, facts)._replace(refused=None))
        return found

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
        last = facts.last_run()
        return Known(
            mirror=settings.name,
            path=path,
            target=str(settings.target),
            record=facts.record(path),
            unheld=facts.unheld_at(path) or facts.fault_above(path),
            excluded_by=Filters(settings.include, settings.exclude).rule_for(path),
            refused=next((reason for part in path.split("/") if (reason := refuse_name(part))), None) if path else None,
            local=local,
            listed_at=facts.listed_at,
            near=facts.near_names(path),
            held_back=dict(facts.halted()).get(path, ""),
            stand_by=last.report.get("stand_by", {}).get("server", "") if last is not None else "",
            folder=not path or facts.look_up(path).folder,
        )


def mirror_status(
    settings: Settings, mirror: MirrorSettings, facts: MirrorReads, now: datetime, *, daemon: bool = False
) -> MirrorStatus:
    """Say how one mirror is, from what the catalogue knows. daemon: one runs, so that a late scan is a fault."""
    last, paused = facts.last_run(), facts.note(PAUSED_NOTE)
    run = None
    if last is not None:
        run = LastRun(last.run_id, last.started_at, last.finished_at, last.state, last.exit_code, last.report)
    found = MirrorFacts(
        name=mirror.name,
        totals=facts.totals(),
        last_success=facts.last_success,
        last_run=run,
        unheld=facts.unheld(),
        owed=facts.owed().count if settings.nsq.announce == "nsq" else 0,
        every_s=mirror.every_s,
        paused_until=paused if is_paused(paused, now.strftime("%Y-%m-%dT%H:%M:%SZ")) else "",
        held_back=facts.count_halted(),
    )
    return assess(found, now=now, daemon=daemon)
