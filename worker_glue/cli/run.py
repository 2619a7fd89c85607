"""worker-glue run: the workers of this host."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from syncd.client.address import in_environment
from syncd.client.file_systems import file_system_type, is_layer, is_network
from syncd.core.errors import ConfigError
from worker_glue.cli.frame import describe
from worker_glue.cli.settings import load

if TYPE_CHECKING:
    from syncd.config import Settings
    from syncd.config.secrets import Secret
    from worker_glue.running.ids import Claim
    from worker_glue.running.supervisor import Supervisor

EXIT_INTERRUPTED = 130
GRACE_S, HUNG_S = 25.0, 90.0
IDLE_S = 10.0
WORKERS_MAX = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker-glue run`."""
    describe(
        parser,
        "Take OCR tasks from NSQ, turn each task's server path into a verified local file, run OCR, and record one "
        "result or error for each in MongoDB. Each worker is a process of its own; one that dies or hangs is started "
        "again.\n\n"
        "Stays in the foreground. SIGTERM and SIGINT end it: what is in hand is finished, or given back to NSQ; a "
        "second one ends it at once.",
        [
            "worker-glue run",
            "worker-glue run --workers 1 --metrics 127.0.0.1:9471",
            "NSQD_ADDRESS=nsqd-proxy:4150 MONGO_URI=... WORKER_ID=tod-mac-1 worker-glue run --workers 1",
        ],
        [0, 12, 14],
    )
    parser.add_argument("--workers", type=_workers, metavar="N", help="processes (default: as configured, or 3)")
    parser.add_argument(
        "--metrics", type=_address, metavar="HOST:PORT", help="answer GET /metrics (Prometheus) and GET /healthz there"
    )
    parser.add_argument(
        "--grace", type=_seconds, default=GRACE_S, metavar="S", help="time for what is in hand at the end (25 s)"
    )
    parser.add_argument(
        "--hung", type=_seconds, default=HUNG_S, metavar="S", help="a worker silent for so long is killed (90 s)"
    )
    parser.add_argument(
        "--once-idle",
        type=_seconds,
        nargs="?",
        const=IDLE_S,
        metavar="S",
        help="end when nothing has come for so long and nothing is owed (10 s)",
    )
    parser.add_argument(
        "--wait-for-config",
        action="store_true",
        help="with a configuration that cannot be used, an OCR engine that is missing or a port that is taken: stay "
        "up, without workers, and look again (for containers)",
    )
    parser.add_argument(
        "--log-file", metavar="FILE", type=Path, help="log there instead of stderr; rotated at 10 MB, 5 files are kept"
    )


def run(args: argparse.Namespace) -> int:
    """Keep the workers up; 0 when ended by SIGTERM, 130 by SIGINT."""
    if args.log_file is not None:
        _log_to(args.log_file)
    if not args.wait_for_config:
        return _work(args)
    from worker_glue.running.waiting import wait_and_work

    return wait_and_work(lambda: _work(args))


def _work(args: argparse.Namespace) -> int:
    """Start the workers and keep them up. Raises: ConfigError, DiskFull."""
    from worker_glue.running import ids

    settings = load(args)
    _check(settings)
    if args.wait_for_config:
        from worker_glue.running.waiting import check_engine

        check_engine(settings)
    count = args.workers or settings.worker.workers
    folder = ids.run_folder(settings)
    ids.sweep(folder)
    claims = ids.claim(folder, ids.candidates(settings, count), count)
    try:
        with _metrics_folder(folder.parent, claims) as metrics:
            return _supervised(args, settings, claims, folder, metrics)
    finally:
        for each in claims:
            each.release(folder)


def _supervised(
    args: argparse.Namespace, settings: Settings, claims: Sequence[Claim], folder: Path, metrics: Path
) -> int:
    from syncd.log import logger
    from worker_glue.health.meter import FOLDER_VARIABLE
    from worker_glue.running import ids
    from worker_glue.running.supervisor import Pace, Supervisor

    env = {name: value for name, value in os.environ.items() if name != FOLDER_VARIABLE}
    if args.metrics is not None:
        env[FOLDER_VARIABLE] = str(metrics)
    supervisor = Supervisor(
        claims,
        _command(args, ids.host_name(settings)),
        env,
        folder,
        lambda name, **fields: logger().info(name, **fields),
        Pace(grace_s=args.grace, hung_s=args.hung),
        finished_is_done=args.once_idle is not None,
    )
    with _held(settings, supervisor), _served(args.metrics, metrics, supervisor), _Signals(supervisor) as signals:
        code = supervisor.run()
    return code or (EXIT_INTERRUPTED if signals.interrupted else 0)


