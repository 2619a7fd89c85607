"""What one run did to one mirror, counted while it happens (`run-once --json`, `syncd runs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from syncd.core.errors import SyncdError
from syncd.core.model import RelPath
from syncd.core.named import NamedTuple
from syncd.core.planner import Action
from syncd.core.reasons import Reason, hint_for

if TYPE_CHECKING:
    from syncd.core.stand_by import StandBy

KEPT_DETAILS = 10_000
"""Failures, refusals and plan lines kept one by one; beyond that they are only counted."""


_TOLD = (
    "started_at", "duration_s", "scanned", "fetched", "adopted", "unchanged", "renamed", "retired", "refused",
    "failed", "waiting", "absent", "foreign", "zero_byte", "bytes",
)  # fmt: skip


class Problem(NamedTuple):
    """One path that failed or was refused. hint: the next step, where the reason's own is not the best one."""

    path: str
    reason: Reason
    detail: str = ""
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        hint = self.hint or hint_for(self.reason, self.path)
        return {"path": self.path, "reason": self.reason.value, "hint": hint}


class Step(NamedTuple):
    """One line of a plan."""

    action: Action
    path: str
    reason: Reason
    size: int = 0
    from_path: str = ""

    def as_json(self) -> dict[str, str]:
        line = {"action": self.action.value, "path": self.path, "reason": self.reason.value}
        return {**line, "from": self.from_path} if self.from_path else line


@dataclass(slots=True, eq=False)
class Report:
    """Counters of one run over one mirror. Written by the run's threads, each its own fields; read by progress."""

    name: str
    run_id: str
    started_at: str = ""
    duration_s: float = 0.0
    scanned: int = 0
    fetched: int = 0
    adopted: int = 0
    unchanged: int = 0
    renamed: int = 0
    retired: int = 0
    refused: int = 0
    failed: int = 0
    waiting: int = 0
    absent: int = 0
    foreign: int = 0
    zero_byte: int = 0
    bytes: int = 0
    wanted: int = 0
    wanted_bytes: int = 0
    failures: list[Problem] = field(default_factory=list)
    refusals: list[Problem] = field(default_factory=list)
    waits: list[Problem] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    foreigners: list[str] = field(default_factory=list)
    plan: list[Step] | None = None
    error: SyncdError | None = None
    hinted: bool = False
    whole_run_needed: bool = False
    replaced: int = 0
    check_s: float | None = None
    stand_by: StandBy | None = None
    differs: int = 0

    @classmethod
    def from_json(cls, told: Mapping[str, Any], run_id: str, details: Sequence[str] = ()) -> Report:
        """Return a report that prints as the one that as_json() told of. details: of its failures, in their order."""
        counts = {name: told[name] for name in _TOLD}
        said = chain(details, repeat(""))
        failures = [
            Problem(each["path"], Reason(each["reason"]), detail, each["hint"])
            for each, detail in zip(told["failures"], said, strict=False)
        ]
        refusals = [Problem(each["path"], Reason(each["reason"])) for each in told["refusals"]]
        report = cls(told["name"], run_id, **counts, failures=failures, refusals=refusals)
        if told.get("stand_by"):
            from syncd.core.stand_by import StandBy

            report.stand_by = StandBy(told["stand_by"]["server"], "", told["stand_by"]["why"])
            report.differs = told["stand_by"]["differs"]
        return report

    @property
    def changed(self) -> bool:
        """Whether the run did something that others may want to know."""
        return bool(self.fetched or self.adopted or self.renamed or self.retired or self.failed)

    @property
    def state(self) -> str:
        if self.error is not None:
            return "halted" if self.error.exit_code == 13 else "failing"
        return "failing" if self.failed else "ok"

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        return 3 if self.failed else 0

    def fail(self, path: RelPath | str, reason: Reason, detail: str = "", hint: str = "") -> None:
        """Count one failed file or folder."""
        self.failed += 1
        if len(self.failures) < KEPT_DETAILS:
            self.failures.append(Problem(path, reason, detail, hint))

    def refuse(self, path: str, reason: Reason) -> None:
        """Count one refused name."""
        self.refused += 1
        if len(self.refusals) < KEPT_DETAILS:
            self.refusals.append(Problem(path, reason))
        self.step(Action.REFUSE, path, reason)

    def wait(self, path: str, reason: Reason) -> None:
        """Count one file that is left for a later run."""
        self.waiting += 1
        if len(self.waits) < KEPT_DETAILS:
            self.waits.append(Problem(path, reason))
        self.step(Action.WAIT, path, reason)

    def step(self, action: Action, path: str, reason: Reason, size: int = 0, from_path: str = "") -> None:
        """Note one line of the plan (dry runs only)."""
        if self.plan is not None:
            self.plan.append(Step(action, path, reason, size, from_path))

    def as_json(self) -> dict[str, Any]:
        """Return the mirror's object of DESIGN 4.2, with a few fields more."""
        result: dict[str, Any] = {
            "name": self.name,
            "state": self.state,
            "scanned": self.scanned,
            "fetched": self.fetched,
            "unchanged": self.unchanged,
            "renamed": self.renamed,
            "retired": self.retired,
            "refused": self.refused,
            "failed": self.failed,
            "bytes": self.bytes,
            "duration_s": round(self.duration_s, 3),
            "failures": [problem.as_json() for problem in self.failures],
            "adopted": self.adopted,
            "waiting": self.waiting,
            "absent": self.absent,
            "foreign": self.foreign,
            "zero_byte": self.zero_byte,
            "refusals": [problem.as_json() for problem in self.refusals],
            "started_at": self.started_at,
        }
        if self.hinted:
            result["kind"] = "hint"
        if self.stand_by is not None:
            result["stand_by"] = {"server": self.stand_by.server, "why": self.stand_by.why, "differs": self.differs}
        if self.plan is not None:
            result["plan"] = [step.as_json() for step in self.plan]
        if self.error is not None:
            result["error"] = {
                "reason": self.error.reason.value,
                "message": self.error.message,
                "hint": self.error.hint or hint_for(self.error.reason),
            }
        return result
