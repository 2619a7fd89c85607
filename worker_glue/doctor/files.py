"""The files as a worker sees them: the daemon's API and its token, and whether each mount shows its mirror."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from syncd.client.address import VARIABLE, Address, SocketAddress, TcpAddress
from syncd.client.api import ApiClient
from syncd.config import Settings
from syncd.config.secrets import file_problem
from syncd.core.clocks import Apart
from syncd.core.errors import SyncdError
from syncd.core.resolution import State
from syncd.core.shown import counted
from worker_glue.doctor.checks import Check, fail, failed, ok, warn
from worker_glue.resolver.where import MOUNTS_VARIABLE, look_around

CONNECT_S = 5.0
SAMPLE = 5
"""So many files of a mirror are compared with what the daemon says of them."""
MANIFEST_BYTES = 1 << 20
OWNER_BYTES = 64 << 10
HALF_A_SECOND = 0.5
_WELL = ("ok", "paused")


def checks(settings: Settings, env: Mapping[str, str], clocks: list[Apart]) -> Iterator[Check]:
    """Ask the daemon, and look at every mirror that this process is to see. clocks: gets the daemon's."""
    where = look_around(settings.path, env)
    for trouble in where.troubles:
        yield failed("configuration", trouble)
    roots = {mirror.name: str(mirror.target) for mirror in settings.mirrors} | dict(where.mounts)
    api = None
    if where.address is not None:
        yield from _token(where.address)
        api = ApiClient(where.address)
        found = _status(api, where.address, clocks, named=bool(env.get(VARIABLE, "").strip()))
        yield from found[0]
        for mirror in found[1]:
            roots.setdefault(str(mirror.get("name")), str(mirror.get("target") or ""))
        if not found[1]:
            api.close()
            api = None
    if not roots:
        yield fail("mirror", "no mirror is known", f'set {VARIABLE}, or {MOUNTS_VARIABLE}="Bhushanji=/app/Bhushanji"')
    for name, root in sorted(roots.items()):
        yield from _mirror(name, root, api)
    if api is not None:
        api.close()


def _token(address: Address) -> Iterator[Check]:
    """Look at the token's file; one that cannot be read at all is said by whoever asks the daemon with it."""
    path = address.token_file if isinstance(address, TcpAddress) else None
    if path is not None and os.access(path, os.R_OK):
        seen, _, todo = file_problem(path).partition("; ")
        if seen:
            yield warn("token", seen, todo.removeprefix("run: "))


def _status(
    api: ApiClient, address: Address, clocks: list[Apart], *, named: bool
) -> tuple[list[Check], list[Mapping[str, Any]]]:
    """Return the checks of the daemon, and the mirrors that it tells of; none where it cannot be asked."""
    try:
        health = api.health(CONNECT_S)
        before = time.time()
        status = api.status()
        _compare(status.get("at"), (before + time.time()) / 2, clocks)
    except SyncdError as error:
        absent = isinstance(address, SocketAddress) and not address.path.exists()
        if absent and not named:
            seen = f"no daemon runs here ({address}): files are found by the catalogue or the manifest, not fetched"
            return [warn("daemon", seen, "syncd run\nto have it start by itself: syncd service install")], []
        hint = error.hint or f"see whether syncd runs on the host, and {VARIABLE} and SYNCD_API_TOKEN_FILE"
        return [fail("daemon", f"{address}: {error.message}", hint)], []
    mirrors: list[Mapping[str, Any]] = [each for each in status.get("mirrors", ()) if isinstance(each, dict)]
    said = "answers" if isinstance(address, SocketAddress) else "accepts the token"
    troubles = [str(problem) for problem in health.get("problems") or ()]
    troubles += [
        f"mirror {each.get('name')} is {each.get('state')}" for each in mirrors if each.get("state") not in _WELL
    ]
    up = ok("daemon", f"syncd {health.get('version')} at {address} {said}")
    return [up, *(warn("daemon", trouble, "syncd status") for trouble in troubles)], mirrors


