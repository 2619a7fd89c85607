"""Long work that somebody asked the daemon for and follows: runs and verifications over one or several mirrors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from syncd.app.runs import RunResult, fail_not_found
from syncd.core.errors import ConfigError, SyncdError
from syncd.core.model import RelPath
from syncd.core.reasons import hint_for
from syncd.engine.report import Report
from syncd.engine.verify import Verification
from syncd.web.port import Errand

if TYPE_CHECKING:
    from syncd.doctor.checks import Group

KEPT_S = 3_600.0
KEPT_AT_MOST = 1_000


class _Errand:
    """What both kinds have in common: which mirrors still work on it. Thread-safe."""

    def __init__(self, errand_id: str, mirrors: Sequence[str]) -> None:
        self.id = errand_id
        self.mirrors = tuple(mirrors)
        self.ended_at = 0.0
        self._lock = threading.Lock()
        self._open = set(mirrors)
        self._errors: list[dict[str, Any]] = []
        self._codes: list[int] = []
        if not mirrors:
            self.ended_at = time.monotonic()

    @property
    def done(self) -> bool:
        return not self._open

    def fail(self, mirror: str, error: BaseException) -> None:
        """This mirror's part of the work ended with an error."""
        with self._lock:
            self._errors.append(error_json(error))
            self._codes.append(error.exit_code if isinstance(error, SyncdError) else 1)
        self._close(mirror)

    def _close(self, mirror: str) -> None:
        with self._lock:
            self._open.discard(mirror)
            if not self._open:
                self.ended_at = time.monotonic()


class RunErrand(_Errand):
    """`syncd run-once` through the daemon. only: mirror -> the paths that --only means there."""

    def __init__(
        self,
        run_id: str,
        only: Mapping[str, tuple[RelPath, ...]],
        *,
        new_target: bool = False,
        take_over: bool = False,
    ) -> None:
        super().__init__(run_id, list(only))
        self.new_target = new_target
        self.take_over = take_over
        self._only = only
        self._reports: dict[str, Report] = {}
        self._ended: set[str] = set()
        self._answer: Errand | None = None

    def only_of(self, mirror: str) -> tuple[RelPath, ...]:
        return self._only[mirror]

    def begin(self, mirror: str) -> Report:
        """Return the report that the run of this mirror writes into."""
        report = self._reports[mirror] = Report(mirror, self.id)
        return report

    def done_with(self, mirror: str) -> None:
        """This mirror's run has ended."""
        self._ended.add(mirror)
        self._close(mirror)

    def answer(self) -> Errand:
        """Say how far it is."""
        if not self.done:
            return Errand(self.id, done=False, progress=self._progress())
        with self._lock:
            self._answer = self._answer or self._sum_up()
            return self._answer

    def _sum_up(self) -> Errand:
        result = RunResult(self.id, [self._reports[name] for name in self.mirrors if name in self._ended])
        fail_not_found(result.reports, self._only)
        errors = [*map(error_json, result.errors), *self._errors]
        code = _gravest([result.exit_code, *self._codes])
        details = {report.name: [problem.detail for problem in report.failures] for report in result.reports}
        return Errand(
            self.id, done=True, result={**result.as_json(), "details": details}, exit_code=code, errors=tuple(errors)
        )

    def _progress(self) -> dict[str, Any] | None:
        name = next((name for name in self.mirrors if name in self._reports and name not in self._ended), None)
        return None if name is None else progress_of(self._reports[name])


class VerifyErrand(_Errand):
    """`syncd verify` through the daemon."""

    def __init__(
        self,
        errand_id: str,
        mirrors: Sequence[str],
        *,
        fraction: float,
        source: bool,
        checksums: bool,
        repair: bool,
    ) -> None:
        super().__init__(errand_id, mirrors)
        self.fraction = fraction
        self.source = source
        self.checksums = checksums
        self.repair = repair
        self._results: dict[str, Verification] = {}
        self._current: Verification | None = None

    def show(self, mirror: str) -> Callable[[Verification], None]:
        """Return what the verification of this mirror shows itself to."""

        def note(result: Verification) -> None:
            self._current = result if result.name == mirror else self._current

        return note

    def done_with(self, mirror: str, result: Verification) -> None:
        """This mirror's verification has ended."""
        self._results[mirror] = result
        self._close(mirror)

    def answer(self) -> Errand:
        """Say how far it is."""
        if not self.done:
            current = self._current
            return Errand(self.id, done=False, progress=None if current is None else _checked(current))
        results = [self._results[name] for name in self.mirrors if name in self._results]
        code = _gravest([*(result.exit_code for result in results), *self._codes])
        shown = {"mirrors": [result.as_json() for result in results]}
        return Errand(self.id, done=True, result=shown, exit_code=code, errors=tuple(self._errors))


