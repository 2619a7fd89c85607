"""syncd run-once: bring the mirrors up to date, once."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Self

from syncd.cli.frame import describe
from syncd.cli.output import Progress, human_bytes, human_count, human_duration, printable

if TYPE_CHECKING:
    from syncd.app.runs import ProgressTo, RunResult
    from syncd.config import Settings
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
    from syncd.app.runs import Running

    app = Running(settings)
    if args.dry_run:
        result = app.dry_run(args.mirror, args.only)
    else:
        with _Bars() as bars:
            result = app.run_once(
                args.mirror, args.only, new_target=args.new_target, take_over=args.take_over, progress=bars.start
            )
    _say_errors(result)
    if args.json:
        _print_json(result)
    else:
        for report in result.reports:
            _print_plan(report) if report.plan is not None else _print_summary(report)
    return result.exit_code


class _Bars:
    """One progress display a mirror, one after the other."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

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

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _say_errors(result: RunResult) -> None:
    from syncd.config.secrets import redact
    from syncd.core.errors import ConfigError
    from syncd.core.reasons import hint_for

    for error in result.errors:
        print(f"error: {printable(redact(error.message))}", file=sys.stderr)
        for problem in error.problems if isinstance(error, ConfigError) else ():
            if problem != error.message:
                print(f"  - {printable(redact(problem))}", file=sys.stderr)
        hint = error.hint or hint_for(error.reason)
        if hint:
            print(f"  next: {printable(redact(hint))}", file=sys.stderr)


def _print_json(result: RunResult) -> None:
    if result.exit_code in (0, 3, 13) or len(result.reports) > 1:
        json.dump(result.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")


def _print_summary(report: Report) -> None:
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
    for number, text in (
        (report.adopted, "already lay in the target, compared with the server and kept"),
        (report.waiting, "left for the next run (still being written, or missed once)"),
        (report.foreign, "in the target that syncd did not put there: left alone"),
        (report.zero_byte, "of no bytes fetched"),
    ):
        if number:
            print(f"  {human_count(number)} {'file' if number == 1 else 'files'} {text}")
    _print_problems("failed", [(p.path, p.reason.value, p.detail, p.as_json()["hint"]) for p in report.failures])
    _print_problems("refused", [(p.path, p.reason.value, p.detail, p.as_json()["hint"]) for p in report.refusals])


def _print_problems(word: str, problems: list[tuple[str, str, str, str]]) -> None:
    last_hint = ""
    for path, reason, detail, hint in problems[:SHOWN]:
        print(f"  {word}: {printable(path)}  ({reason}{': ' + printable(detail) if detail else ''})")
        if hint and hint != last_hint:
            print(f"    next: {printable(hint)}")
        last_hint = hint
    if len(problems) > SHOWN:
        print(f"  ... and {human_count(len(problems) - SHOWN)} more {word}: syncd run-once --json")


def _print_plan(report: Report) -> None:
    steps = report.plan or []
    for step in steps:
        moved = f"{printable(step.from_path)} -> " if step.from_path else ""
        print(f"{step.action.value:<7} {moved}{printable(step.path)}  ({step.reason.value})")
    totals: dict[str, int] = {}
    for step in steps:
        totals[step.action.value] = totals.get(step.action.value, 0) + 1
    said = ", ".join(f"{human_count(count)} {action}" for action, count in sorted(totals.items())) or "nothing to do"
    print(
        f"{printable(report.name)}: {said}; {human_count(report.unchanged)} unchanged, "
        f"{human_bytes(report.wanted_bytes)} to read. Nothing was written."
    )
