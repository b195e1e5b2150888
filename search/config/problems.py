"""Text for the problems that pydantic finds in a config: one sentence style for all of them.

A text is a sentence of its own, or a predicate whose subject is the key: "is 0. It must be at least
1." A predicate starts with one of a few verbs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from celltune.data_prep.types import quotes_hint
from celltune.printable import QUOTED_CHARACTERS, printable, quoted
from celltune.search.uris import without_secrets

_CLAUSES = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "text whose length is at least {min_length}",
    "string_too_long": "text whose length is at most {max_length}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "a list whose length is at least {min_length}",
    "too_long": "a list whose length is at most {max_length}",
    "none_required": "null",
    "path_type": "a path",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
"""Requirement on the value, by the type of the pydantic error; braces are fields of its context."""

_VALUE_ERROR = "Value error, "
_LONGEST = 1000
"""Largest length of the text of a problem, which lists allowed values."""
_VERBS = ("is", "must", "has", "contains", "cannot", "needs")
"""The first words of predicates."""


def problem_text(error: Mapping[str, Any]) -> str:
    """Return the text of an entry of `ValidationError.errors()`, without its location."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "is missing."
    if kind in _CLAUSES:
        clause, value = _CLAUSES[kind].format_map(context), error["input"]
        hint = _TYPE_HINTS[kind](value) if kind in _TYPE_HINTS else ""
        return f"is {shown(value)}. It must be {clause}. {hint}".rstrip()
    message = printable(error["msg"].removeprefix(_VALUE_ERROR), _LONGEST)
    # Validators of data_prep and the registry, which know no URIs, quote what they are given.
    if isinstance(value := error.get("input"), str):
        message = message.replace(quoted(value), quoted(without_secrets(value)))
    message = without_secrets(message)
    if message.startswith("Input should "):
        clause = message.removeprefix("Input should ")
        return f"is {shown(error['input'])}. It must {clause}."
    return message if message.endswith((".", "!", "?")) else f"{message}."


def with_subject(path: str, text: str) -> str:
    """Return a sentence about a key from a text that may be a predicate.

    Args:
        path: the dotted path of the key; empty for the whole config.
        text: the result of `problem_text`.
    """
    verb, space, rest = text.partition(" ")
    if verb.lower() in _VERBS:
        return f"{path or 'The config'} {verb.lower()}{space}{rest}"
    named = path in text if "." in path else re.search(rf"\b{re.escape(path)}\.\w", text)
    return text if named or not path else f"{path}: {text}"


def _number_hint(value: object) -> str:
    """Return how to write a text that looks like a number; empty for other values."""
    if not isinstance(value, str) or (match := _NUMBER.fullmatch(value)) is None:
        return ""
    if match["zeros"]:
        number = match["sign"] + match["number"]
        return f"Omit the leading zero, with which some read it as octal: {number}."
    return f"Remove the quotes, which make {value} a text."


_NUMBER = re.compile(r"(?P<sign>[-+]?)(?P<zeros>0*)(?P<number>\d{1,20})")
_TYPE_HINTS: Mapping[str, Callable[[Any], str]] = {
    "string_type": quotes_hint,
    **dict.fromkeys(("int_type", "float_type", "int_parsing", "float_parsing"), _number_hint),
}
"""Advice for values of a wrong type, which YAML may have read differently than their author."""


def shown(value: Any) -> str:
    """Return a value as in YAML, shortened, but a mapping only as such, because it can be long.

    Of a URI with a password only the scheme is shown.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, BaseModel)):
        return "a mapping"
    if isinstance(value, str):
        return quoted(without_secrets(value))
    return printable(without_secrets(printable(value, _LONGEST)), QUOTED_CHARACTERS)


def shown_path(location: Sequence[object]) -> str:
    """Return the dotted path of a key, shortened."""
    return printable(".".join(str(part) for part in location), QUOTED_CHARACTERS)