class DoctorErrand(_Errand):
    """`syncd doctor` in the daemon, which may be refused what a terminal may do. examine: yields groups of checks."""

    def __init__(self, errand_id: str, examine: Callable[[], Iterator[Group]]) -> None:
        super().__init__(errand_id, ["doctor"])
        self._examine = examine
        self._checks: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Start looking, in a thread of its own."""
        threading.Thread(target=self._work, name="doctor", daemon=True).start()

    def answer(self) -> Errand:
        """Say how far it is."""
        if not self.done:
            return Errand(self.id, done=False)
        code = _gravest([3 if any(check["status"] == "fail" for check in self._checks) else 0, *self._codes])
        return Errand(self.id, True, None, {"checks": self._checks}, code, tuple(self._errors))

    def _work(self) -> None:
        try:
            for group in self._examine():
                self._checks += group.as_json()
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self.fail("doctor", error)
        else:
            self._close("doctor")


AnyErrand = RunErrand | VerifyErrand | DoctorErrand


class Errands:
    """All errands of the last hour. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, AnyErrand] = {}

    def add(self, errand: AnyErrand) -> None:
        """Keep a new one; those that ended long ago go. Raises ConfigError when too many are under way."""
        with self._lock:
            self._add(errand)

    def _add(self, errand: AnyErrand) -> None:
        now = time.monotonic()
        for key in [k for k, e in self._known.items() if e.done and now - e.ended_at > KEPT_S]:
            del self._known[key]
        if len(self._known) >= KEPT_AT_MOST:
            raise ConfigError("too many runs and verifications were asked for", hint="wait for those to end")
        self._known[errand.id] = errand

    def examine(self, errand: DoctorErrand) -> str:
        """Begin an examination, unless one is at work; return the id of the one that is then. Raises as add() does."""
        with self._lock:
            at_work = next((e for e in self._known.values() if isinstance(e, DoctorErrand) and not e.done), None)
            if at_work is not None:
                return at_work.id
            self._add(errand)
            errand.begin()
            return errand.id

    def find(self, errand_id: str) -> Errand | None:
        """Return how far one is."""
        with self._lock:
            errand = self._known.get(errand_id)
        return None if errand is None else errand.answer()


def progress_of(report: Report) -> dict[str, Any]:
    """Return how far a run is, in files and bytes."""
    done = report.fetched + report.adopted + report.failed
    return {
        "mirror": report.name,
        "files_done": done,
        "files_known": max(report.wanted, done),
        "bytes_done": report.bytes,
        "bytes_known": report.wanted_bytes,
    }


def _checked(result: Verification) -> dict[str, Any]:
    return {
        "mirror": result.name,
        "files_done": result.checked,
        "files_known": result.total,
        "bytes_done": result.bytes,
        "bytes_known": result.bytes,
    }


def error_json(error: BaseException) -> dict[str, Any]:
    """Return an error as a command prints it."""
    if isinstance(error, SyncdError):
        problems = list(error.problems) if isinstance(error, ConfigError) else []
        return {"message": error.message, "hint": error.hint or hint_for(error.reason), "problems": problems}
    return {"message": f"a bug in the daemon: {type(error).__name__}", "hint": "see the daemon's log", "problems": []}


def _gravest(codes: Sequence[int]) -> int:
    """Return the gravest of exit codes, as RunResult orders them."""
    return next((code for code in (1, 12, 15, 2, 13, 14, 10, 143, 3) if code in codes), max(codes, default=0))
