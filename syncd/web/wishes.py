"""What a caller sent, taken apart: a JSON object or a query, each value with the type and bounds it must have."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from syncd.web.answers import wrong

TEXT_MAX = 32 << 10
"""Characters of one path: more than any file system takes."""
TEXTS_MAX = 500_000
QUERY_FIELDS_MAX = 16
DIGITS_MAX = 30
PAUSE_MAX_S = 366 * 86400.0


class Wishes:
    """The fields of one request. Each reader raises Refused (400) and takes its field out; end() refuses what is left.

    A reader without a default needs its field. spelled: all values are texts, as in a query string.
    """

    def __init__(self, fields: Mapping[str, Any], *, spelled: bool = False) -> None:
        self._fields = dict(fields)
        self._spelled = spelled
        self._known: list[str] = []

    def any_text(self, name: str, default: str | None = None) -> str:
        """Return a text that may hold half a surrogate pair, as JSON can spell it."""
        value = self._take(name, default)
        if not isinstance(value, str):
            raise wrong(f'"{name}" has to be text')
        if len(value) > TEXT_MAX:
            raise wrong(f'"{name}" is longer than {TEXT_MAX:,} characters')
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text, valid Unicode."""
        return _unicode(name, self.any_text(name, default))

    def maybe_text(self, name: str) -> str | None:
        """Return a text, None where it is left out or null."""
        return None if self._is_absent(name) else self.text(name)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts, [] where it is left out."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise wrong(f'"{name}" has to be a list of texts')
        if len(value) > TEXTS_MAX or any(len(each) > TEXT_MAX for each in value):
            raise wrong(f'"{name}" is too long: at most {TEXTS_MAX:,} texts of {TEXT_MAX:,} characters')
        return [_unicode(name, each) for each in value]

    def flag(self, name: str) -> bool:
        """Return true or false, false where it is left out."""
        value = self._take(name, False)
        if not isinstance(value, bool):
            raise wrong(f'"{name}" has to be true or false')
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number between low and high."""
        value = self._read(self._take(name, default), float)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_between(value, low, high):
            raise wrong(f'"{name}" has to be a number from {low:g} to {high:g}')
        return float(value)

    def maybe_number(self, name: str, low: float, high: float) -> float | None:
        """Return a number, None where it is left out or null."""
        return None if self._is_absent(name) else self.number(name, low, high)

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        """Return a whole number between low and high."""
        value = self._read(self._take(name, default), int)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise wrong(f'"{name}" has to be a whole number from {low} to {high}')
        return value

    def end(self) -> None:
        """Refuse fields that nobody knows: a misspelt one would silently do something else."""
        for name in self._fields:
            near = difflib.get_close_matches(name[:80], self._known, n=1)
            known = ", ".join(self._known) or "none"
            raise wrong(f'there is no field "{name[:80]}"', f'did you mean "{near[0]}"?' if near else f"known: {known}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        if name not in self._fields and default is None:
            raise wrong(f'"{name}" is missing')
        return self._fields.pop(name, default)

    def _is_absent(self, name: str) -> bool:
        if self._fields.get(name) is not None:
            return False
        self._known.append(name)
        self._fields.pop(name, None)
        return True

    def _read(self, value: Any, kind: type[int | float]) -> Any:
        """Make a number of a query's text, where it is one."""
        if self._spelled and isinstance(value, str) and len(value) <= DIGITS_MAX:
            with contextlib.suppress(ValueError):
                return kind(value)
        return value


def from_body(body: bytes) -> Wishes:
    """Read a JSON object; an empty body is an empty one. Raises Refused (400)."""
    if not body.strip():
        return Wishes({})
    try:
        value = _read_json(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError as error:
        raise wrong("the body is nested too deeply") from error
    except ValueError as error:  # bad JSON, bad UTF-8, a number of too many digits
        raise wrong(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise wrong("the body has to be a JSON object")
    return Wishes(value)


def from_query(query: str) -> Wishes:
    """Read a query string. Raises Refused (400)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        raise wrong(f"the query cannot be read: {error}") from error
    if len(dict(pairs)) < len(pairs):
        raise wrong("the query has a field twice")
    return Wishes(dict(pairs), spelled=True)


# --- what each change takes (port.Service has the meaning) -----------------------------------------------------------


def run_wishes(asked: Wishes) -> dict[str, Any]:
    """Return what is asked of a run."""
    return _lists(asked, "mirrors", "only") | _flags(asked, "new_target", "take_over")


def verify_wishes(asked: Wishes) -> dict[str, Any]:
    """Return what is asked of a verification."""
    found = _lists(asked, "mirrors") | _flags(asked, "source", "checksums", "repair")
    return found | {"fraction": asked.number("fraction", 0, 1, default=1)}


def no_wishes(_asked: Wishes) -> dict[str, Any]:
    """Return what is asked of an examination by doctor."""
    return {}


def approve_wishes(asked: Wishes) -> dict[str, Any]:
    """Return what is asked of an approval."""
    return {"mirror": asked.text("mirror"), "paths": asked.texts("paths")}


def pause_wishes(asked: Wishes) -> dict[str, Any]:
    """Return what is asked of a pause."""
    return _lists(asked, "mirrors") | {"for_s": asked.maybe_number("for_s", 1, PAUSE_MAX_S)}


def resume_wishes(asked: Wishes) -> dict[str, Any]:
    """Return what is asked of the end of a pause."""
    return _lists(asked, "mirrors")


def announce_wishes(asked: Wishes) -> dict[str, Any]:
    """Return what is asked of announcements that are sent again."""
    return {"since": asked.maybe_text("since")} | _lists(asked, "paths") | _flags(asked, "all")


def _lists(asked: Wishes, *names: str) -> dict[str, Any]:
    return {name: asked.texts(name) for name in names}


def _flags(asked: Wishes, *names: str) -> dict[str, Any]:
    return {name: asked.flag(name) for name in names}


# --- the parts --------------------------------------------------------------------------------------------------------


def _unicode(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise wrong(f'"{name}" is not valid Unicode: half a surrogate pair') from error
    return value


def _is_between(value: float, low: float, high: float) -> bool:
    """Compare; not true of NaN, and exact for whole numbers that no float can hold."""
    return (isinstance(value, int) or math.isfinite(value)) and low <= value <= high


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


_read_json = json.JSONDecoder(parse_constant=_no_constant).decode
