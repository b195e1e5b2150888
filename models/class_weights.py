"""The weights of classes in the loss that training minimizes, as a hyperparameter.

Hyperparameters are single values, so weights are one text: `none`, `balanced`, or JSON: a list in
the order of the classes, such as `[1, 9]`, or the weights of some classes by their names, such as
`{"spam": 9}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from celltune.data_prep.io.strict_json import parse_json
from celltune.data_prep.types import shown
from celltune.printable import quoted

NAMED = ("none", "balanced")
"""The texts that are not JSON."""
LARGEST = 1e6
"""The largest weight, and the inverse of the smallest one."""

_ALLOWED = (
    "It must be none, balanced, a list of a number for each class, such as [1, 9], or a mapping of "
    "classes to numbers, such as {spam: 9}."
)


def as_text(value: object) -> str:
    """Return weights as text.

    Args:
        value: such a text, a list of numbers, or a mapping of classes to numbers.

    Raises:
        ValueError: it is none of these. The message is a predicate.
    """
    if isinstance(value, str) and value not in NAMED:
        try:
            value = parse_json(value.encode())
        except ValueError as error:
            raise ValueError(f"is {shown(value)}. {_ALLOWED}") from error
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value:
        weights: Any = {_class_name(name): _number(weight) for name, weight in value.items()}
    elif isinstance(value, (list, tuple)) and value:
        weights = [_number(weight) for weight in value]
    else:
        raise ValueError(f"is {shown(value)}. {_ALLOWED}")
    return json.dumps(weights, ensure_ascii=False)


def is_one_value(value: object) -> bool:
    """Return whether a value is weights of classes, and not a list of several weights."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(w, (int, float)) for w in value)
    return isinstance(value, Mapping)


def given_weights(text: str, classes: Sequence[str]) -> tuple[float, ...] | None:
    """Return the weight of each class; None if the text gives none.

    Args:
        text: a result of `as_text`.
        classes: the names of the classes. Those that a mapping does not name have the weight 1.

    Raises:
        ValueError: the weights are for other classes. The message is a predicate.
    """
    if text in NAMED:
        return None
    weights = parse_json(text.encode())
    if isinstance(weights, list):
        if len(weights) != len(classes):
            raise ValueError(
                f"has {len(weights)} weights, but the data has {len(classes)} classes. Give one "
                f"for each class, in this order: {_listed(classes)}."
            )
        return tuple(map(float, weights))
    unknown = [name for name in weights if name not in classes]
    if unknown:
        raise ValueError(
            f"contains {quoted(unknown[0])}, which is not a class of the data. The classes are "
            f"{_listed(classes)}."
        )
    return tuple(float(weights.get(name, 1.0)) for name in classes)


def _listed(classes: Sequence[str], most: int = 10) -> str:
    names = ", ".join(map(quoted, classes[:most]))
    return names if len(classes) <= most else f"{names} and {len(classes) - most:,} more"


def _class_name(name: object) -> str:
    if isinstance(name, bool) or not isinstance(name, (str, int, float)):
        raise ValueError(  # noqa: TRY004 - pydantic reports only a ValueError of a validator
            f"contains the key {shown(name)}, which is not the name of a class. Put class names "
            "in quotes."
        )
    return str(name)


def _number(weight: object) -> int | float:
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if (
        not is_number
        or not math.isfinite(weight)  # type: ignore[arg-type]
        or not 1 / LARGEST <= weight <= LARGEST  # type: ignore[operator]
    ):
        raise ValueError(
            f"contains {shown(weight)}. A weight is a number from {1 / LARGEST:g} to {LARGEST:g}."
        )
    return weight  # type: ignore[return-value]
