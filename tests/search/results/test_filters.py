from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celltune.search.errors import OptionError
from celltune.search.results.filters import parse_filter

ROW: dict[str, Any] = {
    "cell": "gru",
    "hidden_size": 64,
    "dropout": 0.25,
    "bidirectional": True,
    "layer_dropout": None,
    "error": None,
}


def matches(text: str, row: dict[str, Any] = ROW) -> bool:
    return parse_filter(text, list(row))(row)


@pytest.mark.parametrize(
    "text",
    [
        "cell == 'gru'",
        'cell == "gru" and hidden_size >= 64',
        "cell in ('gru', 'lstm') or hidden_size > 100",
        "cell not in ['rnn']",
        "cell in {'gru'}",
        "not cell == 'lstm'",
        "16 <= hidden_size <= 64 and dropout < .3",
        "dropout > -1",
        "bidirectional",
        "bidirectional == true and not false",
        "layer_dropout == null",
        "layer_dropout is None",
        "layer_dropout != 0.5",
        "not layer_dropout",
        "'nan' not in error",
        " cell == 'gru' ",
        "hidden_size > dropout",
    ],
)
def test_filter_matches(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "cell == 'GRU'",
        "layer_dropout < 1",
        "layer_dropout >= 0",
        "layer_dropout in 'x'",
        "'nan' in error",
        "layer_dropout",
        "cell is not 'gru'",
        "hidden_size == 64 and dropout > .5",
        "1 < hidden_size < 64",
    ],
)
def test_filter_does_not_match(text: str) -> None:
    assert not matches(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cell = 'gru'",
            r'The filter "cell = .gru." has a syntax error at character 6 .*Write a filter like',
        ),
        ("", "has a syntax error"),
        ("cell ==", "has a syntax error"),
        ("cell == 'gru", "has a syntax error"),
        ("cell == 'a\0'", "has a syntax error"),
        ("cel == 'gru'", "names the column 'cel', which does not exist. Did you mean 'cell'"),
        ("cell == gru", "names the column 'gru'.*Put text in quotes"),
        ("__import__('os').system('true')", r"contains '__import__.*Allowed are columns, values"),
        ("cell.upper() == 'GRU'", r"contains 'cell.upper\(\)'"),
        ("hidden_size * 9 > 1", r"contains 'hidden_size \* 9'"),
        ("9 ** 9 ** 9", r"contains '9 \*\* 9 \*\* 9'"),
        ("(lambda: 1)()", "contains '"),
        ("[x for x in cell]", "contains '"),
        ("f'{cell}' == 'gru'", "contains '"),
        ("cell == b'gru'", "contains '"),
        ("(cell := 3)", "contains '"),
        ("hidden_size", "uses 64 as a condition"),
        ("cell == 'gru' and 'lstm'", "uses 'lstm' as a condition; compare it"),
        ("not cell", "uses 'gru' as a condition"),
        ("cell > 3", "compares values of different types"),
        ("3 in dropout", "compares values of different types"),
        ("3 in cell", "compares values of different types"),
        ("[] in {[]}", None),
        ("(" * 5000 + "1" + ")" * 5000, "nested too deeply|has a syntax error"),
        ("not " * 5000 + "true", "nested too deeply"),
        ("9" * 5000 + " > 1", "has a syntax error"),
    ],
)
def test_invalid_filter_is_rejected(text: str, message: str | None) -> None:
    if message is None:
        assert matches(text)
        return
    with pytest.raises(OptionError, match=message):
        matches(text)


TOKENS = (
    "cell dropout layer_dropout and or not in == < 'gru' ( ) [ ] , 3 null - lambda: .x if else is"
)


@given(
    st.one_of(
        st.text("cedlor'\"()[]=<>!+-*.,:0123 \\\n\0{}#_", max_size=30),
        st.lists(st.sampled_from(TOKENS.split()), max_size=12).map(" ".join),
    )
)
@example("'\\d' == cell")
@example("1 is 1")
def test_any_text_is_a_valid_filter_or_an_option_error(text: str) -> None:
    try:
        result = matches(text)
    except OptionError as error:
        assert "filter" in str(error)  # noqa: PT017
    else:
        assert isinstance(result, bool)
