"""The quick NamedTuple behaves as typing's does."""

from __future__ import annotations

import pickle
import typing

import pytest

from syncd.core.named import NamedTuple


class Quick(NamedTuple):
    """A quick one."""

    name: str
    size: int = 3
    where: str = ""

    @property
    def shown(self) -> str:
        return f"{self.name}:{self.size}"

    @classmethod
    def of(cls, name: str) -> Quick:
        return cls(name, 7)


class Slow(typing.NamedTuple):
    """A slow one."""

    name: str
    size: int = 3
    where: str = ""


def test_it_is_a_tuple_with_names_and_defaults() -> None:
    quick, slow = Quick("a"), Slow("a")
    assert tuple(quick) == tuple(slow) == ("a", 3, "")
    assert repr(quick) == repr(slow).replace("Slow", "Quick")
    assert quick._replace(size=4)._asdict() == {"name": "a", "size": 4, "where": ""}
    assert (Quick._fields, Quick._field_defaults) == (Slow._fields, Slow._field_defaults)
    assert (Quick.__doc__, Quick.__module__, Quick.__qualname__) == ("A quick one.", __name__, "Quick")
    assert Quick.__annotations__ == {"name": "str", "size": "int", "where": "str"}


def test_it_keeps_methods_and_properties() -> None:
    assert Quick.of("b").shown == "b:7"


def test_it_can_be_pickled_and_not_be_changed() -> None:
    assert pickle.loads(pickle.dumps(Quick("a"))) == Quick("a")
    with pytest.raises(AttributeError):
        Quick("a").size = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        Quick()  # type: ignore[call-arg]
