from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.dataset.packed_words import PackedWords

WORDS = st.lists(st.text() | st.sampled_from(["", "é", "\ud800"]), max_size=9)


@given(WORDS, st.slices(9))
def test_packed_words_equal_the_original_words(words: list[str], part: slice) -> None:
    packed = PackedWords.of(words)
    assert packed == words
    assert list(packed) == words
    assert len(packed) == len(words)
    assert packed[part] == tuple(words[part])
    assert packed != [*words, "more"]
    assert pickle.loads(pickle.dumps(packed)) == packed  # noqa: S301 - our own bytes


def test_index_out_of_range_raises_index_error() -> None:
    with pytest.raises(IndexError, match="out of range"):
        PackedWords.of(["a"])[1]
    assert PackedWords.of(["a", "b"])[-1] == "b"
    assert PackedWords.of(["a"]) != "a"
