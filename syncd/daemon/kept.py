"""Everything that keeps one mirror, put together: its keeper, on-demand fetches, and the two watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncd.app.site import new_run_id
from syncd.app.wiring import open_hints, rules_of
from syncd.config.settings import MirrorSettings, Settings
from syncd.core.errors import SourceAuthFailed, SyncdError
from syncd.core.model import RelPath
from syncd.core.reasons import Reason
from syncd.core.resolution import Resolution
from syncd.daemon.keeper import Keeper
from syncd.daemon.keeping import Keeping
from syncd.daemon.target import identity_of
from syncd.engine.clock import Clock
from syncd.engine.demand import Demand
from syncd.engine.report import Report
from syncd.engine.serving import DemandPorts
from syncd.ports import Hint, HintSource, Source
from syncd.store.catalogue import Catalogue
from syncd.store.state import Host
from syncd.store.watching import MirrorWatch

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

WATCH_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon gives to each mirror. resolve: (mirror, path) -> how it is now."""

    settings: Settings
    host: Host
    catalogue: Catalogue
    clock: Clock
    log: FilteringBoundLogger
    source_of: Callable[[MirrorSettings], Source]
    resolve: Callable[[str, RelPath], Resolution]
    told: Callable[[Keeper, Report], None]
    count: Callable[..., None]
    bug: Callable[[BaseException, str], None]
    fatal: Callable[[SyncdError], None]


class KeptMirror:
    """One mirror in the daemon. start() and stop() once."""

    def __init__(self, settings: MirrorSettings, around: Surroundings) -> None:
        self.settings = settings
        self.name = settings.name
        self._around = around
        self._stopped = threading.Event()
        keeping = Keeping(
            around.settings,
            settings,
            around.host,
            around.catalogue,
            clock=around.clock,
            source_of=around.source_of,
            yielding=lambda: self.demand.busy,
        )
        self.keeping = keeping
        ports = DemandPorts(
            target=keeping.target.use,
            open_source=keeping.open_source_first,
            catalogue=keeping.facts,
            resolve=lambda path: around.resolve(settings.name, path),
            writing=keeping.target.writing,
            now_ns=around.clock.now_ns,
            bug=lambda error: around.bug(error, settings.name),
        )
        self.demand = Demand(rules_of(settings), ports, run_id=new_run_id)
        self.keeper = Keeper(
            keeping,
            self.demand,
            now_ns=around.clock.now_ns,
            log=around.log,
            told=self._told,
            verified=self._verified,
            bug=around.bug,
            fatal=around.fatal,
        )
        self.hints: HintSource | None = open_hints(settings)
        self.mirror_watch = MirrorWatch(settings.target, self.keeper.local_changed)
        self._hints_state = "" if self.hints is not None else "off: this kind of source cannot tell of changes"
        self._identity = identity_of(settings.target)
        self._tried: tuple[int, int] | None = None
        if self._identity is None and keeping.facts.target:
            keeping.target.usable = False
        self._watch_at = float("-inf")
        self._refused = False

    def start(self) -> None:
        """Begin: a run at once, and watching."""
        self.keeper.start()
        if self.hints is not None:
            threading.Thread(target=self._watch_source, name=f"hints {self.name}", daemon=True).start()

    def stop(self, wait_s: float) -> bool:
        """End everything; what has arrived is committed. Returns whether it ended in time."""
        self._stopped.set()
        if self.hints is not None:
            self.hints.close()
        self.mirror_watch.close()
        deadline = time.monotonic() + wait_s
        self.keeper.stop_soon()
        self.demand.close(wait_s)
        ended = self.keeper.stop(max(deadline - time.monotonic(), 0.1))
        self.keeping.target.close()
        return ended

    def begin_anew(self) -> None:
        """The machine slept or its clock jumped: look at everything once, over fresh connections."""
        self.keeper.due()
        self.mirror_watch.close()
        self._watch_at = float("-inf")

    def look_after(self) -> bool:
        """Do what is due every few seconds; False when work has been stuck for too long."""
        self.keeping.target.close_idle()
        self._try_a_new_secret()
        self._watch_mirror()
        return self.keeper.look_after()

    @property
    def watching(self) -> dict[str, str]:
        """Say how changes are watched for at the source and in the mirror."""
        source = self._hints_state or (self.hints.state if self.hints is not None else "")
        return {"source": source, "mirror": self.mirror_watch.state}

    # -- inside

    def _told(self, keeper: Keeper, report: Report) -> None:
        if self.hints is not None and (report.changed or not report.hinted):
            self.hints.focus(self.keeping.focus())
        self._around.told(keeper, report)

    def _try_a_new_secret(self) -> None:
        """A login was refused, and would be tried again now: the secret was changed, or an hour has passed."""
        refused = self.keeping.logins.refused
        if self._refused and not refused:
            self.keeper.due()
        self._refused = refused

    def _verified(self, checked: int, damaged: int) -> None:
        self._around.count("syncd_verify_checked_files_total", checked, mirror=self.name)
        self._around.count("syncd_verify_damaged_files_total", damaged, mirror=self.name)

    def _watch_mirror(self) -> None:
        """Watch the target while it is there; one that went away is watched again when it is back."""
        now = identity_of(self.settings.target)
        refused = self._was_refused()
        if now != self._identity:
            if self._identity is not None:
                self.keeper.due()  # gone, or another one: a run says so
            self._identity = now
            self._watch_at = float("-inf")
        if not refused:
            self._tried = None
        elif now is not None and now != self._tried:
            self._tried = now
            self.keeper.due()  # it is back, perhaps after so short a time that nothing else tells: go on
        off = self.mirror_watch.state.startswith("off")
        if now and self.keeping.facts.listed_at and (not off or time.monotonic() >= self._watch_at):
            self._watch_at = time.monotonic() + WATCH_AGAIN_S
            self.mirror_watch.start()

    def _was_refused(self) -> bool:
        """Say whether the last run was refused its target (so that one that is there is worth another try)."""
        last = self.keeping.facts.last_run()
        reason = (last.report.get("error") or {}).get("reason") if last is not None else None
        return reason in (Reason.TARGET_MISSING, Reason.TARGET_FOREIGN)

    def _hint(self, hint: Hint) -> None:
        """Hints are the main server's: who gives one is there."""
        self.keeping.main_is_there()
        self.keeper.hint(hint)

    def _watch_source(self) -> None:
        hints = self.hints
        while hints is not None and not self._stopped.is_set():
            if not self.keeping.logins.refused:
                try:
                    self._hints_state = ""
                    hints.watch(self._hint)
                except SourceAuthFailed as error:
                    self.keeping.logins.note(error)
                    self._hints_state = f"off: {error.message}"
                except SyncdError as error:
                    self._hints_state = f"off: {error.message}"
                except Exception as error:  # noqa: BLE001 - without hints the schedule still finds everything
                    self._hints_state = "off: a bug"
                    self._around.bug(error, self.name)
                    return
            self._stopped.wait(WATCH_AGAIN_S)
