"""Groups of checks, each made in a thread of its own, so that a server that says nothing holds up nothing else."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from syncd.doctor.checks import Check, Group, fail

Work = Callable[[list[Check]], None]
"""Adds the checks it makes to the list as it goes."""


class Running:
    """One group while its checks are made."""

    def __init__(self, group: Group, work: Work, slots: threading.BoundedSemaphore | None = None) -> None:
        """Begin, as soon as a slot is free."""
        self._group = group
        self._work = work
        self._slots = slots or contextlib.nullcontext()
        self._checks: list[Check] = []
        self._bug: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, name=f"doctor {group.mirror or group.about}", daemon=True).start()

    def result(self, wait_s: float, whole_s: float) -> Group:
        """Return the checks; those made so far, and that it took longer than `whole_s`, after `wait_s`."""
        finished = self._done.wait(wait_s)
        if self._bug is not None:
            raise self._bug
        checks = list(self._checks)
        if not finished:
            todo = "look at what is slow above"
            if self._group.mirror:
                todo += f", or ask for this mirror alone: syncd doctor --mirror {shlex.quote(self._group.mirror)}"
            checks.append(fail("time", f"not finished within {whole_s:.0f} s; the rest was left out", todo))
        return replace(self._group, checks=checks)

    def _run(self) -> None:
        with self._slots:
            try:
                self._work(self._checks)
            except BaseException as error:  # noqa: BLE001 (raised again in the thread that asks for the result)
                self._bug = error
            finally:
                self._done.set()


def results(running: Sequence[Running], remaining_s: Callable[[], float], whole_s: float) -> Iterator[Group]:
    """Yield the groups in order; each is waited for as long as there is time left."""
    for each in running:
        yield each.result(max(remaining_s(), 0), whole_s)
