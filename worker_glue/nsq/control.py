"""Commands to all workers: pause, resume, cancel."""

from __future__ import annotations

import json
import logging
import queue
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Self

from worker_glue.nsq.connection import PATIENCE, Patience
from worker_glue.nsq.consumer import Consumer
from worker_glue.nsq.readers import CLOSE_TIMEOUT_S, Reading
from worker_glue.nsq.where import Where
from worker_glue.ports import Delivery

TOPIC = "bulk_ocr_control"
ACTIONS = ("pause", "resume", "cancel")
IN_FLIGHT = 20
BODY_BYTES_MAX = 64 << 10
PENDING_MAX = 1_000
_EPHEMERAL = "#ephemeral"
_NAME_MAX = 64 - len(_EPHEMERAL) - 9


class Control:
    """Reads the control topic on a channel of this worker's own, which goes with it: each worker gets every command.

    A command may be old (a topic without any channel keeps what comes), may come twice, and one that is given while the
    connection is cut never comes: it is a hint to look at how the job is. Anything else on the topic is passed over.

    on: called with job id and action, one after the other, in a thread of ours that it may block for a while.
    """

    def __init__(
        self,
        where: Where,
        worker_id: str,
        on: Callable[[str, str], None],
        *,
        topic: str = TOPIC,
        say: Callable[[str], None] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self.channel = channel_of(worker_id)
        self._on = on
        self._say = say or logging.getLogger("worker_glue").warning
        self._pending: queue.Queue[tuple[str, str] | None] = queue.Queue(PENDING_MAX)
        self._thread = threading.Thread(target=self._pass_on, name="nsq-control", daemon=True)
        self._thread.start()
        self._consumer = Consumer(
            topic,
            self.channel,
            where,
            self._take,
            in_flight=IN_FLIGHT,
            name=worker_id,
            say=self._say,
            patience=patience,
        )

    @property
    def state(self) -> Sequence[Reading]:
        """How it is with each nsqd."""
        return self._consumer.state

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the connections and, once `on` has returned, the thread; safe to repeat."""
        self._consumer.close(timeout_s)
        try:
            self._pending.put_nowait(None)
        except queue.Full:
            return
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, delivery: Delivery) -> None:
        command = _command(delivery.body)
        if command is not None:
            try:
                self._pending.put_nowait(command)
            except queue.Full:  # how the job is will be seen all the same
                self._say(f"too many commands at once: {command[1]} of job {command[0]} is passed over")
        delivery.finish()

    def _pass_on(self) -> None:
        while (command := self._pending.get()) is not None:
            try:
                self._on(*command)
            except Exception as error:  # noqa: BLE001  (the next command is to come through)
                self._say(f"{command[1]} of job {command[0]}: {error!r}")


def channel_of(worker_id: str) -> str:
    """Return a name for an ephemeral channel that nobody else has: NSQ's characters, at most 64."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", worker_id)[:_NAME_MAX]
    return f"{readable}-{secrets.token_hex(4)}{_EPHEMERAL}"


def _command(body: bytes) -> tuple[str, str] | None:
    """Return job id and action; None for a body that is no command."""
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    job_id, action = (told.get("job_id"), told.get("action")) if isinstance(told, dict) else (None, None)
    if not isinstance(job_id, str) or not job_id or action not in ACTIONS:
        return None
    return job_id, str(action)
