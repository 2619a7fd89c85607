"""A request's fields: right types and bounds, nothing unknown, and no body that crashes the reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from syncd.web.answers import Refused
from syncd.web.wishes import TEXT_MAX, Wishes, from_body, from_query

Reader = Callable[[Wishes], Any]

WRONG: list[tuple[Reader, Any]] = [
    *((lambda w: w.text("x"), value) for value in (None, 1, True, [], {}, "\ud800", "a" * (TEXT_MAX + 1))),
    *((lambda w: w.any_text("x"), value) for value in (None, 1.5, [], "a" * (TEXT_MAX + 1))),
    *((lambda w: w.texts("x"), value) for value in (None, "a", [1], [None], ["a", "\udfff"], {"a": 1})),
    *((lambda w: w.flag("x"), value) for value in (None, 0, 1, "true", [])),
    *((lambda w: w.number("x", 0, 60), value) for value in (None, True, "5", -1, 61, 10**400, 1e300)),
    *((lambda w: w.whole("x", -1, 9, 0), value) for value in (None, True, 1.0, "1", -2, 10, 10**30)),
    *((lambda w: w.maybe_number("x", 1, 5), value) for value in (0, 6, "2", False)),
    *((lambda w: w.maybe_text("x"), value) for value in (0, [], False)),
]


@pytest.mark.parametrize(("read", "value"), WRONG)
def test_wrong_types_and_values_are_refused(read: Reader, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        read(Wishes({"x": value}))
    assert caught.value.refusal.status == 400
    assert "x" in caught.value.refusal.message


@pytest.mark.parametrize("read", [lambda w: w.text("x"), lambda w: w.number("x", 0, 1)])
def test_what_has_to_be_there_is_asked_for(read: Reader) -> None:
    with pytest.raises(Refused, match="missing"):
        read(Wishes({}))


def test_right_values_pass() -> None:
    wishes = Wishes({"a": "x", "b": ["y"], "c": True, "d": 2, "e": 9, "f": None, "g": None, "h": "\ud800"})
    assert wishes.text("a") == "x"
    assert wishes.texts("b") == ["y"]
    assert wishes.flag("c") is True
    assert wishes.number("d", 0, 2) == 2.0
    assert wishes.whole("e", 0, 9, 0) == 9
    assert wishes.maybe_text("f") is None
    assert wishes.maybe_number("g", 0, 1) is None
    assert wishes.any_text("h") == "\ud800"
    wishes.end()


def test_defaults_stand_in() -> None:
    wishes = Wishes({})
    assert (wishes.text("a", "z"), wishes.texts("b"), wishes.flag("c")) == ("z", [], False)
    assert (wishes.number("d", 0, 9, default=3), wishes.whole("e", 0, 9, default=4)) == (3.0, 4)
    wishes.end()


def test_an_unknown_field_is_refused_and_the_nearest_named() -> None:
    wishes = Wishes({"timeout": 5})
    wishes.number("timeout_s", 0, 9, default=1)
    with pytest.raises(Refused) as caught:
        wishes.end()
    assert "timeout_s" in caught.value.refusal.hint


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nul",
        b"[]",
        b'"text"',
        b"3",
        b"null",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"\xff\xfe",
        b'{"a": "\xff"}',
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a": 1} {"b": 2}',
        b"\x00",
    ],
)
def test_bodies_that_are_no_json_object_are_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        from_body(body)
    assert caught.value.refusal.status == 400
    assert len(caught.value.refusal.message) < 300


def test_an_empty_body_is_an_empty_object() -> None:
    from_body(b"").end()
    from_body(b" \r\n").end()


def test_a_body_in_any_spelling_of_unicode() -> None:
    assert from_body(json.dumps({"p": "पत्र"}).encode()).text("p") == "पत्र"
    assert from_body(json.dumps({"p": "पत्र"}, ensure_ascii=False).encode()).text("p") == "पत्र"


def test_a_query_has_numbers() -> None:
    asked = from_query("since=-1&timeout=2.5&mirror=a%20b&path=%E0%A4%AA")
    assert asked.whole("since", -1, 9, 0) == -1
    assert asked.number("timeout", 0, 60) == 2.5
    assert (asked.text("mirror"), asked.text("path")) == ("a b", "प")
    asked.end()


@pytest.mark.parametrize("text", ["", "x", "1.5", "0x1", "1e3", "9" * 40, "--1", "1 2", "nan", "NaN"])
def test_a_query_with_a_wrong_number_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        from_query(f"since={text}").whole("since", -1, 1 << 62, 0)


@pytest.mark.parametrize("text", ["", "x", "inf", "nan", "-1", "61", "1e400"])
def test_a_query_with_a_wrong_timeout_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        from_query(f"timeout={text}").number("timeout", 0, 60)


@pytest.mark.parametrize("query", ["a=%ff", "a=1&a=2", "&".join(f"f{n}=1" for n in range(40))])
def test_queries_that_cannot_be_read_are_refused(query: str) -> None:
    with pytest.raises(Refused):
        from_query(query)
