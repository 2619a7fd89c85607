"""What a worker does with one message, from its body to its end, in the order of RULES section 6.

Straight down: parse, owed?, job, provider, file, slot, lease, OCR, outcome. Whatever ends it early raises Ended.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from syncd.core.errors import DiskFull, SyncdError
from syncd.core.resolution import Resolution
from worker_glue.errors import OcrFailed, OcrRefused, OcrStopped, StoreFailed
from worker_glue.flow.appetite import Appetite
from worker_glue.flow.endings import Abandon, Ended, Ending, Finish, GiveBack, PassOn
from worker_glue.flow.files import Failure, FileWait, Room
from worker_glue.flow.hand import Call, Hand, Phase
from worker_glue.flow.job_watch import JobWatch
from worker_glue.flow.limits import Limits
from worker_glue.flow.rules import CANCELLED, PAUSED, waiting_since, with_missing_at, with_waiting_since
from worker_glue.flow.settling import Dead, Settling, Worker, utc_now
from worker_glue.flow.witness import Witness
from worker_glue.model import NOBODYS, OcrRequest, Outcome, Recognized, SourceOf, Task
from worker_glue.ports import Files, Hold, Recognizer, Store
from worker_glue.tasks import entries, providers
from worker_glue.tasks.parse import passed_on


class _Again(Exception):
    """The file has to be had once more. lost: its version was not protected to the end."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__(lost)
        self.lost = lost


class _Done(NamedTuple):
    """What became of a task. dead: the reason for which the dead topic gets it too, "" = it does not."""

    outcome: Outcome
    dead: str = ""
    tries: int = 0


class Tools(NamedTuple):
    """What work is done with."""

    worker: Worker
    files: Files
    recognizer: Callable[[str], Recognizer]
    store: Store
    jobs: JobWatch
    settling: Settling
    dead: Dead
    room: Room
    appetite: Appetite
    slots: threading.Semaphore
    limits: Limits
    witness: Witness


class _Turn:
    """A slot that was taken, given on as soon as OCR is over: what comes after, the next task need not wait for.

    worked: whether it counts as work on a task: a file that was not there does not.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._began = time.monotonic()
        self._over = False
        self.worked = False

    def __enter__(self) -> None:
        """OCR begins."""

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Give the slot on; safe to repeat."""
        if self._over:
            return
        self._over = True
        self._tools.slots.release()
        if self.worked:
            self._tools.appetite.worked(time.monotonic() - self._began)


