"""Ask many hosts at once: so many at a time, each within its time, none held up by another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from syncd.config import RemoteSettings
from syncd.core.errors import SyncdError
from syncd.remote.errors import HostUnreachable
from syncd.remote.running import Host

Answer = TypeVar("Answer")

PARALLEL = 16
_LOOK_S = 0.2


class Outcome(NamedTuple, Generic[Answer]):
    """What came of one host: an answer, or an error."""

    remote: RemoteSettings
    answer: Answer | None
    error: SyncdError | None
    seconds: float


class _Asking(threading.Thread, Generic[Answer]):
    """One host while it is asked."""

    def __init__(self, host: Host, work: Callable[[Host], Answer], done: queue.Queue[str]) -> None:
        super().__init__(name=f"remote {host.remote.name}", daemon=True)
        self.host = host
        self.began = time.monotonic()
        self.answer: Answer | None = None
        self.error: SyncdError | None = None
        self.bug: BaseException | None = None
        self._work = work
        self._done = done

    def run(self) -> None:
        try:
            self.answer = self._work(self.host)
        except SyncdError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that asks for the outcome)
            self.bug = error
        finally:
            self._done.put(self.host.remote.name)


def ask(
    hosts: Sequence[Host],
    work: Callable[[Host], Answer],
    within_s: float,
    *,
    parallel: int = PARALLEL,
    keep: bool = False,
    told: Callable[[Outcome[Answer]], None] = lambda _outcome: None,
) -> list[Outcome[Answer]]:
    """Do the work on every host, `parallel` at a time; return the outcomes in the order of `hosts`.

    within_s: what one host may take in all; one whose own deadlines fail (the look-up of its name has none) is left
    behind then. keep: leave the connections open, for the caller to close. told: called in this thread for each
    outcome, as it comes.
    """
    waiting, running = list(reversed(hosts)), dict[str, _Asking[Answer]]()
    done: queue.Queue[str] = queue.Queue()
    found: dict[str, Outcome[Answer]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                host = waiting.pop()
                running[host.remote.name] = _Asking(host, work, done)
                running[host.remote.name].start()
            for name in _finished(running, done, within_s):
                asking = running.pop(name)
                found[name] = _outcome(asking, within_s)
                if not keep:
                    asking.host.close()
                told(found[name])
    finally:
        for asking in running.values():
            asking.host.close()
    return [found[host.remote.name] for host in hosts]


def _finished(running: dict[str, _Asking[Answer]], done: queue.Queue[str], within_s: float) -> list[str]:
    """Wait a little; return who has finished, and who is overdue."""
    try:
        name = done.get(timeout=_LOOK_S)
    except queue.Empty:
        now = time.monotonic()
        return [name for name, asking in running.items() if now - asking.began > within_s]
    return [name] if name in running else []


def _outcome(asking: _Asking[Answer], within_s: float) -> Outcome[Answer]:
    remote, seconds = asking.host.remote, time.monotonic() - asking.began
    if asking.bug is not None:
        raise asking.bug
    if asking.answer is None and asking.error is None:
        asking.host.close()
        late = HostUnreachable(f"{remote.address}: no answer within {within_s:.0f} s")
        return Outcome(remote, None, late, seconds)
    return Outcome(remote, asking.answer, asking.error, seconds)
