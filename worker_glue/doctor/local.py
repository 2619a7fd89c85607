"""This host: the configuration, the state directory, who the workers would be, and those that run."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping

from syncd import __version__
from syncd.client.file_systems import file_system_type, is_layer, is_network
from syncd.client.heartbeats import FOLDER, read_all
from syncd.config import Settings
from worker_glue.doctor.checks import Check, fail, ok, warn
from worker_glue.running.ids import candidates, host_name, is_real


def checks(settings: Settings, env: Mapping[str, str]) -> Iterator[Check]:
    """Look at this host. Writes one small file into the state directory, and removes it."""
    there = os.path.lexists(settings.path)
    yield ok("configuration", str(settings.path) if there else f"no file at {settings.path}: the environment alone")
    yield _state(settings)
    yield _id(settings, env)
    yield from _running(settings)


def _state(settings: Settings) -> Check:
    folder = settings.host.state_dir / "worker"
    kind = file_system_type(folder)
    if is_network(kind):
        seen = f"{folder} lies on a network file system ({kind}), where SQLite would lose results"
        return fail("state", seen, "set host.state_dir to a local disk (in a container: a volume, no bind mount)")
    probe = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        todo = "set host.state_dir (or XDG_STATE_HOME) to a local directory that this user may write"
        return fail("state", f"{folder} cannot be written: {error.strerror or error}", todo)
    if is_layer(kind):
        seen = f"{folder} lies in the container's own layer ({kind}): results that MongoDB has not taken go with it"
        return warn("state", seen, "mount a volume there")
    return ok("state", f"{folder} can be written, on {kind or 'an unknown file system'} (local)")


def _id(settings: Settings, env: Mapping[str, str]) -> Check:
    given = env.get("WORKER_ID", "").strip()
    first = next(candidates(settings, 1))
    if given and not is_real(given):
        todo = "set WORKER_ID to a name of this worker's own, or leave it out"
        return warn("worker id", f"WORKER_ID={given[:100]!r} is no id, workers are called {first!r} instead", todo)
    return ok("worker id", f"{first} on {host_name(settings)}, worker_glue {__version__}")


def _running(settings: Settings) -> Iterator[Check]:
    now = time.time()
    found = [seen for seen in read_all(settings.host.state_dir / FOLDER) if seen.alive]
    lost = [seen.worker_id for seen in found if seen.state(now) == "lost"]
    if lost:
        yield fail("workers", f"silent for more than 90 s: {', '.join(lost)}", "see the log of worker-glue run")
    elif found:
        yield ok("workers", ", ".join(f"{seen.worker_id} {seen.state(now)}" for seen in found))
    else:
        yield ok("workers", "none run here on this state directory")


def live(settings: Settings) -> tuple[bool, str]:
    """Say whether the workers of this state directory live, by their heartbeat files, and one line about it."""
    now = time.time()
    alive = [seen for seen in read_all(settings.host.state_dir / FOLDER) if seen.alive]
    if not alive:
        return False, "no worker runs on this state directory"
    lost = [seen.worker_id for seen in alive if seen.state(now) == "lost"]
    if lost:
        return False, f"silent for more than 90 s: {', '.join(lost)}"
    return True, ", ".join(f"{seen.worker_id} {seen.state(now)}" for seen in alive)
