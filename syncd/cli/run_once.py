"""syncd run-once: bring the mirrors up to date, once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from syncd.cli.frame import describe
from syncd.cli.output import Progress, human_bytes, human_count, human_duration, printable
from syncd.client.program import typed
from syncd.core.errors import ConfigError
from syncd.core.named import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.app.runs import ProgressTo, RunResult
    from syncd.client.api import Errand
    from syncd.config import Settings
    from syncd.core.errors import SyncdError
    from syncd.engine.report import Report

SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Look at the source, fetch what is new or changed, and say what happened. What is gone from the source is "
        "moved to the trash after two runs have missed it.",
        [
            "syncd run-once",
            "syncd run-once --dry-run",
            "syncd run-once --mirror Bhushanji --only 'hin-typed/page 3 .JPG'",
        ],
        [0, 3, 10, 11, 12, 13, 14, 15],
    )
    parser.add_argument(
        "--mirror", metavar="NAME", action="append", default=[], help="this mirror only (may be repeated)"
    )
    parser.add_argument(
        "--only", metavar="PATH", action="append", default=[], help="this file or folder only; nothing is removed"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and write nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--new-target", action="store_true", help="start over in a target that is empty or gone")
    parser.add_argument("--take-over", action="store_true", help="take a target that belongs to another host")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if not all(path.strip() for path in args.only):
        raise ConfigError("--only has no path", hint="syncd run-once --only PATH")
    outcome = _dry_run(args, settings) if args.dry_run else _run(args, settings)
    _say_errors(outcome.errors, args.config)
    if args.json:
        if outcome.exit_code in (0, 3, 13) or len(outcome.reports) > 1:
            json.dump(outcome.told, sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
    else:
        for report in outcome.reports:
            _print_plan(report) if report.plan is not None else _print_summary(report, args.config)
    return outcome.exit_code


class _Outcome(NamedTuple):
    """What a run came to, here or in the daemon. told: the JSON object; errors: {message, hint, problems}."""

    told: dict[str, Any]
    reports: list[Report]
    errors: list[dict[str, Any]]
    exit_code: int


def _dry_run(args: argparse.Namespace, settings: Settings) -> _Outcome:
    from syncd.app.runs import Running

    return _of(Running(settings).dry_run(args.mirror, args.only, new_target=args.new_target, take_over=args.take_over))


def _run(args: argparse.Namespace, settings: Settings) -> _Outcome:
    """Run here, or, where a daemon keeps these mirrors, have it run and follow it."""
    from syncd.cli.following import daemon_of, follow

    client = daemon_of(settings)
    with _Bars() as bars:
        if client is not None:
            with client:
                flags = {"new_target": args.new_target, "take_over": args.take_over}
                errand = follow(client, "runs", client.start_run(args.mirror, args.only, **flags), bars.follow)
            return _told(errand)
        from syncd.app.runs import Running

        app = Running(settings)
        result = app.run_once(
            args.mirror, args.only, new_target=args.new_target, take_over=args.take_over, progress=bars.start
        )
    return _of(result)


def _of(result: RunResult) -> _Outcome:
    from syncd.core.reasons import hint_for

    errors = [
        {"message": error.message, "hint": error.hint or hint_for(error.reason), "problems": _problems(error)}
        for error in result.errors
    ]
    return _Outcome(result.as_json(), result.reports, errors, result.exit_code)


def _problems(error: SyncdError) -> list[str]:
    from syncd.core.errors import ConfigError

    return list(error.problems) if isinstance(error, ConfigError) else []


def _told(errand: Errand) -> _Outcome:
    """Take what the daemon tells for what a run here would have come to."""
    from syncd.engine.report import Report

    told = dict(errand.result or {"run_id": errand.id, "mirrors": []})
    details = told.pop("details", {})
    reports = [Report.from_json(mirror, told["run_id"], details.get(mirror["name"], ())) for mirror in told["mirrors"]]
    return _Outcome(told, reports, list(errand.errors), errand.exit_code or 0)


class _Bars:
    """One progress display a mirror, one after the other."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def start(self, name: str) -> ProgressTo:
        self._close()
        progress = self._progress = Progress(name)

        def show(report: Report) -> None:
            done = report.fetched + report.adopted + report.failed
            progress.update(done, max(report.wanted, done), report.bytes, report.wanted_bytes)

        return show

    def follow(self, told: Mapping[str, Any]) -> None:
        """Show how far a run in the daemon is."""
        if self._name != told["mirror"]:
            self._close()
            self._name, self._progress = told["mirror"], Progress(told["mirror"])
        if self._progress is not None:
            self._progress.update(*(told[name] for name in ("files_done", "files_known", "bytes_done", "bytes_known")))

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _say_errors(errors: Sequence[Mapping[str, Any]], config: Path | None) -> None:
    from syncd.config.secrets import redact

    for error in errors:
        print(f"error: {printable(redact(error['message']))}", file=sys.stderr)
        for problem in error["problems"]:
            if problem != error["message"]:
                print(f"  - {printable(redact(problem))}", file=sys.stderr)
        if error["hint"]:
            print(f"  next: {printable(typed(redact(error['hint']), config))}", file=sys.stderr)