class Working:
    """Works on tasks; one call a task, any number of threads."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._limits = tools.limits
        self._files = FileWait(tools.files, tools.room, tools.limits, tools.witness)

    def work(self, hand: Hand) -> Ending:
        """Bring a task to its outcome; how its message ends."""
        try:
            return self._work(hand)
        except Ended as ended:
            return ended.ending
        except Failure as failure:
            return self._settle(hand, self._error(hand, failure, NOBODYS))
        except SyncdError as error:  # the store, a lease, the disk: nothing about the task, so nothing is counted
            self._tools.witness.event("task.hindered", path=hand.task.file_path, error=error.message, hint=error.hint)
            return GiveBack(self._limits.retry_delay_s)
        except Exception as error:  # noqa: BLE001  (a bug costs this task some tries, and no other anything)
            return self._bug(hand, error)

    def malformed(self, task: Task, why: str, message_id: str, attempts: int) -> Ending:
        """Record that a message that names its job is no task, so that the job can still end."""
        outcome = entries.error(task, why, message_id=message_id, worker_id=self._tools.worker.id, now=utc_now(),
                                reason="malformed")  # fmt: skip
        return self._tools.settling.settle(task, outcome, attempts)

    def _work(self, hand: Hand) -> Ending:
        owed = self._tools.store.owed(hand.task.key)
        if owed is not None:
            return self._tools.settling.deliver(hand.task, owed)
        self._look(hand)
        engine = self._engine(hand)
        lost = 0
        while lost < self._limits.lost_leases:
            try:
                done = self._at_once(hand, engine) or self._when_ready(hand, engine)
            except _Again as again:
                lost += again.lost
            else:
                return self._settle(hand, done) if isinstance(done, _Done) else done
            self.check(hand)
        raise Failure("the file kept changing while it was read", "changed_while_read", dead=True)

    # --- the job

    def _look(self, hand: Hand) -> None:
        """Ask whether the task is still to be done. While MongoDB is away, what was heard last has to do."""
        task, tools = hand.task, self._tools
        look = tools.jobs.look(task)
        if look is None:
            self._room_for_owed(hand)
            self._obey(hand, tools.jobs.remembered(task.job_id) or "")
            return
        if look.status is None:
            tools.dead.send(task.body, "unknown_job", f"there is no job {task.job_id}", hand.delivery.attempts)
            raise Ended(Finish())
        if not look.open:
            tools.witness.count("done_before")
            raise Ended(Finish())
        self._obey(hand, look.status)

    def _room_for_owed(self, hand: Hand) -> None:
        """While too much is owed, or the disk has no room for more, nothing new is begun."""
        why = self._tools.store.full()
        if why:
            self._tools.witness.event("work.halted", why=why)
            raise Ended(PassOn(hand.task.body, self._limits.owed_delay_s))

    def check(self, hand: Hand) -> None:
        """Look whether the task is still to be worked on, here and now. Raises Ended."""
        call = hand.take_call()
        if call is Call.STOPPING:
            raise Ended(GiveBack(0))
        self._hold_time(hand)
        status = self._tools.jobs.refresh(hand.task.job_id)
        if status is not None:
            self._obey(hand, status)

    def _hold_time(self, hand: Hand, *, paused: bool = False) -> None:
        """Pass a task on before nsqd takes it back in spite of touches (max-msg-timeout)."""
        delivery = hand.delivery
        if delivery.lost:
            raise Ended(Abandon())
        if not self._limits.hold_left_s(delivery):
            body = hand.task.body
            if hand.phase is Phase.WAITING and not paused:
                body = with_waiting_since(body, waiting_since(body) or hand.since)
                body = with_missing_at(body, hand.missing_at)
            raise Ended(PassOn(body, self._limits.room_full_delay_s))

    def _obey(self, hand: Hand, status: str) -> None:
        """End a task of a cancelled job; hold one of a paused job until it goes on."""
        if status == CANCELLED:
            self._tools.witness.count("cancelled")
            raise Ended(Finish())
        if status != PAUSED:
            return
        if hand.phase is Phase.WAITING:
            self._pause(hand)
            return
        with self._tools.room.place(hand, self._limits.pass_on_delay_s, paused=True):
            self._pause(hand)

    def _pause(self, hand: Hand) -> None:
        while True:
            hand.sleep(min(self._limits.status_every_s, self._limits.hold_left_s(hand.delivery)))
            if hand.take_call() is Call.STOPPING:
                raise Ended(GiveBack(0))
            self._hold_time(hand, paused=True)
            status = self._tools.jobs.refresh(hand.task.job_id)
            if status == CANCELLED:
                self._tools.witness.count("cancelled")
                raise Ended(Finish())
            if status != PAUSED:
                return

    def _engine(self, hand: Hand) -> str:
        """Return who reads it. What this worker cannot do is left to a neighbour; if nobody can for long, it fails."""
        task, limits = hand.task, self._limits
        engine = providers.engine_for(task, limits.providers, limits.engine)
        if engine is not None:
            return engine
        passed_s = 0.0 if task.passed_since is None else time.time() - task.passed_since
        if limits.exclusive or passed_s >= limits.pass_on_for_s:
            raise Failure(providers.nobody(task, limits.engine), "no_provider")
        self._tools.witness.count("passed_on")
        raise Ended(PassOn(passed_on(task, time.time()), limits.pass_on_delay_s))

    # --- the work

    def _at_once(self, hand: Hand, engine: str) -> _Done | Ending | None:
        """Work on the task without asking for its file first; None when its turn, or its file, is not there yet.

        Where tasks are quick the lease is taken before the turn comes, else in it: nothing is pinned for long unread.
        """
        if self._tools.appetite.is_quick:
            return self._held(hand, engine, lambda: self._until_turn(hand, self._again))
        if not self._tools.slots.acquire(blocking=False):
            return None
        turn = _Turn(self._tools)
        try:
            return self._held(hand, engine, lambda: turn)
        finally:
            turn.end()

    def _when_ready(self, hand: Hand, engine: str) -> _Done | Ending:
        """Have the file brought while others are read, then work on the task when it is its turn."""
        self._files.ready(hand, self.check)
        turn = self._until_turn(hand, self.check)
        try:
            done = self._held(hand, engine, lambda: turn)
        finally:
            turn.end()
        if done is None:  # it changed since it was resolved
            raise _Again(lost=True)
        return done

    def _until_turn(self, hand: Hand, check: Callable[[Hand], None]) -> _Turn:
        """Wait for a slot. check: called when something interrupts that."""
        hand.phase = Phase.QUEUED
        while not self._tools.slots.acquire(timeout=0.5):
            if hand.interrupted.is_set() or hand.delivery.lost:
                check(hand)
            self._hold_time(hand)
        return _Turn(self._tools)

    def _again(self, _hand: Hand) -> None:
        """Let the slot and the lease go before the interruption is looked at: a job may be paused for hours."""
        raise _Again(lost=False)

    def _held(self, hand: Hand, engine: str, turn_of: Callable[[], _Turn]) -> _Done | Ending | None:
        """Work on the task under a lease, in the turn that comes; None: its file is not there."""
        if hand.interrupted.is_set():
            self._again(hand)
        hold = self._tools.files.hold(hand.task.file_path)
        if isinstance(hold, Resolution):
            return None
        hand.hold = hold
        try:
            turn = turn_of()
            turn.worked = True
            try:
                if hand.interrupted.is_set():
                    self._again(hand)
                hand.phase = Phase.OCR
                return self._read(hand, hold, engine, turn)
            finally:
                turn.end()
        finally:
            hand.hold, hand.phase = None, Phase.LOOKING
            hold.release()

    def _read(self, hand: Hand, hold: Hold, engine: str, turn: _Turn) -> _Done | Ending:
        tries = self._tools.store.begin(hand.task.key)
        source = SourceOf(hold.server_path, hold.sha256, hold.generation, hold.size)
        if tries >= self._limits.tries:
            error = f"given up: OCR of this file began {tries} times and never came to an end"
            return self._error(hand, Failure(error, "kills_worker", dead=True), source, tries)
        began = time.monotonic()
        try:
            with turn:
                recognized = self._recognize(hand, hold, engine)
        except OcrRefused as error:
            return self._error(hand, Failure(error.message, "unreadable"), self._intact(hand, hold, source), tries)
        except OcrStopped:
            return self._stopped(hand)
        except OcrFailed as error:
            return self._failed(hand, error, source, tries + 1)
        took_s = time.monotonic() - began
        self._intact(hand, hold, source)
        self._tools.witness.observe("ocr", took_s)
        self._tools.witness.count("pages", len(recognized.pages))
        outcome = entries.result(
            hand.task,
            recognized,
            source,
            message_id=hand.delivery.id,
            worker_id=self._tools.worker.id,
            took_s=took_s,
            retries=tries,
            now=utc_now(),
        )
        return _Done(outcome)

    def _recognize(self, hand: Hand, hold: Hold, engine: str) -> Recognized:
        def progress(done: int, known: int) -> None:
            hand.pages = (done, known)

        task = hand.task
        request = OcrRequest(hold.local_path, task.languages, task.handwriting)
        return self._tools.recognizer(engine).recognize(request, hand.interrupted, progress)

    def _intact(self, hand: Hand, hold: Hold, source: SourceOf) -> SourceOf:
        """Return the source once it is certain that all was read from it; else the work is done again."""
        lost = hand.take_call() is Call.LEASE_LOST
        if lost or not hold.release():
            self._forgive(hand.task)
            self._tools.witness.event("lease.lost", job_id=hand.task.job_id, path=hand.task.file_path)
            raise _Again(lost=True)
        return source

    def _stopped(self, hand: Hand) -> Ending:
        """OCR was interrupted: by whom decides what becomes of the task."""
        self._forgive(hand.task)
        call = hand.take_call()
        if call is Call.LEASE_LOST:
            raise _Again(lost=True)
        if call is Call.STOPPING:
            return GiveBack(0)
        if call is Call.CANCELLED:
            self._tools.witness.count("cancelled")
            return Finish()
        raise _Again(lost=False)  # paused, or woken for nothing: the next look at the job tells

    def _forgive(self, task: Task) -> None:
        with suppress(StoreFailed, DiskFull):
            self._tools.store.forgive(task.key)

    # --- what fails

    def _failed(self, hand: Hand, error: OcrFailed, source: SourceOf, tries: int) -> _Done | Ending:
        if tries >= self._limits.tries:
            return self._error(hand, Failure(error.message, "ocr_failed", dead=True), source, tries)
        self._tools.witness.count("retries")
        self._tools.witness.event("task.retry", path=hand.task.file_path, error=error.message, tries=tries)
        return GiveBack(self._limits.retry_delay_s)

    def _bug(self, hand: Hand, error: Exception) -> Ending:
        trace = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__} at {trace.filename}:{trace.lineno}"
        self._tools.witness.event("task.bug", path=hand.task.file_path, error=said)
        try:
            tries = self._tools.store.begin(hand.task.key) + 1
            if tries >= self._limits.tries:
                failure = Failure(f"a fault in the worker: {said}", "bug", dead=True)
                return self._settle(hand, self._error(hand, failure, NOBODYS, tries))
        except SyncdError:
            pass  # the store cannot be used either: the message comes again, as without it
        return GiveBack(self._limits.retry_delay_s)

    def _error(self, hand: Hand, failure: Failure, source: SourceOf, tries: int = 0) -> _Done:
        outcome = entries.error(
            hand.task,
            failure.error,
            message_id=hand.delivery.id,
            worker_id=self._tools.worker.id,
            now=utc_now(),
            source=source,
            retries=tries,
            reason=failure.reason,
        )
        return _Done(outcome, failure.reason if failure.dead else "", tries)

    def _settle(self, hand: Hand, done: _Done) -> Ending:
        hand.phase = Phase.SAVING
        attempts = max(hand.delivery.attempts, done.tries)
        return self._tools.settling.settle(hand.task, done.outcome, attempts, dead=done.dead)
