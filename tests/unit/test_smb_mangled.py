"""Which names are asked for, and what the answer means."""

from __future__ import annotations

import pytest

from syncd.sources.smb.mangled import could_be_mangled


@pytest.mark.parametrize("name", ["A4WTMA~A.JPG", "S6XG2W~P", "LETTER~1.JPG", "_ABCDE~0.TXT", "QB5O5A~5.X"])
def test_names_of_the_form_of_a_stand_in(name: str) -> None:
    assert could_be_mangled(name)


@pytest.mark.parametrize(
    "name",
    [
        "letter~1.jpg",
        "~tilde~1x.jpg",
        "ABCDEF~12.JPG",
        "ABCDE~1.JPG",
        "ABCDEF~1.JPEG",
        "ABCDEF.~1",
        "Abcdef~1.JPG",
        "a.b",
    ],
)
def test_other_names(name: str) -> None:
    assert not could_be_mangled(name)
