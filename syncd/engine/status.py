"""How the mirrors are: DESIGN 4.4 from what the catalogue says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from shlex import quote
from typing import Any, NamedTuple

from syncd.core.model import Unheld
from syncd.core.reasons import MEANING, Reason, hint_for
from syncd.core.resolution import COMES_AGAIN
from syncd.core.shown import counted_are
from syncd.ports import Totals

REFUSALS = frozenset(reason for reason in Reason if reason.startswith("name_")) | {
    Reason.CASE_TWIN,
    Reason.UNICODE_TWIN,
    Reason.LINK,
    Reason.SPECIAL_FILE,
}
WAITS = frozenset({Reason.UNSETTLED, Reason.ABSENT_ONCE}) | COMES_AGAIN
SHOWN_FAILURES = 1_000
BEHIND_AT_LEAST_S = 1_800.0
PAUSED_NOTE, FOR_EVER = "paused_until", "ever"
"""The catalogue's note about a paused mirror: until when (ISO 8601 UTC), or for ever; "" = it is not."""
STOPPED = (130, 143)
"""Exit codes of runs that were asked to stop: they say nothing about the mirror."""


class LastRun(NamedTuple):
    """The last run of a mirror; report is its JSON (DESIGN 4.2)."""

    run_id: str
    started_at: str
    finished_at: str
    state: str
    exit_code: int
    report: Mapping[str, Any]


class MirrorFacts(NamedTuple):
    """What the catalogue knows of one configured mirror. last_success: "" = never had a complete scan. paused_until: ""
    = it is not paused. held_back: how many changes wait for an approval.
    """

    name: str
    totals: Totals
    last_success: str
    last_run: LastRun | None
    unheld: Sequence[Unheld]
    owed: int
    every_s: float | None = None
    paused_until: str = ""
    held_back: int = 0


class MirrorStatus(NamedTuple):
    """One mirror's line of `syncd status`."""

    name: str
    state: str
    files: int
    bytes: int
    last_success: str
    last_run: LastRun | None
    pending_fetch: int
    pending_retire: int
    owed: int
    failures: Sequence[Unheld]
    refusals: Sequence[Unheld]
    message: str = ""
    hint: str = ""
    next_run: str = ""
    stand_by: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "files": self.files,
            "bytes": self.bytes,
            "last_success": self.last_success or None,
            "next_run": self.next_run or None,
            "last_run": None if self.last_run is None else _run_json(self.last_run),
            "pending": {"fetch": self.pending_fetch, "retire": self.pending_retire, "announce": self.owed},
            "failures": [_failure_json(unheld) for unheld in self.failures],
            "refused": [
                {"path": u.path, "reason": u.reason.value, "hint": hint_for(u.reason, u.path)} for u in self.refusals
            ],
            "message": self.message,
            "hint": self.hint,
            "stand_by": None if self.stand_by is None else dict(self.stand_by),
        }


class Status(NamedTuple):
    """The whole answer. daemon_pid: 0 when none runs; daemon_since: ISO 8601 UTC."""

    version: str
    host: str
    mirrors: Sequence[MirrorStatus] = ()
    daemon_pid: int = 0
    daemon_since: str = ""

    @property
    def exit_code(self) -> int:
        states = {mirror.state for mirror in self.mirrors}
        if "halted" in states:
            return 13
        return 3 if states & {"behind", "failing"} else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "host": self.host,
            "daemon": {
                "running": bool(self.daemon_pid),
                "pid": self.daemon_pid or None,
                "since": self.daemon_since or None,
            },
            "mirrors": [mirror.as_json() for mirror in self.mirrors],
        }


def is_paused(until: str, now: str) -> bool:
    """Say whether a mirror with this note is paused at a time (both ISO 8601 UTC with seconds)."""
    return bool(until) and (until == FOR_EVER or until > now)


