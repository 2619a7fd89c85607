"""The two listening sockets: where they lie, and with which mode."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from pathlib import Path

from syncd.client.address import short_path
from syncd.core.errors import ConfigError

FOLDER_MODE = 0o750
SOCKET_MODE = 0o660
BACKLOG = 512


class UnixListener:
    """The Unix socket under its final name. A stale one is replaced: the caller holds the state directory's lock."""

    def __init__(self, path: Path) -> None:
        """Bind and listen. Raises ConfigError."""
        self._path = path
        try:
            self.socket, self._inode = _bind_aside(path)
        except OSError as error:
            long = error.errno == errno.ENAMETOOLONG
            raise ConfigError(
                f"the API's socket {path} cannot be made: {error.strerror or error}",
                hint="set host.state_dir to "
                + ("a shorter path" if long else "a directory on a local disk that this user may write"),
            ) from error

    def unlink(self) -> None:
        """Take the name away, unless it is another's by now; safe to repeat."""
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on TCP; port 0 takes a free one. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        hint = "another program listens there: choose another port for api.listen"
        raise ConfigError(
            f"cannot listen on {where}: {error.strerror or error}",
            hint=hint if error.errno == errno.EADDRINUSE else "set api.listen to an address of this machine",
        ) from error


def _bind_aside(path: Path) -> tuple[socket.socket, int]:
    """Bind in a private folder in there, set the mode there, then rename: nobody meets a socket with another mode.

    (The alternative, umask, is the whole process's: it would change files that other threads make meanwhile.)
    """
    path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if path.parent.stat().st_uid == os.geteuid():  # else it is a volume that somebody mounted there for us
        path.parent.chmod(FOLDER_MODE)  # the umask may have taken more
    aside = path.parent / ".new"
    shutil.rmtree(aside, ignore_errors=True)  # left by a start that was killed
    aside.mkdir(mode=0o700)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(aside / path.name) as address:
            listener.bind(address)
        (aside / path.name).chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
        inode = (aside / path.name).lstat().st_ino
        (aside / path.name).replace(path)
    except BaseException:
        listener.close()
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return listener, inode
