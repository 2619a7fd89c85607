"""Just enough of MongoDB's query and update language, over plain dicts, for a bulk_jobs in memory. Pure.

Arrays are looked into as MongoDB does: a dotted path is met when any element of an array meets it, and two paths of
one filter may be met by two different elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Document = dict[str, Any]


def matches(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a filter finds a document. Knows equality, $ne, $nin, $nor."""
    return all(_meets(document, key, value) for key, value in wanted.items())


def apply(document: Document, update: Mapping[str, Mapping[str, Any]]) -> None:
    """Change a document in place. Knows $set, $inc, $push, $addToSet."""
    for operator, fields in update.items():
        for path, value in fields.items():
            parent, name = _parent(document, path)
            _CHANGES[operator](parent, name, value)


def _meets(document: Mapping[str, Any], key: str, wanted: object) -> bool:
    if key == "$nor":
        return not any(matches(document, each) for each in _listed(wanted))
    found = list(_values(document, key.split(".")))
    if not isinstance(wanted, Mapping):
        return wanted in found
    ((operator, operand),) = wanted.items()
    if operator == "$ne":
        return operand not in found
    if operator == "$nin":
        return not any(each in found for each in _listed(operand))
    raise ValueError(f"{operator} is not known here")


def _values(value: object, path: Sequence[str]) -> Iterator[object]:
    """Yield all that a path leads to: through the elements of arrays, and an array's elements beside itself."""
    if not path:
        yield value
        if isinstance(value, list):
            yield from value
    elif isinstance(value, Mapping):
        if path[0] in value:
            yield from _values(value[path[0]], path[1:])
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, Mapping):
                yield from _values(each, path)


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is needed here")
    return value


def _parent(document: Document, path: str) -> tuple[Document, str]:
    *folders, name = path.split(".")
    for folder in folders:
        document = document.setdefault(folder, {})
    return document, name


def _set(parent: Document, name: str, value: Any) -> None:
    parent[name] = value


def _increase(parent: Document, name: str, value: Any) -> None:
    parent[name] = parent.get(name, 0) + value


def _push(parent: Document, name: str, value: Any) -> None:
    parent.setdefault(name, []).append(value)


def _add_to_set(parent: Document, name: str, value: Any) -> None:
    if value not in parent.setdefault(name, []):
        parent[name].append(value)


_CHANGES = {"$set": _set, "$inc": _increase, "$push": _push, "$addToSet": _add_to_set}
