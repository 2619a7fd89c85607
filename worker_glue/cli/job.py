"""worker-glue job: how jobs are, and what to do where something is lacking."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING, Any

from syncd.client.program import typed
from syncd.core.errors import ConfigError
from worker_glue.cli.frame import describe
from worker_glue.cli.output import counted, human_count, printable, table
from worker_glue.cli.settings import load

if TYPE_CHECKING:
    from syncd.config import Settings
    from worker_glue.desk.board import MongoBoard
    from worker_glue.desk.jobs import Missing
    from worker_glue.desk.ports import Standing
    from worker_glue.tasks.dead import DeadTask

RECENT, SHOWN = 20, 50
EXIT_SOME = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker-glue job`."""
    describe(
        parser,
        "Show how a job is, or which jobs there are. A task has come to its end when it has one result or one error; "
        "publishing it again is harmless, since whoever does it twice records it once."
        "\n\n"
        "--missing, --dead: 3 when there are any.",
        [
            "worker-glue job",
            "worker-glue job 3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7 --missing",
            "worker-glue job 3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7 --requeue",
            "worker-glue job 3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7 --retry-errors",
            "worker-glue job --dead",
            "worker-glue job --dead --replay",
        ],
        [0, 3, 10, 12],
    )
    parser.add_argument("job_id", nargs="?", default="", metavar="ID", help=f"a job's id (default: the last {RECENT})")
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--missing", action="store_true", help="list its tasks that have neither result nor error")
    act.add_argument("--requeue", action="store_true", help="publish those again")
    act.add_argument("--retry-errors", action="store_true", help="make a new job of the paths that failed")
    act.add_argument("--dead", action="store_true", help="list what workers gave up (the dead topic)")
    parser.add_argument(
        "--folder", action="append", default=[], metavar="PATH", help="with --requeue: what a job of the backend is of"
    )
    parser.add_argument("--replay", action="store_true", help="with --dead: publish those tasks again")
    parser.add_argument("--job", metavar="ID", help="with --dead: of this job only (as ID)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what is asked for; 3 where something is missing or dead."""
    _check(args)
    settings = load(args)
    if args.dead:
        return _replay(args, settings) if args.replay else _list_dead(args, settings)
    from worker_glue.desk.links import opened_board

    with opened_board(settings) as board:
        if not args.job_id:
            return _list(args, board)
        from worker_glue.desk.jobs import standing_of

        standing = standing_of(args.job_id, board)
        if args.missing:
            return _missing(args, standing, board)
        if args.requeue:
            return _requeue(args, standing, board, settings)
        if args.retry_errors:
            return _retry(args, standing, board, settings)
        return _show(args, standing)


def _check(args: argparse.Namespace) -> None:
    args.job_id = args.job_id or args.job or ""
    if args.replay and not args.dead:
        raise ConfigError("--replay goes with --dead", hint="worker-glue job --dead --replay")
    if args.folder and not args.requeue:
        raise ConfigError("--folder goes with --requeue", hint="worker-glue job ID --requeue --folder FOLDER")
    if not args.job_id and (args.missing or args.requeue or args.retry_errors):
        raise ConfigError("which job?", hint="worker-glue job   (lists them)")


def _tell(args: argparse.Namespace, told: dict[str, Any], *lines: str) -> None:
    if args.json:
        json.dump(told, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        for line in lines:
            print(printable(typed(line, args.config) if line.startswith("  next") else line))


# --- looking


def _list(args: argparse.Namespace, board: MongoBoard) -> int:
    found = board.recent(RECENT)
    if args.json or not found:
        _tell(args, {"jobs": [each.as_json() for each in found]}, "there are no jobs")
        return 0
    header = ["JOB", "STATUS", "TASKS", "DONE", "ERRORS", "OPEN", "CHANGED (UTC)"]
    rows = [
        [
            each.job_id,
            each.status,
            human_count(each.total),
            human_count(each.results),
            human_count(each.errors),
            human_count(each.open),
            each.updated_at[:19].replace("T", " ") or "-",
        ]
        for each in found
    ]
    print(table(header, rows, right=header[2:6]), end="")
    return 0


def _show(args: argparse.Namespace, standing: Standing) -> int:
    job, typed = standing.job_id, quote(standing.job_id)
    done, left = human_count(standing.results), human_count(standing.open)
    lines = [
        f"job {job}: {standing.status}",
        f"  {done} done, {counted(standing.errors, 'error')}, {left} open, of {human_count(standing.total)}",
    ]
    if standing.complete:
        lines.append("  complete: each task has its one entry")
    elif not standing.open:
        lines.append(
            f"  ! its counters differ: published {standing.published}, consumed {standing.consumed}, "
            f"entries {standing.results + standing.errors}"
        )
    if standing.updated_at:
        lines.append(f"  changed {standing.updated_at[:19].replace('T', ' ')} UTC")
    if standing.open:
        lines.append(f"  next: worker-glue job {typed} --missing")
    if standing.errors:
        lines.append(f"  next: worker-glue job {typed} --retry-errors")
    _tell(args, standing.as_json(), *lines)
    return 0


def _missing(args: argparse.Namespace, standing: Standing, board: MongoBoard) -> int:
    from worker_glue.desk.jobs import missing

    found = missing(standing, board)
    have = "has" if 1 in (found.open, standing.total) else "have"
    lines = [f"{human_count(found.open)} of {counted(standing.total, 'task')} {have} neither result nor error"]
    if found.listed:
        lines += [f"{line.file_index:>6}  {line.file_path}" for line in found.lines[:SHOWN]]
        if found.open > SHOWN:
            lines.append(f"  ... and {found.open - SHOWN} more (all of them: --json)")
    elif found.open:
        lines += _numbers(found)
    if found.open:
        folder = "" if found.listed else " --folder FOLDER"
        job = quote(standing.job_id)
        lines.append(f"  next, if the queue has lost them: worker-glue job {job} --requeue{folder}")
    _tell(args, {**standing.as_json(), "missing": found.as_json()}, *lines)
    return EXIT_SOME if found.open else 0


def _numbers(found: Missing) -> list[str]:
    shown = ", ".join(str(number) for number in found.numbers[:SHOWN])
    more = f" and {len(found.numbers) - SHOWN} more" if len(found.numbers) > SHOWN else ""
    among = "" if found.exact else f" ({found.open} of these: not every entry says its own number)"
    return [f"  file_index {shown}{more}{among}", "  the backend records no paths of what it has published"]


# --- publishing again


def _requeue(args: argparse.Namespace, standing: Standing, board: MongoBoard, settings: Settings) -> int:
    from worker_glue.desk.jobs import requeue, requeue_from
    from worker_glue.desk.links import opened_listing, opened_paths, opened_press
    from worker_glue.desk.telling import Telling

    with ExitStack() as stack:
        tell = stack.enter_context(Telling())
        press = stack.enter_context(opened_press(settings))
        if args.folder:
            paths = stack.enter_context(opened_paths(settings))
            listing = stack.enter_context(opened_listing(settings))
            count = requeue_from(standing, args.folder, board, press, paths, listing, tell)
        else:
            count = requeue(standing, board, press, tell)
    line = f"job {standing.job_id}: {counted(count, 'task')} published again" if count else "nothing is missing"
    _tell(args, {"job_id": standing.job_id, "published": count}, line)
    return 0


def _retry(args: argparse.Namespace, standing: Standing, board: MongoBoard, settings: Settings) -> int:
    from worker_glue.desk.jobs import retry_errors
    from worker_glue.desk.links import opened_press
    from worker_glue.desk.telling import Telling

    with Telling() as tell, opened_press(settings) as press:
        made = retry_errors(standing, board, press, tell)
    told = {"job_id": made and made.job_id, "total_files": made.total if made else 0, "retry_of": standing.job_id}
    if made is None:
        _tell(args, told, f"job {standing.job_id} has no errors")
    else:
        lines = (
            f"job {made.job_id}: {counted(made.total, 'task')} published",
            f"  next: worker-glue job {quote(made.job_id)}",
        )
        _tell(args, told, *lines)
    return 0


# --- the dead topic


def _list_dead(args: argparse.Namespace, settings: Settings) -> int:
    from worker_glue.desk.dead_letters import as_json, by_reason, listed
    from worker_glue.desk.links import opened_letters

    with opened_letters(settings) as letters:
        found = listed(letters, args.job_id)
    counts = by_reason(found)
    lines = [f"{human_count(len(found))} in the dead topic" + "".join(f", {n} {each}" for each, n in counts.items())]
    if found and not args.json:
        lines += table(["AT", "REASON", "TRIES", "WORKER", "JOB", "PATH", "ERROR"], _rows(found)).splitlines()
        of_job = f" {quote(args.job_id)}" if args.job_id else ""
        if any(each.body for each in found):
            lines.append(f"  next: worker-glue job{of_job} --dead --replay")
    _tell(args, {"count": len(found), "reasons": counts, "messages": [as_json(each) for each in found]}, *lines)
    return EXIT_SOME if found else 0


def _rows(found: list[DeadTask]) -> list[list[str]]:
    return [
        [
            dead.at or "-",
            dead.reason or "-",
            str(dead.attempts),
            dead.worker_id or dead.host or "-",
            dead.job_id or "-",
            dead.file_path or "-",
            dead.error[:80],
        ]
        for dead in found
    ]


def _replay(args: argparse.Namespace, settings: Settings) -> int:
    from worker_glue.desk.dead_letters import Settled, replay
    from worker_glue.desk.links import opened_board, opened_letters, opened_press

    with ExitStack() as stack:
        settled = None
        if settings.mongo.uri is not None:
            settled = Settled(stack.enter_context(opened_board(settings)))
        press = stack.enter_context(opened_press(settings))
        letters = stack.enter_context(opened_letters(settings))
        done = replay(letters, press, settled or (lambda _: False), args.job_id)
    stay = f"{counted(done.kept, 'message')} {'stays' if done.kept == 1 else 'stay'}"
    lines = [f"{counted(done.published, 'task')} published again, {stay}"]
    if done.settled:
        have = "has its" if done.settled == 1 else "have their"
        lines += [
            f"  {human_count(done.settled)} of them {have} error or result already, so workers drop them",
            f"  next, to try those again: worker-glue job {quote(args.job_id or 'ID')} --retry-errors",
        ]
    _tell(args, done._asdict(), *lines)
    return 0
