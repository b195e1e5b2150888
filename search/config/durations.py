"""Durations in configs: 90, 90s, 30m, 2h, 1d.

1:30 is rejected, because it is minutes and seconds for some and hours and minutes for others; YAML
1.1 reads it as 90. So is 010, which YAML 1.1 reads as 8.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from celltune.data_prep.types import shown

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TOO_LONG = 1e300
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_CLOCK = re.compile(r"(\d{1,6}):(\d\d)")
_LEADING_ZERO = re.compile(r"0\d+")


def parse_duration(value: Any) -> Any:
    """Return a duration in seconds.

    Args:
        value: a number of seconds, or a text such as 90s, 30m, 2h or 1d. Other types are returned
            unchanged, for the caller to reject.

    Raises:
        ValueError: the text is not a duration, or the duration is not positive and finite.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        match = None if _LEADING_ZERO.fullmatch(text) else _FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                f"is {shown(value)}{_readings(text)}. It must be a number of seconds, or a number "
                "with the unit s, m, h or d, such as 90s, 30m or 2h."
            )
        value = float(match[1]) * _SECONDS[match[2] or "s"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # A larger integer has no representation as a float.
        if not 0 < value < _TOO_LONG:
            raise ValueError(f"is {shown(value)} s. It must be above 0 seconds and finite.")
        return float(value)
    return value


def _readings(text: str) -> str:
    """Return what a text such as 1:30 may mean, as a clause."""
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return ""
    large, small = int(clock[1]), int(clock[2])
    meanings = (format_duration(large * unit + small * unit / 60) for unit in (60, 3600))
    return f", which can mean {' or '.join(meanings)}"


def format_duration(seconds: float) -> str:
    """Return a duration in its largest whole unit: 1800 as 30m."""
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.12g}{unit}"
    return f"{seconds:.12g}s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {
                    "type": "string",
                    "pattern": rf"^\s*{_FORM.pattern}\s*$".replace("smhd", "smhdSMHD"),
                    "examples": ["90s", "30m", "2h", "1d"],
                },
            ]
        }
    ),
]
"""A positive number of seconds."""
