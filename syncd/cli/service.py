"""syncd service: install syncd as a service of systemd or launchd, look at it, remove it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from syncd import config, service
from syncd.cli.frame import describe
from syncd.cli.output import printable
from syncd.client.program import typed
from syncd.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syncd.service import Inspection, Place
    from syncd.service.steps import Step
    from syncd.service.unit import Job

SYSTEM_CONFIG = Path("/etc/syncd/config.toml")
ROOT = Path("/")
"""Where absolute paths begin; tests put a folder of their own here."""

EXIT_NOT_RUNNING = 3


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Install syncd as a service, so that the daemon starts by itself and is started again when it ends. A service "
        "of your own (--user) needs no root; --system is the machine's, installed by root, and on Linux it runs as a "
        "user of its own that may write the mirrors and nothing else. The configuration is checked first, as the "
        "service will see it; installing again changes only what differs. uninstall leaves configuration, state and "
        "mirrors. status: 0 when the service runs, 3 when it does not.",
        [
            "syncd service install",
            "syncd service status",
            "syncd service print --for launchd",
            "sudo syncd -c /etc/syncd/config.toml service install --system",
        ],
        [0, 3, 11],
    )
    parser.add_argument("action", choices=["install", "uninstall", "print", "status"])
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument(
        "--user", dest="system", action="store_false", default=None, help="your own service (default, but for root)"
    )
    scope.add_argument("--system", dest="system", action="store_true", help="the machine's service (root's default)")
    parser.add_argument("--name", default=service.DEFAULT_NAME, help="another name, for a second configuration")
    parser.add_argument("--run-as", metavar="USER", default="", help="--system: the user it runs as")
    parser.add_argument(
        "--for", dest="manager", choices=[*service.Manager], help="print: for this one, whatever runs here"
    )
    parser.add_argument("--dry-run", action="store_true", help="install, uninstall: show the steps, do nothing")
    parser.add_argument("--json", action="store_true", help="status: print one JSON object")


def run(args: argparse.Namespace) -> int:
    args.name = service.checked_name(args.name)
    match args.action:
        case "install":
            return _install(args)
        case "uninstall":
            return _uninstall(args)
        case "print":
            return _print(args)
        case _:
            return _status(args)


def _install(args: argparse.Namespace) -> int:
    from syncd.service.check import refuse_other_syncd, remarks

    place = _place(args, _manager())
    file = _config_file(args, place)
    if not args.dry_run:
        _need_root(args, place, file)
    tools = service.Tools(os.environ)
    supervisor = service.supervisor(place, tools)
    job = _job(place, file)
    steps = supervisor.plan_install(job)
    if args.dry_run:
        return _show_steps(steps, "nothing: it is installed and runs")
    if not supervisor.inspect().running:
        refuse_other_syncd(job.state)
    if steps:
        service.install(supervisor, job, steps, tools, print)
    else:
        print(f"already installed: {place.file}")
    for remark in remarks(place, job, os.environ):
        print(f"  ! {printable(remark)}")
    found = supervisor.inspect()
    _show(found, args.config)
    return 0 if found.running else EXIT_NOT_RUNNING


def _uninstall(args: argparse.Namespace) -> int:
    place = service.place_to_look_at(_manager(), args.name, system=_system(args), root=ROOT)
    if not args.dry_run:
        _need_root(args, place, None)
    tools = service.Tools(os.environ)
    supervisor = service.supervisor(place, tools)
    steps, left = supervisor.plan_uninstall(), supervisor.left_behind()
    if args.dry_run:
        return _show_steps(steps, "nothing: it is not installed")
    if not steps:
        print(f"not installed: there is no {place.file}")
        return 0
    service.carry_out(steps, tools, print)
    print("uninstalled; configuration, state directory and mirrors are as they were")
    for each in left:
        print(f"  stays: {printable(each)}")
    return 0


def _print(args: argparse.Namespace) -> int:
    place = _place(args, service.Manager(args.manager) if args.manager else _manager(printing=args))
    supervisor = service.supervisor(place, service.Tools(os.environ))
    print(supervisor.text(_job(place, _config_file(args, place))), end="")
    return 0


def _status(args: argparse.Namespace) -> int:
    found = service.inspect(args.name, system=args.system, root=ROOT)
    if args.json:
        json.dump(found.as_json(), sys.stdout, ensure_ascii=False)
        print()
    else:
        _show(found, args.config)
    return 0 if found.running else EXIT_NOT_RUNNING


# --- what the arguments mean


def _manager(printing: argparse.Namespace | None = None) -> service.Manager:
    """Return what manages services here. printing: the arguments of print, which can do without."""
    manager = service.detected(ROOT)
    if manager is None and printing is not None:
        raise ConfigError(
            "this machine has neither systemd nor launchd: --for says for which of them to print",
            hint="\n".join(_print_for(printing, each) for each in service.Manager),
        )
    if manager is None:
        raise ConfigError(
            "this machine has neither systemd nor launchd, so there is nothing to install into",
            hint="let what starts programs here (a container's entry point, cron's @reboot) start: syncd run",
        )
    return manager


def _print_for(args: argparse.Namespace, manager: service.Manager) -> str:
    """Return the command that prints the same for one manager."""
    scope = [] if args.system is None else ["--system" if args.system else "--user"]
    name = [] if args.name == service.DEFAULT_NAME else ["--name", args.name]
    run_as = ["--run-as", args.run_as] if args.run_as else []
    return shlex.join(["syncd", "service", "print", "--for", manager, *scope, *name, *run_as])


def _system(args: argparse.Namespace) -> bool:
    return os.geteuid() == 0 if args.system is None else bool(args.system)


def _place(args: argparse.Namespace, manager: service.Manager) -> Place:
    system = _system(args)
    if args.run_as and not system:
        raise ConfigError("--run-as is for --system: your own service runs as you")
    return service.place_of(manager, args.name, os.environ, system=system, run_as=args.run_as, root=ROOT)


def _config_file(args: argparse.Namespace, place: Place) -> Path:
    """Return the configuration's absolute path: the one named, else the usual one of the service."""
    if args.config is not None:
        return Path(os.path.abspath(args.config.expanduser()))
    if not place.system or os.environ.get("SYNCD_CONFIG"):
        return config.default_path(os.environ)
    if place.manager is service.Manager.SYSTEMD:
        return SYSTEM_CONFIG
    return config.default_path({"HOME": str(place.account.home)})


