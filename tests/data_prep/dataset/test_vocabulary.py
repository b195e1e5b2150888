from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from celltune.data_prep.dataset.vocabulary import PAD, SPECIALS, UNK, Vocabulary
from celltune.data_prep.errors import DataError

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "é", "<pad>", "<unk>"])))


def vocabulary(texts: list[list[str]], size: int, min_count: int = 1) -> Vocabulary:
    counts = Counter(word for text in texts for word in text)
    occurrences = np.array(list(counts.values()), dtype=np.int64)
    return Vocabulary.of_counts(list(counts), occurrences, size=size, min_count=min_count)


def test_words_are_sorted_by_count_then_alphabetically() -> None:
    built = vocabulary([["b", "c", "b"], ["a", "c"]], size=10)
    assert built.words == ("<unk>", "<pad>", "b", "c", "a")


def test_size_does_not_count_unk_and_pad() -> None:
    assert len(vocabulary([["b", "c", "b"]], size=1)) == 3


def test_rare_words_are_left_out() -> None:
    assert vocabulary([["b", "c", "b"]], size=9, min_count=2).words[2:] == ("b",)


def test_pad_in_a_text_is_an_unknown_word() -> None:
    built = vocabulary([["<pad>", "<unk>", "a"]], size=9)
    assert built.encode(["<pad>", "<unk>", "a", "new"]).tolist() == [UNK, UNK, 2, UNK]


def test_no_tokens_encode_to_no_ids() -> None:
    assert Vocabulary(SPECIALS).encode([]).shape == (0,)


@pytest.mark.parametrize("texts", [[], [["<pad>"]], [["a", "b", "a"]]])
def test_empty_vocabulary_is_rejected(texts: list[list[str]]) -> None:
    with pytest.raises(
        DataError,
        match=r"no word occurs 3 times .* one occurs \d times\. Lower data\.min_count",
    ):
        vocabulary(texts, size=5, min_count=3)


@given(TEXTS, st.integers(1, 6), st.integers(1, 3))
def test_vocabulary_contains_the_most_frequent_words(
    texts: list[list[str]], size: int, min_count: int
) -> None:
    counts = Counter(word for text in texts for word in text)
    assume(any(counts[word] >= min_count for word in set(counts) - set(SPECIALS)))
    built = vocabulary(texts, size=size, min_count=min_count)
    known, unknown = built.words[2:], set(counts) - set(built.words)
    assert len(set(built.words)) == len(built.words) <= size + 2
    assert all(counts[word] >= min_count for word in known)
    if len(known) < size:
        assert all(counts[word] < min_count for word in unknown)
    else:
        assert all(counts[word] <= counts[known[-1]] for word in unknown)
    for text in texts:
        ids = built.encode(text)
        assert ids.dtype == np.int32
        assert PAD not in ids
        expected = [word if word in known else "<unk>" for word in text]
        assert [built.words[index] for index in ids] == expected
