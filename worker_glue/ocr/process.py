"""One engine's process, as its worker sees it: start, say, hear, kill."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from worker_glue.ocr.messages import Message, Reader, write

_SLICE_S = 0.2
_SAID_BYTES = 4096
_KEPT_BACK = ("MONGO_URI", "SYNCD_API_TOKEN_FILE")
"""Of the worker's environment: what an engine has no business with."""


class Ended(Exception):
    """The process has ended. The text says how, for users."""


class EngineProcess:
    """A running child (worker_glue.ocr.child). For one thread at a time.

    It ends with this process, however that ends: only this one holds the other end of its lifeline.
    """

    def __init__(self, folder: str, first: Message) -> None:
        """Start it. folder: for temporary files. first: what it is told first. Raises OSError, Ended."""
        theirs, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker_glue.ocr.child", str(theirs)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                pass_fds=(theirs,), start_new_session=True, env=_environment(os.environ, folder),
            )  # fmt: skip
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 (PIPE)
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self.reader = Reader(self._answers.fileno())
        self._poll = select.poll()
        self._poll.register(self._answers.fileno(), select.POLLIN)
        self._said: deque[bytes] = deque(maxlen=8)
        self._listener = threading.Thread(target=self._listen, name="engine-stderr", daemon=True)
        self._listener.start()
        self.say(first)

    @property
    def is_silent(self) -> bool:
        """Whether it lives and has nothing to say, as it should between two files."""
        return not self._poll.poll(0)

    def say(self, message: Message) -> None:
        """Tell it something. Raises Ended."""
        try:
            write(self._orders.fileno(), message)
        except OSError as error:
            raise Ended(self.kill()) from error

    def hear(self, until: float, stopped: Callable[[], bool]) -> Message | None:
        """Return its next message; None at `until` (monotonic), or soon after `stopped`. Raises: Ended, ValueError."""
        while (message := self.reader.take()) is None:
            left = until - time.monotonic()
            if left <= 0 or stopped():
                return None
            if self._poll.poll(min(left, _SLICE_S) * 1000 + 1) and not self.reader.fill():
                raise Ended(self.kill())
        return message

    def kill(self) -> str:
        """End it and all that its engine started, and say how it ended before; safe to repeat."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:  # its number is its own as long as nobody has waited for it
                os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._listener.join(1.0)
        self._orders.close()
        self._answers.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return self._how(code)

    def _how(self, code: int) -> str:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        lines = b"".join(self._said)[-_SAID_BYTES:].decode("utf-8", "replace").strip().splitlines()
        return f"{how}: {lines[-1][:200]}" if lines else how

    def _listen(self) -> None:
        """Keep the end of what it says to stderr."""
        assert self._process.stderr is not None  # noqa: S101 (PIPE)
        with self._process.stderr as stderr:
            while said := stderr.read(_SAID_BYTES):
                self._said.append(said)


def _environment(env: Mapping[str, str], folder: str) -> dict[str, str]:
    return {**{key: value for key, value in env.items() if key not in _KEPT_BACK}, "TMPDIR": folder}