def assess(facts: MirrorFacts, *, now: datetime, daemon: bool) -> MirrorStatus:
    """Turn facts into a state: paused, halted, failing, behind or ok."""
    failures = [u for u in facts.unheld if u.reason not in REFUSALS and u.reason not in WAITS]
    refusals = [u for u in facts.unheld if u.reason in REFUSALS]
    state, message, hint = _state(facts, failures, now=now, daemon=daemon)
    stand_by = facts.last_run.report.get("stand_by") if facts.last_run is not None else None
    if stand_by:
        said = _at_stand_by(stand_by, failed=_failed(facts.last_run))
        message = f"{message}; {said}" if message else said
    waiting = sum(1 for u in facts.unheld if u.reason in WAITS)
    return MirrorStatus(
        name=facts.name,
        state=state,
        files=facts.totals.files,
        bytes=facts.totals.bytes,
        last_success=facts.last_success,
        last_run=facts.last_run,
        pending_fetch=len(failures) + waiting,
        pending_retire=int(facts.last_run.report.get("absent", 0)) if facts.last_run else 0,
        owed=facts.owed,
        failures=failures[:SHOWN_FAILURES],
        refusals=refusals[:SHOWN_FAILURES],
        message=message,
        hint=hint or ("syncd doctor" if stand_by else ""),
        stand_by=stand_by,
    )


def _state(facts: MirrorFacts, failures: Sequence[Unheld], *, now: datetime, daemon: bool) -> tuple[str, str, str]:
    last = facts.last_run
    if facts.paused_until:
        until = "it is resumed" if facts.paused_until == FOR_EVER else facts.paused_until
        return "paused", f"no scans until {until}", f"syncd resume {quote(facts.name)}"
    if last is not None and _failed(last):
        error = last.report.get("error") or {}
        state = "halted" if last.exit_code == 13 else "failing"
        return state, str(error.get("message", "")), str(error.get("hint", ""))
    if facts.held_back:  # a run over a part, or one that was stopped, came after the one that held it back
        changes = f"{counted_are(facts.held_back, 'change')} held back"
        said = f"{changes} until somebody approves {'it' if facts.held_back == 1 else 'them'}"
        return "halted", said, f"syncd approve --mirror {quote(facts.name)}"
    if failures or (last is not None and last.exit_code == 3):
        first = failures[0] if failures else None
        said = f"{len(failures)} failed, the first: {first.path} ({MEANING[first.reason][0]})" if first else ""
        return "failing", said, "syncd status --json" if first else ""
    if not facts.last_success:
        return "behind", "never mirrored", f"syncd run-once --mirror {quote(facts.name)}"
    if (
        daemon
        and facts.every_s is not None
        and _age_s(facts.last_success, now) > max(3 * facts.every_s, BEHIND_AT_LEAST_S)
    ):
        return "behind", f"last complete scan at {facts.last_success}", "syncd doctor"
    return "ok", "", ""


def _failed(last: LastRun | None) -> bool:
    return last is not None and last.exit_code not in (0, 3, *STOPPED)


def _at_stand_by(stand_by: Mapping[str, Any], *, failed: bool) -> str:
    """Return why a stand-by is in use, and what that means; nothing comes by a run that failed there."""
    why = str(stand_by["why"])
    return why if failed else f"{why}; what is missing here comes from the stand-by {stand_by['server']}"


def _age_s(at: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(at)).total_seconds()


def _run_json(run: LastRun) -> dict[str, Any]:
    counts = ("scanned", "fetched", "unchanged", "renamed", "retired", "refused", "failed", "bytes", "duration_s")
    return {
        "run_id": run.run_id,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "state": run.state,
        "exit_code": run.exit_code,
        **{name: run.report.get(name, 0) for name in counts},
    }


def _failure_json(unheld: Unheld) -> dict[str, Any]:
    return {
        "path": unheld.path or ".",
        "reason": unheld.reason.value,
        "hint": hint_for(unheld.reason, unheld.path or "."),
        "attempts": unheld.attempts,
        "since": unheld.since,
    }
