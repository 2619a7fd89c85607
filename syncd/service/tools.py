"""Run systemctl, loginctl and launchctl: every call has a time limit, and one that fails is shown as it was typed."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from syncd.core.errors import SyncdError

CALL_TIMEOUT_S = 30.0
START_TIMEOUT_S = 200.0
"""For calls that wait for the service: a little more than the unit's TimeoutStartSec."""

NOT_FOUND, TIMED_OUT = 127, 124
"""Exit codes for a program that is not there, and for one that did not end, as sh(1) and timeout(1) have them."""

_FOLDERS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class ServiceFailed(SyncdError):
    """The service manager refused, or the service did not come up."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def command(self) -> str:
        """The call as one would type it."""
        return shlex.join(self.argv)

    @property
    def complaint(self) -> str:
        """What the program said about its failure, on one line; never empty."""
        said = "; ".join(line.strip() for line in (self.err or self.out).splitlines() if line.strip())
        return said or f"it ended with exit code {self.code}"


class Tools:
    """Calls programs of the service manager. Stateless; tests put programs of their own first on PATH."""

    def __init__(self, env: Mapping[str, str]) -> None:
        path = ":".join(part for part in (env.get("PATH", ""), _FOLDERS) if part)
        # LC_ALL: answers are read, so they have to be in one language; no pager, no colours, no questions
        self._env = {**env, "PATH": path, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}

    def _environment(self) -> dict[str, str]:
        """Return the environment of a call, with the way to the user's systemd, which su and sudo do not give."""
        runtime = f"/run/user/{os.geteuid()}"  # comes with the first session, or with lingering
        if "XDG_RUNTIME_DIR" in self._env or not os.path.isdir(runtime):
            return self._env
        return {**self._env, "XDG_RUNTIME_DIR": runtime}

    def ask(self, argv: tuple[str, ...], timeout_s: float = CALL_TIMEOUT_S) -> Answer:
        """Call a program and return how it ended, whatever that is."""
        try:
            done = subprocess.run(
                argv,
                env=self._environment(),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=False,
                text=True,
                errors="backslashreplace",
            )
        except FileNotFoundError:
            return Answer(argv, NOT_FOUND, "", f"there is no {argv[0]} on this machine")
        except OSError as error:
            return Answer(argv, NOT_FOUND, "", f"{argv[0]} cannot be run: {error.strerror}")
        except subprocess.TimeoutExpired:
            return Answer(argv, TIMED_OUT, "", f"it did not end within {timeout_s:.0f} s")
        return Answer(argv, done.returncode, done.stdout, done.stderr)

    def need(self, argv: tuple[str, ...], timeout_s: float = CALL_TIMEOUT_S, hint: str = "") -> Answer:
        """Call a program that has to succeed. Raises: ServiceFailed with the command and what it said."""
        answer = self.ask(argv, timeout_s)
        if not answer.ok:
            raise ServiceFailed(f"{answer.command}: {answer.complaint}", hint=hint)
        return answer