def _print_summary(report: Report, config: Path | None) -> None:
    rate = f", {human_bytes(report.bytes / report.duration_s)}/s" if report.bytes and report.duration_s else ""
    counts = ", ".join(
        f"{human_count(number)} {word}"
        for number, word in (
            (report.scanned, "scanned"),
            (report.fetched, "fetched"),
            (report.unchanged, "unchanged"),
            (report.renamed, "renamed"),
            (report.retired, "retired"),
            (report.refused, "refused"),
            (report.failed, "failed"),
        )
    )
    print(
        f"{printable(report.name)}: {counts}; {human_bytes(report.bytes)} in {human_duration(report.duration_s)}{rate}"
    )
    if report.stand_by is not None:
        print(f"  from the stand-by {printable(report.stand_by.server)}, only what was missing here")
        print(f"    since {printable(report.stand_by.why)}")
    for number, text in (
        (report.differs, "of other version or type there, or gone since from the main server: left as they are"),
        (report.adopted, "already lay in the target, compared with the server and kept"),
        (report.waiting, "left for the next run (still being written, or missed once)"),
        (report.foreign, "in the target that syncd did not put there: left alone"),
        (report.zero_byte, "of no bytes fetched"),
    ):
        if number:
            print(f"  {human_count(number)} {'file' if number == 1 else 'files'} {text}")
    for word, problems in (("failed", report.failures), ("refused", report.refusals)):
        said = [(p.path, p.reason.value, p.detail, typed(p.as_json()["hint"], config)) for p in problems]
        _print_problems(word, said, typed(f"syncd runs {report.run_id}", config))


def _print_problems(word: str, problems: list[tuple[str, str, str, str]], all_of_them: str) -> None:
    last_hint = ""
    for path, reason, detail, hint in problems[:SHOWN]:
        print(f"  {word}: {printable(path)}  ({reason}{': ' + printable(detail) if detail else ''})")
        if hint and hint != last_hint:
            print(f"    next: {printable(hint)}")
        last_hint = hint
    if len(problems) > SHOWN:
        print(f"  ... and {human_count(len(problems) - SHOWN)} more {word}: {printable(all_of_them)}")


def _print_plan(report: Report) -> None:
    steps = report.plan or []
    for step in steps:
        moved = f"{printable(step.from_path)} -> " if step.from_path else ""
        print(f"{step.action.value:<7} {moved}{printable(step.path)}  ({step.reason.value})")
    totals: dict[str, int] = {}
    for step in steps:
        totals[step.action.value] = totals.get(step.action.value, 0) + 1
    if report.stand_by is not None:
        print(f"(from the stand-by {printable(report.stand_by.server)}, since {printable(report.stand_by.why)})")
    said = ", ".join(f"{human_count(count)} {action}" for action, count in sorted(totals.items())) or "nothing to do"
    print(
        f"{printable(report.name)}: {said}; {human_count(report.unchanged)} unchanged, "
        f"{human_bytes(report.wanted_bytes)} to read. Nothing was written."
    )
