"""syncd remote: other hosts over SSH, many at once, one answer."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.cli.frame import describe
from syncd.cli.output import printable, table
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import RemoteSettings, Settings
    from syncd.remote.fleet import Outcome
    from syncd.remote.running import Host
    from syncd.remote.verbs import Answer

ACTIONS = ["status", "doctor", "restart"]


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Look after other hosts over SSH, as [hosts.NAME] in the configuration names them, all at once. A host that "
        "cannot be reached, or refuses, has a line of its own and stops no other; the exit code is that of the worst.",
        [
            "syncd remote status --all",
            "syncd remote doctor tod-mac",
            "syncd remote restart tod-mac annex",
        ],
        [0, 3, 10, 11, 12, 13, 14, 15],
    )
    parser.add_argument("action", metavar="ACTION", choices=ACTIONS, help=", ".join(ACTIONS))
    parser.add_argument("hosts", metavar="HOST", nargs="*", help="names of [hosts] tables")
    parser.add_argument("--all", action="store_true", help="every host of the configuration")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--service",
        metavar="NAME",
        action="append",
        default=[],
        help="restart: this service there instead of syncd's (may be repeated)",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="how long a host may take for what it is asked to do"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    remotes = _chosen(args, settings)
    action = _action(args)
    return _answer(args, action, _ask(remotes, action))


class _Action(NamedTuple):
    """What to do on each host. state: the column that tells of a host without an answer."""

    header: Sequence[str]
    state: str
    work: Callable[[Host], Answer]
    within_s: float


def _action(args: argparse.Namespace) -> _Action:
    from syncd.remote import answers, verbs

    match args.action:
        case "status":
            limit_s = args.timeout or verbs.STATUS_S
            return _Action(answers.STATUS_HEADER, "STATE", lambda host: verbs.status(host, limit_s), limit_s)
        case "doctor":
            limit_s = args.timeout or verbs.DOCTOR_S
            return _Action(answers.DOCTOR_HEADER, "STATE", lambda host: verbs.doctor(host, limit_s), limit_s)
        case _:
            limit_s = args.timeout or verbs.RESTART_S
            return _Action(
                ["HOST", "RESTARTED", "DAEMON"],
                "DAEMON",
                lambda host: verbs.restart(host, args.service, limit_s),
                limit_s + verbs.START_S + verbs.STATUS_S,
            )


def _ask(remotes: Sequence[RemoteSettings], action: _Action) -> list[Outcome[Answer]]:
    from syncd.remote.connecting import SETUP_S
    from syncd.remote.fleet import ask

    return ask(remotes, action.work, action.within_s + 2 * SETUP_S)


# --- which hosts -----------------------------------------------------------------------------------------------------


def _chosen(args: argparse.Namespace, settings: Settings) -> list[RemoteSettings]:
    """Return the hosts that are meant, each once, in the order in which they are named."""
    known = {remote.name: remote for remote in settings.hosts}
    if not known:
        raise ConfigError(
            f"{settings.path} names no other host",
            hint='add a table to it: [hosts.NAME] with ssh = "USER@HOST:22" and key_file = "..."',
        )
    if args.all and args.hosts:
        raise ConfigError("--all means every host: name none, or leave --all away")
    if not args.all and not args.hosts:
        raise ConfigError("which host?", hint=f"syncd remote {args.action} --all, or one of: {', '.join(known)}")
    for name in args.hosts:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known)}"
            raise ConfigError(f"there is no [hosts.{name}] in {settings.path}{meant}")
    return list(known.values()) if args.all else [known[name] for name in dict.fromkeys(args.hosts)]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 1 to 86400")
    return seconds


# --- one answer of many ----------------------------------------------------------------------------------------------


def _answer(args: argparse.Namespace, action: _Action, outcomes: Sequence[Outcome[Answer]]) -> int:
    from syncd.remote.errors import worst

    code = worst(_exit_code(outcome) for outcome in outcomes)
    if args.json:
        json.dump({"exit_code": code, "hosts": [_told(outcome) for outcome in outcomes]}, sys.stdout)
        print()
        return code
    rows = [row for outcome in outcomes for row in _rows(outcome, action)]
    print(table(action.header, rows, right=["FILES", "SIZE", "OK", "WARN", "FAIL"]), end="")
    for outcome in outcomes:
        for line in _remarks(outcome):
            print(f"  ! {printable(outcome.remote.name)}: {_line(line)}")
    return code


def _exit_code(outcome: Outcome[Answer]) -> int:
    if outcome.error is not None:
        return outcome.error.exit_code
    return 0 if outcome.answer is None else outcome.answer.exit_code


def _told(outcome: Outcome[Answer]) -> dict[str, Any]:
    from syncd.remote.answers import error_json

    return {
        "host": outcome.remote.name,
        "address": str(outcome.remote.address),
        "exit_code": _exit_code(outcome),
        "seconds": round(outcome.seconds, 3),
        "error": None if outcome.error is None else error_json(outcome.error),
        "answer": None if outcome.answer is None else outcome.answer.told,
    }


def _rows(outcome: Outcome[Answer], action: _Action) -> list[list[str]]:
    if outcome.answer is not None:
        return [[_line(cell) for cell in row] for row in outcome.answer.rows]
    state = str(getattr(outcome.error, "kind", "failed")).upper()
    return [[{"HOST": outcome.remote.name, action.state: state}.get(column, "-") for column in action.header]]


def _remarks(outcome: Outcome[Answer]) -> list[str]:
    if outcome.answer is not None:
        return outcome.answer.remarks
    if outcome.error is None:
        return []
    return [outcome.error.message, *([f"next: {outcome.error.hint}"] if outcome.error.hint else [])]


def _line(text: str) -> str:
    """Return what another host said as one line that cannot move the cursor."""
    return printable(" ".join(text.splitlines()))
