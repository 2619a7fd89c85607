"""Tell the service manager how the daemon is: the datagrams of sd_notify(3), without libsystemd.

Outside of a service manager ($NOTIFY_SOCKET is not set: a terminal, launchd, a container) every call does nothing.
Nothing here raises: a daemon does not fail because nobody listens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

SEND_TIMEOUT_S = 1.0
"""How long one message may wait for room in the manager's queue; it is lost then."""


class Notifier:
    """Speaks to the manager that started this process. Safe to use from several threads; holds nothing open."""

    __slots__ = ("_address",)

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        """env: where NOTIFY_SOCKET is looked up (default: this process's environment)."""
        self._address = _address((os.environ if env is None else env).get("NOTIFY_SOCKET", ""))

    @property
    def listened_to(self) -> bool:
        """Say whether there is a manager to tell."""
        return bool(self._address)

    def ready(self, status: str = "") -> bool:
        """Say that the service is up, or that a reload has ended. Returns whether the manager was told, as all do."""
        return self._send("READY=1", *_status(status))

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows. Line breaks become blanks."""
        return self._send(f"STATUS={' '.join(text.split())}")

    def watchdog(self) -> bool:
        """Feed the watchdog; to be called at least every watchdog_interval_s(), and only while work moves."""
        return self._send("WATCHDOG=1")

    def reloading(self, status: str = "") -> bool:
        """Say that the configuration is being read again; ready() has to follow."""
        # sd_notify(3): the time lets the manager tell a later READY=1 from an earlier one
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """Say that the service is on its way down."""
        return self._send("STOPPING=1", *_status(status))

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for so much time from now on, for a start or a stop that lasts; ask again before it has passed."""
        return self._send(f"EXTEND_TIMEOUT_USEC={max(1, int(seconds * 1_000_000))}")

    def _send(self, *lines: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
                plug.settimeout(SEND_TIMEOUT_S)
                plug.connect(self._address)
                plug.send("\n".join(lines).encode("utf-8", "replace"))
        except (OSError, ValueError):  # nobody there, no room, or an address that cannot be one
            return False
        return True


def watchdog_interval_s(env: Mapping[str, str] | None = None) -> float | None:
    """Return how often the watchdog is to be fed: half of its limit; None when this process is not watched.

    Source: sd_watchdog_enabled(3), which names half of the limit, and WATCHDOG_PID as the process that is meant.
    """
    env = os.environ if env is None else env
    limit, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not _is_number(limit) or int(limit) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(limit) / 2_000_000


def _address(named: str) -> str:
    """Return the socket's address as Python takes it, "" for what is none that sd_notify(3) lets be used here."""
    if named.startswith("@") and len(named) > 1:
        return "\0" + named[1:]  # Linux's abstract names; see unix(7)
    return named if named.startswith("/") else ""


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20
