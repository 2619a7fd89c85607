"""Write launchd property lists, launchd.plist(5). launchd gives a job no shell, no PATH of one and no log rotation."""

from __future__ import annotations

import plistlib
from enum import StrEnum
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from syncd.service.place import Place
from syncd.service.unit import Job

MARK = "<!-- Installed by: syncd service install -->"
"""A comment near the top of what was installed; only a file that has it is replaced or removed."""

RESTART_S = 30
OPEN_FILES = 4096
_DOCTYPE_END = b'PropertyList-1.0.dtd">\n'


class Session(StrEnum):
    """The session an agent belongs to (launchd.plist(5), LimitLoadToSessionType)."""

    AQUA = "Aqua"
    BACKGROUND = "Background"


def log_folder(place: Place) -> Path:
    """Return where the service logs: syncd.log, rotated by the daemon itself, and syncd.err, from before it logs."""
    return place.account.home / "Library" / "Logs" / "syncd"


def keys(place: Place, job: Job, session: Session = Session.AQUA) -> dict[str, Any]:
    """Return the property list as a dictionary. session: of an agent."""
    logs = log_folder(place)
    program = [str(job.program), "-c", str(job.config), "run"]
    made: dict[str, Any] = {
        "Label": place.unit,
        # launchd cannot tell a wrong configuration from a crash: the daemon stays, unhealthy, and reads it again
        "ProgramArguments": [*program, "--wait-for-config", "--log-file", str(logs / f"{place.name}.log")],
        "RunAtLoad": True,
        # a clean end (exit 0) stays one; everything else is started again, but not in a hurry
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": 30,
        # not Background, nor Adaptive, which is Background for a job without XPC: its I/O and timers are held back so
        # far that a file wanted now would come late; nor Interactive, which is for what a person sees. For the same
        # reason neither LowPriorityIO nor Nice
        "ProcessType": "Standard",
        "Umask": 0o022,
        "WorkingDirectory": "/",
        # launchd's own limit is 256
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES, "Core": 0},
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": str(logs / f"{place.name}.err"),
    }
    environment = dict(job.environment)
    if place.system:
        made["UserName"] = place.account.name
        environment["HOME"] = str(place.account.home)
    elif session is not Session.AQUA:
        made["LimitLoadToSessionType"] = session.value
    if environment:
        made["EnvironmentVariables"] = environment
    return made


def plist(place: Place, job: Job, session: Session = Session.AQUA) -> str:
    """Return the property list as the file holds it."""
    text = plistlib.dumps(keys(place, job, session), sort_keys=False)
    head, end, body = text.partition(_DOCTYPE_END)
    return (head + end + f"{MARK}\n".encode() + body).decode()


def session_of(content: str) -> Session | None:
    """Return the session of an installed agent; None when there is no property list."""
    found = _parsed(content)
    if not found:
        return None
    return Session.BACKGROUND if found.get("LimitLoadToSessionType") == Session.BACKGROUND else Session.AQUA


def log_of(content: str) -> str:
    """Return the log file of an installed service, "" when that cannot be told."""
    words = _parsed(content).get("ProgramArguments", [])
    return str(words[words.index("--log-file") + 1]) if "--log-file" in words[:-1] else ""


def _parsed(content: str) -> dict[str, Any]:
    try:
        found = plistlib.loads(content.encode())
    except (plistlib.InvalidFileException, ExpatError, ValueError, AttributeError, OverflowError):
        return {}
    return found if isinstance(found, dict) else {}
