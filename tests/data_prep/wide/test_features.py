from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.wide import blocks
from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig
from tests.data_prep.wide.reference import corpus, preprocess, vectorizers

# Few characters, so that n-grams repeat; among them are punctuation, an accent as a separate code
# point, upper case that changes the number of characters, and white space of several kinds.
ALPHABET = "ab ,İé\u0301_1\t\n\u00a0映<br/>"
TEXTS = st.lists(st.text(ALPHABET, max_size=25), min_size=2, max_size=8)


def spelled(features: NgramFeatures, texts: list[str]) -> list[list[set[str]]]:
    """Return the n-grams of each text and kind, by `occurrences`."""
    return [
        [{ngram for _, ngram in block.occurrences(text)} for block in features.blocks]
        for text in texts
    ]


def expected(texts: list[str], others: list[str], minimum: int) -> list[list[set[str]]]:
    found = []
    for vectorizer in vectorizers(3, 5, minimum):
        try:
            vectorizer.fit(texts)
        except ValueError:
            found.append([set[str]() for _ in others])
            continue
        found.append(
            [set(row) for row in vectorizer.inverse_transform(vectorizer.transform(others))]
        )
    return [list(kinds) for kinds in zip(*found, strict=True)]


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 3))
def test_ngrams_equal_those_of_scikit_learn(
    texts: list[str], others: list[str], minimum: int
) -> None:
    normalized = [normalize(text) for text in texts]
    if not any(normalized):
        return
    config = WideConfig(min_documents=minimum)
    fitted = NgramFeatures.fit(normalized, config)
    assert fitted.min_documents in (minimum, 1)
    new = [normalize(text) for text in [*others, *texts]]
    assert spelled(fitted.features, new) == expected(texts, [*others, *texts], fitted.min_documents)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_presence_contains_each_ngram_of_a_text_once(texts: list[str], others: list[str]) -> None:
    normalized = [normalize(text) for text in texts]
    fitted = NgramFeatures.fit(normalized, WideConfig())
    features = fitted.features
    for presence, read in (
        (fitted.presence, normalized),
        (features.presence([normalize(text) for text in others]), map(normalize, others)),
    ):
        rows = [presence.rows.items[a:b].tolist() for a, b in pairwise(presence.rows.offsets)]
        by_block = [
            sorted({first + feature for feature, _ in block.occurrences(text)})
            for text in read
            for block, first in zip(features.blocks, features.first_features, strict=True)
        ]
        assert [sorted(row) for row in rows] == by_block


@settings(deadline=None)
@given(st.text())
def test_normalized_text_equals_the_recipe(text: str) -> None:
    assert normalize(text) == preprocess(text)


def test_results_do_not_depend_on_the_size_of_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [normalize(text) for text in corpus(23, 2, 1)[0]]
    whole = NgramFeatures.fit(texts, WideConfig())
    monkeypatch.setattr(blocks, "TEXTS_AT_ONCE", 4)
    monkeypatch.setattr(blocks, "PAIRS_AT_ONCE", 100)
    parts = NgramFeatures.fit(texts, WideConfig())
    for presence in (parts.presence, parts.features.presence(texts)):
        assert presence.rows.offsets.tolist() == whole.presence.rows.offsets.tolist()
        assert presence.rows.items.tolist() == whole.presence.rows.items.tolist()


def test_characters_can_be_left_out() -> None:
    fitted = NgramFeatures.fit(["a b", "a b"], WideConfig(characters=0, words=2))
    assert spelled(fitted.features, ["a b c"]) == [[{"a", "b", "a b"}]]
    assert fitted.presence.blocks == 1


def test_rows_of_a_block_have_unit_length() -> None:
    texts = [normalize(text) for text in corpus(12, 2, 3)[0]]
    fitted = NgramFeatures.fit(texts, WideConfig())
    squares = fitted.presence.rows.lengths * fitted.presence.scales() ** 2
    assert squares == pytest.approx(np.ones(24))
