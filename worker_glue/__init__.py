"""worker_glue: turns the server path in an OCR task into a verified local file.

Importing it loads nothing heavy; what a call needs is imported by the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_glue.nsq import Watch

__all__ = ["watch"]


def watch(
    channel: str,
    *,
    topic: str = "file_sync_ready",
    nsqd: Sequence[tuple[str, int]] | None = None,
    lookupd: Sequence[tuple[str, int]] | None = None,
    address_map: Mapping[str, tuple[str, int]] | None = None,
    allow_direct: bool = False,
    say: Callable[[str], None] | None = None,
) -> Watch:
    """Follow the announcements on NSQ: what becomes ready, is updated or removed on every host.

        with worker_glue.watch("my-indexer") as events:
            for event in events:           # FileReady v1, as a dict
                print(event["event"], event["server_path"], event["sha256"])

    Each announcement comes at least once and, while the program runs, only once; of one file never an older state after
    a newer one. It counts as read when the next one is asked for. Ends with stop(), from any thread.

    channel: each channel gets everything, its readers share it, and it keeps what nobody reads; NAME#ephemeral goes
             with its last reader.
    nsqd:    read from these. lookupd: ask these (HTTP) for more. Neither: $NSQD_ADDRESS and $NSQLOOKUPD_ADDRESSES.
    address_map, allow_direct: as in the configuration; with nsqd given, lookupd's addresses are dialled only if mapped.
    say:     told in a sentence what hinders (default: the log); repeats are left out.
    Raises:  ConfigError when there is nothing to read from.
    """
    from worker_glue.nsq import Watch, Where, addresses_in_environment

    if nsqd is None and lookupd is None:
        nsqd, lookupd = addresses_in_environment()
    return Watch(channel, topic, Where(nsqd or (), lookupd or (), address_map or {}, allow_direct), say)
