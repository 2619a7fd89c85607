"""`syncd secret`: replace the password of a mirror."""

from __future__ import annotations

import argparse
import os
import shlex

from syncd import config
from syncd.cli import ask
from syncd.cli.frame import describe
from syncd.config.files import replace_secret
from syncd.config.settings import MirrorSettings, Settings
from syncd.core.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `syncd secret`."""
    parser.add_argument("name", metavar="NAME", help="the mirror whose password it is")
    describe(
        parser,
        "Replace the password file of a mirror (mode 600, atomically). Asks without echo, or reads one line of piped "
        "input. The new password is used from the next connection on.",
        ["syncd secret Bhushanji", "pass show share | syncd secret Bhushanji"],
        [0],
    )


def run(args: argparse.Namespace) -> int:
    """Ask for the new password and put it in its place."""
    settings = config.load(args.config, os.environ, check_secrets=False)
    mirror = _mirror(settings, args.name)
    if mirror.password is None:
        raise ConfigError(f"{mirror.name} has no password: nothing in {settings.path} names one")
    if mirror.password.path is None:
        raise ConfigError(f"the password of {mirror.name} is kept in ${mirror.password.variable}, not in a file")
    value = ask.secret(f"Password of {mirror.source.user or mirror.name} at {mirror.source.server}")
    if not value:
        raise ConfigError("an empty password was given; the old one stays")
    replace_secret(mirror.password.path, value)
    option = f"-c {shlex.quote(str(args.config))} " if args.config else ""
    print(f"{mirror.password.path} is written. Try it:  syncd {option}doctor")
    return 0


def _mirror(settings: Settings, name: str) -> MirrorSettings:
    mirror = settings.mirror(name)
    if mirror is None:
        known = ", ".join(m.name for m in settings.mirrors)
        raise ConfigError(f'there is no mirror "{name}" in {settings.path}; there are: {known}')
    return mirror
