"""syncd alerts: what is wrong now, and whether those who are to be told can be reached."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from syncd.cli.frame import describe
from syncd.cli.output import human_ago, printable, table
from syncd.client.program import typed
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.alerts.kept import Kept
    from syncd.alerts.model import Alert
    from syncd.config import Settings

OLD_S = 120.0
"""A look older than this, and than two intervals, was the last: no daemon runs."""


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "list shows what is wrong now, as the daemon saw it last, and what to do about it. test sends a test message "
        "over each channel of [alerts] (webhook, command, e-mail), once, and says what became of it."
        "\n\n"
        "3: some channel did not take the test message.",
        ["syncd alerts list", "syncd alerts list --json", "syncd alerts test"],
        [0, 3],
    )
    parser.add_argument("action", choices=["list", "test"], help="what is wrong now; or a test message to everybody")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace, settings: Settings) -> int:
    from syncd.app import alarming

    if not settings.alerts.wanted:
        raise ConfigError(
            f"nobody is to be told: [alerts] in {settings.path} has no channel",
            hint="set webhook, command or mail_to in [alerts] (docs/alerts.md)",
        )
    if args.action == "list":
        late_s = max(OLD_S, 2 * settings.alerts.every_s)
        return _list(alarming.open_memory(settings.host.state_dir), late_s, args.config, as_json=args.json)
    return _test(settings, args.config, as_json=args.json)


def _list(memory: Kept, late_s: float, config: Path | None, *, as_json: bool) -> int:
    alerts = memory.alerts()
    if as_json:
        looked = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(memory.looked)) if memory.looked else None
        _print_json({"looked_at": looked, "alerts": [alert.as_json() for alert in alerts]})
        return 0
    if not memory.looked:
        print(printable(typed("nothing has been looked at yet; the daemon does that: syncd run", config)))
        return 0
    rows = [[alert.severity, alert.since, alert.text] for alert in alerts]
    if rows:
        print(table(["SEVERITY", "SINCE", "WHAT"], rows), end="")
    for remedy in dict.fromkeys(_typed(alert, config) for alert in alerts):
        print(f"  next: {printable(remedy)}")
    age_s = max(time.time() - memory.looked, 0.0)
    late = typed("; no daemon looks now: syncd service status", config) if age_s > late_s else ""
    count = "1 alert" if len(rows) == 1 else f"{len(rows) or 'no'} alerts"
    print(f"{count}, looked at {human_ago(age_s)}{printable(late)}")
    return 0


def _typed(alert: Alert, config: Path | None) -> str:
    """Return an alert's remedy as it is to be typed; another host has a configuration of its own."""
    from syncd.alerts.model import Rule

    return alert.remedy if alert.rule is Rule.HOST else typed(alert.remedy, config)


def _test(settings: Settings, config: Path | None, *, as_json: bool) -> int:
    from syncd.app import alarming
    from syncd.app.telling import Telling
    from syncd.config.secrets import redact

    host = Telling(settings).status().host
    outcomes = []
    for channel in alarming.open_channels(settings.alerts):
        error = alarming.try_channel(channel, host)
        said, hint = ("", "") if error is None else (redact(error.message), redact(error.hint))
        outcomes.append({"channel": channel.name, "ok": error is None, "error": said, "hint": hint})
        if not as_json:
            print(f"{channel.name}: {printable(said) if said else 'sent'}")
            for line in hint.splitlines():
                print(f"  next: {printable(typed(line, config))}")
    if as_json:
        _print_json({"channels": outcomes})
    return 0 if all(each["ok"] for each in outcomes) else 3


def _print_json(fields: dict[str, object]) -> None:
    json.dump(fields, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
