"""The logs of several hosts, each line with its host in front."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.cli.output import printable, width
from syncd.cli.remote import line_of, print_json, remarks, worst_of

if TYPE_CHECKING:
    from syncd.config import RemoteSettings
    from syncd.remote.fleet import Outcome
    from syncd.remote.running import Host
    from syncd.remote.verbs import Answer

LINES = 20
_COLOURS = (36, 33, 35, 32, 34, 31)


def run(args: argparse.Namespace, remotes: Sequence[RemoteSettings]) -> int:
    """Print the last lines of each host; with --follow, then every new line as it comes."""
    from syncd.remote import verbs
    from syncd.remote.connecting import SETUP_S
    from syncd.remote.fleet import ask
    from syncd.remote.running import Host

    hosts = [Host(remote) for remote in remotes]
    lines = LINES if args.lines is None else args.lines
    prefixes = _Prefixes([remote.name for remote in remotes], as_json=args.json and args.follow)
    if args.follow:

        def follow(host: Host) -> Answer:
            name = host.remote.name
            return verbs.follow(host, args.service, lines, lambda line: prefixes.print(name, line))

        # each host has a connection of its own for as long as it is followed
        return worst_of(ask(hosts, follow, float("inf"), parallel=len(hosts), told=_complain))
    limit_s = args.timeout or verbs.LOGS_S
    outcomes = ask(hosts, lambda host: verbs.logs(host, args.service, lines, limit_s), limit_s + 2 * SETUP_S)
    if args.json:
        return print_json(outcomes)
    for outcome in outcomes:
        for line in outcome.answer.told["lines"] if outcome.answer is not None else ():
            prefixes.print(outcome.remote.name, line)
        _complain(outcome)
    return worst_of(outcomes)


def _complain(outcome: Outcome[Answer]) -> None:
    """Say on stderr what is wrong with a host: stdout holds log lines and nothing else."""
    for line in remarks(outcome):
        print(f"  ! {printable(outcome.remote.name)}: {line_of(line)}", file=sys.stderr, flush=True)


class _Prefixes:
    """Prints lines of several hosts, from several threads, whole and in order of arrival."""

    def __init__(self, names: Sequence[str], *, as_json: bool) -> None:
        self._lock = threading.Lock()
        self._as_json = as_json
        columns = max(width(name) for name in names)
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._of = {
            name: self._prefix(printable(name) + " " * (columns - width(name)), number if coloured else None)
            for number, name in enumerate(names)
        }

    @staticmethod
    def _prefix(name: str, number: int | None) -> str:
        if number is None:
            return f"{name} | "
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{name} |\x1b[0m "

    def print(self, name: str, line: str) -> None:
        text = json.dumps({"host": name, "line": line}) if self._as_json else self._of[name] + line_of(line)
        with self._lock:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
