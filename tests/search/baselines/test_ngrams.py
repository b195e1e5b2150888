from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.search.baselines import ngrams
from celltune.search.baselines.ngrams import CharacterNgrams, TfIdf, WordNgrams, normalize


@pytest.fixture
def keep_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the n-grams that a large share of the documents contains."""
    monkeypatch.setattr(ngrams, "MAX_SHARE", 1.0)


def test_html_line_breaks_are_removed() -> None:
    assert normalize("A<br />B") == "a b"


def reference_counts(texts: list[str], other: list[str]) -> dict[str, list[float]]:
    """Count the character n-grams of each text by a plain loop; return the counts in `other`."""

    def grams(text: str) -> list[str]:
        padded = [f" {word} " for word in text.lower().split()]
        return [
            word[i : i + size]
            for word in padded
            for size in (3, 4, 5)
            for i in range(len(word))
            if i + size <= len(word)
        ]

    counted = [grams(text) for text in texts]
    names = {name for found in counted for name in found if sum(name in f for f in counted) >= 2}
    return {name: [float(grams(text).count(name)) for text in other] for name in names}


TEXTS = st.lists(
    st.text(alphabet="ab :)é\n", min_size=1, max_size=12).map(lambda text: f"{text} aba x"),
    min_size=2,
    max_size=6,
)


@settings(max_examples=40)
@given(texts=TEXTS, other=TEXTS)
def test_character_ngrams_equal_those_of_a_plain_loop(texts: list[str], other: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "MAX_SHARE", 1.0)
        patch.setattr(ngrams, "_DOCUMENTS_PER_BLOCK", 2)
        counter = CharacterNgrams()
        fitted = counter.fit_transform(texts)
        transformed = counter.transform(other)
    for matrix, of in ((fitted, texts), (transformed, other)):
        expected = reference_counts(texts, of)
        assert matrix.shape == (len(of), len(expected))
        columns = sorted(map(tuple, matrix.toarray().T.tolist()))
        assert columns == sorted(map(tuple, expected.values()))


def test_ngrams_of_most_documents_and_of_one_document_are_no_features() -> None:
    texts = ["common rare", "common rare", *["common"] * 8, "common once"]
    assert "".join(feature_names(texts)).count("com") == 0
    assert " rare" in feature_names(texts)
    assert " once" not in feature_names(texts)


def feature_names(texts: list[str]) -> list[str]:
    counter = CharacterNgrams()
    counter.fit_transform(texts)
    return [*counter._counter.get_feature_names_out()]


def test_the_most_frequent_ngrams_are_left_out_above_the_memory_limit(
    keep_frequent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["aaa bbb", "aaa bbb", "aaa", "aaa", "aaa"]
    assert CharacterNgrams().fit_transform(texts).nnz == 5 * 6 + 2 * 6
    monkeypatch.setattr(ngrams, "MAX_STORED", 2 * 6 + 4)
    assert CharacterNgrams().fit_transform(texts).nnz == 2 * 6
    assert {name.strip() for name in feature_names(texts)} == {"b" * n for n in (2, 3)}


def test_words_that_occur_once_are_features_only_if_there_are_no_others() -> None:
    assert WordNgrams().fit_transform(["good day", "bad day"]).shape == (2, 1)
    counter = WordNgrams()
    assert counter.fit_transform(["good", "bad"]).shape == (2, 2)
    assert counter.transform(["good good"]).toarray().tolist() == [[0.0, 2.0]]


def test_each_block_has_unit_length(keep_frequent: None) -> None:
    features = TfIdf(WordNgrams(), CharacterNgrams())
    texts = ["the first text", "the second text", "the first"]
    weights = features.fit_transform(texts)
    assert np.sqrt(weights.multiply(weights).sum(1)) == pytest.approx(np.sqrt(2))
    assert (features.transform(texts) != weights).nnz == 0


def test_a_block_without_features_is_left_out() -> None:
    """Every n-gram of characters is in more than a fifth of the documents."""
    features = TfIdf(WordNgrams(), CharacterNgrams())
    weights = features.fit_transform(["same", "same"])
    assert weights.shape == (2, 1)
    assert features.transform(["same", "other", ""]).toarray().tolist() == [[1.0], [0.0], [0.0]]
