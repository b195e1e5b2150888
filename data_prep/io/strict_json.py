"""Parse JSON that may come from someone else: one meaning, finite numbers, bounded nesting.

Python's parser accepts repeated keys (the last one counts, elsewhere the first one), the constants
NaN and Infinity, and integers of any length, and runs out of stack on deeply nested lists.

Source: RFC 8259, sections 4 (names within an object should be unique) and 6 (NaN and Infinity are
not permitted).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from celltune.printable import quoted

LONGEST_NUMBER = 64
"""Largest number of characters of a number. The longest one that Python writes for a float has 24,
and no integer that any file here needs has more than 20."""


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Args:
        content: the text; the caller limits its size.

    Raises:
        ValueError: it is no valid JSON, an object repeats a key, or a number is not finite or too
            long. The message is a clause about the text, such as "it is nested too deeply".
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not valid UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is not valid JSON ({error.msg} in {place})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def first_repeated(texts: Sequence[str]) -> str:
    """Return the first of some texts that are not distinct that is equal to an earlier one."""
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            return text
        seen.add(text)
    raise ValueError("The texts are distinct.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = first_repeated([key for key, _ in pairs])
        raise ValueError(f"the key {quoted(repeated)} is there twice")
    return values


def _integer(text: str) -> int:
    _check_length(text)
    return int(text)


def _number(text: str) -> float:
    _check_length(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _check_length(text: str) -> None:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number has {len(text):,} characters")


def _constant(text: str) -> NoReturn:
    raise ValueError(f"it contains {text}, which is not valid JSON")
