"""A channel: a program is started for each message, without a shell."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from syncd.alerts.model import LIMIT_S, NotDelivered, Notice
from syncd.alerts.texts import document, subject, text

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
        "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "SSL_CERT_FILE")  # fmt: skip
"""What the program gets of our environment: in the rest there may be secrets."""
TEXT_MAX = 32 << 10


class Command:
    """model.Channel. words: the program and its arguments. It gets the JSON on stdin, and is to end within limit_s."""

    name = "command"

    def __init__(self, words: Sequence[str], env: Mapping[str, str] | None = None, *, limit_s: float = LIMIT_S) -> None:
        self._words = list(words)
        self._env = os.environ if env is None else env
        self._limit_s = limit_s

    def send(self, notice: Notice) -> None:
        """See model.Channel. Success is exit code 0; what it prints goes nowhere."""
        program = self._words[0]
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._environment(notice),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or "cannot be started"
            raise NotDelivered(f"{program}: {said.lower()}", hint="name a program by its whole path") from error
        try:
            process.communicate(document(notice), self._limit_s)
        except subprocess.TimeoutExpired as error:
            hint = "let it hand over what takes longer, and end"
            raise NotDelivered(f"{program}: not done within {self._limit_s:g} s; it was ended", hint=hint) from error
        finally:
            _end(process)
        if process.returncode:
            raise NotDelivered(
                f"{program}: exit code {process.returncode}",
                hint="run it by hand to see what it says: syncd leaves that away",
            )

    def _environment(self, notice: Notice) -> dict[str, str]:
        kept = {name: self._env[name] for name in KEPT if name in self._env}
        kind = "test" if notice.test else "begun" if notice.begun else "ended"
        said = text(notice).replace("\0", "")[:TEXT_MAX]
        about = {"SYNCD_ALERT_KIND": kind, "SYNCD_ALERT_SUBJECT": subject(notice).replace("\0", "")}
        return {**kept, **about, "SYNCD_ALERT_TEXT": said, "SYNCD_ALERT_HOST": notice.host}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a program and of what it started."""
    if process.poll() is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
