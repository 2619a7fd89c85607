"""What can be asked of one host, and the answer it comes to."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from syncd.remote import answers, commands
from syncd.remote.errors import RemoteError
from syncd.remote.running import Conversation, Host

STATUS_S, DOCTOR_S, RESTART_S, APPROVE_S, LOGS_S = 60.0, 90.0, 240.0, 60.0, 60.0
"""How long each may take there, by default."""

START_S = 60.0
_LOOK_S = 2.0


PROMPT = "[y/N] "
"""The end of what `syncd approve` says when it asks."""

_HELD = re.compile(r"^.+: ([\d,]+) files$", re.MULTILINE)
_HALTED = re.compile(r"^.+ is halted, and approving does not lift that: .+\s+next: .+$", re.MULTILINE)


class Answer(NamedTuple):
    """What one host answered. told: for JSON; rows: of the table; remarks: lines below it."""

    exit_code: int
    told: dict[str, Any]
    rows: list[list[str]]
    remarks: list[str]


def status(host: Host, timeout_s: float = STATUS_S) -> Answer:
    """Ask how a host's mirrors are, and a compose project's containers."""
    found = _status(host, timeout_s)
    found.pop("containers", None)
    if host.remote.kind == "compose":
        found["containers"] = answers.containers(host.run(commands.containers(host.remote), timeout_s).out)
    rows = answers.status_rows(host.remote.name, found, datetime.now(UTC))
    return Answer(answers.status_exit(found), found, rows, answers.status_remarks(found))


def doctor(host: Host, timeout_s: float = DOCTOR_S) -> Answer:
    """Have a host check its hops: to the share, NSQ, MongoDB, its own daemon."""
    found = examined(host, timeout_s)
    row = answers.doctor_row(host.remote.name, found)
    return Answer(answers.doctor_exit(found), found, [row], answers.doctor_remarks(found))


def examined(host: Host, timeout_s: float = DOCTOR_S) -> dict[str, Any]:
    """Return what `syncd doctor --json` says there."""
    ran = host.run(commands.syncd(host.remote, "doctor", "--json"), timeout_s)
    return answers.parsed(host.remote, ran, "checks")


def restart(host: Host, services: Sequence[str], timeout_s: float = RESTART_S) -> Answer:
    """Restart services; syncd's own is then waited for until its daemon answers."""
    name, remote = host.remote.name, host.remote
    ran = host.run(commands.restart(remote, services), timeout_s)
    if ran.code != 0:
        raise answers.failed(remote, ran)
    names = list(services) or [remote.service]
    if remote.service not in names:
        return Answer(0, {"restarted": names, "daemon": None}, [[name, ", ".join(names), "-"]], [])
    daemon = await_daemon(host)
    return Answer(
        0, {"restarted": names, "daemon": daemon}, [[name, ", ".join(names), f"running (pid {daemon.get('pid')})"]], []
    )


def daemon_of(host: Host) -> dict[str, Any] | None:
    """Return what a host's status says of its daemon; None when none runs."""
    daemon = _status(host, STATUS_S).get("daemon")
    return daemon if isinstance(daemon, dict) and daemon.get("running") else None


def await_daemon(host: Host, within_s: float = START_S) -> dict[str, Any]:
    """Wait until a daemon runs; return what status says of it. Raises: RemoteError when none does in time."""
    until = time.monotonic() + within_s
    while True:
        problem = RemoteError("", hint="")
        try:
            daemon = daemon_of(host)
        except RemoteError as error:
            if error.transient:
                raise
            problem = error
        else:
            if daemon is not None:
                return daemon
        if time.monotonic() > until:
            said = f": {problem.message}" if problem.message else ""
            raise RemoteError(
                f"it was restarted, but no daemon runs after {within_s:.0f} s{said}",
                hint=f"syncd remote logs {host.remote.name} -n 50",
            )
        time.sleep(_LOOK_S)


def logs(host: Host, services: Sequence[str], lines: int, timeout_s: float = LOGS_S) -> Answer:
    """Return the last lines of services' logs."""
    ran = host.run(commands.logs(host.remote, services, lines, follow=False), timeout_s)
    if ran.code != 0:
        raise answers.failed(host.remote, ran)
    found = ran.out.splitlines()
    return Answer(0, {"lines": found}, [], [])


def follow(host: Host, services: Sequence[str], lines: int, say: Callable[[str], None]) -> Answer:
    """Hand on each line of services' logs as it is written, until the connection is closed or lost."""
    parts = Lines(say)
    line = commands.logs(host.remote, services, lines, follow=True)
    code, complaint = host.stream(line, parts.add, None)
    parts.end()
    raise answers.failed(host.remote, answers.Ran(code, "", complaint or "the log came to an end"))


class Lines:
    """Cuts what arrives in pieces into lines; one that is longer than LONGEST comes in parts."""

    LONGEST = 16 << 10

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""

    def add(self, piece: bytes) -> None:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            self._say(line.decode("utf-8", "replace").removesuffix("\r"))
        if len(self._rest) > self.LONGEST:
            self.end()

    def end(self) -> None:
        if self._rest:
            self._say(self._rest.decode("utf-8", "replace"))
        self._rest = b""


# --- approve ---------------------------------------------------------------------------------------------------------


def ask_to_approve(host: Host, mirror: str, timeout_s: float = APPROVE_S) -> Conversation:
    """Start `syncd approve` there, up to its question. What it will let through is what it shows, and nothing else."""
    line = commands.syncd(host.remote, "approve", *_only(mirror), terminal=True)
    return host.converse(line, PROMPT, timeout_s)


def approve(conversation: Conversation, host: Host, *, agreed: bool, timeout_s: float = APPROVE_S) -> Answer:
    """Answer the question of a conversation, if it asked one, and return what came of it."""
    asked, shown = conversation.asks, conversation.said
    ran = conversation.answer(("y" if agreed else "n") if asked else "", timeout_s)
    if ran.code != 0:
        raise answers.failed(host.remote, ran)
    return _approved(host, shown, approved=asked and agreed)


def approve_all(host: Host, mirror: str, timeout_s: float = APPROVE_S) -> Answer:
    """Let through what a host holds back, without asking."""
    ran = host.run(commands.syncd(host.remote, "approve", "--yes", *_only(mirror)), timeout_s)
    if ran.code != 0:
        raise answers.failed(host.remote, ran)
    return _approved(host, ran.out, approved=bool(_HELD.search(ran.out)))


def _approved(host: Host, shown: str, *, approved: bool) -> Answer:
    held = sum(int(count.replace(",", "")) for count in _HELD.findall(shown))
    said = "approved" if approved else ("left as it is" if held else "nothing is held back")
    told = {"held_back": held, "approved": approved, "shown": shown.removesuffix(PROMPT).splitlines()}
    others = [" ".join(found.group().split()) for found in _HALTED.finditer(shown)]
    return Answer(0, told, [[host.remote.name, str(held), said]], others)


def _only(mirror: str) -> list[str]:
    return ["--mirror", mirror] if mirror else []


def _status(host: Host, timeout_s: float) -> dict[str, Any]:
    ran = host.run(commands.syncd(host.remote, "status", "--json"), timeout_s)
    return answers.parsed(host.remote, ran, "mirrors")
