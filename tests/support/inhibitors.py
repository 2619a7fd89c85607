"""Stand-ins for caffeinate and systemd-inhibit: they do what the real ones are relied on for, and write down when.

inhibitors = Inhibitors(folder)          # folder: goes first on PATH
inhibitors.systemd(refuse=["sleep"])     # a logind that grants only "idle"
assert inhibitors.living() == 1
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE_S = 20.0

_SYSTEMD = """#!/bin/sh
echo "$$ $*" >> '{log}'
case "$1" in {refused}) echo 'Failed to inhibit: Access denied' >&2; exit 1 ;; esac
while [ "${{1#--}}" != "$1" ]; do shift; done
"$@"
"""
_CAFFEINATE = """#!/bin/sh
echo "$$ $*" >> '{log}'
while kill -0 "$3" 2> /dev/null; do sleep 0.05; done
"""


class Inhibitors:
    """A folder with the programs, and the log that both write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.caffeinate_path = folder / "caffeinate"
        self._log = folder / "started"

    def systemd(self, *, refuse: Sequence[str] = ()) -> None:
        """Provide systemd-inhibit. refuse: what it does not grant, of "sleep" and "idle"."""
        refused = "|".join(f"--what=*{each}*" for each in refuse) or "--what=nothing"
        self._write(self.folder / "systemd-inhibit", _SYSTEMD.format(log=self._log, refused=refused))

    def caffeinate(self) -> None:
        """Provide caffeinate."""
        self._write(self.caffeinate_path, _CAFFEINATE.format(log=self._log))

    def started(self) -> list[tuple[int, str]]:
        """Return (pid, arguments) of each start."""
        if not self._log.exists():
            return []
        lines = [line.partition(" ") for line in self._log.read_text().splitlines()]
        return [(int(pid), words) for pid, _, words in lines]

    def living(self) -> int:
        """Return how many of those that were started are there still."""
        return sum(1 for pid, _ in self.started() if _is_there(pid))

    def until_living(self, count: int) -> None:
        until(lambda: self.living() == count, f"{count} are there, not {self.started()}")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
