"""YAML from anyone: limits, forms of scalars, and what is written can be read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.search.config.yaml_text import (
    YamlError,
    comment_of,
    dump_yaml,
    parse_yaml,
    texts_before_comments,
)

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * ['*' + previous])}]\n"
    for previous, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 5, column 28: there are more than 50,000 values, those of aliases included."),
        ("a: &a [1, *a]", "line 1, column 11: the alias 'a' is within its own value."),
        ("&a {b: *a}", "line 1, column 8: the alias 'a' is within its own value."),
        ("a: *b", "line 1, column 4: found undefined alias 'b'. Check the indentation"),
        ("b: &b {x: 1}\na: {<<: *b}", "line 2, column 5: the key << is not supported."),
        ("a: !!python/name:os.system", "line 1, column 4: the tag '!!python/name:os.system' is "),
        ("a: !!binary aGk=", "line 1, column 4: the tag '!!binary' is not supported. Remove it."),
        ("a: ! b", "the tag '!' is not supported"),
        ("a: 1\na: 2", "line 2, column 1: the key 'a' occurs twice. Remove one."),
        ("1: 2", "line 1, column 1: the key '1' is not text. Put it in quotes."),
        ("? [1]\n: 2", "line 1, column 3: a key is a list or a mapping. Write text."),
        ("[" * 3000, "line 1, column 51: there are more than 50 levels of nesting."),
        ("- " * 100 + "x", "line 1, column 101: there are more than 50 levels of nesting."),
        ("a: " + 5000 * "9", "line 1, column 4: the number is longer than 100 characters."),
        ("a\nb\x00", "line 2, column 2: the character \\x00 is not allowed. Remove it."),
        ('a: "\\0"', "line 1, column 4: the character \\x00 is not allowed. Remove it."),
        ('a: "\\ud800"', "line 1, column 4: the character \\ud800 is not allowed. Remove it."),
        ("a: 1\n---\nb: 2", "line 2, column 1: expected a single document in the stream but found"),
        ("a: [\n", "line 2, column 1: expected the node content, but found '<stream end>'."),
        ("%YAML 9.9\n---\na: 1", "found incompatible YAML document"),
    ],
)
def test_unsupported_yaml_is_rejected_with_its_place(text: str, message: str) -> None:
    with pytest.raises(YamlError, match="is not valid YAML: ") as caught:
        parse_yaml(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


def test_texts_that_are_too_large_or_not_utf_8_are_rejected() -> None:
    with pytest.raises(YamlError, match="is larger than 1,048,576 bytes"):
        parse_yaml(b"#" * (2**20 + 1))
    with pytest.raises(YamlError, match="is not UTF-8 text: invalid start byte at byte 4"):
        parse_yaml(b"a: \xff")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("0x1f", 31),
        ("0b101", 5),
        (".inf", math.inf),
        ("yes", True),
        ("~", None),
        ("", None),
        ("2020-99-99", "2020-99-99"),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("=", "="),
        ("[a, &x b, *x]", ["a", "b", "b"]),
    ],
)
def test_scalars_are_texts_unless_they_are_plainly_something_else(text: str, value: object) -> None:
    assert parse_yaml(text) == value
    assert parse_yaml(f"\ufeff{text}".encode()) == value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**90), 10**90),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.sampled_from(["1e5", "010", "1:30", "2020-01-01", "<<", "=", "no", "0x1", "\x85", "- a"]),
)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner)))
@settings(max_examples=60, deadline=None)
def test_what_is_written_can_be_read_back(value: object) -> None:
    assert parse_yaml(dump_yaml(value)) == value


@given(st.text(st.sampled_from("a: -[]{}&*!|>'\"#%@`?,\n\t~<1.e0\x85\u2028é\x00"), max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_value_or_one_sentence(text: str) -> None:
    try:
        parse_yaml(text)
    except YamlError as error:
        assert "\n" not in str(error)  # noqa: PT017 (not every text is rejected)
        assert len(str(error)) < 350  # noqa: PT017


def test_comments_after_texts_are_found() -> None:
    text = """# first
a: b c #d
e: 'f' #g
h: 1 # i
j:
  - k
  - l  # m
n: # o
  p
q: {r: s, t: u#v} # w
"""
    assert texts_before_comments(text) == {
        ("a",): ("b c", "b c #d"),
        ("j", "1"): ("l", "l  # m"),
    }
    assert texts_before_comments("") == {}
    with pytest.raises(YamlError, match="is not valid YAML"):
        texts_before_comments("a: [")


@pytest.mark.parametrize(
    ("text", "comment"),
    [("a#b", ""), ("a #b", "#b"), ("#a", "#a"), ("'a #b'", ""), ("[a] # b", "# b"), ("", "")],
)
def test_the_comment_of_a_value_is_found(text: str, comment: str) -> None:
    assert comment_of(text) == comment
