"""What several hosts hold back: shown, asked about, and let through where somebody says so."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.cli.output import printable
from syncd.cli.remote import line_of, print_table
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import RemoteSettings
    from syncd.remote.fleet import Outcome
    from syncd.remote.running import Conversation, Host
    from syncd.remote.verbs import Answer


def run(args: argparse.Namespace, remotes: Sequence[RemoteSettings]) -> int:
    """Show each host's set and ask; the command that waits there lets through exactly what it showed."""
    if args.json:
        raise ConfigError("approve asks, which --json cannot", hint=_agreed_to(args, "--yes", "--json"))
    from syncd.remote import answers, verbs
    from syncd.remote.connecting import SETUP_S
    from syncd.remote.fleet import ask
    from syncd.remote.running import Host

    hosts = [Host(remote) for remote in remotes]
    try:
        within_s = verbs.APPROVE_S + 2 * SETUP_S
        asked = ask(hosts, lambda host: verbs.ask_to_approve(host, args.mirror), within_s, keep=True)
        talks = {outcome.remote.name: outcome.answer for outcome in asked if outcome.answer is not None}
        agreed = {name: talk.asks and _agreed(name, talk) for name, talk in talks.items()}
        if any(talk.asks for talk in talks.values()) and not sys.stdin.isatty():
            raise ConfigError("approve asks, and there is no terminal to answer at", hint=_agreed_to(args, "--yes"))

        def finish(host: Host) -> Answer:
            name = host.remote.name
            return verbs.approve(talks[name], host, agreed=agreed[name])

        answered = ask([host for host in hosts if host.remote.name in talks], finish, within_s)
    finally:
        for host in hosts:
            host.close()
    return print_table(answers.APPROVE_HEADER, "RESULT", _together(asked, answered))


def _agreed_to(args: argparse.Namespace, *flags: str) -> str:
    """Return the command for the same hosts and mirror that asks nothing."""
    mirror = ["--mirror", args.mirror] if args.mirror else []
    hosts = ["--all"] if args.all else args.hosts
    return shlex.join(["syncd", "remote", "approve", *hosts, *mirror, *flags])


def _agreed(name: str, talk: Conversation) -> bool:
    """Show what a host holds back, and ask about it."""
    lines = talk.said.splitlines()[:-1]
    print(f"{printable(name)}:", *(f"  {line_of(line)}" for line in lines), sep="\n", flush=True)
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"Let exactly this through on {printable(name)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _together(asked: Sequence[Outcome[Conversation]], answered: Sequence[Outcome[Answer]]) -> list[Outcome[Answer]]:
    """Return one outcome a host: how its answer went, or why there was nothing to answer."""
    from syncd.remote.fleet import Outcome

    last = {outcome.remote.name: outcome for outcome in answered}
    return [last.get(first.remote.name) or Outcome(first.remote, None, first.error, first.seconds) for first in asked]
