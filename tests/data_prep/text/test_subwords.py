from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.text.indexing import IndexedTexts, index_texts
from celltune.data_prep.text.subwords import Subwords

VOCABULARY = ("<unk>", "<pad>", "▁", "a", "b", "ab", "▁ab", "aba", "▁abb")


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("▁ab", ["▁ab"]),
        ("▁abab", ["▁ab", "ab"]),
        ("▁abbab", ["▁abb", "ab"]),
        ("abab", ["aba", "b"]),
        ("▁xyz", ["▁xyz"]),
        ("▁xya", ["▁xy", "a"]),
        ("a☃☃b", ["a", "☃☃", "b"]),
        ("▁a☃", ["▁", "a", "☃"]),
        ("", []),
    ],
)
def test_longest_subwords_are_used_and_unknown_runs_are_one_piece(
    word: str, pieces: list[str]
) -> None:
    assert Subwords(VOCABULARY).of_word(word) == pieces


def test_special_tokens_are_split_like_other_words() -> None:
    assert Subwords(["<unk>", "<pad>", "<", "unk"]).of_word("<unk>") == ["<", "unk", ">"]


@given(
    vocabulary=st.lists(st.text("▁abc", min_size=1, max_size=4)),
    word=st.text("▁abcd", max_size=12),
)
def test_pieces_restore_the_word_and_are_the_longest(vocabulary: list[str], word: str) -> None:
    pieces = Subwords(vocabulary).of_word(word)
    assert "".join(pieces) == word
    assert all(pieces)
    known, position = set(vocabulary), 0
    for piece in pieces:
        longer = (word[position:end] for end in range(position + len(piece) + 1, len(word) + 1))
        if piece in known:
            assert not known.intersection(longer)
        position += len(piece)
    for left, right in pairwise(pieces):
        assert left in known or right in known


@given(st.lists(st.text("ab x", max_size=15), max_size=6))
def test_texts_are_split_word_by_word(texts: list[str]) -> None:
    subwords = Subwords(VOCABULARY)
    words = index_texts(texts, "bpe")
    split = subwords.split(words)
    assert len(split.tokens) == len(set(split.tokens))

    def tokens(indexed: IndexedTexts) -> list[list[str]]:
        return [
            [indexed.tokens[index] for index in indexed.ids[begin:end]]
            for begin, end in pairwise(indexed.offsets)
        ]

    assert tokens(split) == [subwords.of_words(text) for text in tokens(words)]
