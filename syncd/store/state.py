"""The state directory: where it may lie, who holds it, and which host this is.

It holds the catalogue, the lock (`lock`, with the holder's pid), the host's identity (`host.json`) and `run/` for the
API socket. SQLite needs a local file system (https://sqlite.org/wal.html, "not over a network filesystem").
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import sys
import time
from pathlib import Path
from shlex import quote
from typing import Self

from syncd.client.file_systems import file_system_type, is_network
from syncd.core.errors import AlreadyRunning, ConfigError, DiskFull, SyncdError
from syncd.core.named import NamedTuple

_LOCK_PATIENCE_S = 0.3
"""How long lock() tries: a holder_pid() elsewhere touches the lock for microseconds."""


class Host(NamedTuple):
    """This host: `id` is random and bound to the machine, `name` is what people call it."""

    id: str
    name: str


class StateDirectory:
    """One host's state directory. Nothing is written but by open(create=True), lock() and host()."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, *, create: bool) -> StateDirectory:
        """Look whether the directory can be used; with `create`, make it (0700, parents too) where it is missing.

        Raises: ConfigError (no directory, no permission, on a network file system), DiskFull.
        """
        path = Path(os.path.abspath(path.expanduser()))
        with _config_errors(path):
            _refuse_network(path)
            if create:
                _make_private(path)
            if path.exists() and not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return cls(path)

    @property
    def catalogue(self) -> Path:
        """Where the catalogue lies."""
        return self.path / "catalogue.db"

    @property
    def exists(self) -> bool:
        """Say whether there is a state directory yet."""
        return self.path.is_dir()

    # --- the lock

    def lock(self) -> StateLock:
        """Become the one syncd that writes here. A dead process's lock is free: the kernel drops it (flock(2)).

        Raises: AlreadyRunning with the holder's pid, ConfigError, DiskFull.
        """
        with _config_errors(self.path):
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._take(descriptor)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            except BaseException:
                os.close(descriptor)
                raise
        return StateLock(descriptor)

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while not _try_flock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                pid = self._written_pid()
                who = f"process {pid}" if pid else "another process"
                raise AlreadyRunning(
                    f"{who} is already running syncd with the state directory {self.path}",
                    pid=pid,
                    hint=f"see what it does: syncd status; or end it: kill {pid}" if pid else "syncd status",
                )
            time.sleep(0.02)

    def holder_pid(self) -> int | None:
        """Return who holds the lock; None when nobody does, 0 when that process has not written its pid yet.

        Takes no lock that lasts, and writes nothing.
        """
        try:
            descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _try_flock(descriptor, fcntl.LOCK_SH):
                return None  # closing the descriptor gives it back
            return self._written_pid()
        finally:
            os.close(descriptor)

    def _written_pid(self) -> int:
        try:
            return int(self._lock_file.read_text())
        except (OSError, ValueError):
            return 0

    @property
    def _lock_file(self) -> Path:
        return self.path / "lock"

    # --- the host

    def host(self, configured_name: str = "") -> Host:
        """Return this host's identity, making it at the first start and on another machine than it was made on.

        configured_name: a name from the configuration; without one the name is fixed at the first start.
        Hold the lock. Raises: ConfigError (host.json is there and unreadable: no silent new identity), DiskFull.
        """
        with _config_errors(self._host_file):
            known, machine = self._read_host()
            here = machine_fingerprint()
            if known is None or (machine and here and machine != here):
                name = configured_name or (known.name if known else "") or _host_name()
                host = Host(secrets.token_hex(16), name)
            else:
                host = Host(known.id, configured_name or known.name)
            machine = here or machine
            if host != known or machine != self._read_host()[1]:
                _write_durably(self._host_file, {"id": host.id, "name": host.name, "machine": machine})
        return host

    def known_host(self) -> Host | None:
        """Return the identity as it is kept, None before the first start; writes nothing. Raises ConfigError."""
        with _config_errors(self._host_file):
            return self._read_host()[0]

    def _read_host(self) -> tuple[Host | None, str]:
        try:
            kept = json.loads(self._host_file.read_bytes())
            host = Host(kept["id"], kept["name"])
            machine = kept["machine"]
            if not all(isinstance(text, str) for text in (host.id, host.name, machine)) or not (host.id and host.name):
                raise ValueError("id, name and machine have to be text")
        except FileNotFoundError:
            return None, ""
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._host_file}, this host's identity, cannot be read: {error!r}",
                hint="put it back from a backup; or remove it to become a new host, then: syncd run-once --take-over",
            ) from error
        return host, machine

    @property
    def _host_file(self) -> Path:
        return self.path / "host.json"


class StateLock:
    """The lock, until release() or the end of the process. The file stays: removing it would let two in."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next one in; safe to repeat."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # the pid is only told to people; the lock is what counts
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try_flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- directory and files ---------------------------------------------------------------------------------------------


class _config_errors:  # noqa: N801  (used as a context manager, like contextlib.suppress)
    """Turn an OSError into what it means to the operator."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise self._translate(error) from error

    def _translate(self, error: OSError) -> SyncdError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(f"no space left for {self._path}", hint="free space on the file system of host.state_dir")
        hint = "set host.state_dir to a directory on a local disk that this user may write"
        if error.errno in (errno.EACCES, errno.EPERM):
            uid = os.geteuid()
            chown = f"chown -R {uid} {quote(str(self._path))}"
            hint += f"; or let uid {uid} write there: {chown} (a volume: where it is mounted as root)"
        return ConfigError(f"the state directory cannot be used: {self._path}: {error.strerror or error}", hint=hint)


def _make_private(path: Path) -> None:
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def _write_durably(path: Path, content: dict[str, str]) -> None:
    """Replace a small file: whole or not at all, and still there after a power cut (fsync(2), rename(2))."""
    unfinished = path.with_name(f"{path.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        sync_file(file.fileno())
    unfinished.replace(path)
    sync_directory(path.parent)


def sync_file(descriptor: int) -> None:
    """Bring a file's bytes to the disk; on macOS fsync() stops at the drive's cache (fcntl(2), F_FULLFSYNC)."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: a new name or a rename is not until then (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- this machine ----------------------------------------------------------------------------------------------------


def machine_fingerprint() -> str:
    """Return a hash that tells this machine from others, "" where it has nothing to tell it by (many containers)."""
    own = _platform_uuid() if sys.platform == "darwin" else _machine_id()
    return hashlib.sha256(f"syncd:{own}".encode()).hexdigest()[:32] if own else ""


def _machine_id() -> str:
    """Return machine-id(5), which is not to be passed on as it is: hence the hash."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = path.read_text().strip()
            if re.fullmatch("[0-9a-f]{32}", found):
                return found
    return ""


def _platform_uuid() -> str:
    """Return IOPlatformUUID (macOS)."""
    output = _output(["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"])
    found = re.search(r'"IOPlatformUUID"\s*=\s*"([0-9A-Fa-f-]+)"', output)
    return found.group(1) if found else ""


def _output(command: list[str]) -> str:
    import subprocess  # slow to load, and only macOS asks

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _host_name() -> str:
    return os.uname().nodename.partition(".")[0] or "host"


def _refuse_network(path: Path) -> None:
    kind = file_system_type(path)
    if is_network(kind):
        raise ConfigError(
            f"the state directory {path} lies on a network file system ({kind}); SQLite would lose data there",
            hint="set host.state_dir to a directory on a local disk",
        )
