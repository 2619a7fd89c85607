"""The alerts in the daemon: where [alerts] names somebody to tell, one thread watches; without, nothing."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from syncd.daemon import statuses

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from syncd.alerts.kept import Kept
    from syncd.alerts.model import Alert
    from syncd.alerts.rules import Facts, MirrorFact, Queue
    from syncd.alerts.watch import Watch
    from syncd.daemon.living import Daemon


class Alarming:
    """Starts and ends the watch over one daemon."""

    def __init__(self, daemon: Daemon, log: FilteringBoundLogger) -> None:
        self._daemon = daemon
        self._log = log
        self._watch: Watch | None = None
        self._memory: Kept | None = None

    def start(self) -> None:
        """Begin, if anybody is to be told."""
        settings = self._daemon.settings
        if not settings.alerts.wanted:
            return
        from syncd.alerts.leasing import Sharing
        from syncd.alerts.watch import Ears, Watch
        from syncd.app import alarming

        self._memory = self._memory or alarming.open_memory(settings.host.state_dir)
        leases = alarming.open_leases(settings.mongo, self._daemon.host, self._daemon.warn_registry)
        channels = alarming.open_channels(settings.alerts)
        ears = Ears(channels, self._note, self._tell, lambda error: self._daemon.bug(error, "alerts"))
        self._watch = Watch(
            Watched(self._daemon),
            self._memory,
            Sharing(leases, time.monotonic),
            ears,
            alarming.thresholds_of(settings.alerts),
            settings.alerts.every_s,
        )
        self._watch.start()

    def close(self) -> None:
        """End; safe to repeat."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def counts(self) -> dict[str, int]:
        """Return how many alerts are on, by rule; none where nobody is to be told."""
        memory = self._memory
        if self._watch is None or memory is None:
            return {}
        from syncd.alerts.model import Rule

        on = [alert.rule for alert in memory.alerts()]
        return {rule.value: on.count(rule) for rule in Rule}

    def _note(self, event: str, alert: Alert) -> None:
        write = self._log.warning if event == "alert.begun" else self._log.info
        write(event, alert=alert.key, severity=alert.severity, said=alert.text, next=alert.remedy)

    def _tell(self, channel: str, why: str) -> None:
        if why:
            self._log.warning("alerts.undelivered", channel=channel, said=why, next="syncd alerts test")
        else:
            self._log.info("alerts.delivered_again", channel=channel)


class Watched:
    """alerts.watch.Host: what a daemon knows."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    @property
    def name(self) -> str:
        """The host's name."""
        return self._daemon.host.name

    def facts(self) -> Facts:
        """Return what is known now."""
        from syncd.alerts.rules import Facts, WorkerFact

        daemon = self._daemon
        announcing = statuses.announcing(daemon)
        hops = {each["name"]: (str(each["state"]), str(each["detail"])) for each in statuses.hops(daemon, [])}
        return Facts(
            mirrors=self._mirrors(),
            workers=[WorkerFact(each["id"], each["state"], each["since"]) for each in daemon.enrolment.workers()],
            owed=announcing["owed"],
            oldest_owed_s=statuses.age_s(announcing["oldest"] or "") or 0.0,
            nsqd=hops["nsqd"],
            mongodb=hops["mongodb"],
            away=self._is_away(),
        )

    def queue(self) -> Queue | None:
        """Return how the workers' queue is, None when nsqd's statistics cannot be asked."""
        from syncd.alerts import queue
        from syncd.publish.nsq.tasks import WORKERS_CHANNEL

        settings = self._daemon.settings
        addresses = [str(address) for address in settings.alerts.nsqd_http]
        return queue.look(addresses, settings.nsq.task_topic, WORKERS_CHANNEL)

    def _mirrors(self) -> list[MirrorFact]:
        from syncd.alerts.rules import MirrorFact

        found = []
        for kept in list(self._daemon.kept.values()):
            line = statuses.line_of(self._daemon, kept)
            disk = self._daemon.numbers.disks.get(kept.name)
            room = (None, None) if disk is None else (disk.free_bytes, disk.floor_bytes)
            is_first = not line.last_success and kept.keeper.current is not None  # it may well take a day
            state = "begun" if line.state == "behind" and is_first else line.state
            found.append(MirrorFact(kept.name, state, line.message, line.hint, *room))
        return found

    def _is_away(self) -> bool:
        host = self._daemon.settings.host
        now = datetime.now(host.zone())
        return any(hours.holds(now.hour * 60 + now.minute) for hours in host.away)
