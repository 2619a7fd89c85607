"""worker-glue check: before OCR starts, whether it will find its files."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from typing import TYPE_CHECKING

from syncd.client.program import typed
from syncd.core.errors import ConfigError
from worker_glue.cli.frame import describe
from worker_glue.cli.output import human_bytes, human_count, printable
from worker_glue.cli.settings import load
from worker_glue.errors import JobsAway, JobsRefused

if TYPE_CHECKING:
    from syncd.config import Settings
    from worker_glue import Resolver
    from worker_glue.desk.checking import Checked, Group
    from worker_glue.desk.ports import Tell

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EXIT_NOT_READY = 3
SHOWN = 50
POLL_S = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker-glue check`."""
    describe(
        parser,
        "Tell before OCR starts which files it will find: ready, to fetch, missing (with names that may be meant), or "
        "refused. Of a job that worker-glue submit has made, its open tasks are looked at; the backend records no "
        "paths of its own jobs, so give their folder."
        "\n\n"
        "0: everything is ready; 3: something is not.",
        [
            "worker-glue check Bhushanji/eng-typed",
            "worker-glue check --fetch Bhushanji",
            "worker-glue check 3f0c8b1e-6f0a-4a52-9d55-0c1de4a1a3a7 --json",
        ],
        [0, 3, 10, 12],
    )
    parser.add_argument("what", nargs="+", metavar="JOB_OR_FOLDER", help="a job's id, a folder, or a file")
    parser.add_argument("--fetch", action="store_true", help="have the daemon fetch what is not here, and wait for it")
    parser.add_argument(
        "--wait", type=float, default=600.0, metavar="S", help="with --fetch: seconds to wait at most (600)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Check; 0 when all is ready, else 3."""
    from worker_glue.desk.links import opened_paths
    from worker_glue.desk.telling import Telling

    settings = load(args)
    with Telling() as tell, opened_paths(settings) as paths:
        checked = _checked(args.what, settings, paths, tell)
        if args.fetch and not checked.all_ready:
            checked = _fetched(checked, settings, paths, args.wait, tell)
    if args.json:
        json.dump(checked.as_json(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(checked, args)
    return 0 if checked.all_ready else EXIT_NOT_READY


def _checked(words: list[str], settings: Settings, paths: Resolver, tell: Tell) -> Checked:
    from worker_glue.desk.checking import Checked, of_gathered
    from worker_glue.desk.gathering import gather
    from worker_glue.desk.links import opened_listing

    jobs: list[Checked] = []
    names = []
    for word in words:
        of_job = _job(word, settings, paths, tell)
        if of_job is None:
            names.append(word)
        else:
            jobs.append(of_job)
    found = Checked(())
    if names:
        with opened_listing(settings) as listing:
            found = of_gathered(gather(names, paths, listing, tell))
    files = [*found.files, *(each for job in jobs for each in job.files)]
    return found._replace(files=files, done=sum(job.done for job in jobs))


def _job(word: str, settings: Settings, paths: Resolver, tell: Tell) -> Checked | None:
    """Check a job; None where the word is none. Raises: ConfigError for a job whose paths nobody recorded."""
    from worker_glue.desk.checking import may_be_job, of_lines
    from worker_glue.desk.links import opened_board
    from worker_glue.desk.remaining import without_entry

    if settings.mongo.uri is None or not may_be_job(word, paths):
        return None
    with opened_board(settings) as board:
        try:
            if board.standing(word) is None:
                return None
        except (JobsAway, JobsRefused):
            if _UUID.fullmatch(word):
                raise
            return None  # a name that nobody knows, more likely than a job's
        lines = board.lines(word)
        if not lines:
            raise ConfigError(
                f"job {word} was not made by worker-glue submit: its paths are recorded nowhere",
                hint="worker-glue check FOLDER   (the folder that it was made of)",
            )
        left = without_entry(lines, board.entries(word))
    return of_lines(left, len(lines) - len(left), paths, tell)


def _fetched(checked: Checked, settings: Settings, paths: Resolver, wait_s: float, tell: Tell) -> Checked:
    """Have what is not here fetched; how all is then."""
    from worker_glue.desk.checking import Group, again
    from worker_glue.desk.links import daemon_of

    daemon = daemon_of(settings)
    if daemon is None:
        raise ConfigError("--fetch needs the daemon, and none answers", hint="syncd run   (or: syncd run-once)")
    daemon.close()
    deadline = time.monotonic() + wait_s
    wanted = [each.path for each in checked.of(Group.TO_FETCH)]
    paths.prefetch(wanted)
    for each in checked.of(Group.MISSING):  # it may have been added since the share was listed
        paths.ensure(each.path, max(0.0, deadline - time.monotonic()))
    while True:
        checked = again(checked, paths)
        left = len(checked.of(Group.TO_FETCH))
        tell("fetch", len(wanted) - left, len(wanted))
        if not left or time.monotonic() > deadline:
            return checked
        time.sleep(POLL_S)


def _print(checked: Checked, args: argparse.Namespace) -> None:
    from worker_glue.desk.checking import Group

    counts = checked.counts
    size = f" ({human_bytes(checked.bytes_ready)})" if checked.bytes_ready else ""
    done = f", {human_count(checked.done)} done already" if checked.done else ""
    print(
        f"{human_count(counts['ready'])} ready{size}, {human_count(counts['to_fetch'])} to fetch, "
        f"{human_count(counts['missing'])} missing, {human_count(counts['refused'])} refused{done}"
    )
    for group in (Group.MISSING, Group.REFUSED, Group.TO_FETCH):
        _print_group(checked, group)
    for trouble in checked.troubles:
        print(f"  ! {printable(trouble)}")
    if counts["to_fetch"]:
        print(f"  next: {printable(_next(checked, args))}")


def _next(checked: Checked, args: argparse.Namespace) -> str:
    """Return what brings the files that are not here; where none can be brought now, what is to be mended first."""
    from worker_glue.desk.checking import Group

    lacking = [each.found for each in checked.of(Group.TO_FETCH)]
    if all(found.state.value == "unavailable" and found.hint for found in lacking):
        return typed(lacking[0].hint, args.config)
    command = shlex.join(["worker-glue", "check", "--fetch", *args.what])
    return f"{typed(command, args.config)}   (or wait for syncd; workers fetch what they need first)"


def _print_group(checked: Checked, group: Group) -> None:
    from worker_glue.desk.gathering import meaning

    files = checked.of(group)
    for each in files[:SHOWN]:
        near = f"; near: {', '.join(each.found.near)}" if each.found.near else ""
        either = f": {' or '.join(each.found.candidates)}" if each.found.candidates else ""
        name = group.value.replace("_", " ")
        print(f"  {name:<8}  {printable(f'{each.path}: {meaning(each.found)}{either}{near}')}")
    if len(files) > SHOWN:
        print(f"  ... and {len(files) - SHOWN} more (all of them: --json)")
