"""The frame of the command line: finds the verb, loads the settings, and turns every error into an exit code.

A verb is a module with `configure(parser)`, which adds its arguments and calls frame.describe(), and `run`, which
returns the exit code: `run(args, settings)`, or `run(args)` for a verb that works without a usable configuration.
This is the only place that catches everything.
"""

from __future__ import annotations

import os
import sys

from syncd import __version__

TYPE_CHECKING = False  # as in typing, which --help need not import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path
    from types import FrameType, ModuleType
    from typing import NoReturn

    from syncd.config import Settings
    from syncd.core.errors import ConfigError, SyncdError

EXIT_BUG, EXIT_USAGE, EXIT_DISK_FULL = 1, 2, 14
EXIT_INTERRUPTED, EXIT_PIPE, EXIT_TERMINATED = 130, 141, 143
_OBJECTS_BETWEEN_LOOKS = 50_000


class Verb:
    """One command: the group it is listed in, its module below syncd.cli, its line of help."""

    __slots__ = ("about", "group", "module", "needs_settings")

    def __init__(self, group: str, module: str, about: str, *, needs_settings: bool = True) -> None:
        self.group = group
        self.module = module
        self.about = about
        self.needs_settings = needs_settings


VERBS = {
    "init": Verb("Set up", "init", "write a configuration by asking a few questions", needs_settings=False),
    "secret": Verb("Set up", "secret", "replace the password of a mirror", needs_settings=False),
    "doctor": Verb("Set up", "doctor", "check every hop from here to the share", needs_settings=False),
    "run-once": Verb("Mirror", "run_once", "bring the mirrors up to date, once"),
    "run": Verb("Mirror", "run", "keep the mirrors up to date (the daemon)", needs_settings=False),
    "status": Verb("Mirror", "status", "show how the mirrors are"),
    "verify": Verb("Mirror", "verify", "re-hash what is held, and compare it with the source"),
    "approve": Verb("Mirror", "approve", "let changes through that were held back"),
    "pause": Verb("Mirror", "pause", "leave mirrors alone for some time"),
    "resume": Verb("Mirror", "resume", "go on with paused mirrors"),
    "why": Verb("Look closer", "why", "tell everything known about one path"),
    "runs": Verb("Look closer", "runs", "show the reports of past runs"),
    "manifest": Verb("Look closer", "manifest", "print what is held, for sha256sum -c"),
    "events": Verb("Look closer", "events", "follow what becomes ready, is updated or removed"),
    "where": Verb("Look closer", "where", "tell which hosts hold a file"),
    "hosts": Verb("Look closer", "hosts", "list the hosts that mirror, and how they are"),
    "remote": Verb("Look closer", "remote", "look at, restart and update other hosts over SSH"),
    "alerts": Verb("Look closer", "alerts", "list what is wrong, and test who is told of it"),
    "announce": Verb("Tidy up", "announce", "send announcements again"),
    "trash": Verb("Tidy up", "trash", "list, restore or purge removed files"),
    "forget": Verb("Tidy up", "forget", "forget a mirror that is no longer configured"),
    "service": Verb("Service", "service", "install syncd as a service that starts by itself", needs_settings=False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes one message on stderr."""
    _tolerate_odd_names()
    if argv is None:
        _collect_seldom()
    call = _Call()
    try:
        code = call.run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_BUG
    except KeyboardInterrupt:
        _say("interrupted; the next run goes on from here")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_PIPE
    except Exception as error:  # noqa: BLE001 (the one place: a bug must end in one line and a file, not in noise)
        return _failed(error, call.settings)
    else:
        return code


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
    import argparse
    import importlib

    module = importlib.import_module(f"syncd.cli.{VERBS[name].module}")

    def formatter(prog: str) -> argparse.HelpFormatter:
        # without a width argparse loads shutil, and with it all kinds of compression, for each start of a command
        return argparse.RawDescriptionHelpFormatter(prog, width=_columns() - 2)

    parser = argparse.ArgumentParser(
        prog=f"syncd {name}",
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration file")
    module.configure(parser)
    return parser, module


def _columns() -> int:
    """Return the width of the terminal as shutil.get_terminal_size() has it."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Call:
    """One command line; keeps the settings once they are loaded, for the report of a bug."""

    def __init__(self) -> None:
        self.settings: Settings | None = None

    def run(self, argv: list[str]) -> int:
        config, name, rest = _split(argv)
        if name in ("help", "--help", "-h"):
            if not rest or rest[0] not in VERBS:
                print(_help(), end="")
                return 0
            name, rest = rest[0], ["--help"]
        if name == "--version":
            print(f"syncd {__version__}")
            return 0
        if name is None:
            print(_help(), end="", file=sys.stderr)
            return EXIT_USAGE
        if name not in VERBS:
            raise _unknown(name)
        return self._run_verb(name, config, rest)

    def _run_verb(self, name: str, config: str | None, rest: list[str]) -> int:
        from pathlib import Path

        verb = VERBS[name]
        parser, module = load_verb(name)
        parser.set_defaults(config=config)
        args: argparse.Namespace = parser.parse_args(rest)
        args.config = None if args.config is None else Path(args.config)
        with _EndedBySigterm():
            if not verb.needs_settings:
                return int(module.run(args))
            self.settings = _load(args.config)
            return int(module.run(args, self.settings))


def _load(path: Path | None) -> Settings:
    from syncd import config

    return config.load(path, os.environ)


def _split(argv: list[str]) -> tuple[str | None, str | None, list[str]]:
    """Return (-c FILE given before the verb, verb, what follows it)."""
    config: str | None = None
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-c", "--config"):
            if not rest:
                raise _usage(f"{word} needs the path of a configuration file")
            config = rest.pop(0)
        elif word.startswith("--config="):
            config = word.partition("=")[2]
        elif word.startswith("-c") and not word.startswith("--"):
            config = word[2:]
        else:
            return config, word, rest
    return config, None, []


def _unknown(name: str) -> ConfigError:
    import difflib

    near = difflib.get_close_matches(name, VERBS, n=1)
    meant = f'; did you mean "{near[0]}"?' if near else ""
    return _usage(f'there is no command "{name}"{meant}')


def _usage(message: str) -> ConfigError:
    from syncd.core.errors import ConfigError

    return ConfigError(message, hint="syncd --help")


def _help() -> str:
    lines = [
        "usage: syncd [-c FILE] COMMAND [ARGUMENTS]",
        "",
        "Mirrors a share into a local directory, whole and verified.",
    ]
    group = ""
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            lines += ["", f"{group}:"]
        lines.append(f"  {name:<10} {verb.about}")
    lines += [
        "",
        "Example:",
        "  syncd init smb://gvpocr@172.12.0.132:13445/gvpocr-bhushanji ~/gvpocr-worker/data/Bhushanji",
        "  syncd run-once",
        "  syncd status",
        "",
        "-c FILE may stand before or after the command; without it $SYNCD_CONFIG, then the platform's folder.",
        "Each command's arguments, examples and exit codes:  syncd COMMAND --help",
    ]
    return "\n".join(lines) + "\n"


def _failed(error: Exception, settings: Settings | None) -> int:
    """Turn what ended a command into one message and its exit code."""
    from syncd.core.errors import SyncdError

    if isinstance(error, SyncdError):
        return _report(error)
    if isinstance(error, OSError) and _is_output(error):
        _drop_stdout()
        _say(f"error: the output cannot be written: {error.strerror}")
        return EXIT_DISK_FULL
    return _bug(error, settings)


def _report(error: SyncdError) -> int:
    """Print an error and the next step; return its exit code."""
    from syncd.cli.output import printable
    from syncd.config.secrets import redact
    from syncd.core.errors import ConfigError

    _say(f"error: {printable(redact(error.message))}")
    for problem in error.problems if isinstance(error, ConfigError) else ():
        if problem != error.message:
            _say(f"  - {printable(redact(problem))}")
    for line in error.hint.splitlines():
        _say(f"  next: {printable(redact(line))}")
    return error.exit_code


def _bug(error: Exception, settings: Settings | None) -> int:
    """Report what nobody foresaw: one line, and the traceback where it can be sent from."""
    from syncd.cli.crash import keep_traceback

    kept = keep_traceback(error, None if settings is None else settings.host.state_dir, os.environ)
    _say(f"error: this is a bug in syncd {__version__}: {type(error).__name__} {_place(error)}")
    _say(f"  next: {kept}")
    return EXIT_BUG


def _place(error: Exception) -> str:
    """Say where an error was raised: file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _is_output(error: OSError) -> bool:
    """Say whether stdout cannot be written (a full disk behind a redirection).

    Adapters translate their own OSErrors, so one without a file name that comes this far is from print().
    """
    import errno

    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr.fileno())  # nobody is listening; the exit code still tells


def _drop_stdout() -> None:
    """Let the interpreter's own flush at exit find somewhere to write (Python's manual, "Note on SIGPIPE")."""
    _drop(sys.stdout.fileno())


def _drop(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _tolerate_odd_names() -> None:
    """A file name that the terminal's encoding lacks is printed escaped, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


class _EndedBySigterm:
    """While a verb runs, SIGTERM ends it as Ctrl-C does: by an exception, so that everything is closed in order."""

    def __enter__(self) -> None:
        import signal
        import threading

        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _terminate)

    def __exit__(self, *_error: object) -> None:
        import signal

        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)
