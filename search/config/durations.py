"""Durations in configs: 90, 90s, 30m, 2h, 1d."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from celltune.data_prep.types import shown

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TOO_LONG = 1e300
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse_duration(value: Any) -> Any:
    """Return a duration in seconds.

    Args:
        value: a number of seconds, or a text such as 90s, 30m, 2h or 1d. Other types are returned
            unchanged, for the caller to reject.

    Raises:
        ValueError: the text is not a duration, or the duration is not positive and finite.
    """
    if isinstance(value, str):
        match = _FORM.fullmatch(value.strip().lower())
        if match is None:
            raise ValueError(
                f"is {shown(value)}. It must be a number of seconds, or a number with the unit "
                "s, m, h or d, such as 90s."
            )
        value = float(match[1]) * _SECONDS[match[2] or "s"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # A larger integer has no representation as a float.
        if not 0 < value < _TOO_LONG:
            raise ValueError(f"is {shown(value)} s. It must be above 0 seconds and finite.")
        return float(value)
    return value


def format_duration(seconds: float) -> str:
    """Return a duration in its largest whole unit: 1800 as 30m."""
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.12g}{unit}"
    return f"{seconds:.12g}s"


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
"""A positive number of seconds."""
