"""Hold this machine awake through a child that ends with us: caffeinate(8) on a Mac, systemd-inhibit(1) on Linux.

It keeps the machine from sleeping by itself, for want of use. The display may sleep, a closed lid and `pmset sleepnow`
work as ever. Nothing here raises: work goes on where the machine cannot be held.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from syncd.core.named import NamedTuple
from syncd.core.wakefulness import Wakefulness, Work

CAFFEINATE = "/usr/bin/caffeinate"
FOLDERS = "/usr/local/bin:/usr/bin:/bin"
STAYS_S = 0.2
"""A refusal of logind's takes a few hundredths of a second."""
LIVED_S = 10.0
"""A child that ended sooner was refused; one that lived longer was ended by somebody, and is started again."""
AGAIN_S = 600.0
"""So long after a refusal a way is tried again: a login session may be there by then."""
NONE_HERE = "there is neither caffeinate nor systemd-inhibit here"
END_S = 1.0
SAID_BYTES = 400


class Way(NamedTuple):
    """One way to hold this machine. what: it keeps from what. argv: the child.

    lifeline: it ends when its standard input does, else when this process does, whose pid it was told.
    """

    name: str
    what: str
    argv: Sequence[str]
    lifeline: bool = False


def ways(platform: str = sys.platform, env: Mapping[str, str] | None = None, caffeinate: str = CAFFEINATE) -> list[Way]:
    """Return the ways that this machine has, the best first."""
    if platform == "darwin":
        # -i: from idle sleep alone, on battery too; -w: until this process is gone, however it went
        argv = (caffeinate, "-i", "-w", str(os.getpid()))
        return [Way("caffeinate", "idle sleep", argv)] if os.access(caffeinate, os.X_OK) else []
    path = ":".join(filter(None, ((os.environ if env is None else env).get("PATH", ""), FOLDERS)))
    program, cat = shutil.which("systemd-inhibit", path=path), shutil.which("cat", path=path)
    if program is None or cat is None:
        return []
    # desktops put a machine to sleep by asking logind, which "sleep" stops and "idle" does not; without a session of
    # one's own at the machine only "idle" is granted
    return [
        Way("systemd-inhibit", what, (program, f"--what={what}", "--mode=block", *_WHO, cat), lifeline=True)
        for what in ("sleep:idle", "idle")
    ]


_WHO = ("--who=syncd", "--why=work on documents is in hand")


