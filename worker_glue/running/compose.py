"""What one worker is put together from: the only place in worker_glue that names all its parts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from syncd.config import Settings
from syncd.config.spellings import spellings_of
from syncd.core.dialling import HostPort
from syncd.core.errors import SyncdError
from syncd.log import logger
from worker_glue.flow import Limits, Means, Worker
from worker_glue.flow.settling import utc_now
from worker_glue.health.beat import Beat
from worker_glue.health.meter import meter
from worker_glue.jobs.mongo import MongoJobs
from worker_glue.jobs.workers import Heartbeats
from worker_glue.model import Outcome
from worker_glue.nsq import Consumer, Control, Producer, Where
from worker_glue.ocr.needed import lack_of
from worker_glue.ocr.runner import Runner
from worker_glue.ports import Jobs, Saved
from worker_glue.resolver import Resolver
from worker_glue.running.absent import NoJobs
from worker_glue.running.ids import run_folder
from worker_glue.running.settings import store_path
from worker_glue.running.stuck import Stuck
from worker_glue.running.telling import tell
from worker_glue.running.witness import Witnesses
from worker_glue.store.delivery import Sender
from worker_glue.store.sqlite import SqliteStore
from worker_glue.tasks import entries
from worker_glue.tasks.dead import DEAD_TOPIC, dead_body
from worker_glue.tasks.spellings import aliases_of
from worker_glue.tasks.taken import not_taken

CHANNEL = "bulk_ocr_workers"
JOIN_S = 5.0


def start(settings: Settings, worker_id: str, host: str) -> Composed:
    """Put a worker together and start it; it works until stop(). Raises SyncdError: what can never work so."""
    return Composed(settings, worker_id, host)


class Composed:
    """A worker at work."""

    def __init__(self, settings: Settings, worker_id: str, host: str) -> None:
        log = logger().bind(worker=worker_id)
        self.beat = Beat(run_folder(settings), worker_id, host=host)
        self.beat.tell(state="starting", engine=settings.worker.engine)
        self._engines = Engines(settings.worker.engines)
        stuck = Stuck(lambda: self.worker.hands(), self._engines.task_limit_s)
        self._witness = Witnesses(log, meter(worker_id), self.beat, self._connected, self._oldest, stuck)
        self._consumer: Consumer | None = None
        self._stop = threading.Event()
        recognizer = self._engines(settings.worker.engine)
        with _beating(self.beat):
            version = recognizer.version  # starts it: an engine that cannot be used is a configuration error
        lack = lack_of(recognizer.engine, recognizer.languages)
        if lack is not None:
            log.warning("ocr.language_missing", lacks=lack.seen, next=lack.todo)
        self._files = Resolver.from_settings(settings)
        self._store = SqliteStore(store_path(settings), worker_id=worker_id)
        self._jobs, heartbeats = _jobs(
            settings, host, lambda warning: self._witness.event("mongo.warning", warning=warning)
        )
        self._producer = Producer(settings.nsq.nsqd or self._nsqds, name=worker_id)
        self._sender = Sender(
            self._store,
            self._jobs,
            self._producer,
            store_path(settings).with_suffix(".sender"),
            dead_topic=DEAD_TOPIC,
            dead=partial(_dead, host, worker_id),
            shorter=lambda outcome: entries.too_large(outcome, host=host, now=utc_now()),
            say=self._witness.event,
        )
        means = Means(
            self._files, self._engines, self._store, self._jobs, self._producer, self._witness, self._sender.nudge
        )
        self.worker = Worker(worker_id, host, means, _limits(settings), self._message_timeout_s)
        self._threads = [
            threading.Thread(target=self._sender.run, args=(self._stop,), name="sender", daemon=True),
            threading.Thread(target=self._tell, args=(heartbeats, worker_id), name="sync-workers", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.worker.start()
        where = Where(
            settings.nsq.nsqd, settings.nsq.lookupd, settings.nsq.address_map, allow_direct=settings.nsq.allow_direct
        )
        self._control = Control(where, worker_id, self.worker.told, say=self._witness.trouble)
        self._consumer = Consumer(
            settings.nsq.task_topic,
            CHANNEL,
            where,
            self.worker.take,
            in_flight=self.worker.appetite.messages,
            name=worker_id,
            say=self._witness.trouble,
        )
        self.worker.appetite.begin(self._consumer.set_in_flight)
        self._witness.event("worker.up", engine=recognizer.engine, version=version)

    @property
    def busy(self) -> bool:
        """Whether it has anything in hand, owes anything, or cannot know."""
        try:
            owes = bool(self._store.counts().owed or self._store.buried(1))
        except SyncdError:
            owes = True
        return owes or bool(self.worker.hands()) or not self._connected()

    def stop(self, grace_s: float) -> None:
        """Finish or give back what is in hand, and close everything."""
        if self._consumer is not None:
            self._consumer.rest()
        self.worker.stop(grace_s)
        self._stop.set()
        if self._consumer is not None:
            self._consumer.close()
        self._control.close()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._producer.close()
        self._engines.close()
        self._files.close()
        if isinstance(self._jobs, MongoJobs):
            self._jobs.close()
        self._store.close()
        self._witness.event("worker.down")
        self.beat.remove()

    def _nsqds(self) -> Sequence[HostPort]:
        return () if self._consumer is None else self._consumer.addresses

    def _connected(self) -> bool:
        consumer = self._consumer
        return consumer is not None and any(reading.connected for reading in consumer.state)

    def _oldest(self) -> float | None:
        try:
            return self._store.counts().oldest
        except SyncdError:
            return None

    def _message_timeout_s(self) -> float:
        return 60.0 if self._consumer is None else self._consumer.message_timeout_s

    def _tell(self, heartbeats: Heartbeats | None, worker_id: str) -> None:
        if heartbeats is None:
            return
        tell(
            lambda: heartbeats.beat(_document(self.beat)),
            lambda: heartbeats.gone(worker_id),
            self._stop,
            self._witness.event,
        )


class Engines:
    """The engines that tasks ask for, by name, each made when it is first needed. tables: [worker.engine.NAME]."""

    def __init__(self, tables: Mapping[str, Mapping[str, object]]) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._runners: dict[str, Runner] = {}

    def __call__(self, name: str) -> Runner:
        """Return an engine's recognizer. Raises ConfigError."""
        with self._lock:
            if name not in self._runners:
                self._runners[name] = Runner(name, self._tables.get(name, {}))
            return self._runners[name]

    def task_limit_s(self) -> float:
        """Return the longest limit for one file."""
        with self._lock:
            return max((runner.limits.task_limit_s for runner in self._runners.values()), default=0.0)

    def close(self) -> None:
        """End their processes; safe to repeat."""
        with self._lock:
            for runner in self._runners.values():
                runner.close()


