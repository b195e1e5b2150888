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


def holds(text: str, row: dict[str, Any] = ROW) -> bool:
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
def test_what_holds(text: str) -> None:
    assert holds(text)


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
def test_what_does_not_hold(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cell = 'gru'",
            r'The filter "cell = .gru." doesn.t parse at character 6 .*looks like: cell',
        ),
        ("", "doesn't parse"),
        ("cell ==", "doesn't parse"),
        ("cell == 'gru", "doesn't parse"),
        ("cell == 'a\0'", "doesn't parse"),
        ("cel == 'gru'", "names no column: 'cel'. Did you mean 'cell'"),
        ("cell == gru", "names no column: 'gru'.*A text is written in quotes: 'gru'"),
        ("__import__('os').system('true')", r"holds '__import__.*allowed are columns, values"),
        ("cell.upper() == 'GRU'", r"holds 'cell.upper\(\)'"),
        ("hidden_size * 9 > 1", r"holds 'hidden_size \* 9'"),
        ("9 ** 9 ** 9", r"holds '9 \*\* 9 \*\* 9'"),
        ("(lambda: 1)()", "holds"),
        ("[x for x in cell]", "holds"),
        ("f'{cell}' == 'gru'", "holds"),
        ("cell == b'gru'", "holds"),
        ("(cell := 3)", "holds"),
        ("hidden_size", "takes 64 for a yes or no"),
        ("cell == 'gru' and 'lstm'", "takes 'lstm' for a yes or no; compare it"),
        ("not cell", "takes 'gru' for a yes or no"),
        ("cell > 3", "compares what can't be compared"),
        ("3 in dropout", "compares what can't be compared"),
        ("3 in cell", "compares what can't be compared"),
        ("[] in {[]}", None),
        ("(" * 5000 + "1" + ")" * 5000, "nested too deeply|doesn't parse"),
        ("not " * 5000 + "true", "nested too deeply"),
        ("9" * 5000 + " > 1", "doesn't parse"),
    ],
)
def test_what_is_refused(text: str, message: str | None) -> None:
    if message is None:
        assert holds(text)
        return
    with pytest.raises(OptionError, match=message):
        holds(text)


WORDS = (
    "cell dropout layer_dropout and or not in == < 'gru' ( ) [ ] , 3 null - lambda: .x if else is"
)


@given(
    st.one_of(
        st.text("cedlor'\"()[]=<>!+-*.,:0123 \\\n\0{}#_", max_size=30),
        st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join),
    )
)
@example("'\\d' == cell")
@example("1 is 1")
def test_any_text_is_a_filter_or_a_clear_refusal(text: str) -> None:
    try:
        answer = holds(text)
    except OptionError as error:
        assert "filter" in str(error)  # noqa: PT017
    else:
        assert isinstance(answer, bool)
