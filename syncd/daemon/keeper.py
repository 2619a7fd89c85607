"""One mirror's thread: it does one thing after the other, the most urgent first.

Wishes of people (runs, verifications), runs that are due, hints from the source, changes seen in the mirror itself; and
a little verification after each whole run. Files on demand have a thread of their own (engine/demand.py).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from syncd.app.site import new_run_id
from syncd.core import paths
from syncd.core.errors import CatalogueDamaged, RunStopped, SourceUnavailable, SyncdError
from syncd.core.model import RelPath
from syncd.daemon.care import Care
from syncd.daemon.errands import RunErrand, VerifyErrand
from syncd.daemon.keeping import Keeping
from syncd.daemon.memory import LARGE_FILES, give_back
from syncd.daemon.progress import STUCK_S, Current, Progress, owed_after
from syncd.engine.clock import utc_text
from syncd.engine.demand import Demand
from syncd.engine.report import Report
from syncd.engine.rules import RunOptions
from syncd.engine.status import FOR_EVER, PAUSED_NOTE, is_paused
from syncd.engine.verify import Verification
from syncd.ports import Hint

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

DEBOUNCE_S = 0.1
HINTED_AT_MOST = 256
LOCAL_AT_MOST = 10_000
RETRY_FIRST_S = 15.0
UNFOCUSED_REST = 20.0
UNFOCUSED_REST_MIN_S, UNFOCUSED_REST_MAX_S = 2.0, 60.0
"""After a whole run nothing but the schedule asks for the next for so many times as long as it took."""


class Keeper:
    """Keeps one mirror. start() once; triggers from any thread; stop() ends what goes on within seconds.

    told: called after each run with its report; verified: with how many files were verified, and found damaged.
    owed: how many files the next try of a run is to bring, after one that ended early for what passes by itself.
    """

    def __init__(
        self,
        keeping: Keeping,
        demand: Demand,
        *,
        now_ns: Callable[[], int],
        log: FilteringBoundLogger,
        told: Callable[[Keeper, Report], None],
        verified: Callable[[int, int], None],
        bug: Callable[[BaseException, str], None],
        fatal: Callable[[SyncdError], None],
    ) -> None:
        self.keeping = keeping
        self.demand = demand
        self.name = keeping.mirror.name
        self.care = Care(keeping, now_ns, log, verified)
        self.current: Current | None = None
        self.check_s: float | None = None
        self.progress = Progress()
        self.owed = 0
        self.paused_until = keeping.facts.note(PAUSED_NOTE)
        self._now_ns = now_ns
        self._log = log
        self._told = told
        self._verified = verified
        self._bug = bug
        self._fatal = fatal
        self._changed = threading.Condition()
        self._wishes: deque[RunErrand | VerifyErrand] = deque()
        self._asked_for = False
        self._due = False
        self._due_at = float("inf")
        self._hinted: set[RelPath] = set()
        self._hinted_at = 0.0
        self._local: set[RelPath] = set()
        self._look_at_all_local = False
        self._untidy = False
        self._replaced_by_hints = 0
        self._failures = 0
        self._unfocused_at = float("-inf")
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=f"keeper {self.name}", daemon=True)

    def start(self) -> None:
        """Begin, with a run at once."""
        self._due = True
        self._thread.start()

    # -- triggers

    def due(self) -> None:
        """A whole run is due; a second trigger while one goes on means one more after it."""
        with self._changed:
            self._due = True
            self._changed.notify()

    def wish(self, errand: RunErrand | VerifyErrand) -> None:
        """A person asks for a run or a verification."""
        with self._changed:
            if not self._stopped:
                self._wishes.append(errand)
                self._changed.notify()
                return
        errand.fail(self.name, RunStopped("the daemon ends"))

    def hint(self, hint: Hint) -> None:
        """Something may have changed at the source."""
        with self._changed:
            if hint.directories is None:
                self._due_at = min(self._due_at, max(time.monotonic(), self._unfocused_at))
            else:
                if not self._hinted:
                    self._hinted_at = time.monotonic()
                self._hinted |= hint.directories
            self._changed.notify()

    def local_changed(self, changed: frozenset[RelPath] | None) -> None:
        """Something changed in the mirror's own folder; None: anything may have."""
        with self._changed:
            if changed is None or len(self._local) > LOCAL_AT_MOST:
                self._look_at_all_local = True
                self._local.clear()
            else:
                self._local |= changed
            self._changed.notify()

    def tidy(self) -> None:
        """Bring the exported manifest up to date when there is nothing better to do."""
        with self._changed:
            self._untidy = True
            self._changed.notify()

    def pause(self, until: str) -> None:
        """Do nothing by itself until then (ISO 8601 UTC, FOR_EVER), "": go on.

        A run that goes on is ended, but for one that somebody asked for; afterwards it goes on where it was.
        """
        self.keeping.facts.set_note(PAUSED_NOTE, until)
        with self._changed:
            self.paused_until = until
            ended = self.paused and self.current is not None and not self._asked_for
            self._due = self._due or ended
            self._changed.notify()
        if ended:
            self.stop_run(RunStopped(f"{self.name}: paused"))

    @property
    def paused(self) -> bool:
        """Whether it is to do nothing by itself now."""
        return is_paused(self.paused_until, utc_text(self._now_ns()))

    def stop_soon(self) -> None:
        """Begin to end: no new files, what has arrived is committed."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self.keeping.end(RunStopped(f"{self.name}: the daemon was asked to stop"))

    def stop(self, wait_s: float) -> bool:
        """End what goes on; return whether it ended in time."""
        self.stop_soon()
        if self._thread.is_alive():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def stop_run(self, error: SyncdError) -> None:
        """End the run that goes on now, if any."""
        run = self.keeping.run
        if run is not None:
            run.stop(error)

    def look_after(self) -> bool:
        """See that work moves, to be called every few seconds; False when it has been stuck for too long."""
        if self.progress.look(self.current):
            self.stop_run(
                SourceUnavailable(
                    f"{self.name}: the run made no progress for {STUCK_S / 60:.0f} minutes and was ended",
                    hint="syncd doctor",
                )
            )
        return not self.progress.hopeless and (self._thread.is_alive() or self._stopped)

    # -- the thread

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except SyncdError as error:
                self._log.warning("work.failed", mirror=self.name, error=error.message, hint=error.hint)
                self._end_if_damaged(error)
            except Exception as error:  # noqa: BLE001 - one mirror's bug does not stop the others
                self._bug(error, self.name)
            finally:
                self.current = None

    def _end_if_damaged(self, error: SyncdError | None) -> None:
        """A damaged catalogue is set aside and rebuilt at a start: have the daemon end, so that it is started again."""
        if isinstance(error, CatalogueDamaged):
            self._fatal(error)

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._stopped:
                work = self._most_urgent(time.monotonic())
                if work is not None:
                    return work
                self._changed.wait(self._wait_s(time.monotonic()))
            for errand in self._wishes:
                errand.fail(self.name, RunStopped("the daemon ends"))
        return None

    def _most_urgent(self, now: float) -> Callable[[], None] | None:
        if self._wishes:
            errand = self._wishes.popleft()
            return lambda: self._carry_out(errand)
        if self.paused:
            return None
        if self._due or now >= self._due_at:
            self._due, self._due_at = False, float("inf")
            self._hinted.clear()
            return self._whole_run
        if self._local or self._look_at_all_local:
            local, self._local = frozenset(self._local), set()
            whole, self._look_at_all_local = self._look_at_all_local, False
            return lambda: self._tend(None if whole else local)
        if self._hinted and now >= self._hinted_at + DEBOUNCE_S:
            hinted, self._hinted = tuple(sorted(self._hinted)), set()
            return lambda: self._hinted_run(hinted)
        if self._untidy:
            self._untidy = False
            return self.keeping.refresh_manifest
        return None

    def _wait_s(self, now: float) -> float:
        if self.paused:
            return self._until_resumed_s()
        times = [60.0, self._due_at - now]
        if self._hinted:
            times.append(self._hinted_at + DEBOUNCE_S - now)
        return max(min(times), 0.001)

    def _until_resumed_s(self) -> float:
        """Return how long the pause lasts; a minute at most, since the clock may be set meanwhile."""
        if self.paused_until == FOR_EVER:
            return 60.0
        left_s = datetime.fromisoformat(self.paused_until).timestamp() - self._now_ns() / 1e9
        return min(max(left_s, 0.05), 60.0)

    # -- runs

    def _begin(self, kind: str, report: Report) -> Report:
        self.current = Current(kind, report, utc_text(self._now_ns()), time.monotonic())
        return report

    def _whole_run(self) -> None:
        if self.keeping.logins.refused:
            return  # nothing is tried again before the secret changes, a person asks, or an hour passes
        looked, self._look_at_all_local = self._look_at_all_local, False
        report = self._begin("run", Report(self.name, new_run_id()))
        self._run(RunOptions(replaced_before=self._replaced_by_hints), report)
        if report.error is not None:
            self._look_at_all_local |= looked  # a whole run would have looked at all of the mirror too
        self._patrol()

    def _run(self, options: RunOptions, report: Report, *, new_target: bool = False, take_over: bool = False) -> None:
        self.keeping.execute_run(options, report, new_target=new_target, take_over=take_over)
        rest_s = min(max(UNFOCUSED_REST * report.duration_s, UNFOCUSED_REST_MIN_S), UNFOCUSED_REST_MAX_S)
        self._unfocused_at = time.monotonic() + rest_s
        if report.stand_by is None:
            self._replaced_by_hints = 0
        self.check_s = report.check_s
        self._retry_sooner(report.error)
        self.owed = owed_after(report, self.owed)
        self._end_if_damaged(report.error)
        self._log_run(report)
        if report.scanned >= LARGE_FILES:
            self.keeping.catalogue.shrink()
            give_back()
        if options.whole:
            self.care.foreign = OrderedDict.fromkeys(RelPath(path) for path in report.foreigners)
        self._told(self, report)

    def _retry_sooner(self, error: SyncdError | None) -> None:
        """After trouble that passes by itself the next look comes sooner than planned, each time a little later."""
        if error is None or not error.transient or isinstance(error, RunStopped):
            self._failures = 0
            return
        self._failures += 1
        pause_s = RETRY_FIRST_S * 2 ** min(self._failures - 1, 6)
        with self._changed:
            self._due_at = time.monotonic() + min(pause_s, self.keeping.mirror.every_s or pause_s)

    def _hinted_run(self, hinted: tuple[RelPath, ...]) -> None:
        if len(hinted) > HINTED_AT_MOST or not self.keeping.facts.listed_at:
            self.due()  # so many folders, or a mirror that was never listed to its end: look at everything
            return
        if self.keeping.logins.refused:
            return
        report = self._begin("hint", Report(self.name, new_run_id(), hinted=True))
        options = RunOptions(hinted=hinted, replaced_before=self._replaced_by_hints)
        self.keeping.execute_run(options, report)
        self._replaced_by_hints += report.replaced
        if report.whole_run_needed or (report.error is not None and not isinstance(report.error, RunStopped)):
            self.due()
        if report.changed or report.error is not None:
            self._log_run(report)
        self._told(self, report)

    def _carry_out(self, errand: RunErrand | VerifyErrand) -> None:
        self._asked_for = True
        try:
            if isinstance(errand, RunErrand):
                self._carry_out_run(errand)
            else:
                self._carry_out_verification(errand)
        except BaseException as error:
            errand.fail(self.name, error)
            raise
        finally:
            self._asked_for = False

    def _carry_out_run(self, errand: RunErrand) -> None:
        self.keeping.forgive()
        report = self._begin("run", errand.begin(self.name))
        options = RunOptions(only=errand.only_of(self.name), replaced_before=self._replaced_by_hints)
        self._run(options, report, new_target=errand.new_target, take_over=errand.take_over)
        errand.done_with(self.name)

    def _carry_out_verification(self, errand: VerifyErrand) -> None:
        self._begin("verify", Report(self.name, errand.id))
        show = self._moving(errand.show(self.name))
        result = self.keeping.verify_all(errand.fraction, errand.source, errand.checksums, show)
        self._verified(result.checked, result.damaged)
        if result.wrong and errand.repair:
            report = Report(self.name, new_run_id())
            self.keeping.execute_run(RunOptions(only=tuple(result.wrong)), report)
            facts = self.keeping.facts
            result.repaired = sum(1 for path in result.wrong if facts.record(path) is not None)
        elif result.wrong:
            self.due()
        errand.done_with(self.name, result)

    def _moving(self, show: Callable[[Verification], None]) -> Callable[[Verification], None]:
        """Count what a verification shows as progress."""

        def note(result: Verification) -> None:
            self.progress.note()
            show(result)

        return note

    def _log_run(self, report: Report) -> None:
        counts = {
            name: getattr(report, name)
            for name in ("scanned", "fetched", "renamed", "retired", "refused", "failed")
            if getattr(report, name)
        }
        facts: dict[str, Any] = {"mirror": self.name, "run_id": report.run_id, **counts, "bytes": report.bytes}
        facts["ms"] = round(report.duration_s * 1000)
        if report.error is not None:
            self._log.warning(
                "run.failed", **facts, reason=report.error.reason.value, error=report.error.message,
                hint=report.error.hint,
            )  # fmt: skip
        else:
            self._log.info("run.done" if not report.hinted else "hint.done", **facts)

    # -- the mirror itself

    def _tend(self, changed: frozenset[RelPath] | None) -> None:
        """Have a look at what changed in the mirror's folder; held files that were damaged are fetched again."""
        damaged = self.care.tend(changed)
        for path in damaged:
            self.demand.prefetch(path)
        if damaged:  # should that fail: a look at their folders, and at everything once the source is back
            self.hint(Hint(frozenset(paths.split(path)[0] for path in damaged)))

    def _patrol(self) -> None:
        """Verify a little, unless there is something better to do."""
        if not self._gives_way() and not self.keeping.logins.refused and self.care.patrol_some(self._gives_way):
            self.due()

    def _gives_way(self) -> bool:
        waiting = self._wishes or self._due or self._hinted or self._local
        return self._stopped or self.paused or self.demand.busy or bool(waiting)
