"""What the operator's commands open, each only where it is needed: paths, listings, MongoDB, nsqd, the dead topic."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from syncd.client.api import ApiClient, connect, from_environment
from syncd.core.errors import ConfigError, SyncdError
from worker_glue.desk.board import MongoBoard, sources_here
from worker_glue.desk.dead_letters import Unreadable
from worker_glue.desk.jobs import standing_of
from worker_glue.desk.listing import DaemonListing, LocalListing, ManifestListing, Together
from worker_glue.desk.ports import Listing, SourceRow
from worker_glue.running.settings import store_path
from worker_glue.tasks.dead import DEAD_TOPIC

if TYPE_CHECKING:
    from syncd.config import Settings
    from worker_glue import Resolver
    from worker_glue.desk.dead_letters import Letter
    from worker_glue.nsq import Producer, Where

DEAD_CHANNEL = "worker_glue_desk"
"""One channel for all operators: what one has replayed is gone for the others too."""
NAME = "worker-glue"
DAEMON_ANSWERS_S = 1.0
REACHED_WITHIN_S = 5.0
QUIET_S = 1.0
"""The dead topic has been read when nothing has come for so long; nsqd sends what it has at once."""
Say = Callable[[str], None]


def warn(text: str) -> None:
    """Tell of what works but should be corrected."""
    from syncd.core.shown import printable

    print(f"warning: {printable(text)}", file=sys.stderr)


@contextlib.contextmanager
def opened_paths(settings: Settings) -> Iterator[Resolver]:
    """Open the resolver."""
    from worker_glue import Resolver

    paths = Resolver.from_settings(settings)
    try:
        yield paths
    finally:
        paths.close()


@contextlib.contextmanager
def opened_listing(settings: Settings) -> Iterator[Listing]:
    """Open what tells a mirror's files: the daemon where one answers, and always the manifest and the folder itself."""
    targets = targets_of(settings)
    here: list[Listing] = [ManifestListing(targets), LocalListing(targets)]
    daemon = daemon_of(settings)
    if daemon is None:
        yield Together(here)
        return
    with daemon:
        yield Together([DaemonListing(daemon), *here])


def targets_of(settings: Settings) -> dict[str, Path]:
    """Return where this process sees each mirror."""
    from worker_glue.resolver.where import MOUNTS_VARIABLE, read_mounts

    places = {mirror.name: mirror.target for mirror in settings.mirrors}
    mounts = settings.worker.mounts | read_mounts(os.environ.get(MOUNTS_VARIABLE, ""))
    return places | {name: Path(place) for name, place in mounts.items()}


@contextlib.contextmanager
def opened_board(settings: Settings, say: Say = warn) -> Iterator[MongoBoard]:
    """Open MongoDB; connected at the first call. say: told what works but should be corrected."""
    uri = settings.mongo.uri
    if uri is None:
        raise ConfigError("no MongoDB is configured, and jobs are kept there", hint="set MONGO_URI, or mongo.uri_file")
    from worker_glue.jobs.desk import JobDesk
    from worker_glue.jobs.link import Link

    link = Link(uri.reveal, where=uri.where, warn=say)
    try:
        yield MongoBoard(JobDesk(link))
    finally:
        link.close()


@contextlib.contextmanager
def opened_press(settings: Settings) -> Iterator[TaskPress]:
    """Open nsqd to publish tasks to; connected at the first message."""
    if not settings.nsq.nsqd:
        raise ConfigError("no nsqd is configured to publish to", hint="set NSQD_ADDRESS, or nsq.nsqd_tcp_address")
    from worker_glue.nsq import Producer

    with Producer(settings.nsq.nsqd, name=NAME) as producer:
        yield TaskPress(producer, settings.nsq.task_topic)


class TaskPress(NamedTuple):
    """desk.ports.Press, on the topic of the tasks."""

    producer: Producer
    topic: str

    def publish_many(self, bodies: Sequence[bytes]) -> None:
        """Publish tasks. Raises: PublishFailed."""
        self.producer.publish_many(self.topic, bodies)


@contextlib.contextmanager
def opened_letters(settings: Settings, say: Say = warn) -> Iterator[Iterable[Letter]]:
    """Read the dead topic. What is not finished stays in it. say: told which of several nsqds was not reached.

    Raises: Unreadable, where none was.
    """
    nsq = settings.nsq
    if not nsq.nsqd and not nsq.lookupd:
        raise ConfigError("no nsqd is configured to read from", hint="set NSQD_ADDRESS, or nsq.nsqd_tcp_address")
    from worker_glue.nsq import Where, drain

    where = Where(nsq.nsqd, () if nsq.nsqd else nsq.lookupd, nsq.address_map, allow_direct=nsq.allow_direct)
    _reach(where, say)
    reading = cast("Generator[Letter, None, None]", drain(where, DEAD_TOPIC, DEAD_CHANNEL, idle_s=QUIET_S, name=NAME))
    with contextlib.closing(reading) as letters:
        yield letters


def _reach(where: Where, say: Say) -> None:
    """Make sure that an nsqd lets us read: one that is away looks like an empty topic, else. Raises: Unreadable."""
    from worker_glue.nsq import Consumer

    troubles = ["no answer"]
    deadline = time.monotonic() + REACHED_WITHIN_S
    with Consumer(
        DEAD_TOPIC, DEAD_CHANNEL, where, lambda _: None, in_flight=0, name=NAME, say=troubles.append
    ) as reader:
        while not (reader.state and all(each.connected for each in reader.state)) and time.monotonic() < deadline:
            time.sleep(0.02)
        away = [each for each in reader.state if not each.connected]
        if len(away) == len(reader.state):
            raise Unreadable(f"the dead topic cannot be read: {troubles[-1]}", hint="worker-glue doctor")
    for each in away:
        say(f"nsqd at {each.address} is not reached ({each.trouble}): what it has of the dead topic is left out")


@contextlib.contextmanager
def opened_sources(settings: Settings, job_id: str | None, say: Say = warn) -> Iterator[Iterable[SourceRow]]:
    """Open what tells from which bytes results were made: MongoDB, else this host's own store.

    Raises: ConfigError (there is no such job, among others).
    """
    if settings.mongo.uri is not None:
        with opened_board(settings, say) as board:
            if job_id is not None:
                standing_of(job_id, board)
            yield board.sources(job_id)
        return
    from worker_glue.store.reading import Reading

    with Reading(store_path(settings)) as store:
        yield sources_here(store, job_id)


def daemon_of(settings: Settings) -> ApiClient | None:
    """Return the daemon where one answers."""
    daemon = from_environment(os.environ)
    if daemon is None:
        return connect(settings.host.state_dir)
    try:
        daemon.health(DAEMON_ANSWERS_S)
    except SyncdError:
        daemon.close()
        return None
    return daemon
