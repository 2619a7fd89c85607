"""Parts of alerts that a test turns by hand: a channel with a fault script, a host whose facts a test sets."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

from syncd.alerts.delivery import Pace
from syncd.alerts.kept import FILE, Kept
from syncd.alerts.leasing import Sharing
from syncd.alerts.model import Alert, NotDelivered, Notice
from syncd.alerts.rules import Facts, Queue, Thresholds
from syncd.alerts.watch import Ears, Watch
from syncd.ports.alerting import AlertLeases

QUICK = Pace(0.01, 0.05)
AT_ONCE = Thresholds(0, 0, 0, 0)
WELL = Facts(nsqd=("ok", ""), mongodb=("ok", ""))


class FakeChannel:
    """Keeps what it takes. script("EEr"): the next two messages are refused. hold(): it stalls until release()."""

    def __init__(self, name: str = "webhook") -> None:
        self.name = name
        self.taken: list[Notice] = []
        self.tries = 0
        self._script: deque[str] = deque()
        self._free = threading.Event()
        self._free.set()

    def script(self, turns: str) -> None:
        self._script = deque(turns)

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def send(self, notice: Notice) -> None:
        self.tries += 1
        assert self._free.wait(30)
        if self._script and self._script.popleft() == "E":
            raise NotDelivered("the script says so")
        self.taken.append(notice)

    @property
    def told(self) -> list[str]:
        """What was told, in order: +KEY begun, -KEY over."""
        return [
            word
            for notice in self.taken
            for word in [*(f"+{alert.key}" for alert in notice.begun), *(f"-{alert.key}" for alert in notice.ended)]
        ]


class Post:
    """One host that is watched by hand: look() is one look, after which all channels have been served."""

    def __init__(
        self,
        base: Path,
        leases: AlertLeases | None = None,
        name: str = "one",
        limits: Thresholds = AT_ONCE,
    ) -> None:
        self.base, self.name, self.limits = base, name, limits
        self.leases = leases
        self.state = WELL
        self.queued: Queue | None = None
        self.channel = FakeChannel()
        self.logged: list[str] = []
        self.troubles: list[str] = []
        self.now = time.time()
        self.steady = 1_000.0
        self.bugs: list[BaseException] = []
        base.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """Begin, or begin anew after close(), as a daemon that was started again."""
        self.kept = Kept(self.base / FILE)
        self.sharing = Sharing(self.leases, lambda: self.steady)
        ears = Ears([self.channel], self._log, self._tell, self.bugs.append, QUICK)
        self.watch = Watch(self, self.kept, self.sharing, ears, self.limits, 1.0, lambda: self.now)
        for delivery in self.watch._deliveries:
            delivery.start()

    def facts(self) -> Facts:
        return self.state

    def queue(self) -> Queue | None:
        return self.queued

    def look(self, times: int = 1, *, settle: bool = True) -> None:
        for _ in range(times):
            self.watch._jobs_at = float("-inf")
            self.watch.look()
            self.now += 1.0
            if settle:
                self.settle()

    def settle(self) -> None:
        """Wait until the channel knows what it is to know."""
        (delivery,) = self.watch._deliveries
        deadline = time.monotonic() + 10
        while (delivery._wanted or {}).keys() != self.kept.told_to(self.channel.name).keys():
            assert time.monotonic() < deadline, "it is not told"
            time.sleep(0.005)

    def close(self) -> None:
        self.watch.close()
        assert self.bugs == []

    def _log(self, event: str, alert: Alert) -> None:
        self.logged.append(f"{event} {alert.key}")

    def _tell(self, channel: str, why: str) -> None:
        self.troubles.append(f"{channel}: {why}")
