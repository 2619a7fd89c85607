"""The frame of a command line: finds the verb, and turns every error into a message and an exit code.

A verb is a module with `configure(parser)`, which adds its arguments and calls describe(), and a `run` that returns
the exit code. Nothing but what a command needs is imported: `--help` answers at once.
"""

from __future__ import annotations

import os
import sys

from syncd import __version__

TYPE_CHECKING = False  # as in typing, which --help need not import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType, ModuleType
    from typing import NoReturn

    from syncd.core.errors import ConfigError, SyncdError

EXIT_BUG, EXIT_USAGE, EXIT_DISK_FULL = 1, 2, 14
EXIT_INTERRUPTED, EXIT_PIPE, EXIT_TERMINATED = 130, 141, 143


class Verb:
    """One command: the group it is listed in, its module, its line of help."""

    __slots__ = ("about", "group", "module", "needs_settings")

    def __init__(self, group: str, module: str, about: str, *, needs_settings: bool = True) -> None:
        self.group = group
        self.module = module
        self.about = about
        self.needs_settings = needs_settings


class Program:
    """A command-line program with verbs. This is the only place that catches everything.

    about: its line of help. notes: what stands at the end of its help, examples first. config: help for -c FILE.
    interrupted: what Ctrl-C is answered with. run: called with the verb, its module and its arguments. keep: takes an
    exception that nobody foresaw, sees to its traceback, and returns the next step.
    """

    def __init__(
        self,
        name: str,
        verbs: Mapping[str, Verb],
        *,
        about: str,
        notes: Sequence[str],
        config: str,
        interrupted: str,
        run: Callable[[Verb, ModuleType, argparse.Namespace], int],
        keep: Callable[[Exception], str],
    ) -> None:
        self.name = name
        self.verbs = verbs
        self._about = about
        self._notes = notes
        self._config = config
        self._interrupted = interrupted
        self._run = run
        self._keep = keep
        self._named: Path | None = None

    def main(self, argv: Sequence[str]) -> int:
        """Run one command and return its exit code; every error becomes one message on stderr."""
        _open_closed_streams()
        _tolerate_odd_names()
        try:
            code = self._command(list(argv))
            sys.stdout.flush()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else EXIT_BUG
        except KeyboardInterrupt:
            _say(self._interrupted)
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            _drop(sys.stdout.fileno())
            return EXIT_PIPE
        except Exception as error:  # noqa: BLE001 (the one place: a bug must end in one line, not in noise)
            return self.failed(error, self._named)
        else:
            return code

    def load(self, name: str) -> tuple[argparse.ArgumentParser, ModuleType]:
        """Import a verb; return the parser of its arguments, and its module."""
        import argparse
        import importlib

        module = importlib.import_module(self.verbs[name].module)

        def formatter(prog: str) -> argparse.HelpFormatter:
            # without a width argparse loads shutil, and with it all kinds of compression, for each start of a command
            return argparse.RawDescriptionHelpFormatter(prog, width=_columns() - 2)

        parser = argparse.ArgumentParser(prog=f"{self.name} {name}", formatter_class=formatter, allow_abbrev=False)
        parser.add_argument("-c", "--config", metavar="FILE", help=self._config)
        module.configure(parser)
        return parser, module

    def failed(self, error: Exception, config: Path | None = None) -> int:
        """Say in one message what ended a command; return its exit code. config: the file that -c named."""
        from syncd.core.errors import SyncdError

        if isinstance(error, SyncdError):
            return _report(error, config)
        if isinstance(error, OSError) and _is_output(error):
            _drop(sys.stdout.fileno())
            _say(f"error: the output cannot be written: {error.strerror}")
            return EXIT_DISK_FULL
        if isinstance(error, FileNotFoundError) and _is_nowhere(error):
            _say("error: the current folder is no longer there, and a relative path starts from it")
            _say("  next: cd to a folder that exists, then again")
            return EXIT_USAGE
        kept = self._keep(error)
        _say(f"error: this is a bug in {self.name} {__version__}: {type(error).__name__} {_place(error)}")
        _say(f"  next: {kept}")
        return EXIT_BUG

    # --- one command line

    def _command(self, argv: list[str]) -> int:
        config, name, rest = self._split(argv)
        if name in ("help", "--help", "-h"):
            if not rest or rest[0].startswith("-"):
                print(self._help(), end="")
                return 0
            if rest[0] not in self.verbs:
                raise self._unknown(rest[0])
            name, rest = rest[0], ["--help"]
        if name == "--version":
            print(f"{self.name} {__version__}")
            return 0
        if name is None:
            print(self._help(), end="", file=sys.stderr)
            return EXIT_USAGE
        if name not in self.verbs:
            raise self._unknown(name)
        return self._run_verb(name, config, rest)

    def _run_verb(self, name: str, config: str | None, rest: list[str]) -> int:
        parser, module = self.load(name)
        parser.set_defaults(config=config)
        args: argparse.Namespace = parser.parse_args(rest)
        args.config = self._named = None if args.config is None else self._file(args.config)
        with _EndedBySigterm():
            return self._run(self.verbs[name], module, args)

    def _file(self, named: str) -> Path:
        """Return the absolute path of the file that -c named."""
        from syncd.config import expanded

        if not named:
            raise self._usage("-c needs the path of a configuration file, and got an empty one")
        return expanded(named).absolute()

    def _split(self, argv: list[str]) -> tuple[str | None, str | None, list[str]]:
        """Return (-c FILE given before the verb, verb, what follows it)."""
        config: str | None = None
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word in ("-c", "--config"):
                if not rest:
                    raise self._usage(f"{word} needs the path of a configuration file")
                config = rest.pop(0)
            elif word.startswith("--config="):
                config = word.partition("=")[2]
            elif word.startswith("-c") and not word.startswith("--"):
                config = word[2:]
            else:
                return config, word, rest
        return config, None, []

    def _unknown(self, name: str) -> ConfigError:
        import difflib

        near = difflib.get_close_matches(name, self.verbs, n=1)
        meant = f'; did you mean "{near[0]}"?' if near else ""
        return self._usage(f'there is no command "{name}"{meant}')

    def _usage(self, message: str) -> ConfigError:
        from syncd.core.errors import ConfigError

        return ConfigError(message, hint=f"{self.name} --help")

    def _help(self) -> str:
        lines = [f"usage: {self.name} [-c FILE] COMMAND [ARGUMENTS]", "", self._about]
        group = ""
        for name, verb in self.verbs.items():
            if verb.group != group:
                group = verb.group
                lines += ["", f"{group}:"]
            lines.append(f"  {name:<10} {verb.about}")
        last = f"Each command's arguments, examples and exit codes:  {self.name} COMMAND --help"
        return "\n".join([*lines, "", *self._notes, last]) + "\n"


