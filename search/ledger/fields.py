"""The values that events may contain: names, times, counts and metrics.

A ledger may come from someone else, and its checksums only protect against accidents. Whatever
reads an event relies on these types: a name is never a path to somewhere else, a time can be shown
as a date, and a count can be added and formatted.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo

from celltune.printable import quoted
from celltune.search.types import TEMPERATURES, Finite

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Pattern of an experiment's name, which is also the name of its folder."""
NAME_RULE = "Use up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit."
"""The pattern in words, for messages."""

_CHECKPOINT = re.compile(r"epoch-[0-9]{1,15}")
_FINGERPRINT = re.compile(r"[A-Za-z0-9]{0,128}")  # the folder of cached data has this name

LATEST = 32_503_680_000.0
"""The latest time of an event: the year 3000. Dates in the calendar of every time zone are below
it."""
LARGEST = 10**15
"""The largest count; it is exact as a float."""


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    """Return a validator that accepts the texts that match a pattern completely."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{quoted(text)} is not {expected}")
        return text

    return AfterValidator(check)


_ROUNDING = 1e-6
_SHARE = (-_ROUNDING, 1 + _ROUNDING)
_LOSS = (-_ROUNDING, 1e100)
_AMOUNT = (-_ROUNDING, float(LARGEST))
_ANY = (-1e100, 1e100)
_ECE = ("ece", "uncalibrated_ece")

_RANGES: dict[str, tuple[float, float]] = {
    **{f"{split}_accuracy": _SHARE for split in ("train", "valid", "test")},
    **{f"{split}_loss": _LOSS for split in ("train", "valid", "test")},
    **dict.fromkeys(("train_f1", "test_f1", "vector_coverage"), _SHARE),
    **{f"valid_{name}": _SHARE for name in ("macro_f1", "balanced_accuracy")},
    **{f"{split}_auroc": _SHARE for split in ("train", "valid", "test")},
    **dict.fromkeys(("valid_ece", "valid_calibrated_ece"), _SHARE),
    "threshold": (1e-15, 1 - 1e-15),
    **{f"{split}_{kind}": _SHARE for split in ("train", "test") for kind in _ECE},
    **dict.fromkeys(("valid_calibrated_loss", "train_uncalibrated_loss"), _LOSS),
    "test_uncalibrated_loss": _LOSS,
    "temperature": TEMPERATURES,
    **{f"{split}_auroc_error": _SHARE for split in ("train", "test")},
    **dict.fromkeys(
        (
            "parameters",
            "wide_parameters",
            "seconds",
            "wide_seconds",
            "seconds_per_epoch",
            "milliseconds_per_review",
            "tokens_per_second",
        ),
        _AMOUNT,
    ),
}
"""The range of each metric that a model is measured by, except for rounding. Metrics of other
packages have their own."""


def _check_metrics(metrics: dict[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        low, high = _RANGES.get(name, _ANY)
        if not low <= value <= high:
            allowed = "0 and 1" if high < 2 else f"{math.ceil(low):g} and {high:g}"
            raise ValueError(f"{quoted(name)} is {value:g}, but it is between {allowed}")
    return metrics


def _check_time(at: float, info: ValidationInfo) -> float:
    if 0 <= at <= LATEST:
        return at
    if info.mode == "json":
        raise ValueError(f"{quoted(at)} is not a time between 1970 and 3000")
    # The driver's own clock is wrong. Nothing depends on it, so the search goes on.
    return min(max(at, 0.0), LATEST)


Time: TypeAlias = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_check_time)]
"""Seconds since 1970. The time of a new event is moved to the calendar if it is outside."""
Count: TypeAlias = Annotated[int, Field(ge=0, le=LARGEST)]
"""A number of things, or the number of one of them, counted from 0."""
Positive: TypeAlias = Annotated[int, Field(ge=1, le=LARGEST)]
"""A number of things of which there is one at least."""
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A fraction of documents."""
Loss: TypeAlias = Annotated[float, Field(ge=_LOSS[0], le=_LOSS[1], allow_inf_nan=False)]
"""A mean cross-entropy (natural logarithm)."""
Amount: TypeAlias = Annotated[float, Field(ge=_AMOUNT[0], le=_AMOUNT[1], allow_inf_nan=False)]
"""A duration in seconds, or another amount."""
Metrics: TypeAlias = Annotated[dict[str, Finite], AfterValidator(_check_metrics)]
"""Finite measurements by name."""
ExperimentName: TypeAlias = Annotated[str, _matching(NAME, "the name of an experiment")]
CheckpointName: TypeAlias = Annotated[
    str, _matching(_CHECKPOINT, "the name of a checkpoint, such as 'epoch-3'")
]
Fingerprint: TypeAlias = Annotated[
    str, _matching(_FINGERPRINT, "a fingerprint, which has only letters and digits")
]
"""Identifies prepared data, or a test split; empty if it is unknown."""
