"""Commented YAML loads again to the values that were written, whatever they contain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.printable import printable_lines
from celltune.search.config.yaml_text import comment, parse_yaml
from celltune.search.setup.page import WIDTH, commented_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.sampled_from(
        ["no", "1", "- a", "a: b", "#", "x # y", "[", "'", '"', "~", "---", "...", "|"]
    ),
)
NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=40),
    st.dictionaries(NAMES, SCALARS, max_size=3),
    st.lists(st.dictionaries(NAMES, SCALARS, max_size=3), max_size=3),
)
CONFIGS = st.dictionaries(
    NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)), max_size=4
)


def paths(value: object, path: str = "") -> list[str]:
    """Return the dotted paths of all values, and of the elements of lists."""
    found = [path] if path else []
    members = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, member in members:
        found += paths(member, f"{path}.{key}" if path else str(key))
    return found


@settings(max_examples=50, deadline=None)
@given(CONFIGS, st.data())
def test_any_config_with_any_comments_loads_again(
    config: dict[str, object], data: st.DataObject
) -> None:
    commented = data.draw(st.lists(st.sampled_from(paths(config) or ["x"]), unique=True))
    any_text = st.text(max_size=250)
    comments = {path: data.draw(any_text) for path in commented}
    text = commented_yaml(config, comments, data.draw(st.lists(any_text, max_size=2)))
    assert (parse_yaml(text) or {}) == config
    assert printable_lines(text) == text


def test_comments_stand_in_one_column_and_long_ones_above_their_key() -> None:
    text = commented_yaml(
        {"name": "x", "data": {"path": "a.csv", "keep": "both", "classes": ["neg", "pos"]}},
        {
            "data.path": "the file",
            "data.keep": " ".join(["word"] * 40),
            "data.classes.0": "12 texts",
            "data": "the texts",
        },
        ["What this is."],
    )
    assert text.splitlines() == [
        "# What this is.",
        "",
        "name: x",
        "",
        "data:          # the texts",
        "  path: a.csv  # the file",
        f"  # {' '.join(['word'] * 19)}",
        f"  # {' '.join(['word'] * 19)}",
        "  # word word",
        "  keep: both",
        "  classes:",
        "    - neg      # 12 texts",
        "    - pos",
    ]
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_long_list_fills_lines() -> None:
    names = [f"class number {index}" for index in range(100)]
    text = commented_yaml({"data": {"classes": names}}, {}, [])
    assert parse_yaml(text) == {"data": {"classes": names}}
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len(text.splitlines()) < 25


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines", r"# two\nlines"),
        ("a\u2028b", r"# a\u2028b"),
        ("a\uffffb", r"# a\uffffb"),
        ("\ud800", r"# \ud800"),
        ("\x1b[2J", r"# \x1b[2J"),
        ("", "# "),
        ("caf\u00e9 \u6f22", "# caf\u00e9 \u6f22"),
    ],
)
def test_a_comment_is_one_line_that_yaml_can_contain(text: str, line: str) -> None:
    assert comment(text) == line
    assert parse_yaml(f"{comment(text)}\na: 1") == {"a": 1}
