"""The command line of syncd: its verbs, and what is syncd's own about running one.

A verb's module has `run(args, settings)`, or `run(args)` where it works without a usable configuration.
"""

from __future__ import annotations

import os
import sys

from syncd.client.program import Program, Verb

TYPE_CHECKING = False  # as in typing, which --help need not import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

    from syncd.config import Settings

_OBJECTS_BETWEEN_LOOKS = 50_000

VERBS = {
    "init": Verb("Set up", "syncd.cli.init", "write a configuration by asking a few questions", needs_settings=False),
    "secret": Verb("Set up", "syncd.cli.secret", "replace the password of a mirror", needs_settings=False),
    "doctor": Verb("Set up", "syncd.cli.doctor", "check every hop from here to the share", needs_settings=False),
    "run-once": Verb("Mirror", "syncd.cli.run_once", "bring the mirrors up to date, once"),
    "run": Verb("Mirror", "syncd.cli.run", "keep the mirrors up to date (the daemon)", needs_settings=False),
    "status": Verb("Mirror", "syncd.cli.status", "show how the mirrors are"),
    "verify": Verb("Mirror", "syncd.cli.verify", "re-hash what is held, and compare it with the source"),
    "approve": Verb("Mirror", "syncd.cli.approve", "let changes through that were held back"),
    "pause": Verb("Mirror", "syncd.cli.pause", "leave mirrors alone for some time"),
    "resume": Verb("Mirror", "syncd.cli.resume", "go on with paused mirrors"),
    "why": Verb("Look closer", "syncd.cli.why", "tell everything known about one path"),
    "runs": Verb("Look closer", "syncd.cli.runs", "show the reports of past runs"),
    "manifest": Verb("Look closer", "syncd.cli.manifest", "print what is held, for sha256sum -c"),
    "events": Verb("Look closer", "syncd.cli.events", "follow what becomes ready, is updated or removed"),
    "where": Verb("Look closer", "syncd.cli.where", "tell which hosts hold a file"),
    "hosts": Verb("Look closer", "syncd.cli.hosts", "list the hosts that mirror, and how they are"),
    "remote": Verb("Look closer", "syncd.cli.remote", "look at, restart and update other hosts over SSH"),
    "alerts": Verb("Look closer", "syncd.cli.alerts", "list what is wrong, and test who is told of it"),
    "announce": Verb("Tidy up", "syncd.cli.announce", "send announcements again"),
    "trash": Verb("Tidy up", "syncd.cli.trash", "list, restore or purge removed files"),
    "forget": Verb("Tidy up", "syncd.cli.forget", "forget a mirror that is no longer configured"),
    "service": Verb(
        "Service", "syncd.cli.service", "install syncd as a service that starts by itself", needs_settings=False
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes one message on stderr."""
    if argv is None:
        _collect_seldom()
    return _Call().program.main(sys.argv[1:] if argv is None else argv)


def _collect_seldom() -> None:
    """Look for cyclic garbage less often than every 700 objects, and not once more in everything at the end.

    Imports and listings make many objects that stay, which each look walks over again; we make hardly any cycles. The
    process is ours alone here: nobody else's settings are overruled.
    """
    import atexit
    import gc

    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS, 20, 20)
    atexit.register(gc.freeze)


def load_verb(name: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """Import a verb; return the parser of its arguments, and its module."""
    return _Call().program.load(name)


class _Call:
    """One command line; keeps the settings once they are loaded, for the report of a bug."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.program = Program(
            "syncd",
            VERBS,
            about="Mirrors a share into a local directory, whole and verified.",
            notes=(
                "Example:",
                "  syncd init smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji ~/gvpocr-worker/data/Bhushanji",
                "  syncd run-once",
                "  syncd status",
                "",
                "-c FILE may stand before or after the command; without it $SYNCD_CONFIG, then the platform's folder.",
            ),
            config="the configuration file",
            interrupted="interrupted; the next run goes on from here",
            run=self._run,
            keep=self._keep,
        )

    def _run(self, verb: Verb, module: ModuleType, args: argparse.Namespace) -> int:
        if not verb.needs_settings:
            return int(module.run(args))
        from syncd import config

        self.settings = config.load(args.config, os.environ)
        return int(module.run(args, self.settings))

    def _keep(self, error: Exception) -> str:
        from syncd.cli.crash import keep_traceback

        return keep_traceback(error, None if self.settings is None else self.settings.host.state_dir, os.environ)
