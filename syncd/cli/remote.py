"""syncd remote: other hosts over SSH, many at once, one answer."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.cli.frame import Given, describe
from syncd.cli.output import printable, table
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import RemoteSettings, Settings
    from syncd.remote.fleet import Outcome
    from syncd.remote.running import Host
    from syncd.remote.verbs import Answer

ACTIONS = ["status", "doctor", "logs", "restart", "approve", "update"]


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Look after other hosts over SSH, as [hosts.NAME] in the configuration names them, all at once. A host that "
        "cannot be reached, or refuses, has a line of its own and stops no other; the exit code is the worst.\n\n"
        "status and doctor ask; logs shows what was logged (syncd's, or with --service others; a compose project's "
        "all); restart restarts syncd, or other services; approve shows what each host holds back, and asks; update "
        "keeps the old version, puts in the new one, restarts, has doctor look, and goes back when that finds what was "
        "not there before.",
        [
            "syncd remote status --all",
            "syncd remote doctor tod-mac",
            "syncd remote logs tod-mac annex -f",
            "syncd remote logs annex --service mongodb-proxy -n 50",
            "syncd remote restart annex --service worker-1",
            "syncd remote approve --all",
            "syncd remote update tod-mac --wheel dist/syncd-0.2.0-py3-none-any.whl",
            "syncd remote update annex --image registry.example/syncd:0.2.0",
        ],
        [0, 3, 10, 11, 12, 13, 14, 15],
    )
    action = parser.add_argument("action", metavar="ACTION", choices=ACTIONS, help=", ".join(ACTIONS))
    parser.add_argument("hosts", metavar="HOST", nargs="*", help="names of [hosts] tables")
    parser.add_argument("--all", action="store_true", help="every host of the configuration")
    parser.add_argument("--json", action="store_true", help="print one JSON object (logs -f: one a line)")
    parser.add_argument(
        "--service",
        metavar="NAME",
        action="append",
        default=[],
        type=_service,
        help="logs, restart: this service there (may be repeated)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="logs: go on with what is logged from now on")
    parser.add_argument("-n", "--lines", metavar="N", type=_lines, help="logs: so many of the last lines")
    parser.add_argument("--mirror", metavar="NAME", action=Given, default="", help="approve: this mirror only")
    parser.add_argument("--yes", action="store_true", help="approve: do not ask")
    parser.add_argument("--wheel", metavar="FILE", type=Path, help="update: a wheel of syncd")
    parser.add_argument("--image", metavar="TAG", help="update: the image, as the compose project's .env is to name it")
    parser.add_argument("--variable", metavar="NAME", help="update --image: the variable in .env")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="status, doctor, logs: how long a host may take"
    )

    def parse(words: Sequence[str] | None = None, namespace: Any = None) -> Any:
        parser.usage = parser.format_usage().removeprefix("usage: ").rstrip()
        action.nargs = "?"  # argparse would only say that words are missing; the usage above says what has to be there
        # argparse by itself takes no host behind an option: syncd remote logs -f HOST
        args = parser.parse_intermixed_args(words, namespace)
        if args.action is None:
            names = f"{', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}"
            parser.error(f"what is to be done: {names}?\n  for example: syncd remote status --all")
        return args

    parser.parse_args = parse  # type: ignore[method-assign,assignment]


def run(args: argparse.Namespace, settings: Settings) -> int:
    _refuse_idle_options(args)
    remotes = _chosen(args, settings)
    match args.action:
        case "logs":
            from syncd.cli import remote_logs

            return remote_logs.run(args, remotes)
        case "approve" if not args.yes:
            from syncd.cli import remote_approve

            return remote_approve.run(args, remotes)
        case _:
            action = _action(args)
            with _Unhurried() if args.action == "update" else nullcontext():
                outcomes = _ask(remotes, action)
            return print_json(outcomes) if args.json else print_table(action.header, action.state, outcomes)


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
        case "restart":
            within_s = verbs.RESTART_S + verbs.START_S + verbs.STATUS_S
            header = ["HOST", "RESTARTED", "DAEMON"]
            return _Action(header, "DAEMON", lambda host: verbs.restart(host, args.service), within_s)
        case "approve":
            return _Action(
                answers.APPROVE_HEADER, "RESULT", lambda host: verbs.approve_all(host, args.mirror), verbs.APPROVE_S
            )
        case _:
            return _update(args)


def _update(args: argparse.Namespace) -> _Action:
    """Read what is to be put in, once for all hosts."""
    from syncd.remote import updating

    if bool(args.wheel) == bool(args.image):
        raise ConfigError("update needs --wheel FILE (systemd, launchd) or --image TAG (compose)")
    if args.wheel and args.variable:
        raise ConfigError("--variable is for --image, not for --wheel")
    if args.wheel:
        wheel = updating.read_wheel(args.wheel)

        def change() -> updating.Change:
            return updating.WheelChange(wheel)
    else:

        def change() -> updating.Change:
            return updating.ImageChange(args.image, args.variable or updating.VARIABLE)

        change()
    header = ["HOST", "BEFORE", "NOW", "DAEMON"]
    return _Action(header, "NOW", lambda host: updating.update(host, change()), updating.WITHIN_S)


class _Unhurried:
    """While an update is under way the first Ctrl-C only says so: half of one would be left on a host."""

    def __enter__(self) -> None:
        import signal

        self._before = signal.signal(signal.SIGINT, self._first)

    def __exit__(self, *_error: object) -> None:
        import signal

        signal.signal(signal.SIGINT, self._before)

    @staticmethod
    def _first(number: int, _frame: object) -> None:
        import signal

        signal.signal(number, signal.default_int_handler)
        print("the update is brought to its end first; Ctrl-C again leaves it as it is", file=sys.stderr, flush=True)


def _ask(remotes: Sequence[RemoteSettings], action: _Action) -> list[Outcome[Answer]]:
    from syncd.remote.connecting import SETUP_S
    from syncd.remote.fleet import ask
    from syncd.remote.running import Host

    return ask([Host(remote) for remote in remotes], action.work, action.within_s + 2 * SETUP_S)


_FOR = {
    "service": ("logs", "restart"),
    "follow": ("logs",),
    "lines": ("logs",),
    "mirror": ("approve",),
    "yes": ("approve",),
    "wheel": ("update",),
    "image": ("update",),
    "variable": ("update",),
    "timeout": ("status", "doctor", "logs"),
}


def _refuse_idle_options(args: argparse.Namespace) -> None:
    """An option without effect is a mistake: somebody meant something by it."""
    for option, actions in _FOR.items():
        if getattr(args, option) and args.action not in actions:
            raise ConfigError(f"--{option} is for {' and '.join(actions)}, not for {args.action}")
    if args.follow and args.timeout:
        raise ConfigError("--timeout is not for logs -f, which goes on until Ctrl-C")


# --- what the arguments mean -----------------------------------------------------------------------------------------


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


def _lines(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of lines up to 100000")
    return int(text)


def _service(text: str) -> str:
    from syncd.config.readers import service_name

    try:
        return service_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# --- one answer of many ----------------------------------------------------------------------------------------------


def print_json(outcomes: Sequence[Outcome[Answer]]) -> int:
    """Print what came of all hosts as one JSON object; return the exit code."""
    code = worst_of(outcomes)
    json.dump({"exit_code": code, "hosts": [_told(outcome) for outcome in outcomes]}, sys.stdout)
    print()
    return code


def print_table(header: Sequence[str], state: str, outcomes: Sequence[Outcome[Answer]]) -> int:
    """Print what came of all hosts; return the exit code. state: the column for a host that gave no answer."""
    rows = [[line_of(cell) for cell in row] for outcome in outcomes for row in _rows(outcome, header, state)]
    print(table(header, rows, right=["FILES", "SIZE", "OK", "WARN", "FAIL", "HELD BACK"]), end="")
    for outcome in outcomes:
        for line in remarks(outcome):
            print(f"  ! {printable(outcome.remote.name)}: {line_of(line)}")
    return worst_of(outcomes)


def worst_of(outcomes: Sequence[Outcome[Answer]]) -> int:
    """Return the exit code of the whole: the worst host's."""
    from syncd.remote.errors import worst

    return worst(_exit_code(outcome) for outcome in outcomes)


def remarks(outcome: Outcome[Answer]) -> list[str]:
    """Return the lines below the table for one host: what is wrong, and the next step."""
    if outcome.answer is not None:
        return outcome.answer.remarks
    if outcome.error is None:
        return []
    return [outcome.error.message, *([f"next: {outcome.error.hint}"] if outcome.error.hint else [])]


def line_of(text: str) -> str:
    """Return what another host said as one line that cannot move the cursor."""
    return printable(" ".join(text.expandtabs(4).splitlines()))


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


def _rows(outcome: Outcome[Answer], header: Sequence[str], column: str) -> list[list[str]]:
    if outcome.answer is not None:
        return outcome.answer.rows
    state = str(getattr(outcome.error, "kind", "failed")).upper().replace("_", " ")
    return [[{"HOST": outcome.remote.name, column: state}.get(each, "-") for each in header]]
