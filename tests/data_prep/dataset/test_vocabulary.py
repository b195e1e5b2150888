from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from celltune.data_prep.dataset.vocabulary import PAD, SPECIALS, UNK, Vocabulary
from celltune.data_prep.errors import DataError

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "é", "<pad>", "<unk>"])))


def test_words_go_by_count_then_by_the_alphabet() -> None:
    built = Vocabulary.build([["b", "c", "b"], ["a", "c"]], size=10)
    assert built.words == ("<unk>", "<pad>", "b", "c", "a")


def test_the_size_leaves_room_for_unk_and_pad() -> None:
    assert len(Vocabulary.build([["b", "c", "b"]], size=1)) == 3


def test_rare_words_are_left_out() -> None:
    assert Vocabulary.build([["b", "c", "b"]], size=9, min_count=2).words[2:] == ("b",)


def test_a_text_can_never_write_padding() -> None:
    built = Vocabulary.build([["<pad>", "<unk>", "a"]], size=9)
    assert built.encode(["<pad>", "<unk>", "a", "new"]).tolist() == [UNK, UNK, 2, UNK]


def test_no_tokens_give_no_ids() -> None:
    assert Vocabulary(SPECIALS).encode([]).shape == (0,)


@pytest.mark.parametrize("texts", [[], [["<pad>"]], [["a", "b", "a"]]])
def test_a_vocabulary_without_words_is_refused(texts: list[list[str]]) -> None:
    with pytest.raises(
        DataError, match=r"no word stands 3 times .*\(the commonest \d times\).*lower"
    ):
        Vocabulary.build(texts, size=5, min_count=3)


@given(TEXTS, st.integers(1, 6), st.integers(1, 3))
def test_the_vocabulary_holds_the_most_frequent_words_only(
    texts: list[list[str]], size: int, min_count: int
) -> None:
    counts = Counter(word for text in texts for word in text)
    assume(any(counts[word] >= min_count for word in set(counts) - set(SPECIALS)))
    built = Vocabulary.build(texts, size=size, min_count=min_count)
    kept, lost = built.words[2:], set(counts) - set(built.words)
    assert len(set(built.words)) == len(built.words) <= size + 2
    assert all(counts[word] >= min_count for word in kept)
    if len(kept) < size:
        assert all(counts[word] < min_count for word in lost)
    else:
        assert all(counts[word] <= counts[kept[-1]] for word in lost)
    for text in texts:
        ids = built.encode(text)
        assert ids.dtype == np.int32
        assert PAD not in ids
        known = [word if word in kept else "<unk>" for word in text]
        assert [built.words[index] for index in ids] == known
