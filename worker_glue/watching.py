"""Announcements for users of the library: which NSQ they are read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from syncd.core.errors import ConfigError
from worker_glue.nsq import Watch, Where, addresses_in_environment
from worker_glue.resolver.where import look_around

TOPIC = "file_sync_ready"

Addresses = Sequence[tuple[str, int]]


def watch(
    channel: str,
    topic: str | None,
    given: Where | None,
    say: Callable[[str], None] | None,
    *,
    config: Path | None,
    env: Mapping[str, str],
) -> Watch:
    """Return a reader of a channel. given None, topic None: as the environment says, else the configuration.

    Raises: ConfigError when there is nothing to read from.
    """
    if given is not None:
        return Watch(channel, topic or TOPIC, given, say)
    found = look_around(config, env)
    nsq = None if found.settings is None else found.settings.nsq
    if nsq is None or not (nsq.nsqd or nsq.lookupd):
        for trouble in found.troubles:
            if isinstance(trouble, ConfigError) and trouble.problems:  # of a configuration that may name one
                raise trouble
        return Watch(channel, topic or TOPIC, Where(*addresses_in_environment(env)), say)
    where = Where(nsq.nsqd, nsq.lookupd, nsq.address_map, nsq.allow_direct)
    return Watch(channel, topic or nsq.topic, where, say)
