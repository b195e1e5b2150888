from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.config.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("value", "seconds"),
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
def test_durations_are_parsed(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("soon", "a number with the unit s, m, h or d"),
        ("-5m", "a number with the unit s, m, h or d"),
        ("5 weeks", "a number with the unit s, m, h or d, such as 90s, 30m or 2h."),
        ("1:30", "^is '1:30', which can mean 90s or 90m. It must be a number of seconds, or"),
        ("0:45", "^is '0:45', which can mean 45s or 45m. It must"),
        ("1:30:00", "^is '1:30:00'. It must be a number of seconds, or a number with the unit"),
        ("010", "^is '010'. It must be a number of seconds"),
        (0, "above 0 seconds"),
        (-1.0, "above 0 seconds"),
        (float("inf"), "above 0 seconds"),
        (float("nan"), "above 0 seconds"),
    ],
)
def test_invalid_durations_are_rejected(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_duration(value)


def test_other_types_are_returned_unchanged() -> None:
    assert parse_duration(None) is None
    assert parse_duration(True) is True


@given(st.integers(1, 10**7))
def test_a_formatted_duration_is_parsed_to_the_same_value(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)
