"""The worker: takes messages from NSQ, gives each a thread, and ends it as its task ended."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from syncd.core.errors import DiskFull, PublishFailed, SyncdError
from worker_glue.errors import StoreFailed
from worker_glue.flow.appetite import Appetite
from worker_glue.flow.endings import Abandon, Ending, Finish, GiveBack, PassOn, gentle
from worker_glue.flow.files import Room
from worker_glue.flow.hand import Call, Hand, Phase
from worker_glue.flow.heartbeat import Heartbeat
from worker_glue.flow.job_watch import JobWatch
from worker_glue.flow.limits import Limits
from worker_glue.flow.settling import Dead, Settling
from worker_glue.flow.settling import Worker as Who
from worker_glue.flow.witness import Witness
from worker_glue.flow.working import Tools, Working
from worker_glue.model import Task
from worker_glue.ports import Delivery, Files, Jobs, Publisher, Recognizer, Store
from worker_glue.tasks.parse import Malformed, read_task

PROMPT_S, STOP_OCR_S = 1.0, 3.0
"""At the end of a worker: for what only waits to go back by itself, and for OCR to be stopped."""


class Means(NamedTuple):
    """What a worker works with. recognizer: gives an engine's, by name. nudge: wakes whoever sends what is owed."""

    files: Files
    recognizer: Callable[[str], Recognizer]
    store: Store
    jobs: Jobs
    publisher: Publisher
    witness: Witness
    nudge: Callable[[], None] = lambda: None


