from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.words import Words

WORDS = st.lists(st.text() | st.sampled_from(["", "é", "\ud800"]), max_size=9)


@given(WORDS, st.slices(9))
def test_packed_words_are_the_words(words: list[str], part: slice) -> None:
    packed = Words.of(words)
    assert packed == words
    assert list(packed) == words
    assert len(packed) == len(words)
    assert packed[part] == tuple(words[part])
    assert packed != [*words, "more"]
    assert pickle.loads(pickle.dumps(packed)) == packed  # noqa: S301 - our own bytes


def test_a_word_that_is_not_there_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="out of range"):
        Words.of(["a"])[1]
    assert Words.of(["a", "b"])[-1] == "b"
    assert Words.of(["a"]) != "a"
