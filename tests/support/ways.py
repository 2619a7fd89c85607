"""Ways to a server that break as they are told, and stay the same address: for tests with several servers.

with contextlib.ExitStack() as stack:
    way = Way(stack, nsqd.address)
    way.break_("stalls")
    way.mend()
"""

from __future__ import annotations

import contextlib

from tests.support.fake_nsqd import FakeNsqd
from tests.support.faultproxy import FaultProxy

FAULTS = ["dead", "closes", "refuses", "stalls"]


class Way:
    """One way. dead: nothing listens; closes: as socat before a server that is down; refuses: what answers is no server
    of the kind (an error in NSQ's protocol); stalls: connections are taken, and nothing is answered.
    """

    def __init__(self, stack: contextlib.ExitStack, server: tuple[str, int]) -> None:
        self._server = server
        self._proxy = stack.enter_context(FaultProxy(server))
        self._refusing = stack.enter_context(FakeNsqd(identify="error"))
        self.address = ("127.0.0.1", self._proxy.port)

    @property
    def open_connections(self) -> int:
        return self._proxy.open_connections

    def break_(self, fault: str) -> None:
        """Break the way for connections that stand, and for new ones."""
        match fault:
            case "dead":
                self._proxy.down()
            case "closes":
                self._lead_to(("127.0.0.1", 1))
            case "refuses":
                self._lead_to(self._refusing.address)
            case "stalls":
                self._proxy.stall()
            case _:
                raise ValueError(fault)

    def mend(self) -> None:
        """Have it lead to the server again."""
        self._proxy.target = self._server
        self._proxy.resume()
        self._proxy.up()

    def _lead_to(self, target: tuple[str, int]) -> None:
        self._proxy.target = target
        self._proxy.reset_all()
