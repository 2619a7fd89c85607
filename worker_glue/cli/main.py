"""The frame of the command line: finds the verb and turns every error into an exit code.

A verb is a module with `configure(parser)`, which adds its arguments and calls frame.describe(), and `run(args)`, which
returns the exit code; it loads the settings by cli.settings.load(args). The form is that of syncd's own command line.
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
    from types import FrameType, ModuleType
    from typing import NoReturn

    from syncd.core.errors import ConfigError, SyncdError

PROGRAM = "worker-glue"
EXIT_BUG, EXIT_USAGE, EXIT_DISK_FULL = 1, 2, 14
EXIT_INTERRUPTED, EXIT_PIPE, EXIT_TERMINATED = 130, 141, 143

VERBS = {
    "run": ("Workers", "take OCR tasks from NSQ, and record one result or error for each"),
    "doctor": ("Workers", "check every hop: NSQ, MongoDB, the daemon, the mirror, the engine"),
    "engines": ("Workers", "list the OCR engines, their versions and languages"),
    "resolve": ("Files", "tell where the verified file of a server path is"),
    "exec": ("Files", "run a command with the verified file of a server path"),
    "check": ("Jobs", "tell before OCR starts which files of a job are ready, to fetch or missing"),
    "submit": ("Jobs", "publish OCR tasks, and make their job"),
    "job": ("Jobs", "show how a job is; what it lacks can be published again"),
    "stale": ("Jobs", "list results whose source has changed since"),
}
"""Each verb's group and line of help; its module is worker_glue.cli.VERB."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes one message on stderr."""
    _tolerate_odd_names()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_BUG
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop(sys.stdout.fileno())
        return EXIT_PIPE
    except Exception as error:  # noqa: BLE001 (the one place: a bug must end in one line, not in noise)
        return failed(error)
    else:
        return code


def load_verb(name: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """Import a verb; return the parser of its arguments, and its module."""
    import argparse
    import importlib

    module = importlib.import_module(f"worker_glue.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration file; none is needed")
    module.configure(parser)
    return parser, module


def _run(argv: list[str]) -> int:
    config, name, rest = _split(argv)
    if name in ("help", "--help", "-h"):
        if not rest or rest[0] not in VERBS:
            print(_help(), end="")
            return 0
        name, rest = rest[0], ["--help"]
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if name is None:
        print(_help(), end="", file=sys.stderr)
        return EXIT_USAGE
    if name not in VERBS:
        raise _unknown(name)
    return _run_verb(name, config, rest)


def _run_verb(name: str, config: str | None, rest: list[str]) -> int:
    from pathlib import Path

    parser, module = load_verb(name)
    parser.set_defaults(config=config)
    args: argparse.Namespace = parser.parse_args(rest)
    args.config = None if args.config is None else Path(args.config)
    with _EndedBySigterm():
        return int(module.run(args))


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

    return ConfigError(message, hint=f"{PROGRAM} --help")


def _help() -> str:
    lines = [
        f"usage: {PROGRAM} [-c FILE] COMMAND [ARGUMENTS]",
        "",
        "Turns the server path of an OCR task into a verified local file, runs OCR, records one result.",
    ]
    group = ""
    for name, (its_group, about) in VERBS.items():
        if its_group != group:
            group = its_group
            lines += ["", f"{group}:"]
        lines.append(f"  {name:<10} {about}")
    lines += [
        "",
        "Example:",
        f"  {PROGRAM} doctor",
        f"  {PROGRAM} resolve Bhushanji/eng-typed/letter.pdf",
        f"  {PROGRAM} run --workers 3",
        "",
        "-c FILE may stand before or after the command; without it $SYNCD_CONFIG, then the platform's folder, then the",
        "environment alone: NSQD_ADDRESS, NSQLOOKUPD_ADDRESSES, MONGO_URI, WORKER_ID, SYNCD_API, SYNCD_MOUNTS.",
        f"Each command's arguments, examples and exit codes:  {PROGRAM} COMMAND --help",
    ]
    return "\n".join(lines) + "\n"


def failed(error: Exception) -> int:
    """Say in one message what ended a command; return its exit code."""
    from syncd.core.errors import SyncdError

    if isinstance(error, SyncdError):
        return _report(error)
    if isinstance(error, OSError) and _is_output(error):
        _drop(sys.stdout.fileno())
        _say(f"error: the output cannot be written: {error.strerror}")
        return EXIT_DISK_FULL
    return _bug(error)


def _report(error: SyncdError) -> int:
    from syncd.config.secrets import redact
    from syncd.core.errors import ConfigError
    from syncd.core.shown import printable

    _say(f"error: {printable(redact(error.message))}")
    for problem in error.problems if isinstance(error, ConfigError) else ():
        if problem != error.message:
            _say(f"  - {printable(redact(problem))}")
    for line in error.hint.splitlines():
        _say(f"  next: {printable(redact(line))}")
    return error.exit_code


def _bug(error: Exception) -> int:
    """Report what nobody foresaw: one line, and with SYNCD_DEBUG=1 the traceback."""
    import traceback

    from syncd.config.secrets import redact

    trace = traceback.extract_tb(error.__traceback__)
    at = f"at {trace[-1].filename}:{trace[-1].lineno}" if trace else ""
    _say(f"error: this is a bug in worker_glue {__version__}: {type(error).__name__} {at}")
    if os.environ.get("SYNCD_DEBUG") == "1":
        _say(redact("".join(traceback.format_exception(error))).rstrip("\n"))
        _say("  next: send the lines above to the developers")
    else:
        _say("  next: again with SYNCD_DEBUG=1, and send what it prints to the developers")
    return EXIT_BUG


def _is_output(error: OSError) -> bool:
    """Say whether stdout cannot be written (a full disk behind a redirection)."""
    import errno

    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr.fileno())  # nobody is listening; the exit code still tells


def _drop(descriptor: int) -> None:
    """Let the interpreter's own flush at exit find somewhere to write (Python's manual, "Note on SIGPIPE")."""
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
