from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("1.5h", 5400),
        (" 2D ", 172800),
    ],
)
def test_durations_are_read_as_people_write_them(given_: object, seconds: float) -> None:
    assert parse_duration(given_) == seconds


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("soon", "a number with s, m, h or d"),
        ("-5m", "a number with s, m, h or d"),
        ("5 weeks", "a number with s, m, h or d"),
        (0, "above 0 seconds"),
        (-1.0, "above 0 seconds"),
        (float("inf"), "above 0 seconds"),
        (float("nan"), "above 0 seconds"),
    ],
)
def test_what_is_no_duration_is_told(given_: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_duration(given_)


def test_what_is_neither_text_nor_number_is_left_to_the_caller() -> None:
    assert parse_duration(None) is None
    assert parse_duration(True) is True


@given(st.integers(1, 10**7))
def test_a_duration_written_is_the_duration_read(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)
