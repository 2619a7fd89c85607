"""How long, how often and how many: every bound of the worker in one place. Seconds (`_s`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from worker_glue.ports import Delivery

TASKS = "bulk_ocr_file_tasks"
ROOM = 20
"""How many tasks of one worker wait under touch, beside those that are worked on (RULES section 6)."""


class Limits(NamedTuple):
    """What the configuration says, and what it does not.

    topic: of the tasks, for copies. concurrency: OCR at a time. wait_for_source_s: how long a task waits for its file
    in all. exclusive, engine, providers: as in [worker]. pass_on_*: of what this worker cannot do. tries: starts of
    OCR of one task that may fail. requeues: deliveries of one message after which a copy is published instead,
    since older workers give up after 5.
    """

    engine: str
    topic: str = TASKS
    providers: Mapping[str, str] = {}
    concurrency: int = 1
    room: int = ROOM
    exclusive: bool = False
    missing_grace_s: float = 10.0
    wait_for_source_s: float = 86_400.0
    pass_on_delay_s: float = 30.0
    pass_on_for_s: float = 600.0
    tries: int = 3
    retry_delay_s: float = 10.0
    requeues: int = 3
    room_full_delay_s: float = 5.0
    owed_delay_s: float = 30.0
    owed_delay_max_s: float = 900.0
    ensure_s: float = 20.0
    status_every_s: float = 10.0
    hold_margin_s: float = 30.0
    copy_delay_s: float = 600.0
    publish_again_s: float = 2.0
    lost_leases: int = 5

    @property
    def in_flight(self) -> int:
        """Messages in hand at a time."""
        return self.concurrency + self.room

    def hold_left_s(self, delivery: Delivery) -> float:
        """Return how long a message may still be held before it has to be passed on; 0 = no longer.

        nsqd takes it back a little later in spite of touches (max-msg-timeout).
        """
        margin_s = min(self.hold_margin_s, delivery.hold_max_s / 4)
        return max(0.0, delivery.hold_max_s - margin_s - delivery.held_s)
