"""Learned word vectors: both implementations, reproducibility, and what the vectors express."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.text.indexing import IndexedTexts, index_texts
from celltune.data_prep.vectors import skip_gram, word2vec
from celltune.data_prep.vectors.skip_gram import NumberedText, train_vectors

needs_compiler = pytest.mark.skipif(skip_gram._library() is None, reason="needs a C++ compiler")


def text_of(documents: list[list[int]]) -> NumberedText:
    """Return documents of word numbers; the numbers are replaced by 0, 1, ... in their order."""
    _, words, counts = np.unique(
        [word for document in documents for word in document],
        return_inverse=True,
        return_counts=True,
    )
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return NumberedText(words.astype(np.int32), offsets, counts)


def learn(texts: list[str], **settings: Any) -> dict[str, NDArray[np.float32]]:
    indexed = index_texts(texts, "whitespace")
    arguments = {"size": 8, "epochs": 2, "seed": 1, **settings}
    return word2vec.learn(indexed, indexed.tokens, **arguments)


def topics(count: int) -> list[str]:
    """Return texts of words of one of two topics, between words that occur in all texts."""
    rng = np.random.default_rng(0)
    words = {0: ["wine", "bread", "cheese", "soup"], 1: ["wheel", "engine", "brake", "road"]}
    return [
        " ".join(
            word
            for own in rng.choice(words[number % 2], 6)
            for word in (own, rng.choice(["the", "a", "of"]))
        )
        for number in range(count)
    ]


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 12), max_size=40), max_size=6).filter(any),
    st.sampled_from([1, 15, 16, 17, 100]),
    st.integers(0, 2**40),
)
def test_both_implementations_give_the_same_vectors(
    documents: list[list[int]], size: int, seed: int
) -> None:
    text = text_of(documents)
    native = train_vectors(text, size=size, epochs=3, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skip_gram, "_library", lambda: None)
        plain = train_vectors(text, size=size, epochs=3, seed=seed)
    assert native.shape == (len(text.counts), size)
    np.testing.assert_allclose(native, plain, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_frequent_words_are_sampled_alike_in_both_implementations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    text = text_of(np.minimum(rng.geometric(0.1, (20, 100)), 30).tolist())
    monkeypatch.setattr(skip_gram, "BLOCK_WORDS", 300)
    native = train_vectors(text, size=20, epochs=2, seed=3)
    monkeypatch.setattr(skip_gram, "_library", lambda: None)
    assert (skip_gram._kept(text.counts) < 2**32 - 1).any()
    plain = train_vectors(text, size=20, epochs=2, seed=3)
    np.testing.assert_allclose(native, plain, rtol=1e-3, atol=1e-5)


def test_vectors_depend_on_texts_and_seed_only() -> None:
    texts = topics(20)
    first = learn(texts)
    assert all((first[word] == vector).all() for word, vector in learn(texts).items())
    indexed = index_texts(texts, "whitespace")
    order = np.random.default_rng(1).permutation(len(indexed.tokens))
    renumbered = IndexedTexts(
        np.argsort(order).astype(np.int32)[indexed.ids],
        indexed.offsets,
        [indexed.tokens[number] for number in order],
    )
    again = word2vec.learn(renumbered, indexed.tokens, size=8, epochs=2, seed=1)
    assert all((first[word] == vector).all() for word, vector in again.items())
    other = learn(texts, seed=2)
    assert not any((first[word] == vector).any() for word, vector in other.items())


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_compiler), False])
def test_words_of_the_same_contexts_become_similar(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(skip_gram, "_library", lambda: None)
    vectors = learn(topics(100), epochs=20)
    shared = np.mean(list(vectors.values()), axis=0)
    unit = {
        word: (vector - shared) / np.linalg.norm(vector - shared)
        for word, vector in vectors.items()
    }
    assert unit["wine"] @ unit["cheese"] > unit["wine"] @ unit["brake"] + 0.3
    assert unit["engine"] @ unit["road"] > unit["engine"] @ unit["soup"] + 0.3


def test_only_repeated_and_requested_words_have_vectors() -> None:
    indexed = index_texts(["a b a", "b once c c"], "whitespace")
    learned = word2vec.learn(indexed, ["a", "b", "once", "absent"], size=4, epochs=1, seed=1)
    assert sorted(learned) == ["a", "b"]
    assert {vector.shape for vector in learned.values()} == {(4,)}


@pytest.mark.parametrize("texts", [["a b", "c"], []])
def test_text_without_repeated_words_is_rejected(texts: list[str]) -> None:
    with pytest.raises(DataError, match=r"no word occurs twice .*Remove data\.vectors"):
        learn(texts)


@pytest.mark.parametrize(
    ("words", "epochs"), [(2, 50), (200_000, 50), (399_999, 26), (2_000_000, 5), (10**9, 5)]
)
def test_shorter_texts_are_read_more_often(words: int, epochs: int) -> None:
    assert word2vec.default_epochs(words) == epochs


def test_default_number_of_epochs_is_that_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word2vec, "TRAINED_WORDS", 700)
    seven = learn(["a b a b"] * 25, epochs=7)
    assert all(
        (seven[word] == vector).all()
        for word, vector in learn(["a b a b"] * 25, epochs=None).items()
    )


def test_progress_counts_words_of_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skip_gram, "BLOCK_WORDS", 8)
    reports: list[Any] = []
    learn(["a b a b a"] * 4, progress=lambda *report: reports.append(report))
    assert reports == [("vectors", done, 40) for done in (10, 20, 30, 40)]


def test_frequent_words_are_trained_at_some_occurrences() -> None:
    share = skip_gram._kept(np.array([10**6, 10**3, 1])) / 2**32
    # By the formula of word2vec.c: sqrt(0.001 / share of the text) + 0.001 / share.
    assert share == pytest.approx([0.0326, 1, 1], abs=1e-3)


def test_negatives_follow_the_power_of_the_counts() -> None:
    counts = np.array([1000, 100, 10, 1])
    table = skip_gram._negatives(counts)
    expected = counts**0.75 / (counts**0.75).sum()
    shares = np.bincount(table, minlength=4) / len(table)
    assert np.abs(shares - expected).max() < 1 / len(table)


def test_exhausted_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = SimpleNamespace(celltune_skip_gram=lambda *_: 1)
    monkeypatch.setattr(skip_gram, "_library", lambda: failing)
    with pytest.raises(MemoryError, match="word vectors of this text do not fit into memory"):
        learn(["a a"])
