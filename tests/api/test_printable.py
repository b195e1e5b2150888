"""Untrusted text that is shown to people."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.printable import printable, printable_lines, quoted

any_text = st.text(st.characters(), max_size=60)  # with surrogates, which st.text() leaves out

VISIBLE_SIGNS = [
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD,
    *range(0x13430, 0x13456),
]  # fmt: skip
"""Characters of the category Cf that Unicode displays with a glyph."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 'quoted' and \\ too", "plain, 'quoted' and \\ too"),
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]8;;https://x\x07link", r"\x1b]8;;https://x\x07link"),
        ("\x9b2J \x00 \x7f", r"\x9b2J \x00 \x7f"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("one\u2028two\u2029three\x85", r"one\u2028two\u2029three\x85"),
        ("a\u200bb\ufeffc\u2060d\xade", r"a\u200bb\ufeffc\u2060d\xade"),
        ("file\udcff", r"file\udcff"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("joined\u200dletters", r"joined\u200dletters"),
        ("\u200d👩\u200d👧\u200d", "\\u200d👩\u200d👧\\u200d"),
        ("क्\u200dष", "क्\u200dष"),
        ("naïve café 你好 \xa0 ½ 🏳️", "naïve café 你好 \xa0 ½ 🏳️"),
    ],
)  # fmt: skip
def test_hidden_characters_become_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_character_that_controls_or_hides_is_escaped() -> None:
    hidden = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and code not in VISIBLE_SIGNS
    ]
    assert len(hidden) > 2_000
    assert all(printable(character).isascii() for character in hidden)


@given(any_text)
def test_the_result_is_one_encodable_line_and_stable(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert printable(shown) == shown


@given(any_text, st.integers(1, 80))
def test_a_limit_cuts_the_whole_result(text: str, limit: int) -> None:
    shown, whole = printable(text, limit), printable(text)
    assert shown == (whole if len(whole) <= limit else whole[: limit - 1] + "…")


@given(any_text)
def test_lines_stay_lines(text: str) -> None:
    assert printable_lines(text).split("\n") == [printable(line) for line in text.split("\n")]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb", r"'a\nb'"),
        (Path("/data/\udcff"), r"'/data/\udcff'"),
        (0.5, "'0.5'"),
        (None, "'None'"),
        (True, "'True'"),
        (-12, "'-12'"),
        ([1, "\x1b"], r"'[1, '\x1b']'"),
        ("x" * 79, f"'{'x' * 77}…'"),
    ],
)  # fmt: skip
def test_quoted_values(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_values_of_any_size_are_quoted_at_once() -> None:
    bomb: list[object] = ["x"]
    for _ in range(40):
        bomb = [bomb] * 9
    assert quoted(bomb).startswith("'[[[[...], [...")
    assert quoted({"key": 16**6000}) == f"'{{'key': 0x1{'0' * 66}…'"
    for value in ({"key": bomb}, 16**6000, "x" * 10**7):
        assert len(quoted(value)) <= 80
