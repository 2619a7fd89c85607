"""syncd doctor: one check a hop, from the configuration to the share, NSQ, MongoDB and the daemon."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd import config
from syncd.cli.frame import Given, describe
from syncd.cli.output import printable, width
from syncd.client.program import typed
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings
    from syncd.doctor.checks import Check, Group
    from syncd.doctor.secrets import Scrubber

EXIT_FAILED, EXIT_UNUSABLE = 3, 2
NAME_COLUMNS = 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `syncd doctor`."""
    describe(
        parser,
        "Check every hop, from the configuration to the files on the share, to NSQ and to MongoDB, ask a running\n"
        "daemon for its own view, and say what to do about what is wrong.\n"
        "Writes nothing, takes less than a minute, and tries a password once. 0: nothing failed (warnings do not\n"
        "count); 3: a check failed; 2: the configuration cannot be used.",
        ["syncd doctor", "syncd doctor --mirror Bhushanji", "syncd doctor --json", "syncd doctor --bundle report.zip"],
        [0, 3],
    )
    parser.add_argument("--mirror", metavar="NAME", action=Given, default="", help="this mirror only")
    parser.add_argument("--json", action="store_true", help="print one JSON object: {checks: [...], state}")
    parser.add_argument(
        "--bundle",
        metavar="FILE",
        type=Path,
        help="write a zip file to send with a report: versions, settings, status, runs, checks, logs; no secrets",
    )


def run(args: argparse.Namespace) -> int:
    """Examine, print, and return 0, 2 or 3."""
    from syncd.doctor import bundle
    from syncd.doctor.checks import worst
    from syncd.doctor.secrets import Scrubber

    file = config.default_path(os.environ) if args.config is None else args.config.expanduser().absolute()
    settings, error = _load(file)
    if settings is not None and args.mirror and settings.mirror(args.mirror) is None:
        known = ", ".join(each.name for each in settings.mirrors)
        raise ConfigError(f'there is no mirror "{args.mirror}" in {settings.path}', hint=f"one of: {known}")
    program = "syncd" if args.config is None else f"syncd -c {shlex.quote(str(file))}"
    if args.bundle is not None and os.path.lexists(args.bundle):
        raise ConfigError(f"{args.bundle} exists already, and nothing is overwritten", hint="name another file")
    scrub = Scrubber(file, os.environ)
    groups = []
    for group in _groups(settings, error, args.mirror, program):
        groups.append(group)
        if not args.json:
            print(scrub.clean(_shown(group, args.config)), end="", flush=True)
    state = "unusable" if error is not None else worst(groups).value
    if args.json:
        checks = [_clean(scrub, check) for group in groups for check in group.as_json()]
        json.dump({"checks": checks, "state": state}, sys.stdout, ensure_ascii=False)
        print()
    else:
        print(_summary(groups))
    if args.bundle is not None:
        out = sys.stderr if args.json else sys.stdout
        shelf = bundle.collect(file, os.environ, settings, groups, lambda: _status(settings))
        print(f"{args.bundle} will hold:", *(f"  {line}" for line in bundle.contents(shelf)), sep="\n", file=out)
        bundle.write(args.bundle, shelf)
        print(f"{args.bundle} is written; look into it before you send it", file=out)
    return {"unusable": EXIT_UNUSABLE, "fail": EXIT_FAILED}.get(state, 0)


def _load(file: Path) -> tuple[Settings | None, ConfigError | None]:
    """Return the settings and what is wrong with them; wrong secrets alone leave settings to go on with."""
    try:
        return config.load(file, os.environ), None
    except ConfigError as error:
        try:
            return config.load(file, os.environ, check_secrets=False), error
        except ConfigError:
            return None, error


def _groups(settings: Settings | None, error: ConfigError | None, only: str, program: str) -> Iterator[Group]:
    from syncd.doctor.examine import examine, examine_host

    yield examine_host(settings, error, program)
    if settings is not None:
        yield from examine(settings, os.environ, program, only=only)


def _clean(scrub: Scrubber, check: dict[str, Any]) -> dict[str, Any]:
    return check | {"seen": scrub.clean(check["seen"]), "todo": scrub.clean(check["todo"])}


def _status(settings: Settings | None) -> dict[str, Any]:
    """Return what `syncd status --json` would print: the daemon's word, or the catalogue's when none runs."""
    from syncd.app.everything import App
    from syncd.doctor.daemon import status_of_daemon

    if settings is None:
        return {}
    return status_of_daemon(settings) or App(settings).status().as_json()


def _shown(group: Group, config: Path | None) -> str:
    """Return a group's lines: its title, then one line a check, with the next step below one that has one.

    Hops that were not tried for the same reason share a line.
    """
    lines = [f"{group.mirror}  {group.title}" if group.mirror else group.title]
    rows = _rows(group)
    columns = max((width(name) for name, *_ in rows if len(name) <= NAME_COLUMNS), default=0)
    for name, status, seen, todo in rows:
        lines.append(f"  {status:<4}  {name:<{columns}}  {seen}")
        if todo:
            lines.append(f"        {'next:':<{columns}}  {typed(todo, config)}")
    return "".join(printable(" ".join(line.splitlines())) + "\n" for line in lines)


def _rows(group: Group) -> list[tuple[str, str, str, str]]:
    """Return (name, status, seen, todo) for each line."""
    rows: list[tuple[str, str, str, str]] = []
    for check in group.checks:
        status = check.status.value if check.status.value == "ok" else check.status.value.upper()
        untried = _is_untried(check)
        if untried and rows and rows[-1][1:] == ("-", check.seen, ""):
            rows[-1] = (f"{rows[-1][0]}, {check.name}", *rows[-1][1:])
        else:
            rows.append((check.name, "-" if untried else status, check.seen, check.todo))
    return rows


def _summary(groups: list[Group]) -> str:
    counts = {"ok": 0, "warn": 0, "fail": 0, "-": 0}
    for group in groups:
        for check in group.checks:
            counts["-" if _is_untried(check) else check.status.value] += 1
    warnings = f"{counts['warn']} warning{'' if counts['warn'] == 1 else 's'}"
    untried = f", {counts['-']} not tried" if counts["-"] else ""
    return f"{sum(counts.values())} checks: {counts['ok']} ok, {warnings}{untried}, {counts['fail']} failed"


def _is_untried(check: Check) -> bool:
    return check.seen.startswith("not tried")
