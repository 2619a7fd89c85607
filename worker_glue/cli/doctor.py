"""worker-glue doctor: one check a hop, from the configuration to NSQ, MongoDB, the daemon, the mirror and OCR."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from syncd.client.program import typed
from syncd.config.secrets import redact
from worker_glue.cli.frame import describe
from worker_glue.cli.output import counted, printable, width
from worker_glue.cli.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    from worker_glue.doctor.checks import Group

EXIT_FAILED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker-glue doctor`."""
    describe(
        parser,
        "Check every hop of a task's journey as a worker sees it, also from inside a container: nsqd and nsqlookupd "
        "through their proxies, MongoDB and its login, the daemon's API and its token, each mount, the OCR engine and "
        "its languages; and say what to do about what is wrong.\n\n"
        "With --live only the heartbeat files of this host's workers are looked at: 0 when all live, for the liveness "
        "probe of a container.",
        ["worker-glue doctor", "worker-glue doctor --json", "worker-glue doctor --live"],
        [0, 3],
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: {checks: [...], state}")
    parser.add_argument("--live", action="store_true", help="say only whether the workers here live, by their files")


def run(args: argparse.Namespace) -> int:
    """Examine, print, and return 0 or 3."""
    settings = load(args)
    if args.live:
        from worker_glue.doctor.local import live

        lives, seen = live(settings)
        print(json.dumps({"live": lives, "seen": seen}) if args.json else printable(seen))
        return 0 if lives else EXIT_FAILED
    from worker_glue.doctor.checks import worst
    from worker_glue.doctor.examine import examine

    groups = []
    for group in examine(settings, os.environ):
        groups.append(group)
        if not args.json:
            print(redact(_shown(group, args.config)), end="", flush=True)
    state = worst(groups)
    if args.json:
        checks = [check for group in groups for check in group.as_json()]
        sys.stdout.write(redact(json.dumps({"checks": checks, "state": state.value}, ensure_ascii=False)) + "\n")
    else:
        print(_summary(groups))
    return EXIT_FAILED if state.value == "fail" else 0


def _shown(group: Group, config: Path | None) -> str:
    """Return a group's lines: its title, then one line a check, with the next step below one that has one."""
    columns = max((width(check.name) for check in group.checks), default=0)
    lines = [group.title]
    for check in group.checks:
        status = check.status.value if check.status.value == "ok" else check.status.value.upper()
        lines.append(f"  {status:<4}  {check.name:<{columns}}  {check.seen}")
        lines += [f"        {'next:':<{columns}}  {typed(todo, config)}" for todo in check.todo.splitlines()]
    return "".join(printable(" ".join(line.splitlines())) + "\n" for line in lines)


def _summary(groups: list[Group]) -> str:
    levels = [check.status.value for group in groups for check in group.checks]
    warnings = counted(levels.count("warn"), "warning")
    return f"{counted(len(levels), 'check')}: {levels.count('ok')} ok, {warnings}, {levels.count('fail')} failed"