@contextmanager
def _beating(beat: Beat) -> Iterator[None]:
    """Have the heart beat while the engine starts: that may take longer than a worker may be silent; it has its end."""
    over = threading.Event()

    def go() -> None:
        while not over.wait(1.0):
            beat.tell(state="starting")

    thread = threading.Thread(target=go, name="starting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _document(beat: Beat) -> dict[str, object]:
    """Return what `sync_workers` is told. since: ISO 8601 UTC, as all times there."""
    told = beat.last._asdict()
    for name in ("since", "started"):
        told[name] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(told[name]))
    return {name: value for name, value in told.items() if name not in ("at", "number", "oldest_owed", "nsq", "mongo")}


def _jobs(settings: Settings, host: str, warn: Callable[[str], None]) -> tuple[Jobs, Heartbeats | None]:
    uri = settings.mongo.uri
    if uri is None:
        warn("no MongoDB is configured: results stay in the local store (set MONGO_URI, or [mongo])")
        return NoJobs(), None
    aliases = aliases_of([spellings_of(mirror) for mirror in settings.mirrors])
    jobs = MongoJobs(uri.reveal, where=uri.where, aliases=aliases, warn=warn)
    return jobs, Heartbeats(jobs.link, host)


def _limits(settings: Settings) -> Limits:
    worker = settings.worker
    return Limits(
        engine=worker.engine,
        topic=settings.nsq.task_topic,
        providers=worker.providers,
        exclusive=worker.exclusive,
        missing_grace_s=worker.missing_grace_s,
        wait_for_source_s=worker.wait_for_source_s,
    )


def _dead(host: str, worker_id: str, outcome: Outcome, saved: Saved) -> bytes:
    """Return the message for the dead topic about an outcome whose job is unknown, or takes nothing more."""
    key = outcome.key
    task = {"job_id": key.job_id, "file_path": outcome.file_path, "file_index": key.file_index}
    reason, error = not_taken(saved, key.job_id)
    return dead_body(json.dumps(task).encode(), reason, error, 0, host, worker_id, utc_now())
