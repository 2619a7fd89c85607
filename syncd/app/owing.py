"""What a run without a daemon owes to nsqd: it is sent at the end of the run."""

from __future__ import annotations

from syncd.config.settings import NsqSettings
from syncd.store.catalogue import Catalogue

DRAIN_S = 10.0


def announce_owed(catalogue: Catalogue, nsq: NsqSettings, host: str) -> int:
    """Send what is owed to nsqd, for some seconds at most; return how much is still owed (it is kept).

    Without nsqd the outbox itself is the spool: there is nothing to send.
    """
    from syncd.engine.relay import Relay, trim_feed

    if nsq.announce != "nsq":
        trim_feed(catalogue, owed_too=True)
        return 0
    from syncd.app.wiring import open_publisher

    publisher = open_publisher(nsq)
    try:
        relay = Relay(catalogue, publisher, host=host, topic=nsq.topic)
        owed = relay.drain(DRAIN_S)
    finally:
        publisher.close()
    if owed:
        from syncd.log import logger

        logger().warning("announce.owed", announcements=owed, error=relay.state.error, next="syncd doctor")
    return owed
