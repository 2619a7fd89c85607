"""What can be asked of one host, and the answer it comes to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from syncd.remote import answers, commands
from syncd.remote.errors import RemoteError
from syncd.remote.running import Host

STATUS_S, DOCTOR_S, RESTART_S, APPROVE_S, LOGS_S = 60.0, 90.0, 240.0, 60.0, 60.0
"""How long each may take there, by default."""

START_S = 60.0
_LOOK_S = 2.0


class Answer(NamedTuple):
    """What one host answered. told: for JSON; rows: of the table; remarks: lines below it."""

    exit_code: int
    told: dict[str, Any]
    rows: list[list[str]]
    remarks: list[str]


def status(host: Host, timeout_s: float = STATUS_S) -> Answer:
    """Ask how a host's mirrors are."""
    found = _status(host, timeout_s)
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


def await_daemon(host: Host, within_s: float = START_S) -> dict[str, Any]:
    """Wait until a daemon runs; return what status says of it. Raises: RemoteError when none does in time."""
    until = time.monotonic() + within_s
    while True:
        problem = RemoteError("", hint="")
        try:
            daemon = _status(host, STATUS_S).get("daemon")
        except RemoteError as error:
            if error.transient:
                raise
            problem = error
        else:
            if isinstance(daemon, dict) and daemon.get("running"):
                return daemon
        if time.monotonic() > until:
            said = f": {problem.message}" if problem.message else ""
            raise RemoteError(
                f"it was restarted, but no daemon runs after {within_s:.0f} s{said}",
                hint=f"syncd remote logs {host.remote.name} -n 50",
            )
        time.sleep(_LOOK_S)


def _status(host: Host, timeout_s: float) -> dict[str, Any]:
    ran = host.run(commands.syncd(host.remote, "status", "--json"), timeout_s)
    return answers.parsed(host.remote, ran, "mirrors")
