"""OCR engines by name: those of entry points in the group `worker_glue.engines`, and `null`.

A name of the form `module:Class` is imported as it stands: an engine can be tried before it is packaged.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from syncd.core.errors import ConfigError, SyncdError
from worker_glue.ocr.engine import Engine
from worker_glue.ocr.limits import KEYS, Limits, split

GROUP = "worker_glue.engines"
_UNLISTED = {"null": "worker_glue.ocr.null:Null"}


class About(NamedTuple):
    """An engine, as `worker-glue engines` lists it. problems, hint: why it cannot be used; empty = it can."""

    name: str
    version: str
    languages: tuple[str, ...]
    problems: tuple[str, ...] = ()
    hint: str = ""

    @property
    def usable(self) -> bool:
        """Whether a worker can use it."""
        return not self.problems


def names() -> Sequence[str]:
    """Return the names of all engines that are installed, in order."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def engine(name: str, table: Mapping[str, object]) -> tuple[Engine, Limits]:
    """Make an engine from its `[worker.engine.NAME]` table.

    Raises: ConfigError with all problems: no such engine, it cannot be imported, its settings, what it needs.
    """
    limits, rest, problems = split(name, table)
    made: Engine | None = None
    try:
        made = _loaded(name).configured(rest)
    except ConfigError as error:
        problems += error.problems or [error.message]
        hint, message = error.hint, error.message
    except Exception as error:
        raise ConfigError(f"the OCR engine {name} cannot be set up: {_told(error)}") from error
    else:
        hint, message = "", f"the settings of the OCR engine {name} cannot be used"
    if problems or made is None:
        raise ConfigError(message, problems=[_with_limits(problem) for problem in problems], hint=hint)
    return made, limits


def about(name: str, table: Mapping[str, object]) -> About:
    """Say what an engine is; never raises for how it is."""
    try:
        made, _limits = engine(name, table)
        return About(name, made.version(), tuple(made.languages()))
    except ConfigError as error:
        return About(name, "", (), tuple(error.problems) or (error.message,), error.hint)
    except SyncdError as error:
        return About(name, "", (), (error.message,), error.hint)
    except Exception as error:  # noqa: BLE001 (one engine's fault must not hide the others)
        return About(name, "", (), (_told(error),))


def all_engines(tables: Mapping[str, Mapping[str, object]]) -> Sequence[About]:
    """Return what every installed engine is, and what those are that only the configuration names."""
    return [about(name, tables.get(name, {})) for name in sorted({*names(), *tables})]


def _loaded(name: str) -> type[Engine]:
    """Return an engine's class. Raises ConfigError."""
    target = next((point.value for point in entry_points(group=GROUP, name=name)), _UNLISTED.get(name, name))
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError(
            f'there is no OCR engine "{name}"',
            hint=f"installed are {', '.join(names())}; see: worker-glue engines",
        )
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"the OCR engine {name} cannot be imported ({target}): {_told(error)}") from error
    if not isinstance(found, type) or not hasattr(found, "configured"):
        raise ConfigError(f"the OCR engine {name} ({target}) is no class with a method configured()")
    return found


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")


def _with_limits(problem: str) -> str:
    """Let "known are" of an engine name the keys that every engine has."""
    return problem if "; known are " not in problem else f"{problem}, {', '.join(KEYS)}"
