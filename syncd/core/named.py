"""NamedTuple as in typing, made in half the time: typing compiles each field's annotation, which nobody here asks for.

A start makes seventy such classes. For type checkers it is typing's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from collections import namedtuple

    class _Making(type):
        """Makes the tuple class of a class body: annotated names are fields, what they are set to their defaults."""

        def __new__(cls, name, bases, body):  # noqa: ARG004 - what type() is called with
            fields = body["__annotations__"]
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body.pop("__module__"))  # noqa: PYI024
            for key, value in body.items():
                setattr(made, key, value)
            return made

    NamedTuple = type.__new__(_Making, "NamedTuple", (), {})

__all__ = ["NamedTuple"]