class Worker:
    """One worker. take() is for the consumer, stop() for whoever started it; both from any thread.

    message_timeout_s: nsqd's, as its connection tells.
    """

    def __init__(
        self, worker_id: str, host: str, means: Means, limits: Limits, message_timeout_s: Callable[[], float]
    ) -> None:
        self.id = worker_id
        self.limits = limits
        self._means = means
        self._witness = means.witness
        self.jobs = JobWatch(means.jobs, means.witness)
        who = Who(worker_id, host)
        self._dead = Dead(means.publisher, means.store, who, means.witness)
        self._settling = Settling(means.store, self.jobs, self._dead, limits, means.witness, means.nudge)
        self.appetite = Appetite(limits)
        self._room = Room(limits.room, self.appetite.waiting)
        slots = threading.Semaphore(limits.concurrency)
        tools = Tools(
            who,
            means.files,
            means.recognizer,
            means.store,
            self.jobs,
            self._settling,
            self._dead,
            self._room,
            self.appetite,
            slots,
            limits,
            means.witness,
        )
        self._working = Working(tools)
        self._lock = threading.Condition()
        self._hands: dict[Any, Hand] = {}
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._stopping = False
        self.heartbeat = Heartbeat(
            self.hands, self.jobs, means.publisher, limits, means.witness, self.describe, message_timeout_s
        )
        self._threads = [
            threading.Thread(target=self._serve, name=f"task-{number}", daemon=True)
            for number in range(limits.in_flight + limits.concurrency)
        ]

    def start(self) -> None:
        """Begin: the heartbeat, and the threads that wait for messages."""
        self.heartbeat.start()
        for thread in self._threads:
            thread.start()

    def take(self, delivery: Delivery) -> None:
        """Take a message; returns at once."""
        self._arrived.put(delivery)

    def told(self, job_id: str, action: str) -> None:
        """A command came by the control topic. Blocks while MongoDB is asked."""
        self.jobs.told(job_id, action)
        self.heartbeat.job_changed(job_id, self.jobs.remembered(job_id))

    def stop(self, grace_s: float) -> None:
        """End: what only waits goes back at once, what is read has grace_s to come to its end, then goes back too.

        The consumer is not to deliver any more by then.
        """
        self._stopping = True
        for hand in self._idle():
            hand.call(Call.STOPPING)
        if not self._empty_within(min(grace_s, PROMPT_S)):
            for hand in self._idle():  # asked for a file, or for a job, and not answered yet
                self._end_hand(hand, GiveBack(0))
        if not self._empty_within(max(0.0, grace_s - PROMPT_S)):
            for hand in self.hands():
                hand.call(Call.STOPPING)
            self._empty_within(min(grace_s, STOP_OCR_S))
            for hand in self.hands():
                self._end_hand(hand, GiveBack(0))
        self.heartbeat.stop()
        for _ in self._threads:
            self._arrived.put(None)

    def hands(self) -> list[Hand]:
        """Return the tasks in hand."""
        with self._lock:
            return list(self._hands.values())

    def describe(self) -> dict[str, Any]:
        """Return how the worker is: {state, task, job_id, since, pages_done, pages, in_hand, waiting, done, failed,
        owed, mongo_away_s}."""
        hands = self.hands()
        shown = min(hands, key=lambda hand: (hand.phase is not Phase.OCR, hand.since), default=None)
        nobody = {"task": "", "job_id": "", "phase": "idle", "since": None, "pages_done": 0, "pages": 0}
        about = nobody if shown is None else shown.describe()
        phase = about.pop("phase")
        try:
            owed = self._means.store.counts().owed
        except SyncdError:
            owed = -1
        return {
            "state": "stopping" if self._stopping else phase,
            **about,
            "in_hand": len(hands),
            "waiting": self._room.waiting,
            "done": self._settling.done,
            "failed": self._settling.failed,
            "owed": owed,
            "mongo_away_s": round(self.jobs.away_s, 1),
        }

    # --- a thread

    def _serve(self) -> None:
        while (delivery := self._arrived.get()) is not None:
            self._one(delivery)

    def _one(self, delivery: Delivery) -> None:
        read = read_task(delivery.body)
        if isinstance(read, Malformed):
            self._malformed(delivery, read)
            return
        if self._stopping:
            self._end(delivery, GiveBack(0), read.body)
            return
        hand = self._claim(delivery, read)
        if isinstance(hand, Hand):
            self._end_hand(hand, self._working.work(hand))
        else:
            self._end(delivery, hand, read.body)

    def _claim(self, delivery: Delivery, task: Task) -> Hand | Ending:
        """Begin with a task. Of one that is in hand already, a redelivery takes the lost message's place; a second
        message is sent away until the first is done."""
        with self._lock:
            known = self._hands.get(task.key)
            if known is None:
                hand = self._hands[task.key] = Hand(delivery, task)
                return hand
            if known.adopt(delivery):
                return Abandon()
        return PassOn(task.body, self.limits.owed_delay_s)

    def _idle(self) -> list[Hand]:
        """Return the tasks that nothing is lost of when they go back now."""
        return [hand for hand in self.hands() if hand.phase not in (Phase.OCR, Phase.SAVING)]

    def _end_hand(self, hand: Hand, ending: Ending) -> None:
        """End a task's message, unless that was done before. Until it has ended, the task counts as in hand."""
        delivery = hand.end()
        if delivery is None:
            return
        try:
            self._end(delivery, ending, hand.task.body)
        finally:
            with self._lock:
                del self._hands[hand.task.key]
                self._lock.notify_all()

    def _malformed(self, delivery: Delivery, read: Malformed) -> None:
        self._witness.count("malformed")
        self._witness.event("task.malformed", message=delivery.id, why=read.why)
        ending: Ending = Finish()
        if read.task is not None:
            try:
                ending = self._working.malformed(read.task, read.why, delivery.id, delivery.attempts)
            except (StoreFailed, DiskFull) as error:
                self._witness.event("task.hindered", error=error.message, hint=error.hint)
                ending = GiveBack(self.limits.retry_delay_s)
        self._end(delivery, ending, delivery.body)

    def _end(self, delivery: Delivery, ending: Ending, body: bytes) -> None:
        match gentle(ending, delivery.attempts, self.limits.requeues, body):
            case Finish():
                delivery.finish()
            case GiveBack(delay_s):
                self._witness.count("requeued")
                delivery.requeue(delay_s)
            case PassOn(copy, delay_s):
                self._pass_on(delivery, copy, delay_s)
            case Abandon():
                pass

    def _pass_on(self, delivery: Delivery, body: bytes, delay_s: float) -> None:
        """Publish the copy, then finish. Where nsqd does not take it, try until it has the message again anyway."""
        while not delivery.lost:
            try:
                self._means.publisher.publish(self.limits.topic, body, delay_s)
            except PublishFailed as error:
                self._witness.event("pass_on.failed", error=error.message)
                if self._stopping:
                    return
                delivery.touch()
                time.sleep(self.limits.publish_again_s)
            else:
                delivery.finish()
                return

    def _empty_within(self, seconds: float) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: not self._hands, seconds)
