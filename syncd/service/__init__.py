"""Install syncd as a service of systemd or launchd, and tell how it is.

place.py says which service and where its file lies; check.py what stands in the way; unit.py and plist.py what the
file says; steps.py what is to be done, as values; systemd.py and launchd.py plan those steps and look at the result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from syncd.service.launchd import Launchd
from syncd.service.look import Inspection
from syncd.service.place import DEFAULT_NAME, Manager, Place, checked_name, detected, me, runs_as
from syncd.service.steps import Say, Step, carry_out
from syncd.service.systemd import Systemd
from syncd.service.tools import ServiceFailed, Tools
from syncd.service.unit import Job

__all__ = [
    "DEFAULT_NAME",
    "Inspection",
    "Launchd",
    "Manager",
    "Place",
    "ServiceFailed",
    "Systemd",
    "Tools",
    "carry_out",
    "checked_name",
    "detected",
    "inspect",
    "install",
    "place_of",
    "place_to_look_at",
    "supervisor",
]

Supervisor = Systemd | Launchd


def supervisor(place: Place, tools: Tools) -> Supervisor:
    """Return who plans and looks for a service at that place."""
    return Systemd(place, tools) if place.manager is Manager.SYSTEMD else Launchd(place, tools)


def place_of(
    manager: Manager, name: str, env: Mapping[str, str], *, system: bool, run_as: str = "", root: Path = Path("/")
) -> Place:
    """Return the place of a service. run_as: the user of a system service ("": the usual one). Raises: ConfigError."""
    account = runs_as(manager, run_as, env) if system else me()
    return Place(manager, system, name, account, root)


def place_to_look_at(manager: Manager, name: str, *, system: bool, root: Path = Path("/")) -> Place:
    """Return the place of a service that is only looked at or removed: whom it runs as does not matter then."""
    return Place(manager, system, name, me(), root)


def install(planner: Supervisor, job: Job, steps: Sequence[Step], tools: Tools, say: Say) -> None:
    """Carry out what was planned. Raises: ServiceFailed, ConfigError.

    An agent that launchd does not take at the screen (over SSH, nobody logged in there) goes into the background.
    """
    try:
        carry_out(steps, tools, say)
    except ServiceFailed as error:
        otherwise = planner.plan_otherwise(job)
        if not otherwise:
            raise
        say(f"  failed: {error.message}")
        say("  launchd does not take it for the session at the screen, so it goes into the background's")
        carry_out(otherwise, tools, say)


def inspect(
    name: str = DEFAULT_NAME,
    *,
    system: bool | None = None,
    env: Mapping[str, str] | None = None,
    root: Path = Path("/"),
) -> Inspection:
    """Look at a service; nothing is changed, and a silent manager costs tools.CALL_TIMEOUT_S a question (at most 3).

    system None: the user's own service, else the system's where only that is installed. kind is "" where there is no
    service manager. env: of this process (default: os.environ).
    """
    env = os.environ if env is None else env
    manager = detected(root)
    if manager is None:
        return Inspection(name, detail="this machine has neither systemd nor launchd", todo="syncd run")
    scopes = (False, True) if system is None else (system,)
    looked = (
        supervisor(place_to_look_at(manager, name, system=each, root=root), Tools(env)).inspect() for each in scopes
    )
    first = next(looked)
    return first if first.installed else next((found for found in looked if found.installed), first)
