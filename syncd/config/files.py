"""Write the files of a configuration: secrets that are their owner's alone; nothing is overwritten by accident."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from syncd.core.errors import ConfigError


def make_folder(folder: Path) -> None:
    """Create a folder and its parents for this user alone; one that exists stays as it is. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be created: {error.strerror}") from error


def write_new(path: Path, text: str, mode: int) -> None:
    """Create a file with its whole content, durably. Raises ConfigError when it exists or cannot be written."""
    _write(path, text, mode, replace=False)


def replace_secret(path: Path, value: str) -> None:
    """Replace a secret's file atomically (mode 600): readers see the old secret or the new one. Raises ConfigError."""
    make_folder(path.parent)
    _write(path, value + "\n", 0o600, replace=True)


def _write(path: Path, text: str, mode: int, *, replace: bool) -> None:
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            # link() refuses to replace what is there, rename() replaces it in one step
            (os.replace if replace else os.link)(staged, path)
        finally:
            staged.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        raise ConfigError(f"{path} exists already, and nothing is overwritten") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
