"""Lifetimes, as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.tokens.lifetime import describe_expiry, describe_lifetime, parse_lifetime


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("90m", 5400), ("1w", 604_800), (" 60s ", 60)]
)
def test_a_number_and_a_unit_are_a_lifetime(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5h", "30 d", "1y", "٣d", "1" * 30 + "d"])
def test_anything_else_says_how_to_write_it(text: str) -> None:
    with pytest.raises(InvalidInputError, match="30d, 12h or 90m"):
        parse_lifetime(text)


def test_the_end_is_told_in_words_and_as_a_date() -> None:
    assert (
        describe_expiry(1_800_000_000, 1_800_000_000 - 29.5 * 86400)
        == "expires in 29 days, 2027-01-15 08:00 UTC"
    )
    assert describe_expiry(1_800_000_000, 1_800_000_090) == "expired 1 minute ago, 2027-01-15 08:00 UTC"


@given(st.floats(min_value=0, max_value=1e9))
def test_every_duration_has_words(seconds: float) -> None:
    number, unit = describe_lifetime(seconds).split()
    assert int(number) >= 0
    assert unit.rstrip("s") in {"day", "hour", "minute", "second"}
