"""syncd as a service, and what the daemon sees: it may be refused what a terminal may do, or the other way round."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from syncd.client.address import SOCKET, SocketAddress, short_path
from syncd.client.api import ApiClient
from syncd.config import Settings
from syncd.core.errors import SyncdError
from syncd.core.paths import printable
from syncd.core.shown import counted
from syncd.doctor import mac
from syncd.doctor.checks import Check, Pace, TimedOut, fail, failed, ok, warn, within
from syncd.service import Inspection, inspect
from syncd.store.state import StateDirectory

T = TypeVar("T")

API_S = 10.0
CONNECT_S = 1.0
LOOK_S = 0.2
RESERVE_S = 8.0
"""The daemon's checks may take as long as ours, which began earlier: what is left of the minute is for telling."""
_COMPARE = "compare with the checks above, made by this command: a service may be refused what a terminal may do"


def add_checks(settings: Settings, env: Mapping[str, str], program: str, pace: Pace, told: list[Check]) -> None:
    """Look at the service, then ask the daemon, if one answers, how it is and what it reaches."""
    until = time.monotonic() + pace.whole_s - RESERVE_S
    found = _inspected(env, pace)
    if isinstance(found, Inspection):
        told.append(check_service(found, program))
    else:
        told.append(found)
    expected = isinstance(found, Inspection) and found.running
    with ApiClient(SocketAddress(settings.host.state_dir / SOCKET), API_S) as api:
        try:
            health = within(pace.check_s, api.health, api.close)
        except SyncdError as error:
            told.append(check_absence(settings, error, program, expected=expected))
            return
        told += check_health(health)
        try:
            told += check_view(within(pace.check_s, api.status, api.close))
            told += check_answers(_examined(api, pace, until))
        except SyncdError as error:
            told.append(failed("daemon", error))


def _examined(api: ApiClient, pace: Pace, until: float) -> list[Mapping[str, Any]] | None:
    """Have the daemon make the same checks; None when it is not done in time."""

    def ask(call: Callable[[], T]) -> T:
        return within(min(pace.check_s, max(until - time.monotonic(), LOOK_S)), call, api.close)

    errand_id = ask(api.start_doctor)
    while time.monotonic() < until:
        errand = ask(lambda: api.errand("doctor", errand_id))
        if errand is None:
            return None
        if errand.done:
            return [*(errand.result or {}).get("checks", ()), *map(_broken_off, errand.errors)]
        time.sleep(LOOK_S)
    return None


