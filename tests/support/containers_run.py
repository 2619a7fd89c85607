"""The containers' suite as one command: can this machine, the images, tests/containers; all of it within limits.

    python -m tests.support.containers_run [--left SECONDS] [pytest's arguments]

With --left it is the last step of .ci/run, which has that much time left: what does not fit is said in a line that
begins "CONTAINERS NOT TESTED", and is no failure; nor is a machine that cannot hold containers. A test that fails is, a
suite that takes longer than LIMIT_S too. The last line of the output sums it up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.support.containers import remove
from tests.support.containers_images import ROOT, BaseFailed, build_images, cached, make_base, trouble

LIMIT_S, BY_HAND_S = 360.0, 3600.0
"""No run takes longer: a suite that hangs is a failure."""
WHOLE_S, JOB_S, IMAGES_S = 200.0, 90.0, 120.0
"""What has to be left for the whole suite, its first test, images that are not there; measured: 93, 20 and 107 s."""
ENDING_S = 30.0
"""How long pytest may take to end its projects when it is stopped."""
JOB = "test_a_job_goes_through_both_projects"


class NotTested(Exception):
    """The suite cannot run here or now, and that is not the project's fault; the message says why."""


def main() -> int:
    """Run what there is time for; see the module."""
    parser = argparse.ArgumentParser(prog="containers_run", description=__doc__.splitlines()[0])
    parser.add_argument("--left", type=float, default=None, metavar="SECONDS")
    given, arguments = parser.parse_known_args()
    began = time.monotonic()
    left_s, limit_s = (BY_HAND_S, BY_HAND_S) if given.left is None else (given.left, LIMIT_S)
    try:
        code, said = _run(arguments, began + left_s, limit_s)
    except NotTested as error:
        code, said = (1 if given.left is None else 0), f"CONTAINERS NOT TESTED: {error}"
    except AssertionError as error:
        print(error, file=sys.stderr)
        code, said = 1, "containers: failed: an image was not built (see above)"
    print(f"{said} ({time.monotonic() - began:.0f} s)", flush=True)
    return code


def _run(arguments: Sequence[str], end: float, limit_s: float) -> tuple[int, str]:
    """Return the exit code and the line that sums it up."""
    _there_is_time(end, JOB_S, "one job")
    why = trouble()
    if why:
        raise NotTested(f"this machine cannot hold them: {why}")
    _images(end)
    left_s = _there_is_time(end, JOB_S, "one job")
    only = [] if left_s >= WHOLE_S else ["-k", JOB]
    what = "the whole suite" if not only else f"one job only, since {left_s:.0f} s are left"
    print(f"== containers: {what}", flush=True)
    limit_s = min(limit_s, left_s) - ENDING_S
    code = _pytest([*only, *arguments], limit_s)
    if code is None:
        return 1, f"containers: failed: stopped after {limit_s:.0f} s (see above what it was at)"
    return code, f"containers: {'passed' if code == 0 else 'failed'}: {what}"


def _there_is_time(end: float, needed_s: float, what: str) -> float:
    """Return how many seconds are left. Raises NotTested when they do not do."""
    left_s = end - time.monotonic()
    if left_s < needed_s:
        raise NotTested(f"{left_s:.0f} s are left, and {what} may need {needed_s:.0f}")
    return left_s


def _images(end: float) -> None:
    """Build the images, if there is time for them and one job. Raises NotTested, AssertionError."""
    if not cached():
        _there_is_time(end, IMAGES_S + JOB_S, "images and one job")
    print("== containers: images", flush=True)
    try:
        make_base(end - JOB_S)
        build_images(end - JOB_S)
    except BaseFailed as error:
        raise NotTested(f"Debian's packages cannot be had for the base image: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise NotTested("the images were not built in the time that was left for them") from error


def _pytest(arguments: Sequence[str], limit_s: float) -> int | None:
    """Return pytest's exit code, or None when it had to be stopped; nothing of its projects stays either way."""
    run = f"syncd-test-{secrets.token_hex(3)}"
    env = {**os.environ, "SYNCD_CONTAINERS": run}
    argv = [sys.executable, "-m", "pytest", "-v", "tests/containers", *arguments]
    with subprocess.Popen(argv, cwd=ROOT, env=env) as pytest:
        try:
            return pytest.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.send_signal(signal.SIGINT)  # its fixtures take the projects down
            try:
                pytest.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                pytest.kill()
            return None
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                remove(run)


if __name__ == "__main__":
    sys.exit(main())
