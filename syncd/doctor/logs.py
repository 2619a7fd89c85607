"""The last lines that the service logged, from its file or from the journal."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from syncd.core.errors import SyncdError
from syncd.doctor.checks import within
from syncd.service import inspect

TAIL_BYTES = 256 * 1024
LINES = 2000
JOURNAL_S = 15.0
INSPECT_S = 15.0


def service_logs(env: Mapping[str, str]) -> dict[str, str]:
    """Return the ends of what the service logged: name in the bundle -> text. Nothing where nothing is installed."""
    try:
        found = within(INSPECT_S, lambda: inspect(env=env))
    except SyncdError:
        return {}
    return shown_by(found.logs, env) if found.installed else {}


def shown_by(command: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return what the command that shows a service's logs would show last: `tail -F FILE`, or `journalctl ...`."""
    words = shlex.split(command)
    if words[:1] == ["tail"]:
        file = Path(words[-1])
        tails = {path.name: tail(path) for path in (file, file.with_suffix(".err"))}
        return {f"log-{name}.txt": text for name, text in tails.items() if text}
    if words[:1] == ["journalctl"]:
        text = _journal([word for word in words if word != "-f"], env)
        return {"log-journal.txt": text} if text else {}
    return {}


def tail(path: Path, limit: int = TAIL_BYTES) -> str:
    """Return the end of a file from a whole line on; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - limit, 0))
            content = file.read(limit)
    except OSError:
        return ""
    if size > limit:
        content = content.partition(b"\n")[2]
    return content.decode("utf-8", "replace")


def _journal(words: list[str], env: Mapping[str, str]) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*words, "-n", str(LINES), "--no-pager", "-o", "short-iso"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=JOURNAL_S,
            check=False,
        )
        return done.stdout[-TAIL_BYTES:].decode("utf-8", "replace")
    return ""
