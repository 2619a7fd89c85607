"""Starts the workers of this host as processes, starts one again that dies or hangs, and ends them together.

Each worker's standard input is a pipe that nobody writes to: when this process is gone, however it went, its end is the
sign for the workers to end too.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from syncd.client.heartbeats import LATE_S, Seen, read
from worker_glue.health.staff import Staff
from worker_glue.running.ids import Claim

CONFIGURATION = (2, 12)
"""Exit codes of a worker that starting again would only repeat (RULES section 8)."""
KILL_WAIT_S = 10.0


class Pace(NamedTuple):
    """Seconds. grace: for what is in hand when told to end. hung: without a heartbeat, then a worker is killed.

    restart, restart_max: the pause before a worker is started again, doubling; forgotten once one has lived.
    """

    grace_s: float = 25.0
    hung_s: float = LATE_S
    restart_s: float = 1.0
    restart_max_s: float = 60.0
    lived_s: float = 60.0
    look_s: float = 0.2
    beat_look_s: float = 2.0


PACE = Pace()


class Post:
    """One worker's place: its id, the process that fills it, and when it is to be filled again."""

    def __init__(self, claim: Claim, pace: Pace) -> None:
        self.claim = claim
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.down = ""
        self.done = False
        self.due = 0.0
        self._pace = pace
        self._pause_s = pace.restart_s
        self._started = 0.0
        self._heard: tuple[int, int] = (0, 0)
        self._quiet_s = 0.0

    @property
    def id(self) -> str:
        """The worker's id."""
        return self.claim.worker_id

    def start(self, command: Sequence[str], env: Mapping[str, str], now: float) -> None:
        """Start the process; in a group of its own, so that Ctrl-C reaches it through us alone."""
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=env, pass_fds=(self.claim.descriptor,), process_group=0
        )
        self._started, self._quiet_s, self._heard, self.down = now, 0.0, (0, 0), ""

    def ended(self) -> int | None:
        """Return the exit code of a process that has ended (negative: the signal); None where there is none."""
        if self.process is None or self.process.poll() is None:
            return None
        code = self.process.returncode
        _close(self.process)
        self.process = None
        return int(code)

    def again(self, why: str, now: float) -> float:
        """Plan the next start; return the pause before it."""
        if now - self._started >= self._pace.lived_s:
            self._pause_s = self._pace.restart_s
        pause_s = self._pause_s * random.uniform(0.8, 1.2)  # noqa: S311  (jitter)
        self._pause_s = min(2 * self._pause_s, self._pace.restart_max_s)
        self.due, self.down = now + pause_s, why
        self.restarts += 1
        return pause_s

    def hangs(self, folder: Path, looked_s: float) -> bool:
        """Say whether its heartbeat has stood still for too long; counted in the time in which we looked ourselves."""
        beat = read(folder, self.id)
        heard = (0, 0) if beat is None else (beat.pid, beat.number)
        self._quiet_s = 0.0 if heard != self._heard else self._quiet_s + looked_s
        self._heard = heard
        return self._quiet_s >= self._pace.hung_s

    def signal(self, number: int) -> None:
        """Tell the worker something; SIGKILL ends all of its group."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)


class Supervisor:
    """run() in the main thread; stop() may be called by a signal handler; staff() by any thread.

    command: makes a worker's command line from its claim. event: told what happens. finished_is_done: a worker that
    ends with 0 is not started again (--once-idle).
    """

    def __init__(
        self,
        claims: Sequence[Claim],
        command: Callable[[Claim], Sequence[str]],
        env: Mapping[str, str],
        folder: Path,
        event: Callable[..., None],
        pace: Pace = PACE,
        *,
        finished_is_done: bool = False,
    ) -> None:
        self._posts = [Post(claim, pace) for claim in claims]
        self._command = command
        self._env = env
        self._folder = folder
        self._event = event
        self._pace = pace
        self._finished_is_done = finished_is_done
        self._stops = 0
        self._code = 0
        self._looked = 0.0

    def stop(self) -> None:
        """End: the workers finish or give back what is in hand. A second time: they are killed."""
        self._stops += 1

    def staff(self) -> Staff:
        """Say how the workers are."""
        seen = [Seen(post.id, post.process is not None, read(self._folder, post.id)) for post in self._posts]
        down = {post.id: post.down for post in self._posts if post.down and post.process is None}
        return Staff(seen, {post.id: post.restarts for post in self._posts}, down)

    def run(self) -> int:
        """Keep the workers up until told to end, or until one says that the configuration is wrong; the exit code."""
        try:
            while not self._stops and self._code == 0 and not all(post.done for post in self._posts):
                self._look(time.monotonic())
                time.sleep(self._pace.look_s)
        finally:
            self._end()
        return self._code

    # --- keeping up

    def _look(self, now: float) -> None:
        for post in self._posts:
            code = post.ended()
            if code is not None:
                self._ended(post, code, now)
            elif post.process is None and not post.done and now >= post.due:
                self._start(post, now)
        looked_s = now - self._looked
        if looked_s >= self._pace.beat_look_s:
            self._looked = now
            self._look_at_beats(min(looked_s, 2 * self._pace.beat_look_s))

    def _start(self, post: Post, now: float) -> None:
        try:
            post.start(self._command(post.claim), self._env, now)
        except OSError as error:  # no memory, no processes left
            pause_s = post.again(f"cannot be started: {error.strerror or error}", now)
            self._event("worker.not_started", worker=post.id, error=str(error), again_in_s=round(pause_s, 1))
        else:
            pid = post.process.pid if post.process else 0
            self._event("worker.started", worker=post.id, pid=pid, restarts=post.restarts)

    def _ended(self, post: Post, code: int, now: float) -> None:
        if code in CONFIGURATION:
            self._code = code
            self._event("worker.unusable", worker=post.id, exit_code=code)
        elif code == 0 and self._finished_is_done:
            post.done = True
        else:
            why = f"killed by {_name(-code)}" if code < 0 else f"ended with exit code {code}"
            pause_s = post.again(why, now)
            self._event("worker.ended", worker=post.id, why=why, again_in_s=round(pause_s, 1))

    def _look_at_beats(self, looked_s: float) -> None:
        for post in self._posts:
            if post.process is not None and post.hangs(self._folder, looked_s):
                self._event("worker.hung", worker=post.id, silent_s=round(self._pace.hung_s))
                post.signal(signal.SIGKILL)

    # --- the end

    def _end(self) -> None:
        """End all workers within the grace; whoever is left by then, or at a second signal, is killed."""
        asked, until = self._stops, time.monotonic() + self._pace.grace_s
        for post in self._posts:
            post.signal(signal.SIGTERM)
        while self._alive() and time.monotonic() < until and self._stops <= max(asked, 1):
            time.sleep(min(self._pace.look_s, 0.05))
        for post in self._alive():
            self._event("worker.killed", worker=post.id, why="it did not end in time")
            post.signal(signal.SIGKILL)
        until = time.monotonic() + KILL_WAIT_S
        while self._alive() and time.monotonic() < until:
            time.sleep(0.02)
        for post in self._posts:
            if post.process is not None:
                _close(post.process)
            post.claim.release(self._folder)

    def _alive(self) -> list[Post]:
        return [post for post in self._posts if post.process is not None and post.process.poll() is None]


def _close(process: subprocess.Popen[Any]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
