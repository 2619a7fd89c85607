"""One task in hand: what interrupts it, which message stands for it, and how it is, for those who look from outside."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from enum import Enum
from typing import Any

from worker_glue.flow.endings import Abandon, Ended
from worker_glue.model import Task
from worker_glue.ports import Delivery, Hold


class Call(Enum):
    """Why work on a task is interrupted."""

    CANCELLED = "cancelled"
    PAUSED = "paused"
    LEASE_LOST = "lease_lost"
    STOPPING = "stopping"


class Phase(Enum):
    """Where a task is."""

    LOOKING = "looking"
    WAITING = "waiting"
    QUEUED = "queued"
    OCR = "ocr"
    SAVING = "saving"


class Hand:
    """A task that is worked on. Thread-safe: its own thread works, the heartbeat and the control topic interrupt.

    missing_at: when its file was looked for in vain once, for whoever gets the task next.
    interrupted: set while there is a call that has not been answered, and the end of what runs in the engine's process.
    """

    def __init__(self, delivery: Delivery, task: Task) -> None:
        self.task = task
        self.phase = Phase.LOOKING
        self.hold: Hold | None = None
        self.interrupted = threading.Event()
        self.since = time.time()
        self.pages = (0, 0)
        self.missing_at: datetime | None = None
        self._lock = threading.Lock()
        self._delivery = delivery
        self._call: Call | None = None
        self._ended = False

    # --- its message

    @property
    def delivery(self) -> Delivery:
        """The message that stands for it now."""
        with self._lock:
            return self._delivery

    def adopt(self, delivery: Delivery) -> bool:
        """Take a redelivery in the place of a message that nsqd has again; False when this one is still in flight."""
        with self._lock:
            if self._ended or not self._delivery.lost:
                return False
            self._delivery = delivery
            return True

    def end(self) -> Delivery | None:
        """Return the message to be ended, once; from now on no other is adopted."""
        with self._lock:
            ended, self._ended = self._ended, True
            return None if ended else self._delivery

    # --- interruptions

    def call(self, call: Call) -> None:
        """Interrupt it. What stops the whole worker is not overruled by what concerns the task."""
        with self._lock:
            if self._call is not Call.STOPPING:
                self._call = call
            self.interrupted.set()

    def wake(self) -> None:
        """Have it look again at how its job is; ends no work."""
        with self._lock:
            if self._call is None and self.phase is Phase.WAITING:
                self.interrupted.set()

    def take_call(self) -> Call | None:
        """Return what interrupts it, and forget it (but for the end of the worker)."""
        with self._lock:
            call = self._call
            if call is not Call.STOPPING:
                self._call = None
                self.interrupted.clear()
            return call

    def sleep(self, seconds: float) -> None:
        """Wait, unless interrupted. Ends when nsqd has the message again and this one only waited."""
        self.interrupted.wait(max(0.0, seconds))
        if self.delivery.lost:
            raise Ended(Abandon())

    # --- for those who look

    def describe(self) -> dict[str, Any]:
        """Return {task, phase, since, pages_done, pages}."""
        done, known = self.pages
        path = self.task.file_path
        return {
            "task": path,
            "job_id": self.task.job_id,
            "phase": self.phase.value,
            "since": self.since,
            "pages_done": done,
            "pages": known,
        }