def _compare(at: object, now: float, clocks: list[Apart]) -> None:
    """Note how far the daemon's clock is from ours: a virtual machine's stands still while its host sleeps."""
    with contextlib.suppress(TypeError, ValueError):
        told = datetime.fromisoformat(str(at)).timestamp()  # in whole seconds
        clocks.append(Apart("the daemon's", told + HALF_A_SECOND - now))


def _mirror(name: str, root: str, api: ApiClient | None) -> Iterator[Check]:
    todo = f'mount the target of {name} there, or say where it is: {MOUNTS_VARIABLE}="{name}=/where/it/is"'
    owner = _owner(root)
    if isinstance(owner, str):
        yield fail(name, f"{root or '(nowhere)'} does not show the mirror: {owner}", todo)
        return
    if owner.get("mirror") != name:
        yield fail(name, f"{root} shows the mirror {owner.get('mirror')!r}, not {name!r}", todo)
        return
    lines = _lines(Path(root))
    if isinstance(lines, str):
        yield warn(name, f"{root}: {lines}", "the daemon writes it at the end of a run: syncd run-once")
        return
    yield ok(name, f"{root} shows the mirror of {owner.get('host')}, its manifest can be read")
    yield _sizes(name, root, lines, api)


def _owner(root: str) -> dict[str, Any] | str:
    """Return what `.syncd/owner` says, or why it cannot be read."""
    if not root:
        return "nobody says where it is"
    try:
        with (Path(root) / ".syncd" / "owner").open("rb") as file:
            told = json.loads(file.read(OWNER_BYTES))
    except FileNotFoundError:
        return "there is no such folder" if not os.path.isdir(root) else "it has no .syncd/owner"
    except (OSError, ValueError) as error:
        return f".syncd/owner cannot be read: {getattr(error, 'strerror', None) or error}"
    return told if isinstance(told, dict) else ".syncd/owner is not syncd's"


def _lines(root: Path) -> list[dict[str, Any]] | str:
    """Return the first lines of the manifest, or why it cannot be read."""
    try:
        with (root / ".syncd" / "manifest.jsonl").open("rb") as file:
            raw = file.read(MANIFEST_BYTES).splitlines()
    except OSError as error:
        return f".syncd/manifest.jsonl cannot be read: {error.strerror or error}"
    found = []
    for line in raw:
        try:
            told = json.loads(line)
        except ValueError:  # the last one may be cut
            continue
        if isinstance(told, dict) and isinstance(told.get("path"), str) and isinstance(told.get("size"), int):
            found.append(told)
    return found


def _sizes(name: str, root: str, lines: list[dict[str, Any]], api: ApiClient | None) -> Check:
    """Compare some files here with the manifest, and with the daemon where it can be asked."""
    step = max(1, len(lines) // SAMPLE)
    sample = lines[::step][:SAMPLE]
    wrong = []
    for line in sample:
        expected = line["size"]
        if api is not None:
            answer = api.resolve(f"{name}/{line['path']}")
            if answer.state is not State.READY:
                continue  # changed since the manifest was written
            expected = answer.size
        try:
            seen = os.stat(f"{root}/{line['path']}", follow_symlinks=False).st_size
        except OSError as error:
            wrong.append(f"{line['path']}: {error.strerror or error}")
        else:
            if seen != expected:
                wrong.append(f"{line['path']}: {seen} bytes instead of {expected}")
    if wrong:
        todo = f"another folder is mounted at {root}, or files were changed: syncd verify"
        return fail(name, f"{len(wrong)} of {len(sample)} files are not as the daemon holds them: {wrong[0]}", todo)
    by = "the daemon" if api is not None else "the manifest"
    have = "has" if len(sample) == 1 else "have"
    return ok(
        name, f"{counted(len(sample), 'file')} {have} the size that {by} says" if sample else "the mirror is empty"
    )
