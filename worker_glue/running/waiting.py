"""`worker-glue run --wait-for-config`: what a person has to mend is said once, waited for, and then gone on with.

A restart policy would start a container again and again for it; so the process stays up, without workers and unhealthy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from syncd.config import Settings
from syncd.core.errors import ConfigError
from syncd.log import logger
from worker_glue.errors import OcrFailed
from worker_glue.running.supervisor import CONFIGURATION

RETRY_S = 2.0
WORKERS_RETRY_S, WORKERS_RETRY_MAX_S = 5.0, 60.0
"""Workers that say that they can never work so are started again more and more seldom: each says why anew."""


def wait_and_work(work: Callable[[], int], sleep: Callable[[float], None] = time.sleep) -> int:
    """Return what work() returns, once it ends for another reason than what it was told to work with.

    work() raises ConfigError for what it finds itself, and returns 2 or 12 where a worker found it.
    """
    said: tuple[str, ...] = ()
    pause_s = WORKERS_RETRY_S
    while True:
        began = time.monotonic()
        try:
            code = work()
        except ConfigError as error:
            problems = (error.message, *error.problems)
            if problems != said:
                said = problems
                logger().error("config.unusable", error=error.message, problems=list(error.problems), hint=error.hint)
            sleep(RETRY_S)
            continue
        if code not in CONFIGURATION:
            return code
        if time.monotonic() - began > WORKERS_RETRY_MAX_S:
            pause_s = WORKERS_RETRY_S
        problem = f"a worker ended with exit code {code}: the lines above say why"
        logger().error("config.unusable", error=problem, again_in_s=pause_s)
        sleep(pause_s)
        said, pause_s = (), min(2 * pause_s, WORKERS_RETRY_MAX_S)


def check_engine(settings: Settings) -> None:
    """Start the OCR engine and end it again, so that one that is missing is said once and not by each worker.

    Raises: ConfigError.
    """
    from worker_glue.ocr.runner import Runner

    worker = settings.worker
    try:
        with Runner(worker.engine, worker.engines.get(worker.engine, {})) as runner:
            runner.start()
    except OcrFailed as error:
        raise ConfigError(error.message, hint=error.hint) from error
