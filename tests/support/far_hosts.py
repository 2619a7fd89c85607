"""Other hosts for `syncd remote`: real sshd servers, each with a syncd of its own behind it, and an operator's desk.

desk = Desk(tmp_path)
with start_sshd(...) as server:
    desk.add("one", server, command=..., config=...)
    desk("remote", "status", "one")
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.cli import Done, Syncd
from tests.support.sshd import SshServer, start_sshd

ROOT = Path(__file__).parents[2]


def put_syncd(path: Path, before: str = "") -> Path:
    """Write a program that is this tree's syncd, as it would lie on another host. before: lines of sh, run first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{before}\nPYTHONPATH={ROOT} exec {sys.executable} -m syncd "$@"\n')
    path.chmod(0o755)
    return path


def start_far(
    directory: Path, home: Path, options: dict[str, str] | None = None
) -> contextlib.AbstractContextManager[SshServer]:
    """Start an sshd whose logins have `home` as $HOME: programs in its .local/bin come first, files below it are its.

    options: more lines for sshd_config.
    """
    (home / ".local" / "bin").mkdir(parents=True, exist_ok=True)
    return start_sshd(directory, root=home, options={"SetEnv": f'"HOME={home}"', **(options or {})})


def put_program(home: Path, name: str, text: str) -> None:
    """Write a program for that home: a script of sh."""
    path = home / ".local" / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class Desk:
    """The operator's machine: a configuration with [hosts] and a mirror that is never run."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        self._syncd = Syncd(base)
        self._syncd.add_mirror("Own", f"file://{base}/share", base / "own")

    @property
    def config(self) -> Path:
        return self._syncd.config

    def add(self, name: str, server: SshServer, **keys: str) -> None:
        """Add a [hosts.NAME] table; keys: on top of those that lead to the server, or instead of them."""
        table = {
            "ssh": f"{server.username}@{server.host}:{server.port}",
            "key_file": str(server.key_file),
            "known_hosts_file": str(server.known_hosts_file),
        } | keys
        with self._syncd.config.open("a") as file:
            file.write(f"[hosts.{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items()))

    def __call__(self, *words: str, timeout_s: float = 100) -> Done:
        return self._syncd(*words, timeout_s=timeout_s)


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections on a port and never say a word; yield the port."""
    ends: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    ends.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()
