"""From what hosts said to one answer: read, judge, put into a table. Pure; a host may say anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from syncd.config import RemoteSettings
from syncd.core.errors import SyncdError
from syncd.core.shown import human_ago, human_bytes, human_count
from syncd.remote.errors import HostUnfit, RemoteError

Table = dict[str, Any]

STATUS_HEADER = ["HOST", "SYNCD", "DAEMON", "MIRROR", "STATE", "FILES", "SIZE", "LAST SCAN", "OWED", "WORKERS"]
APPROVE_HEADER = ["HOST", "HELD BACK", "RESULT"]
DOCTOR_HEADER = ["HOST", "STATE", "OK", "WARN", "FAIL"]


class Ran(NamedTuple):
    """How a command ended. code: None when the host did not say (it was killed). Text is not yet fit to be shown."""

    code: int | None
    out: str
    err: str


_KNOWN_EXITS = frozenset({2, 3, 10, 11, 12, 13, 14, 15})
_NOT_STARTED = (126, 127)
_SAID = 300


def failed(remote: RemoteSettings, ran: Ran) -> RemoteError:
    """Return the error of a command that did not do what it was for; its words are those of the host."""
    lines = [line.strip() for line in ran.err.splitlines() if line.strip()]
    message = next((line[7:] for line in lines if line.startswith("error: ")), lines[-1] if lines else "")
    hint = next((line[6:] for line in lines if line.startswith("next: ")), "")
    if ran.code in _NOT_STARTED:
        keys = "compose_dir and command" if remote.kind == "compose" else "kind and command"
        return HostUnfit(
            f"what was to run there cannot be started: {message[:_SAID]}",
            hint=f"see {keys} in [hosts.{remote.name}], and whether syncd is installed there",
        )
    said = message[:_SAID] or (
        "it was killed there" if ran.code is None else f"it ended with exit code {ran.code}, without a word"
    )
    error = RemoteError(said, hint=f"on {remote.name}: {hint}" if hint else "")
    bug = ran.code == 1 and "this is a bug in syncd" in message
    if bug or ran.code in _KNOWN_EXITS:
        error.exit_code = ran.code or 1
    return error


def parsed(remote: RemoteSettings, ran: Ran, lists: str) -> Table:
    """Return the JSON object that a command of syncd printed. lists: the key that holds a list of objects.

    Raises: RemoteError when there is none.
    """
    try:
        found = json.loads(ran.out)
    except (ValueError, RecursionError):
        found = None
    rows = found.get(lists) if isinstance(found, dict) else None
    if ran.code is None or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        if ran.code == 0:
            raise RemoteError("it does not answer as syncd does", hint=f"see command in [hosts.{remote.name}]")
        raise failed(remote, ran)
    return {**found, lists: rows}


# --- status ----------------------------------------------------------------------------------------------------------


def status_exit(status: Mapping[str, Any]) -> int:
    """Return what a host's mirrors come to, as `syncd status` does; a container that is down counts as failing."""
    states = {str(mirror.get("state")) for mirror in status["mirrors"]}
    if "halted" in states:
        return 13
    ill = any(not _is_well(container) for container in _list(status.get("containers")))
    return 3 if ill or states - {"ok", "paused"} else 0


def containers(out: str) -> list[Table]:
    """Return the containers that `docker compose ps --format json` tells of: {service, state, health}.

    Older versions print one list, newer ones an object a line.
    """
    found: list[Any] = []
    for line in out.splitlines():
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            continue
        found += told if isinstance(told, list) else [told]
    rows = [
        {key.lower(): str(row.get(key) or "") for key in ("Service", "State", "Health")} for row in map(_table, found)
    ]
    return sorted((row for row in rows if row["service"]), key=lambda row: row["service"])


def _is_well(container: Mapping[str, Any]) -> bool:
    return container.get("state") == "running" and container.get("health") in ("", "healthy", "starting")


def status_rows(name: str, status: Mapping[str, Any], now: datetime) -> list[list[str]]:
    """Return a host's rows of the table: one a mirror."""
    daemon = _table(status.get("daemon"))
    host = [name, str(status.get("version", "?")), "running" if daemon.get("running") else "NOT RUNNING"]
    rows = [[*host, *_mirror_cells(mirror, now), _workers(status)] for mirror in status["mirrors"]]
    return rows or [[*host, "-", "-", "-", "-", "-", "-", _workers(status)]]