def _broken_off(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an error of the examination itself as a check: what was not looked at is not well."""
    told = {"seen": f"broken off: {error.get('message')}", "todo": error.get("hint")}
    return {"group": "daemon", "mirror": None, "name": "checks", "status": "fail", **told}


def check_answers(checks: list[Mapping[str, Any]] | None) -> list[Check]:
    """Tell what the same checks come to in the daemon: those that are not well one by one, the others as a number."""
    if checks is None:
        return [warn("in the daemon", "its own checks were not done in time", "syncd status")]
    well = sum(check.get("status") == "ok" for check in checks)
    # what was not tried follows from a check above it, which is told
    told = [_answer(check) for check in checks if check.get("status") != "ok" and not _is_untried(check)]
    return [*told, ok("in the daemon", f"{counted(well, 'check')} made by the daemon: well")] if well else told


def _is_untried(check: Mapping[str, Any]) -> bool:
    return str(check.get("seen")).startswith("not tried")


def _answer(check: Mapping[str, Any]) -> Check:
    where = printable(str(check.get("mirror") or check.get("group") or ""))
    seen = f"in the daemon, {where}: {printable(str(check.get('seen')))}"
    todo = printable(str(check.get("todo") or ""))
    name = printable(str(check.get("name")))
    if check.get("status") == "fail":
        advised = mac.with_folder_advice if name == "target" else mac.with_network_advice
        return advised([fail(name, seen, todo or _COMPARE)])[0]
    return warn(name, seen, todo)


def status_of_daemon(settings: Settings) -> dict[str, Any] | None:
    """Return `status --json` as the daemon has it; None when none answers."""
    with ApiClient(SocketAddress(settings.host.state_dir / SOCKET), API_S) as api:
        try:
            return within(API_S, api.status, api.close)
        except SyncdError:
            return None


def _inspected(env: Mapping[str, str], pace: Pace) -> Inspection | Check:
    try:
        return within(pace.check_s, lambda: inspect(env=env))
    except TimedOut as error:
        return warn("service", f"its manager gives {error.message}", "syncd service status")
    except SyncdError as error:
        return failed("service", error)


def check_service(found: Inspection, program: str) -> Check:
    """Judge the service: installed, running, coming back by itself. None installed is nobody's fault."""
    if not found.kind:
        return ok("service", found.detail)
    if not found.installed:
        return ok("service", f"not installed; {program} service install has it start by itself")
    seen = f"{found.kind} {found.file}: {found.detail}"
    if not found.running:
        return fail("service", seen, found.todo or "syncd service status")
    if not (found.enabled and found.survives_logout and found.survives_reboot):
        return warn("service", f"{seen}; after logout: {found.logout}; after reboot: {found.reboot}", found.todo)
    return ok("service", f"{seen}; survives logout and reboot")


def check_absence(settings: Settings, error: SyncdError, program: str, *, expected: bool) -> Check:
    """Judge that nobody answers at the socket."""
    try:
        pid = StateDirectory.open(settings.host.state_dir, create=False).holder_pid()
    except SyncdError:
        pid = None
    if _is_taken(settings.host.state_dir / SOCKET):
        seen = f"{f'process {pid}' if pid else 'a daemon'} takes calls and answers none: {error.message}"
        return fail("daemon", seen, "see its logs, end it, and start it again: syncd service status")
    if expected:
        todo = f"see whether the service uses another configuration or state directory than {settings.path}"
        return fail("daemon", f"the service runs, but does not answer for this state directory: {error.message}", todo)
    if pid is not None:
        who = f"process {pid}" if pid else "another process"
        return ok("daemon", f"none answers; {who} works on this state directory (a run-once?)")
    return ok("daemon", f"not running; {program} run keeps the mirrors up to date")


def _is_taken(path: Path) -> bool:
    """Say whether somebody listens at a socket."""
    try:
        with short_path(path) as name, closing(socket.socket(socket.AF_UNIX)) as end:
            end.settimeout(CONNECT_S)
            end.connect(name)
    except OSError:
        return False
    return True


def check_health(health: Mapping[str, Any]) -> list[Check]:
    """Judge what the daemon says of itself."""
    seen = f"syncd {health.get('version')} runs as process {health.get('pid')} since {health.get('since')}"
    problems = [printable(str(problem)) for problem in _listed(health.get("problems"))]
    if health.get("ok") is True:
        return [ok("daemon", seen)]
    return [fail("daemon", f"{seen}: {problem}", "syncd status") for problem in problems or ["it is not well"]]


def check_view(status: Mapping[str, Any]) -> list[Check]:
    """Tell what the daemon reaches, hop by hop, and how it finds each mirror."""
    hops = [_hop(hop) for hop in _listed(status.get("hops")) if isinstance(hop, Mapping)]
    mirrors = [_mirror(mirror) for mirror in _listed(status.get("mirrors")) if isinstance(mirror, Mapping)]
    announcing = status.get("announcing")
    told = [_announcing(announcing)] if isinstance(announcing, Mapping) else []
    return mac.with_network_advice(hops) + told + mac.with_folder_advice(mirrors)


def _hop(hop: Mapping[str, Any]) -> Check:
    name, state = printable(str(hop.get("name"))), hop.get("state")
    detail = printable(str(hop.get("detail") or ""))
    since = f" since {hop['since']}" if hop.get("since") else ""
    took = f", {hop['latency_ms']:g} ms" if isinstance(hop.get("latency_ms"), int | float) else ""
    seen = f"the daemon says: {state}{since}{f' ({detail})' if detail else ''}{took}"
    if state in ("ok", "off", "unknown"):
        return ok(name, seen)
    if state in ("down", "failed", "error"):
        return fail(name, seen, _COMPARE)
    return warn(name, seen)


def _announcing(announcing: Mapping[str, Any]) -> Check:
    words = [printable(str(announcing.get(key) or "")) for key in ("state", "error", "warning")]
    seen = f"the daemon says: {': '.join(word for word in words if word)}; {announcing.get('owed')} owed"
    return warn("announcements", seen) if words[1] or words[2] else ok("announcements", seen)


def _mirror(mirror: Mapping[str, Any]) -> Check:
    name, state = printable(str(mirror.get("name"))), mirror.get("state")
    message, hint = printable(str(mirror.get("message") or "")), printable(str(mirror.get("hint") or ""))
    seen = f'the daemon says of "{name}": {state}{f": {message}" if message else ""}'
    if state in ("ok", "paused"):
        return ok("mirror", seen)
    judge = fail if state == "halted" else warn
    return judge("mirror", seen, hint or "syncd status")


def _listed(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else ()
