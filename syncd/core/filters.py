"""Which files of the source belong to the mirror: gitignore syntax over built-in defaults. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.core.model import RelPath

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

DEFAULT_EXCLUDES = ("._*", ".DS_Store", "Thumbs.db", "~$*", ".syncd", ".write_test_delete_me")
VETOED_IN_ANY_CASE = (".DS_Store", "Thumbs.db")
"""Of those, what shares hide however it is spelled: smbd's `veto files` knows no case, unless told so (measured)."""
_DEFAULTS = re.compile(
    "|".join(
        rf"(?ai:{re.escape(each)})\Z" if each in VETOED_IN_ANY_CASE else fnmatch.translate(each)
        for each in DEFAULT_EXCLUDES
    )
)
_DB = re.compile(r"\.[Dd][Bb]")


def _any_case(pattern: str) -> str:
    return "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in pattern)


def _defaults_as_lines() -> list[str]:
    return [_any_case(each) if each in VETOED_IN_ANY_CASE else each for each in DEFAULT_EXCLUDES]


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    # pathspec costs 60 ms to import: only those who have patterns of their own pay for it
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)


class Filters:
    """Decides by path. A folder that is excluded is not descended into; `include`, when given, is asked for files only.

    Patterns of `exclude` come after the defaults, so that "!.DS_Store" brings a default back.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._exclude_lines = (*DEFAULT_EXCLUDES, *exclude)
        self._include_lines = tuple(include)
        self._exclude = _spec([*_defaults_as_lines(), *exclude]) if exclude else None
        self._include = _spec(self._include_lines) if include else None

    def spares(self, joined: str) -> bool:
        """Say whether it is certain at a glance that no name in this text (paths.join_plain) is left out."""
        if self._exclude is not None or self._include is not None:
            return False
        # the defaults that begin with no dot (one that does is not plain); "$" alone is found at a fortieth of the time
        return not ("$" in joined and "~$" in joined) and _DB.search(joined) is None

    def drops_file(self, path: RelPath, name: str) -> bool:
        """Say whether a file is left out (`name` is its last component)."""
        dropped = self._exclude.match_file(path) if self._exclude else _DEFAULTS.match(name) is not None
        return dropped or (self._include is not None and not self._include.match_file(path))

    def drops_folder(self, path: RelPath, name: str) -> bool:
        """Say whether a folder is left out, with everything below it."""
        if self._exclude is None:
            return _DEFAULTS.match(name) is not None
        return self._exclude.match_file(path + "/")

    def drops(self, path: RelPath) -> bool:
        """Say whether a file is left out, by itself or by a folder above it."""
        names = path.split("/")
        at = 0
        for name in names[:-1]:
            at += len(name)
            if self.drops_folder(RelPath(path[:at]), name):
                return True
            at += 1
        return self.drops_file(path, names[-1])

    def rule_for(self, path: RelPath) -> str:
        """Return the pattern that leaves this file out, by itself or by a folder above it; "" when none does."""
        spec = self._exclude or _spec(_defaults_as_lines())
        parts = path.split("/")
        for n in range(1, len(parts) + 1):
            part = "/".join(parts[:n]) + ("/" if n < len(parts) else "")
            result = spec.check_file(part)
            if result.include and result.index is not None:
                return self._exclude_lines[result.index]
        if self._include is not None and not self._include.match_file(path):
            return "not matched by include = " + ", ".join(self._include_lines)
        return ""
