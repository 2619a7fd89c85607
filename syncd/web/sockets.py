"""The two listening sockets: where they lie, with which mode, and who has their place already."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
from pathlib import Path

from syncd.client.address import short_path
from syncd.client.listeners import socket_holder, tcp_holder
from syncd.core.errors import ConfigError

FOLDER_MODE = 0o750
SOCKET_MODE = 0o660
BACKLOG = 512


class UnixListener:
    """The Unix socket under its final name. A stale one is replaced: the caller holds the state directory's lock."""

    def __init__(self, path: Path) -> None:
        """Bind and listen. Raises ConfigError."""
        self._path = path
        _refuse_another(path)
        try:
            self.socket, self._inode = _bind_aside(path)
        except OSError as error:
            raise _unusable(path, error) from error

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
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"cannot listen on {where} (api.listen): {tcp_holder(port)} listens there",
                hint="end that program, or choose another port for api.listen",
            ) from error
        hint = "set api.listen to an address of this machine"
        if error.errno == errno.EACCES:
            hint = "choose a port from 1024 on for api.listen"
        raise ConfigError(
            f"cannot listen on {where} (api.listen): {error.strerror or error}",
            hint=hint,
        ) from error


def check_free(path: Path, listen: tuple[str, int] | None) -> None:
    """Say before anything is started whether both addresses can be had. Raises ConfigError."""
    if listen is not None:
        listen_tcp(*listen).close()
    _refuse_another(path)
    try:
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unusable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _unusable(path: Path, error: OSError) -> ConfigError:
    hint = f"let uid {os.geteuid()} write into {path.parent} (a container's volume may be another user's)"
    if error.errno == errno.ENAMETOOLONG:
        hint = "set host.state_dir to a shorter path"
    elif error.errno not in (errno.EACCES, errno.EPERM):
        hint = "set host.state_dir to a directory on a local disk that this user may write"
    return ConfigError(f"the API's socket {path} cannot be made: {error.strerror or error}", hint=hint)


def _refuse_another(path: Path) -> None:
    """Refuse to replace what is no stale socket: something else of that name, or one that another program answers."""
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"the API's socket cannot be made: {path} is no socket", hint=f"move it away: {path}")
    holder = socket_holder(path)
    if holder is not None:
        raise ConfigError(
            f"the API's socket {path} is taken: {holder} answers there",
            hint="end that program, or give each syncd a folder STATE/run (in compose: a volume) of its own",
        )


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
