"""JSON from someone else: equal to Python's parser for what it wrote, an error for the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.io.strict_json import first_repeated, parse_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(value=VALUES, ascii_only=st.booleans())
def test_reads_what_python_writes(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@settings(max_examples=100, derandomize=True, deadline=None)
@given(content=st.binary(max_size=40))
def test_any_bytes_are_a_value_or_one_line(content: bytes) -> None:
    problem = ""
    try:
        parse_json(content)
    except ValueError as error:
        problem = str(error)
    assert len(problem) < 200
    assert problem.isprintable()


def test_the_first_repeated_text_is_found() -> None:
    assert first_repeated(["a", "b", "c", "b", "a"]) == "b"
    with pytest.raises(ValueError, match="The texts are distinct"):
        first_repeated(["a", "b"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"^it is not valid JSON \(Expecting property name .* in line 1, column 2\)$"),
        (b'"\xff"', "^byte 1 is not valid UTF-8$"),
        (b'{"a": {"\\u001b": 1, "\\u001b": 2}}', r"^the key '\\x1b' is there twice$"),
        (b"[NaN]", "^it contains NaN, which is not valid JSON$"),
        (b"[-Infinity]", "^it contains -Infinity, which"),
        (b"[1e999]", "^the number 1e999 is too large$"),
        (b"1" * 5_000, "^a number has 5,000 characters$"),
        (b"0." + b"1" * 5_000, "^a number has 5,002 characters$"),
        (b"[" * 100_000, "^it is nested too deeply$"),
        (b'{"a":' * 100_000, "^it is nested too deeply$"),
    ],
)
def test_ambiguous_or_unbounded_json_is_rejected(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(content)
