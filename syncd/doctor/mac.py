"""What only macOS does: refuses programs the local network or a folder, and sleeps. Told by the symptoms.

Functions take what they judge, so that they can be tried elsewhere; none asks the user anything. Source: pmset(1);
Apple TN3179 (local network privacy, macOS 15 = Darwin 24).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from syncd.doctor.checks import Check, Level, ok, warn

PMSET_S = 5.0
LOCAL_NETWORK = (
    "allow it in System Settings > Privacy & Security > Local Network (a service is listed by its program), or go "
    "through a proxy on 127.0.0.1, as for NSQ and MongoDB: one for Samba too, and 127.0.0.1 in the source"
)
FOLDERS = (
    "allow it in System Settings > Privacy & Security > Files & Folders (or Full Disk Access), for the terminal and "
    "for the service's program; or choose a target outside of Desktop, Documents, Downloads and removable volumes"
)

_FIRST_DARWIN = 24
_NO_ROUTE = ("No route to host", "Network is unreachable")
_LOOPBACK = re.compile(r"\b127\.\d+\.\d+\.\d+\b|\blocalhost\b|\[::1\]")
_SLEEP = re.compile(r"^\s*sleep\s+(\d+)(?:\s+\((?:sleep )?prevented by ([^)]*)\))?\s*$", re.MULTILINE)


def is_mac() -> bool:
    """Say whether this is macOS."""
    return sys.platform == "darwin"


def darwin() -> int:
    """Return the major version of the kernel; 0 elsewhere."""
    major = platform.release().partition(".")[0]
    return int(major) if is_mac() and major.isdigit() else 0


def with_network_advice(checks: Iterable[Check], version: int | None = None) -> list[Check]:
    """Name the local network permission in checks that failed the way its absence looks. version: of Darwin."""
    found = darwin() if version is None else version
    return [replace(check, todo=_advice(check)) if found >= _FIRST_DARWIN else check for check in checks]


def with_folder_advice(checks: Iterable[Check], mac: bool | None = None) -> list[Check]:
    """Name the permission for folders in checks of a target that failed or hung the way its absence looks."""
    if not (is_mac() if mac is None else mac):
        return list(checks)
    return [replace(check, todo=FOLDERS) if _is_refused_folder(check) else check for check in checks]


def _advice(check: Check) -> str:
    refused = check.status is Level.FAIL and any(sign in check.seen for sign in _NO_ROUTE)
    if not refused or _LOOPBACK.search(check.seen):
        return check.todo
    return f"if other programs reach it: {LOCAL_NETWORK}"


def _is_refused_folder(check: Check) -> bool:
    """EPERM is what privacy protection answers; EACCES are file modes. A prompt nobody sees looks like a hang."""
    signs = (os.strerror(1), "no answer within")
    return check.status is Level.FAIL and any(sign in check.seen for sign in signs)


# -- sleep


def check_sleep(*, held: bool = False) -> list[Check]:
    """Ask pmset how this Mac sleeps. held: it is held awake while work is in hand."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["/usr/bin/pmset", "-g"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PMSET_S, check=False
        )
        return sleep_of(done.stdout.decode(errors="replace"), held=held)
    return []


def sleep_of(text: str, *, held: bool = False) -> list[Check]:
    """Judge the output of `pmset -g`: minutes of idleness after which the machine sleeps, 0 for never."""
    found = _SLEEP.search(text)
    if found is None:
        return []
    minutes, by = int(found[1]), found[2]
    if not minutes:
        return [ok("sleep", "this Mac does not sleep by itself")]
    now = f" (at the moment kept awake by {by})" if by else ""
    seen = f"this Mac sleeps after {minutes} min without use{now}"
    if held:
        return [ok("sleep", f"{seen}, but not while work is in hand (keep_awake)")]
    todo = "keep_awake = true in [host] holds it while work is in hand; on mains for good: caffeinate -s"
    return [
        warn("sleep", f"{seen}; nothing is mirrored meanwhile, and it catches up", f"{todo} (neither needs an admin)")
    ]
