"""Raw server names: what is refused, what is taken as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core import paths
from syncd.core.model import RelPath
from syncd.core.reasons import Reason

REFUSED = {
    "": Reason.NAME_DOT,
    ".": Reason.NAME_DOT,
    "..": Reason.NAME_DOT,
    "a/b": Reason.NAME_SEPARATOR,
    "..\\..\\x": Reason.NAME_SEPARATOR,
    "a\0b": Reason.NAME_CONTROL,
    "line\nbreak.jpg": Reason.NAME_CONTROL,
    "c1\x85.jpg": Reason.NAME_CONTROL,
    "x.pdf:stream": Reason.NAME_STREAM,
    "lone\ud800.jpg": Reason.NAME_UNDECODABLE,
    "x" * 256: Reason.NAME_TOO_LONG,
    "क" * 86: Reason.NAME_TOO_LONG,
    ".syncd": Reason.NAME_RESERVED,
    ".SyncD": Reason.NAME_RESERVED,
}

TAKEN = [
    "x" * 255,
    "क" * 85,
    "Letter 12, (copy) .JPG",
    "two  spaces.pdf",
    "-rf",
    "~tilde~1x.jpg",
    "हिंदी पत्र.jpg",
    "e\u0301.jpg",
    ".hidden",
    "...",
    ".syncd2",
    "trailing ",
    "trailing.",
]


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_a_dangerous_name_is_refused_with_its_reason(name: str, reason: Reason) -> None:
    assert paths.refuse_name(name) is reason


@pytest.mark.parametrize("name", TAKEN)
def test_an_odd_but_harmless_name_is_taken_as_it_is(name: str) -> None:
    assert paths.refuse_name(name) is None


@given(st.text(st.characters(), max_size=300))
def test_what_is_taken_is_always_one_component_that_a_file_system_can_hold(name: str) -> None:
    if paths.refuse_name(name) is None:
        encoded = name.encode()
        assert 0 < len(encoded) <= 255
        assert b"/" not in encoded
        assert b"\0" not in encoded
        assert name not in (".", "..")


@given(st.text(max_size=30))
def test_printable_never_holds_a_control_character(name: str) -> None:
    assert all(c.isprintable() or c == " " for c in paths.printable(name))


def test_parents_and_below() -> None:
    assert paths.parents(RelPath("a/b/c.jpg")) == ["a", "a/b"]
    assert paths.parents(RelPath("c.jpg")) == []
    assert paths.is_below(RelPath("a/b"), RelPath("a"))
    assert not paths.is_below(RelPath("ab"), RelPath("a"))
    assert paths.is_below(RelPath("ab"), RelPath(""))
