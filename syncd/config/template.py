"""Write a configuration file: the keys that are given, and every other key in comments with its description."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping

from syncd.config.keys import ENGINE_ABOUT, TABLES, TITLES, Key

_WIDTH = 110


def toml(value: object) -> str:
    """Return a text, number, truth value, list or table as TOML on one line."""
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    # a TOML basic string takes JSON's escapes; DEL is the one character that only TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def default_toml(key: Key) -> str:
    """Return a key's default as TOML, "" when it has none."""
    return toml(key.default) if isinstance(key.default, str | bool | int | list | dict) else ""


def render(header: str, given: Mapping[str, Mapping[str, object]]) -> str:
    """Return a configuration file: `given` maps table to key to value; `header` becomes the comment on top."""
    parts = [_comment(header)]
    for table, keys in TABLES.items():
        title = TITLES.get(table, f"[{table}]")
        values = given.get(table, {})
        lines = ["", title if values else f"# {title}"]
        for key in keys:
            lines += _key(key, values)
        if table == "worker":
            lines += [_comment(ENGINE_ABOUT.replace("`", "")), '# engine = "tesseract"']
        parts.append("\n".join(lines))
    return "\n".join(parts) + "\n"


def _key(key: Key, values: Mapping[str, object]) -> list[str]:
    about = _comment(key.about.replace("`", "") + (f" Default: {key.shown.replace('`', '')}." if key.shown else ""))
    if key.name in values:
        return [about, f"{key.name} = {toml(values[key.name])}"]
    return [about, f"# {key.name} = {key.example or default_toml(key)}"]


def _comment(text: str) -> str:
    """Return text as comment lines. Two #, so that a single one marks a key that can be taken into use."""
    lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, _WIDTH) or [""]]
    return "\n".join(f"## {line}".rstrip() for line in lines)
