"""Which words can be those of normalized texts."""

from __future__ import annotations

import unicodedata

import pytest

from celltune.data_prep.text.normalization import (
    are_normalized,
    come_from_normalized,
    normalized,
)

CARON, DIAERESIS = "\N{COMBINING CARON}", "\N{COMBINING DIAERESIS}"


def test_texts_are_composed() -> None:
    assert normalized("scho" + DIAERESIS + "n") == "sch\N{LATIN SMALL LETTER O WITH DIAERESIS}n"
    assert normalized("plain") == "plain"


def test_lower_case_of_a_normalized_text_is_recognized() -> None:
    text = normalized("J" + CARON)
    assert are_normalized([text])
    assert not are_normalized([text.lower()])
    assert come_from_normalized(["good", text.lower()])


@pytest.mark.parametrize("letter", ["o", "u", "A"])
def test_words_of_texts_that_were_not_normalized_are_recognized(letter: str) -> None:
    assert not come_from_normalized(["good", letter + DIAERESIS])
    assert come_from_normalized([unicodedata.normalize("NFC", letter + DIAERESIS)])
