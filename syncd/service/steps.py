"""What an installation consists of, as values: --dry-run prints exactly the steps that would be carried out."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from syncd.core.errors import ConfigError
from syncd.service.place import Account
from syncd.service.tools import CALL_TIMEOUT_S, ServiceFailed, Tools

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """Make a folder and its parents; what is made belongs to `owner` when root makes it."""

    path: Path
    owner: Account | None = None

    def __str__(self) -> str:
        return f"make the folder {self.path}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Put a file in its place, whole, readable by all."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove one file."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True, slots=True)
class Call:
    """Run a program of the service manager.

    instead: what the operator does when it fails; the next steps are tried all the same. Without it a failure ends it
    all. hint: the next step then. attempts: how often it is tried, `pause_s` apart.
    """

    argv: tuple[str, ...]
    instead: str = ""
    hint: str = ""
    timeout_s: float = CALL_TIMEOUT_S
    attempts: int = 1
    pause_s: float = 1.0

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until a program fails: until launchd has let go of a job. Not an error when it never does."""

    argv: tuple[str, ...]
    attempts: int = 40
    pause_s: float = 0.5

    def __str__(self) -> str:
        return f"wait until it has ended ({shlex.join(self.argv)})"


Step = MakeFolder | WriteFile | RemoveFile | Call | Until


def carry_out(steps: Iterable[Step], tools: Tools, say: Say) -> None:
    """Carry steps out, saying each before it is done. Raises: ServiceFailed, ConfigError at the first that fails."""
    for step in steps:
        say(str(step))
        match step:
            case MakeFolder():
                _make(step)
            case WriteFile():
                _write(step)
            case RemoveFile():
                _remove(step)
            case Call():
                _call(step, tools, say)
            case Until():
                _wait(step, tools)
            case _:
                assert_never(step)


def _make(step: MakeFolder) -> None:
    missing = [each for each in (step.path, *step.path.parents) if not each.exists()]
    with _explained(step.path):
        for folder in reversed(missing):
            folder.mkdir(mode=0o755, exist_ok=True)
            if step.owner is not None and os.geteuid() == 0:
                os.chown(folder, step.owner.uid, -1)


def _write(step: WriteFile) -> None:
    staged = step.path.with_name(f".{step.path.name}.{secrets.token_hex(4)}")
    with _explained(step.path):
        try:
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, 0o644)  # whatever the umask: the manager may read as another user
                file.write(step.text)
                file.flush()
                os.fsync(descriptor)
            staged.replace(step.path)
        finally:
            staged.unlink(missing_ok=True)


def _remove(step: RemoveFile) -> None:
    with _explained(step.path):
        step.path.unlink(missing_ok=True)


def _call(step: Call, tools: Tools, say: Say) -> None:
    for attempt in range(1, step.attempts + 1):
        answer = tools.ask(step.argv, step.timeout_s)
        if answer.ok:
            return
        if attempt < step.attempts:
            time.sleep(step.pause_s)
    if not step.instead:
        raise ServiceFailed(f"{answer.command}: {answer.complaint}", hint=step.hint)
    say(f"  failed: {answer.complaint}")
    say(f"  next: {step.instead}")


def _wait(step: Until, tools: Tools) -> None:
    for _ in range(step.attempts):
        if not tools.ask(step.argv).ok:
            return
        time.sleep(step.pause_s)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"{error.filename or path} may not be written by this user: {error.strerror}") from error
    except OSError as error:
        raise ConfigError(f"{error.filename or path} cannot be written: {error.strerror}") from error