def describe(
    parser: argparse.ArgumentParser,
    about: str,
    examples: Sequence[str],
    exits: Sequence[int],
    meanings: Mapping[int, str],
) -> None:
    """Give a verb's parser its description, its examples and the exit codes of its own (1, 2, 130, 143: always)."""
    import textwrap

    codes = sorted({*exits, 1, 2, 130, 143})
    parser.description = "\n\n".join(textwrap.fill(" ".join(part.split()), 100) for part in about.split("\n\n"))
    parser.epilog = "\n".join(
        ["Examples:", *(f"  {example}" for example in examples), "", "Exit codes:"]
        + [f"  {code:>3}  {meanings[code]}" for code in codes]
    )


def _columns() -> int:
    """Return the width of the terminal as shutil.get_terminal_size() has it."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


# --- what goes to stderr ---------------------------------------------------------------------------------------------


def typed(hint: str, config: Path | None) -> str:
    """Return a next step as it is to be typed: a command at its end is told of the file that -c named here too."""
    if config is None:
        return hint
    import re
    import shlex

    command = r"""(^|: )(syncd|worker-glue) (?!-)('[^']*'|"[^"]*"|[^;:(),'"])*(?<! )$"""  # words may be quoted
    if re.search(command, hint) is None or hint.startswith("syncd init"):
        return hint
    return f"{hint} -c {shlex.quote(str(config.expanduser().absolute()))}"


def _report(error: SyncdError, config: Path | None) -> int:
    """Print an error and the next step; return its exit code."""
    from syncd.config.secrets import redact
    from syncd.core.errors import ConfigError
    from syncd.core.shown import printable

    _say(f"error: {printable(redact(error.message))}")
    for problem in error.problems if isinstance(error, ConfigError) else ():
        if problem != error.message:
            _say(f"  - {printable(redact(problem))}")
    for line in error.hint.splitlines():
        _say(f"  next: {printable(typed(redact(line), config))}")
    return error.exit_code


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


def _is_nowhere(error: OSError) -> bool:
    """Say whether it is the current folder that is not there: removed, while a shell was in it."""
    try:
        os.getcwd()
    except OSError:
        return error.filename is None
    return False


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


def _open_closed_streams() -> None:
    """Lead streams that are closed (`>&-`) nowhere: else the next file that is opened takes their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)


def _tolerate_odd_names() -> None:
    """A file name that the terminal's encoding lacks is printed escaped, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


# --- signals ---------------------------------------------------------------------------------------------------------


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