def status_remarks(status: Mapping[str, Any]) -> list[str]:
    """Return what is wrong on a host, with the command to type there."""
    lines = []
    for mirror in status["mirrors"]:
        if mirror.get("message"):
            lines.append(f"{mirror.get('name')}: {mirror['message']}")
        if mirror.get("hint"):
            lines.append(f"next, there: {mirror['hint']}")
    lines += [str(problem) for problem in _list(status.get("problems"))]
    for worker in map(_table, _list(status.get("workers"))):
        if worker.get("state") in ("gone", "lost"):
            lines.append(
                f"worker {worker.get('id')} is {worker['state']}, last heard of {worker.get('last_heartbeat')}"
            )
    for container in _list(status.get("containers")):
        if not _is_well(container):
            lines.append(f"container {container['service']} is {container['state']} {container['health']}".rstrip())
    for hop in map(_table, _list(status.get("hops"))):
        state = hop.get("state", "off")
        if state not in ("ok", "off", "unknown"):
            lines.append(f"{hop.get('name')} {str(state).upper()} {hop.get('detail') or ''}".rstrip())
    return lines


def _mirror_cells(mirror: Mapping[str, Any], now: datetime) -> list[str]:
    state, owed = str(mirror.get("state", "?")), _table(mirror.get("pending")).get("announce")
    return [
        str(mirror.get("name", "?")),
        state if state in ("ok", "paused") else state.upper(),
        _number(mirror.get("files"), human_count),
        _number(mirror.get("bytes"), human_bytes),
        _ago(mirror.get("last_success"), now),
        _number(owed, human_count) if owed else "-",
    ]


def _workers(status: Mapping[str, Any]) -> str:
    kept = [row for row in _list(status.get("containers")) if row["service"].startswith("worker")]
    if kept:  # a project's workers have a state directory of their own: the daemon does not see them
        return f"{sum(map(_is_well, kept))}/{len(kept)}"
    workers = [_table(worker) for worker in _list(status.get("workers"))]
    up = sum(1 for worker in workers if worker.get("state") not in ("gone", "lost"))
    return f"{up}/{len(workers)}" if workers else "-"


def _number(value: object, shown: Any) -> str:
    return str(shown(value)) if isinstance(value, int) and not isinstance(value, bool) else "?"


def _ago(at: object, now: datetime) -> str:
    if not at:
        return "never"
    try:
        return human_ago((now - datetime.fromisoformat(str(at))).total_seconds())
    except (ValueError, TypeError):
        return "?"


def _table(value: object) -> Table:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


# --- doctor ----------------------------------------------------------------------------------------------------------


def doctor_exit(report: Mapping[str, Any]) -> int:
    """Return what a host's checks come to, as `syncd doctor` does."""
    if report.get("state") == "unusable":
        return 2
    return 3 if any(check.get("status") == "fail" for check in report["checks"]) else 0


def doctor_row(name: str, report: Mapping[str, Any]) -> list[str]:
    """Return a host's row of the table."""
    levels = [str(check.get("status")) for check in report["checks"]]
    return [name, str(report.get("state", "?")), *(str(levels.count(level)) for level in ("ok", "warn", "fail"))]


def doctor_remarks(report: Mapping[str, Any]) -> list[str]:
    """Return the checks that did not pass, each with its next step."""
    lines = []
    for check in report["checks"]:
        if check.get("status") in ("warn", "fail"):
            mirror = f"{check['mirror']} " if check.get("mirror") else ""
            lines.append(f"{str(check['status']).upper()} {mirror}{check.get('name')}: {check.get('seen')}")
            if check.get("todo"):
                lines.append(f"next, there: {check['todo']}")
    return lines


def failing_checks(report: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """Return which checks fail, by group, mirror and name."""
    keys = ("group", "mirror", "name")
    rows: Sequence[Mapping[str, Any]] = [check for check in report["checks"] if check.get("status") == "fail"]
    return {(str(c.get(keys[0])), str(c.get(keys[1])), str(c.get(keys[2]))) for c in rows}


# --- errors ----------------------------------------------------------------------------------------------------------


def error_json(error: SyncdError) -> Table:
    """Return an error as JSON output holds it."""
    return {"kind": getattr(error, "kind", "failed"), "message": error.message, "hint": error.hint}
