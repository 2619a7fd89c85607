"""syncd status: how the mirrors are."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from syncd.cli.frame import describe
from syncd.cli.output import counted, human_ago, human_bytes, human_count, is_or_are, printable, table
from syncd.client.program import typed

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.config import Settings

WATCH_S = 2.0
HEADER = ["MIRROR", "STATE", "FILES", "SIZE", "LAST SCAN", "NEXT", "OWED"]


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Show how each mirror is: state, files, size, last scan, next run, announcements owed, and what is wrong with "
        "the next command to type. Asks the daemon where one runs; says which. 0: every mirror is ok or paused; 3: one "
        "is behind or failing; 13: one is held back.",
        ["syncd status", "syncd status --json", "syncd status --watch", "syncd status --open"],
        [0, 3, 13, 15],
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--watch", action="store_true", help="print again every two seconds, until interrupted")
    parser.add_argument("--open", action="store_true", help="print the address of the status page, with its token")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.open:
        return _open(settings)
    while True:
        status = _status(settings)
        if args.json:
            json.dump(status, sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
        else:
            _print(status, settings, args.config)
        if not args.watch:
            return exit_code(status)
        sys.stdout.flush()
        time.sleep(WATCH_S)


def _open(settings: Settings) -> int:
    from syncd.core.errors import ConfigError

    listen, token = settings.api.listen, settings.api.token
    if listen is None or token is None:
        raise ConfigError("the status page needs a TCP port: [api] has no listen", hint=_opening(settings))
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    print(f"http://{host}:{listen.port}/#token={token.reveal()}")
    return 0


def _opening(settings: Settings) -> str:
    """Return what to do for a status page: a token where there is none, and the lines of [api]."""
    add = f'add to {settings.path}: [api] listen = "127.0.0.1:9470"'
    if settings.api.token is not None:
        return add
    file = settings.path.parent / "api-token"
    add += f" and token_file = {json.dumps(str(file), ensure_ascii=False)}"
    if file.exists():
        return add
    make = f"(umask 077; head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \\n' > {shlex.quote(str(file))})"
    return f"{make}\n{add}"


def exit_code(status: Mapping[str, Any]) -> int:
    """Return what the states of all mirrors come to."""
    states = {mirror["state"] for mirror in status["mirrors"]}
    if "halted" in states:
        return 13
    return 3 if states & {"behind", "failing"} else 0


def _status(settings: Settings) -> dict[str, Any]:
    """Ask the daemon; where none runs, or it does not answer, look for ourselves."""
    from syncd.cli.following import daemon_of
    from syncd.core.errors import SyncdError

    client = daemon_of(settings)
    if client is not None:
        with client:
            try:
                return client.status()
            except SyncdError as error:
                print(f"(the daemon does not answer: {printable(error.message)})", file=sys.stderr)
    from syncd.app.telling import Telling

    return Telling(settings).status().as_json()


def _print(status: Mapping[str, Any], settings: Settings, config: Path | None) -> None:
    zone = settings.host.zone()
    rows = [_row(mirror, zone) for mirror in status["mirrors"]]
    print(table(HEADER, rows, right=["FILES", "SIZE"]), end="")
    for mirror in status["mirrors"]:
        for line in _remarks(mirror, config):
            print(f"  ! {printable(mirror['name'])}: {printable(line.removeprefix(mirror['name'] + ': '))}")
    for problem in status.get("problems") or ():
        print(f"  ! {printable(problem)}")
    around = _around(status, zone)
    if around:
        print(printable(around))
    daemon = status["daemon"]
    awake = _awake(daemon.get("awake") or {}, zone)
    if awake:
        print(printable(awake))
    running = f"daemon running (pid {daemon['pid']})" if daemon["running"] else "no daemon running"
    print(f"host {printable(status['host'])} | {running} | configuration {printable(str(settings.path))}")


def _row(mirror: Mapping[str, Any], zone: tzinfo | None) -> list[str]:
    state = mirror["state"]
    owed = mirror["pending"]["announce"]
    return [
        mirror["name"],
        state if state in ("ok", "paused") else state.upper(),
        human_count(mirror["files"]),
        human_bytes(mirror["bytes"]),
        _ago(mirror["last_success"]),
        "now" if mirror.get("current") else _clock(mirror.get("next_run"), zone) or "-",
        counted(owed, "announcement") if owed else "-",
    ]


def _ago(at: str | None) -> str:
    if not at:
        return "never"
    return human_ago((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def _clock(at: str | None, zone: tzinfo | None) -> str:
    """Return a time of today as a clock shows it, another day's with its date; "" for none."""
    if not at:
        return ""
    local, today = datetime.fromisoformat(at).astimezone(zone), datetime.now(UTC).astimezone(zone).date()
    return local.strftime("%H:%M" if local.date() == today else "%Y-%m-%d %H:%M")


def _remarks(mirror: Mapping[str, Any], config: Path | None) -> list[str]:
    lines = [mirror["message"]] if mirror["message"] else []
    if mirror["hint"]:
        lines.append(f"next: {typed(mirror['hint'], config)}")
    refused = mirror["refused"]
    if refused:
        first = refused[0]
        about = f"{first['path']} ({first['reason']}); {first['hint']}"
        lines.append(f"{counted(len(refused), 'refused name')}, the first: {about}")
    if mirror.get("foreign"):
        names = ", ".join(mirror["foreign_files"][:3])
        number = mirror["foreign"]
        what = f"{counted(number, 'file')} in the target {is_or_are(number)}"
        lines.append(f"{what} not syncd's, and left alone: {names}")
    return lines


def _around(status: Mapping[str, Any], zone: tzinfo | None) -> str:
    """Return the line about everything around the mirrors, as far as the daemon tells."""
    parts = [_hop(hop, zone) for hop in status.get("hops") or () if hop["state"] not in ("off", "unknown")]
    warning = (status.get("announcing") or {}).get("warning")
    if warning:
        parts.append(warning)
    workers = status.get("workers")
    if workers:
        up = sum(1 for worker in workers if worker.get("state") not in ("gone", "lost"))
        parts.append(f"workers {up}/{len(workers)}")
    parts += [_disk(mirror) for mirror in status["mirrors"] if mirror.get("disk")][:1]
    return " | ".join(parts)


def _awake(awake: Mapping[str, Any], zone: tzinfo | None) -> str:
    """Return the line about a machine that is held awake, or is to be and cannot."""
    if awake.get("held"):
        return f"awake: held since {_clock(awake['since'], zone)} for {', '.join(awake['for'])}"
    return f"awake: {awake['problem']}" if awake.get("problem") else ""


def _hop(hop: Mapping[str, Any], zone: tzinfo | None) -> str:
    name = {"nsqd": "nsqd", "mongodb": "MongoDB"}.get(hop["name"], hop["name"])
    if hop["state"] != "ok":
        since = _clock(hop.get("since"), zone)
        detail = f" ({hop['detail']})" if hop.get("detail") else ""
        return f"{name} DOWN{f' since {since}' if since else ''}{detail}"
    latency = hop.get("latency_ms")
    return f"{name} ok{f' {latency:.1f} ms' if latency is not None else ''}"


def _disk(mirror: Mapping[str, Any]) -> str:
    disk = mirror["disk"]
    free, floor, trash = (human_bytes(disk[name]) for name in ("free_bytes", "floor_bytes", "trash_bytes"))
    return f"disk {free} free, floor {floor}, trash {trash}"