def _job(place: Place, file: Path) -> Job:
    from syncd.service.check import job_of
    from syncd.service.program import stable_program

    return job_of(place, file, stable_program(sys.argv[0]), os.environ)


def _need_root(args: argparse.Namespace, place: Place, file: Path | None) -> None:
    if not place.system or os.geteuid() == 0:
        return
    words = [sys.argv[0], *(("-c", str(file)) if file else ()), "service", args.action, "--system"]
    raise ConfigError(
        f"root {args.action}s the machine's service; one of your own needs no root (--user)",
        hint=f"sudo {shlex.join(words)}",
    )


# --- what is shown


def _show_steps(steps: Sequence[Step], nothing: str) -> int:
    for line in [str(step) for step in steps] or [nothing]:
        print(printable(line))
    return 0


def _show(found: Inspection, file: Path | None) -> None:
    print(f"{found.name}: {found.kind or 'no service'}" + (f", {found.file}" if found.installed else ""))
    rows = [("state", found.detail + (f" (pid {found.pid})" if found.pid else ""))]
    if found.installed:
        rows += [
            ("starts by itself", "yes" if found.enabled else "no"),
            ("survives logout", found.logout),
            ("survives reboot", found.reboot),
            ("logs", found.logs),
            ("stop", found.stop),
        ]
    for name, value in rows:
        print(f"  {name:<16}  {printable(value)}")
    if found.todo:
        print(f"  next: {printable(typed(found.todo, file))}")
