"""Validation of the class names that a config lists."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from celltune.data_prep.types import quotes_hint, shown
from celltune.printable import quoted

_SHOWN_PROBLEMS = 5
"""Number of invalid class names that a message lists."""


def check_types(value: object) -> object:
    """Check that the names are a list of texts.

    Raises:
        ValueError: they are not; the message explains what YAML reads without quotes.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"Must be a list, such as [neg, pos], but is {shown(value)}.")  # noqa: TRY004
    invalid = [name for name in value if not isinstance(name, str)]
    if invalid:
        hint = quotes_hint(invalid[0])
        raise ValueError(f"Contains {shown(invalid[0])}, which is not text. {hint}".strip())
    return value


def check_names(value: tuple[str, ...]) -> tuple[str, ...]:
    """Check that there are at least two names, and that each is different and not blank.

    Raises:
        ValueError: they are not; the message lists the first problems.
    """
    if len(value) < 2:
        raise ValueError(
            f"Must name at least two classes, such as [neg, pos], but is {shown(list(value))}."
        )
    problems = []
    for name, count in Counter(value).items():
        if not name or name != name.strip():
            problems.append(
                f"Contains {quoted(name)}. A class name must not be empty or start or end with "
                f"a space."
            )
        if count > 1:
            problems.append(f"Contains {quoted(name)} {count} times. Name it once.")
    if problems:
        raise ValueError(" ".join(problems[:_SHOWN_PROBLEMS]))
    return value


ClassNames = Annotated[tuple[str, ...], BeforeValidator(check_types), AfterValidator(check_names)]
"""Labels as written in a file, in class order."""
