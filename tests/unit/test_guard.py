"""What a run may take away without asking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.guard import Caps, Census, enough_listed, judge


def census(**counts: int) -> Census:
    empty = {
        "held": 100,
        "listed": 100,
        "arriving": 0,
        "retires": 0,
        "approved_retires": 0,
        "replacements": 0,
        "approved_replacements": 0,
    }
    return Census(**{**empty, **counts})


@pytest.mark.parametrize(("held", "cap"), [(1, 5), (50, 5), (60, 6), (412, 41), (10_000, 1_000), (1_000_000, 1_000)])
def test_the_cap_is_ten_percent_at_least_five_at_most_a_thousand(held: int, cap: int) -> None:
    assert Caps().retires(held) == cap


def test_retires_up_to_the_cap_go_through_and_one_more_does_not() -> None:
    assert judge(census(retires=10), Caps()).retires
    verdict = judge(census(retires=11), Caps())
    assert not verdict.retires
    assert "11 of 100" in verdict.message
    assert verdict.replacements


def test_never_everything() -> None:
    assert not judge(census(held=3, listed=3, retires=3), Caps()).retires
    assert judge(census(held=3, listed=3, retires=3, arriving=1), Caps()).retires


def test_replacements_of_more_than_half_are_held_back_with_ten_or_more_held() -> None:
    assert judge(census(replacements=50), Caps()).replacements
    assert not judge(census(replacements=51), Caps()).replacements
    assert judge(census(held=9, listed=9, replacements=9), Caps()).replacements


def test_another_share_is_refused_whole() -> None:
    verdict = judge(census(listed=49), Caps())
    assert verdict.foreign
    assert not verdict.retires
    assert not verdict.replacements
    assert not judge(census(listed=50), Caps()).foreign
    assert enough_listed(9, 0)


def test_what_a_person_approved_goes_through_and_what_is_new_does_not() -> None:
    assert judge(census(retires=40, approved_retires=40), Caps()).retires
    assert not judge(census(retires=41, approved_retires=40), Caps()).retires


@given(
    held=st.integers(0, 5000),
    retires=st.integers(0, 5000),
    replacements=st.integers(0, 5000),
    listed=st.integers(0, 5000),
    arriving=st.integers(0, 3),
)
def test_no_verdict_ever_empties_a_mirror_or_passes_a_cap(
    held: int, retires: int, replacements: int, listed: int, arriving: int
) -> None:
    verdict = judge(
        census(held=held, retires=retires, replacements=replacements, listed=listed, arriving=arriving), Caps()
    )
    if verdict.retires and retires:
        assert retires <= Caps().retires(held)
        assert held + arriving - retires > 0
        assert held < 10 or listed * 2 >= held
    if not (verdict.retires and verdict.replacements):
        assert verdict.message
