"""Who the workers of this host are: `<host.name>-N`, each id held by one living worker.

An id ends up in every result and error of the deployment's database, so it is real: never a variable that nobody
filled in (logs of one deployment show workers called "${HOSTNAME}").
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from syncd.client.heartbeats import BEAT, FOLDER, LOCK, file_of, is_held
from syncd.config import Settings
from syncd.core.errors import ConfigError, DiskFull

ID_MAX = 100
TRIES_MAX = 1_000
PATIENCE_S = 0.3
"""How long a lock is tried for: who looks whether it is held takes it for microseconds."""


def run_folder(settings: Settings) -> Path:
    """Return where the locks and heartbeats are, made if it is missing. Raises ConfigError, DiskFull."""
    folder = settings.host.state_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(folder, error) from error
    return folder


def unusable(path: Path, error: OSError) -> ConfigError | DiskFull:
    """Return what a failure of the state directory means to the operator."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left for {path}", hint="free space on the file system of the state directory")
    return ConfigError(
        f"the worker's state directory cannot be used: {path}: {error.strerror or error}",
        hint="set host.state_dir (or XDG_STATE_HOME) to a local directory that this user may write",
    )


def host_name(settings: Settings) -> str:
    """Return what this host is called: as configured, as the daemon has fixed it, else as the machine says."""
    for name in (settings.host.name or "", _fixed_name(settings.host.state_dir)):
        if is_real(name):
            return name
    return os.uname().nodename.partition(".")[0] or "host"


def is_real(name: str) -> bool:
    """Say whether a name is one, and no variable that was left as it is."""
    return bool(name.strip()) and "$" not in name and name.isprintable() and len(name) <= ID_MAX


def candidates(settings: Settings, workers: int) -> Iterator[str]:
    """Yield ids in the order in which they are to be tried; $WORKER_ID as it is for a single worker."""
    given = settings.worker.id
    if given is not None and is_real(given):
        if workers == 1:
            yield given
        base, first = given, 2 if workers == 1 else 1
    else:
        base, first = host_name(settings), 1
    for number in range(first, first + TRIES_MAX):
        yield f"{base}-{number}"


class Claim:
    """An id, held by the open descriptor of its lock: also in every process that inherits it, until the last ends."""

    def __init__(self, worker_id: str, descriptor: int) -> None:
        self.worker_id = worker_id
        self.descriptor = descriptor

    def release(self, folder: Path) -> None:
        """Give it back, and take its files away; safe to repeat."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            _remove(folder, self.worker_id)
            os.close(descriptor)


def claim(folder: Path, names: Iterator[str], count: int) -> list[Claim]:
    """Take that many ids, the first that are free. Raises ConfigError, DiskFull."""
    claims: list[Claim] = []
    try:
        while len(claims) < count:
            name = next(names, None)
            if name is None:
                raise ConfigError("there are no worker ids left: each is held by a worker that lives")
            descriptor = _take(file_of(folder, name, LOCK))
            if descriptor is not None:
                claims.append(Claim(name, descriptor))
    except OSError as error:
        raise unusable(folder, error) from error
    return claims


def sweep(folder: Path) -> None:
    """Remove the files of workers that ended without doing so."""
    with contextlib.suppress(OSError):
        for lock in folder.glob(f"*{LOCK}"):
            if not is_held(lock):
                lock.with_suffix(BEAT).unlink(missing_ok=True)


def _take(lock: Path) -> int | None:
    """Return the descriptor that holds a lock; None when somebody else has it."""
    deadline = time.monotonic() + PATIENCE_S
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.02)
        else:
            return descriptor


def _remove(folder: Path, worker_id: str) -> None:
    """Remove a heartbeat; the lock stays: removing it would let two hold one id."""
    with contextlib.suppress(OSError):
        file_of(folder, worker_id, BEAT).unlink()


def _fixed_name(state_dir: Path) -> str:
    """Return the name that the daemon keeps in host.json, "" where it keeps none."""
    try:
        kept = json.loads((state_dir / "host.json").read_bytes())
    except (OSError, ValueError):
        return ""
    name = kept.get("name") if isinstance(kept, dict) else None
    return name if isinstance(name, str) else ""
