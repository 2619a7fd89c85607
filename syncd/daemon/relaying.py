"""How the daemon sends its announcements, and looks at the tasks that wait in the queue."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from syncd.app.wiring import open_publisher, open_task_peek
from syncd.core.errors import SyncdError
from syncd.engine.relay import Relay, RelayState

if TYPE_CHECKING:
    from syncd.daemon.living import Daemon

STOP_S = 8.0


class Relaying:
    """One relay with its thread, for one [nsq]. start() once; stop() ends it; wake() and state from any thread."""

    def __init__(self, daemon: Daemon) -> None:
        nsq = daemon.settings.nsq
        self._daemon = daemon
        self._relay = Relay(
            daemon.catalogue, open_publisher(nsq), host=daemon.host.name, topic=nsq.topic, held_back=self._held_back
        )
        self._thread = threading.Thread(target=self._announce, name="relay", daemon=True)
        self._started = self._stopped = False
        self._peek = open_task_peek(nsq, daemon.host.id, daemon.answers.prefetch)

    @property
    def state(self) -> RelayState:
        """How the relay is."""
        return self._relay.state

    @property
    def faults(self) -> list[str]:
        """Return what a restart of the daemon may mend."""
        if not self._started or self._stopped or self._thread.is_alive():
            return []
        return ["announcements are not being sent: their thread ended"]

    def start(self) -> None:
        """Begin to send; once the mirrors are known, so that it is known whose disk is away."""
        self._thread.start()
        self._started = True
        if self._peek is not None:
            self._peek.start()

    def wake(self) -> None:
        """There is something to send."""
        self._relay.wake()

    def stop(self) -> None:
        """End it; safe to repeat, and before start()."""
        self._stopped = True
        self._relay.stop()
        if self._peek is not None:
            self._peek.close()
        if self._started:
            self._thread.join(STOP_S)

    def _held_back(self) -> set[str]:
        """Name the mirrors whose disk is away, or not looked at yet: what they hold is not there to be announced."""
        begun = dict(self._daemon.kept)
        away = {name for name, kept in begun.items() if kept.keeping.target.usable is False}
        return away | {mirror.name for mirror in self._daemon.settings.mirrors if mirror.name not in begun}

    def _announce(self) -> None:
        try:
            self._relay.run()
        except SyncdError as error:
            self._daemon.fail(error)
        except Exception as error:  # noqa: BLE001 - shown as a problem, and the watchdog's affair
            self._daemon.bug(error, "relay")
