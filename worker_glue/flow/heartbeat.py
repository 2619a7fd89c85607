"""The heartbeat: touches every message in hand, renews every lease, notices what concerns the tasks, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from syncd.core.errors import PublishFailed
from worker_glue.flow.hand import Call, Hand, Phase
from worker_glue.flow.job_watch import JobWatch
from worker_glue.flow.limits import Limits
from worker_glue.flow.rules import CANCELLED, PAUSED
from worker_glue.flow.witness import Witness
from worker_glue.ports import Publisher

BEAT_S = 2.0
TOUCHES = 3
"""So many touches fit into the message time-out."""


class Heartbeat:
    """Two threads: one that touches and renews, which nothing delays, and one that asks how the jobs are."""

    def __init__(
        self,
        hands: Callable[[], Sequence[Hand]],
        jobs: JobWatch,
        publisher: Publisher,
        limits: Limits,
        witness: Witness,
        describe: Callable[[], dict[str, Any]],
        message_timeout_s: Callable[[], float],
    ) -> None:
        self._hands = hands
        self._jobs = jobs
        self._publisher = publisher
        self._limits = limits
        self._witness = witness
        self._describe = describe
        self._message_timeout_s = message_timeout_s
        self._stopped = threading.Event()
        self._copied: set[str] = set()
        self._threads = [
            threading.Thread(target=self._touching, name="heartbeat", daemon=True),
            threading.Thread(target=self._asking, name="job-watch", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; returns at once."""
        self._stopped.set()

    # --- touching and renewing

    def _touching(self) -> None:
        touched = 0.0
        while not self._stopped.is_set():
            every_s = self._message_timeout_s() / TOUCHES
            if time.monotonic() - touched >= every_s:
                touched = time.monotonic()
                for hand in self._hands():
                    self._keep(hand)
            self._witness.beat(self._describe())
            self._stopped.wait(min(BEAT_S, every_s / 2))

    def _keep(self, hand: Hand) -> None:
        hand.delivery.touch()
        hold = hand.hold
        if hold is not None and not hold.renew():
            hand.call(Call.LEASE_LOST)

    # --- asking

    def _asking(self) -> None:
        while not self._stopped.wait(self._limits.status_every_s):
            for hand in self._hands():
                if hand.phase is Phase.OCR:
                    self._outlive(hand)
            for job_id in {hand.task.job_id for hand in self._hands() if hand.phase is Phase.OCR}:
                self.job_changed(job_id, self._jobs.refresh(job_id))

    def job_changed(self, job_id: str, status: str | None) -> None:
        """Interrupt the tasks of a job that was paused or cancelled; have those that wait look again."""
        call = {PAUSED: Call.PAUSED, CANCELLED: Call.CANCELLED}.get(status or "")
        for hand in self._hands():
            if hand.task.job_id == job_id:
                if call is not None and hand.phase is not Phase.SAVING:
                    hand.call(call)
                else:
                    hand.wake()

    def _outlive(self, hand: Hand) -> None:
        """Before nsqd takes a message back whatever is touched: a copy for later takes its place, and OCR goes on.

        When the copy comes, the guard says that the task is done, or its work still goes on and it is sent away again.
        """
        delivery = hand.delivery
        margin_s = min(self._limits.hold_margin_s, delivery.hold_max_s / 4)
        if delivery.lost or delivery.id in self._copied or delivery.held_s < delivery.hold_max_s - 2 * margin_s:
            return
        try:
            self._publisher.publish(self._limits.topic, hand.task.body, self._limits.copy_delay_s)
        except PublishFailed as error:
            self._witness.event("copy.failed", path=hand.task.file_path, error=error.message)
            return
        delivery.finish()
        self._copied.add(delivery.id)
        self._witness.event("task.long", path=hand.task.file_path, copy_in_s=self._limits.copy_delay_s)