class Child:
    """The child that holds, while it lives."""

    def __init__(self, way: Way) -> None:
        """Start it. Raises OSError."""
        self.way = way
        passed = ("DBUS_SYSTEM_BUS_ADDRESS", "PATH")
        self._process = subprocess.Popen(
            way.argv,
            stdin=subprocess.PIPE if way.lifeline else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"LC_ALL": "C", **{name: os.environ[name] for name in passed if name in os.environ}},
            cwd="/",
            process_group=0,  # Ctrl-C ends us in order, and it afterwards
        )

    @property
    def lives(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def stays(self, seconds: float) -> bool:
        """Wait for so long; say whether it has not ended by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.lives

    def end(self) -> str:
        """End it, within seconds; return what it said about a failure of its own. Safe to repeat."""
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        for stop in (None if process.stdin is not None else process.terminate, process.terminate, process.kill):
            if stop is not None:
                stop()
            try:
                process.wait(END_S)
                break
            except subprocess.TimeoutExpired:
                continue
        return self._said()

    def _said(self) -> str:
        stderr = self._process.stderr
        if stderr is None or stderr.closed:
            return ""
        with stderr:
            os.set_blocking(stderr.fileno(), False)  # what it started may have it open still
            with contextlib.suppress(OSError):
                return " ".join(os.read(stderr.fileno(), SAID_BYTES).decode(errors="replace").split())
        return ""


class Holding(NamedTuple):
    """How this machine is held: since when (ISO 8601 UTC, "" = it is not), what for, by which program, from what.

    problem: why it cannot be held, or is held no more although there is work.
    """

    since: str = ""
    doing: Sequence[str] = ()
    by: str = ""
    what: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "held": bool(self.since),
            "since": self.since or None,
            "for": list(self.doing),
            "by": self.by or None,
            "from": self.what or None,
            "problem": self.problem,
        }


class Awake:
    """Holds this machine awake while there is work in hand that gets on. look() every few seconds, by one thread at a
    time; holding from any.

    event: told of what a log should have, as event(name, **fields). now: the time (ISO 8601 UTC).
    """

    def __init__(
        self,
        event: Callable[..., None],
        now: Callable[[], str],
        *,
        find: Callable[[], Sequence[Way]] = ways,
        decide: Wakefulness | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.holding = Holding()
        self._event = event
        self._now = now
        self._find = find
        self._decide = decide or Wakefulness()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._begun = self._since = 0.0
        self._refused: dict[Way, tuple[float, str]] = {}
        self._problem = ""

    def look(self, work: Work) -> None:
        """Begin to hold, hold on, or let go."""
        with self._lock:
            now, gave_up = self._monotonic(), self._decide.gave_up
            if self._decide.look(work, now):
                self._see_to_child(now)
                self._tell_held(work, now)
                return
            self._let_go()
            if self._decide.gave_up and not gave_up:
                self._event("awake.gave_up", after_s=round(self._decide.patience_s), work=", ".join(work.doing))
            why = f"held no more: nothing has got on for {self._decide.patience_s / 3600:.0f} h"
            self.holding = Holding(problem=why if self._decide.gave_up else self._problem)

    def close(self) -> None:
        """Let go; safe to repeat."""
        with self._lock:
            self._let_go()
            self.holding = Holding()

    def _tell_held(self, work: Work, now: float) -> None:
        if self._child is None:
            self.holding = Holding(problem=self._problem)
            return
        before, way = self.holding, self._child.way
        if not before.since:
            self._since = now
            self._event("awake.held", by=way.name, work=", ".join(work.doing))
        self.holding = Holding(before.since or self._now(), tuple(work.doing) or before.doing, way.name, way.what)

    def _let_go(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
            self._event("awake.let_go", held_s=round(self._monotonic() - self._since))

    def _see_to_child(self, now: float) -> None:
        """Have a child that lives, where one can be had; a way that was refused is not tried again for some time."""
        if self._child is not None:
            if self._child.lives:
                if now - self._begun >= LIVED_S:
                    self._problem = ""
                return
            said = self._child.end()
            if now - self._begun < LIVED_S:
                self._refused[self._child.way] = now + AGAIN_S, said
            self._child = None
        said = NONE_HERE
        for way in self._find():
            until, why = self._refused.get(way, (now, ""))
            if until <= now:
                self._child, why = _started(way)
                if self._child is not None:
                    self._begun = now
                    return
                self._refused[way] = now + AGAIN_S, why
            said = f"{way.name}: {why or 'it ended at once'}"
        self._cannot(said)

    def _cannot(self, said: str) -> None:
        problem = f"this machine cannot be held awake: {said}"
        if problem != self._problem:
            self._event("awake.impossible", said=said, next="syncd doctor")
        self._problem = problem


def attempt(find: Callable[[], Sequence[Way]] = ways) -> tuple[Way | None, str]:
    """Hold this machine for a moment; return by which way that can be done, or None and why it cannot."""
    why = NONE_HERE
    for way in find():
        child, said = _started(way)
        if child is not None:
            child.end()
            return way, ""
        why = f"{way.name}: {said or 'it ended at once'}"
    return None, why


def _started(way: Way) -> tuple[Child | None, str]:
    """Return a child that holds, or None and why there is none."""
    try:
        child = Child(way)
    except OSError as error:
        return None, f"{way.argv[0]} cannot be started: {error.strerror}"
    return (child, "") if child.stays(STAYS_S) else (None, child.end())
