"""How an engine reads its `[worker.engine.NAME]` table: every problem is collected, and told at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from syncd.config import values
from syncd.core.errors import ConfigError

T = TypeVar("T")


class Table:
    """The table of an engine.

    table = Table("mine", given)
    model = table.take("model", values.text, "small")
    table.end()                                    # raises ConfigError with all problems
    """

    def __init__(self, name: str, given: Mapping[str, object]) -> None:
        self.problems: list[str] = []
        self._name = name
        self._rest = dict(given)
        self._known: list[str] = []

    def take(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Return a key's value as `read` returns it; the default without one, or where read raises ValueError."""
        self._known.append(key)
        if key not in self._rest:
            return default
        try:
            return read(self._rest.pop(key))
        except ValueError as error:
            self.problem(key, str(error))
            return default

    def problem(self, key: str, text: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(f"[worker.engine.{self._name}] {key}: {text}")

    def rest(self) -> Mapping[str, object]:
        """Return what nobody has taken."""
        return self._rest

    def end(self, also: Sequence[str] = ()) -> None:
        """Raise ConfigError when there are problems; a key that nobody took is one. also: more keys to suggest."""
        for key in self._rest:
            near = difflib.get_close_matches(key, [*self._known, *also], n=1, cutoff=0.6)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join([*self._known, *also])}"
            self.problem(values.shown(key), f"unknown key; {known}")
        if self.problems:
            raise ConfigError(f"the settings of the OCR engine {self._name} cannot be used", problems=self.problems)


def whole(low: int, high: int) -> Callable[[object], int]:
    """Return a reader of whole numbers from low to high."""
    return lambda value: values.whole(value, low, high)


def duration(low_s: float, high_s: float) -> Callable[[object], float]:
    """Return a reader of durations ("90s", "10m"), in seconds."""
    return lambda value: values.duration(value, low_s, high_s)


def path(value: object) -> str:
    """Return an absolute path; "~" is expanded, a relative one is refused: it would depend on where the worker runs."""
    found = os.path.expanduser(values.text(value))
    if not os.path.isabs(found):
        raise ValueError(f"{values.shown(found)} is not an absolute path")
    return os.path.normpath(found)
