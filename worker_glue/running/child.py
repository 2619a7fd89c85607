"""One worker's process: python -m worker_glue.running.child; started by `worker-glue run` and by nobody else."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Protocol

IDLE_LOOK_S = 0.2
END_S = 3.0
"""Of the grace, kept for what comes after the work: closing connections, the store, the log."""


class Running(Protocol):
    """A worker at work (compose.py)."""

    @property
    def busy(self) -> bool:
        """Whether it has anything in hand, or owes anything."""

    def stop(self, grace_s: float) -> None:
        """Finish or give back what is in hand, and close everything."""


class Ending:
    """Whether this process is to end: told by SIGTERM, SIGINT, or the end of the process that started it."""

    def __init__(self) -> None:
        self._asked = False
        self._again = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    @property
    def asked(self) -> bool:
        """Whether it is."""
        return self._asked

    def follow(self, descriptor: int) -> None:
        """End when this pipe does: the other end was open in the process that started us alone."""
        threading.Thread(target=self._follow, args=(descriptor,), name="lifeline", daemon=True).start()

    def _follow(self, descriptor: int) -> None:
        try:
            while os.read(descriptor, 4096):
                pass
        except OSError:
            pass
        self._asked = True

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self._asked and self._again:
            os._exit(128 + number)
        self._again = self._asked
        self._asked = True


def main(argv: list[str] | None = None) -> int:
    """Work until told to end; return the exit code."""
    args = _parser().parse_args(argv)
    ending = Ending()
    if args.lifeline:
        ending.follow(sys.stdin.fileno())
    from worker_glue.cli.main import PROGRAM

    try:
        return live(args, ending)
    except Exception as error:  # noqa: BLE001  (the end of this process; the one that started it decides what follows)
        return PROGRAM.failed(error)


def live(args: argparse.Namespace, ending: Ending) -> int:
    """Put the worker together and keep it at work."""
    from worker_glue.running.compose import start
    from worker_glue.running.settings import load

    settings = load(None if args.config is None else Path(args.config), os.environ)
    running = start(settings, args.id, args.host)
    try:
        _wait(running, ending, args.once_idle)
    finally:
        running.stop(max(0.0, args.grace - END_S))
    return 0


def _wait(
    running: Running, ending: Ending, once_idle_s: float | None, clock: Callable[[], float] = time.monotonic
) -> None:
    """Return when the process is to end: told so, or nothing to do for so long."""
    since = clock()
    while not ending.asked:
        time.sleep(IDLE_LOOK_S)
        if running.busy:
            since = clock()
        if once_idle_s is not None and clock() - since >= once_idle_s:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker-glue run (a worker)", allow_abbrev=False)
    parser.add_argument("--id", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--config")
    parser.add_argument("--grace", type=float, default=25.0)
    parser.add_argument("--once-idle", type=float)
    parser.add_argument("--lifeline", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
