"""Ask a person, or read piped answers: one line an answer; secrets are never echoed and never taken from argv."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from syncd.core.errors import ConfigError

T = TypeVar("T")


def line(question: str) -> str:
    """Return one answer; the end of piped input is an empty one. Ctrl-D at a terminal: ConfigError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise ConfigError("no answer was given; nothing was written")
    return answer.strip()


def agreed(question: str) -> bool:
    """Ask for a yes at a terminal; anything else is a no, Ctrl-D too."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")


def secret(question: str) -> str:
    """Return a secret typed without echo, or one line of piped input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    import getpass

    try:
        return getpass.getpass(f"{question}: ", sys.stderr)
    except EOFError:
        raise ConfigError("no answer was given; nothing was written") from None


def valid(given: str | None, question: str, read: Callable[[str], T]) -> T:
    """Return read(given), or read(answer) where nothing was given.

    A person is asked again after a wrong answer; a wrong argument or piped answer is a ConfigError.
    """
    while True:
        try:
            return read(line(question) if given is None else given)
        except ValueError as error:
            if given is not None or not sys.stdin.isatty():
                raise ConfigError(str(error)) from None
            print(f"  {error}", file=sys.stderr)
