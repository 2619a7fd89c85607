"""SSH as sources and remote hosts both need it: TCP, host keys that are on file, waits with a deadline.

What goes wrong is paramiko's or the operating system's error, which the callers translate, or HostKeyRefused.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import paramiko

# What goes wrong is raised; paramiko's own log would repeat it, with tracebacks, on stderr.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


class HostKeyRefused(Exception):
    """The peer's key is not the one on file, or none is. hint: what a person may do, to be pasted into a shell."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Peer(NamedTuple):
    """Where to go, and where its host key stands; none is ever added by itself. where: HOST:PORT for people."""

    host: str
    port: int
    where: str
    known_hosts_file: Path

    @property
    def known_as(self) -> str:
        """The host as known_hosts files spell it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    def dial(self, deadline: float, connect_s: float, prepare: Callable[[socket.socket], object]) -> socket.socket:
        """Connect to the first of the host's addresses that answers; prepare: sets options of the socket."""
        last: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            end = socket.socket(family, kind, protocol)
            try:
                end.settimeout(min(connect_s, left_s(deadline)))
                end.connect(address)
                prepare(end)
            except OSError as error:
                end.close()
                last = error
            else:
                return end
        raise last if last is not None else OSError("the host has no address")

    def known_keys(self) -> dict[str, paramiko.PKey]:
        """Return the host's keys on file, by type; none when there is no file. Raises HostKeyRefused."""
        try:
            found = paramiko.HostKeys(str(self.known_hosts_file)).lookup(self.known_as)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, paramiko.SSHException) as error:
            raise HostKeyRefused(f"the known_hosts file {self.known_hosts_file} cannot be read: {error}") from error
        return {} if found is None else {kind: key for kind in found if (key := found[kind]) is not None}

    def require_known(self, known: dict[str, paramiko.PKey], key: paramiko.PKey) -> None:
        """Raise HostKeyRefused unless this key is on file."""
        on_file = known.get(key.get_name())
        if on_file is not None and on_file.asbytes() == key.asbytes():
            return
        file = shlex.quote(str(self.known_hosts_file))
        add = f"echo '{self.known_as} {key.get_name()} {key.get_base64()}' >> {file}"
        shown = f"{key.get_name()} {key.fingerprint}"
        if known:
            raise HostKeyRefused(
                f"the host key of {self.where} has changed: it is now {shown}; another host may be posing as it",
                f"if the host was set up anew, compare the fingerprint there, then: "
                f"ssh-keygen -R '{self.known_as}' -f {file} && {add}",
            )
        raise HostKeyRefused(
            f"the host key of {self.where} is not known (not in {self.known_hosts_file}): {shown}",
            f"compare the fingerprint with the host's (there: ssh-keygen -lf its host key), then: {add}",
        )


def ask_for(transport: paramiko.Transport, known: dict[str, paramiko.PKey]) -> None:
    """Ask for a host key of a type that is on file, or another key of the same host would look like a change."""
    options = transport.get_security_options()
    types = [each for kind in known for each in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))]
    types = [each for each in types if each in options.key_types]
    if types:
        options.key_types = types


def left_s(deadline: float) -> float:
    """Return the seconds until a deadline, never quite none."""
    return max(0.1, deadline - time.monotonic())


@contextlib.contextmanager
def ended_by(deadline: float, transport: paramiko.Transport) -> Iterator[None]:
    """Close the connection at the deadline, as some of paramiko's waits know no time-out. Raises: TimeoutError then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        transport.close()

    timer = threading.Timer(left_s(deadline), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (paramiko.SSHException, EOFError, OSError) as error:
        if late.is_set():
            raise TimeoutError("it took too long, and was given up") from error
        raise
    finally:
        timer.cancel()