def _command(args: argparse.Namespace, host: str) -> Callable[[Claim], Sequence[str]]:
    fixed = ["--host", host, "--grace", str(args.grace), "--lifeline"]
    if args.config is not None:
        fixed += ["--config", str(args.config)]
    if args.once_idle is not None:
        fixed += ["--once-idle", str(args.once_idle)]
    return lambda claim: [sys.executable, "-m", "worker_glue.running.child", "--id", claim.worker_id, *fixed]


def _check(settings: Settings) -> None:
    """Refuse what could never work, before anything is started. Raises ConfigError."""
    from worker_glue.resolver.where import MOUNTS_VARIABLE, read_mounts

    nsq = settings.nsq
    if not nsq.nsqd and not nsq.lookupd:
        raise ConfigError(
            "no nsqd to read from: neither [nsq] nor NSQD_ADDRESS nor NSQLOOKUPD_ADDRESSES names one",
            hint="NSQD_ADDRESS=127.0.0.1:4150 worker-glue run",
        )
    address = in_environment(os.environ)
    if address is not None:
        address.headers()  # a token file that cannot be read
    read_mounts(os.environ.get(MOUNTS_VARIABLE, ""))
    if settings.mongo.uri is not None:
        _check_uri(settings.mongo.uri)
    _check_state(settings.host.state_dir)


def _check_state(state: Path) -> None:
    kind = file_system_type(state)
    if is_network(kind):
        raise ConfigError(
            f"the state directory {state} lies on a network file system ({kind}); SQLite would lose results there",
            hint="set host.state_dir to a directory on a local disk (in a container: a volume, no bind mount)",
        )
    _tell_of_layer(state, kind)


@cache
def _tell_of_layer(state: Path, kind: str) -> None:
    """Say, once, that the state goes with the container."""
    if is_layer(kind):
        from syncd.log import logger

        logger().warning(
            "state.in_container",
            path=str(state),
            file_system=kind,
            next="mount a volume there: results that MongoDB has not taken yet go with this container",
        )


def _check_uri(secret: Secret) -> None:
    from syncd.core.mongo_uri import read

    uri, troubles = read(secret.reveal())
    fatal = [trouble for trouble in troubles if trouble.fatal]
    if uri is None or fatal:
        raise ConfigError(
            f"the MongoDB URI in {secret.where} cannot be used: {'; '.join(each.seen for each in fatal)}",
            hint="\n".join(each.todo for each in fatal),
        )


@contextlib.contextmanager
def _metrics_folder(folder: Path, claims: Sequence[Claim]) -> Iterator[Path]:
    """Give an empty folder for the workers' numbers, of this supervisor alone; it goes with it."""
    from worker_glue.running.ids import unusable

    path = folder / f"metrics-{quote(claims[0].worker_id, safe='')}"  # whoever holds that id is its only user
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unusable(path, error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _served(address: tuple[str, int] | None, metrics: Path, supervisor: Supervisor) -> Iterator[None]:
    if address is None:
        yield
        return
    from syncd.log import logger
    from worker_glue.health.server import HealthServer

    server = HealthServer(address, metrics, supervisor.staff)
    logger().info("metrics.served", at=f"http://{address[0]}:{server.port}/metrics")
    try:
        yield
    finally:
        server.close()


@contextlib.contextmanager
def _held(settings: Settings, supervisor: Supervisor) -> Iterator[None]:
    """Hold this machine awake while there is work in hand, where the configuration wants it."""
    if not settings.host.keep_awake:
        yield
        return
    from syncd.log import logger
    from worker_glue.running.awake import daemon_answers, held, work_of

    with held(logger().info, lambda: work_of(supervisor.staff(), lambda: daemon_answers(settings.host.state_dir))):
        yield


class _Signals:
    """SIGTERM and SIGINT tell the supervisor, while it runs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.interrupted = False
        self._supervisor = supervisor
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or number == signal.SIGINT
        self._supervisor.stop()


def _log_to(path: Path) -> None:
    from syncd.config import expanded
    from syncd.log import log_to

    try:
        log_to(expanded(path))
    except OSError as error:
        problem = f"the log file {path} cannot be written: {error.strerror}"
        raise ConfigError(problem, hint="name another file") from error


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {WORKERS_MAX}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _address(text: str) -> tuple[str, int]:
    from syncd.config.values import address

    try:
        host, port = address(text, port_zero=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return host, port
