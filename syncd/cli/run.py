"""syncd run: the daemon."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from syncd import config
from syncd.cli.frame import describe
from syncd.client.file_systems import file_system_type, is_layer
from syncd.core.errors import AlreadyRunning, CatalogueTooNew, ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings
    from syncd.daemon.living import Daemon

CONFIG_LOOK_S = 2.0
CTIME_STEP_S = 0.02
EXIT_INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Keep the mirrors up to date: on their schedule, when something changes on the share, and when somebody asks "
        "for a file. Announces what is ready, and answers on STATE/run/syncd.sock.\n\n"
        "Stays in the foreground. SIGTERM and SIGINT end it within 10 s; SIGHUP, and a change of the file, have the "
        "configuration read again. To have it start by itself: syncd service install.",
        ["syncd run", "syncd -c /etc/syncd/config.toml run", "syncd run --wait-for-config --log-file ~/syncd.log"],
        [0, 11, 14, 15],
    )
    parser.add_argument(
        "--wait-for-config",
        action="store_true",
        help="stay up, unhealthy, while the configuration cannot be used, its port is taken or another syncd has its "
        "state (for service managers that restart for ever)",
    )
    parser.add_argument(
        "--log-file", metavar="FILE", type=Path, help="log there instead of stderr; rotated at 10 MB, 5 files are kept"
    )


def run(args: argparse.Namespace) -> int:
    import faulthandler

    faulthandler.enable()
    if args.log_file is not None:
        _log_to(args.log_file)
    signals = _Signals()

    def load() -> Settings:
        return config.load(args.config, os.environ)

    if not args.wait_for_config:
        return _live(load, signals)
    return _wait_and_live(load, signals)


def _log_to(path: Path) -> None:
    from syncd.log import log_to

    try:
        log_to(config.expanded(path))
    except OSError as error:
        raise ConfigError(
            f"the log file {path} cannot be written: {error.strerror}", hint="name another file"
        ) from error


def _wait_and_live(load: Callable[[], Settings], signals: _Signals) -> int:
    """Try until the configuration, and what it names, can be used; 0 when told to end meanwhile.

    Another syncd on the same state, and a state of a newer syncd, are such faults too: a start again mends neither.
    """
    from syncd.log import logger
    from syncd.notify import Notifier

    said: tuple[str, ...] = ()
    while not signals.ended.is_set():
        try:
            return _live(load, signals)
        except (ConfigError, AlreadyRunning, CatalogueTooNew) as error:
            problems = error.problems if isinstance(error, ConfigError) else ()
            if (error.message, *problems) != said:
                said = (error.message, *problems)
                name = "config.unusable" if isinstance(error, ConfigError) else "start.refused"
                logger().error(name, error=error.message, problems=list(problems), hint=error.hint)
                Notifier().status(f"waiting for what a person has to put right: {error.message}")
        signals.ended.wait(CONFIG_LOOK_S)
    return 0


def _live(load: Callable[[], Settings], signals: _Signals) -> int:
    began = time.time()
    settings = load()
    from syncd.cli.crash import keep_traceback
    from syncd.daemon.living import Daemon
    from syncd.log import logger

    log = logger()
    _tell_of_layer(settings.host.state_dir)

    def bug(error: BaseException, where: str) -> None:
        kept = keep_traceback(error, settings.host.state_dir, os.environ) if isinstance(error, Exception) else ""
        log.error("bug", where=where, error=f"{type(error).__name__}: {error}", next=kept)

    daemon = Daemon(settings, load=load, log=log, bug=bug)
    signals.tell(daemon)
    if _changed_since(settings.path, began):
        daemon.reload()  # it was replaced while we read it, or since
    code = daemon.live()
    return EXIT_INTERRUPTED if signals.interrupted else code


@cache
def _tell_of_layer(state: Path) -> None:
    """Say, once, that the state goes with the container."""
    from syncd.log import logger

    kind = file_system_type(state)
    if is_layer(kind):
        logger().warning(
            "state.in_container",
            path=str(state),
            file_system=kind,
            next="mount a volume there: with this container all that syncd knows goes, and what it holds is read again",
        )


def _changed_since(path: Path, at: float) -> bool:
    """Say whether a file may be another one than at a time; file systems count in steps of some milliseconds."""
    try:
        return os.stat(path).st_ctime >= at - CTIME_STEP_S
    except OSError:
        return True


class _Signals:
    """Turns signals into calls of the daemon. A second SIGINT or SIGTERM ends the process at once."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.interrupted = False
        self._again = False
        self._at = 0.0
        self._daemon: Daemon | None = None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._end)
            signal.signal(signal.SIGINT, self._end)
            signal.signal(signal.SIGHUP, self._reload)

    def tell(self, daemon: Daemon) -> None:
        """From now on this daemon is told; one that was to end meanwhile ends at once."""
        self._daemon = daemon
        if self._again:
            daemon.reload()
        if self.ended.is_set():
            daemon.stop()

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.ended.is_set() and time.monotonic() - self._at > 1.0:
            os._exit(128 + number)
        if not self.ended.is_set():
            self._at = time.monotonic()
        self.interrupted = self.interrupted or number == signal.SIGINT
        self.ended.set()
        if self._daemon is not None:
            self._daemon.stop()

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self._again = True  # also for a daemon that is only about to begin
        if self._daemon is not None:
            self._daemon.reload()
