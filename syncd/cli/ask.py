"""Ask a person, or read piped answers: one line an answer; secrets are never echoed and never taken from argv."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from syncd.core.errors import ConfigError

T = TypeVar("T")


def line(question: str, default: str = "") -> str:
    """Return one answer; an empty one, or the end of piped input, is the default. Ctrl-D at a terminal: ConfigError."""
    shown = f"{question} [{default}]: " if default else f"{question}: "
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip() or default
    print(shown, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise ConfigError("no answer was given; nothing was written")
    return answer.strip() or default


def secret(question: str) -> str:
    """Return a secret typed without echo, or one line of piped input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    import getpass

    try:
        return getpass.getpass(f"{question}: ", sys.stderr)
    except EOFError:
        raise ConfigError("no answer was given; nothing was written") from None


def valid(ask: Callable[[], str], read: Callable[[str], T]) -> T:
    """Return read(answer). A person is asked again after a wrong answer; from a pipe it is a ConfigError."""
    while True:
        answer = ask()
        try:
            return read(answer)
        except ValueError as error:
            if not sys.stdin.isatty():
                raise ConfigError(str(error)) from None
            print(f"  {error}", file=sys.stderr)
