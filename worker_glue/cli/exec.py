"""worker-glue exec: runs a program on the verified local files of server paths, each under a lease meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from worker_glue.cli.frame import describe
from worker_glue.cli.output import printable
from worker_glue.cli.resolve import exit_code, resolver, seconds, tell

AGAIN, NOT_EXECUTABLE, NOT_FOUND = 4, 126, 127
_STOPS_WITHIN_S = 10.0
_PLACE = re.compile(r"\{([0-9]*)\}")


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Run a program with the local paths of verified files. They stay as they are for as long as it runs, whatever "
        "happens to them on the source. {} in its arguments stands for the file's path; with several --path the first "
        "{} for the first and so on, or {0} and {1}. No shell is involved.\n\n"
        "Exits as the program does (128 + N: ended by signal N; 126, 127: it cannot be run, is not found), and with 4 "
        "where a file did not stay as it was: what was made from it does not count. Where a file is not to be had the "
        "program is not run, and the exit code is that of resolve.",
        [
            "worker-glue exec --path Bhushanji/eng-typed/letter.pdf -- pdftotext {} -",
            "worker-glue exec --path Bhushanji/a.jpg --path Bhushanji/b.jpg --wait 60 -- compare {0} {1} out.png",
        ],
        [0, 4, 5, 6, 7, 10],
    )
    parser.add_argument("--path", action="append", required=True, dest="paths", help="a path, in any spelling")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=seconds, default=0.0, help="have files fetched first, for so long each"
    )
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="the program and its arguments")


def run(args: argparse.Namespace) -> int:
    from worker_glue.errors import FileTrouble, LeaseLost

    command = args.command[1:] if args.command[0] == "--" else args.command
    problem = _problem(command, len(args.paths))
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    code = 0
    try:
        with resolver(args) as files, contextlib.ExitStack() as held:
            local = [held.enter_context(files.local_file(path, args.wait)) for path in args.paths]
            code = _run(filled(command, local))
    except FileTrouble as error:
        tell(_spelled(args.paths, error), error.resolution, args.config)
        return exit_code(error.resolution)
    except LeaseLost as error:
        print(f"error: {printable(error.message)}\n  next: {error.hint}", file=sys.stderr)
        return code or AGAIN
    return code


def filled(command: Sequence[str], local: Sequence[Path]) -> list[str]:
    """Return a command with paths in their places."""
    following = iter(local)

    def path(place: re.Match[str]) -> str:
        number = place.group(1)
        return str(local[int(number)] if number else next(following, local[-1]))

    return [_PLACE.sub(path, word) for word in command]


def _problem(command: Sequence[str], count: int) -> str:
    """Say what is wrong with a command's places; "" when nothing is."""
    if not command:
        return "there is no command after --"
    places = [place for word in command for place in _PLACE.findall(word)]
    plain = places.count("")
    if not places:
        return "the command has no {} for the file's path"
    if any(number and int(number) >= count for number in places):
        return f"the command names a file beyond the {count} of --path"
    if 0 < plain < len(places):
        return "the command has both {} and numbered places; use one form"
    if plain and count > 1 and plain != count:
        return f"the command has {plain} {{}} for {count} --path"
    return ""


def _spelled(paths: Sequence[str], error: Exception) -> str:
    """Return which of the paths an error is about."""
    return next((path for path in paths if repr(path) in str(error)), paths[0])


def _run(command: Sequence[str]) -> int:
    """Run a program to its end; whatever ends us ends it first."""
    try:
        process = subprocess.Popen(command)
    except FileNotFoundError:
        print(f"error: {printable(command[0])} is not found", file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f"error: {printable(command[0])} cannot be run: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOPS_WITHIN_S)
        process.kill()
        process.wait()
        raise
    return code if code >= 0 else 128 - code
