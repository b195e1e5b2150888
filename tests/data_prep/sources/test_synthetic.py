from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from celltune.data_prep.sources.synthetic import SyntheticSource


def test_word_counts_predict_labels_poorly() -> None:
    documents = list(SyntheticSource(3_000, 0.02, seed=1).documents())
    labels = np.array([each.label for each in documents])
    counter = CountVectorizer(token_pattern=r"\S+")  # noqa: S106 (a pattern, not a password)
    counts = counter.fit_transform([each.text for each in documents])
    model = LogisticRegression(max_iter=1_000).fit(counts[:2_400], labels[:2_400])
    # A model that reads the words in order reaches 98 %, everything except the label noise.
    assert 0.55 < model.score(counts[2_400:], labels[2_400:]) < 0.72


def test_grammar_determines_labels_without_noise() -> None:
    """Parses the last clause of each opinion and inverts it if it is negated."""
    blame = {"bad", "awful", "dull", "clumsy", "boring", "cold", "weak", "ugly", "stupid"}
    blame |= {"fake", "lazy", "hollow", "noisy"}
    negations = {"not", "never", "hardly"}
    for document in SyntheticSource(600, 0.0, seed=3).documents():
        opinions = [s.split(" but ")[-1].split() for s in document.text.split(" .") if " was " in s]
        opinions = [words for words in opinions if words[0] == "the" and words[2] == "was"]
        polarities = {(words[-1] not in blame) ^ bool(negations & set(words)) for words in opinions}
        assert polarities == {bool(document.label)}, document.text


def test_lengths_are_between_5_and_200_tokens() -> None:
    lengths = [len(each.text.split()) for each in SyntheticSource(3_000, 0.02, seed=1).documents()]
    assert min(lengths) == 5
    assert 150 < max(lengths) <= 200
    assert 20 < np.median(lengths) < 36


def test_noise_inverts_its_share_of_labels_only() -> None:
    clean = list(SyntheticSource(4_000, 0.0, seed=5).documents())
    noisy = list(SyntheticSource(4_000, 0.1, seed=5).documents())
    assert [each.text for each in clean] == [each.text for each in noisy]
    inverted_share = np.mean([a.label != b.label for a, b in zip(clean, noisy, strict=True)])
    assert 0.08 < inverted_share < 0.12


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63), reviews=st.integers(2, 40))
def test_seed_determines_the_reviews(seed: int, reviews: int) -> None:
    documents = list(SyntheticSource(reviews, 0.02, seed).documents())
    assert documents == list(SyntheticSource(reviews, 0.02, seed).documents())
    assert len(documents) == reviews
    assert all(5 <= len(each.text.split()) <= 200 for each in documents)


def test_first_review_of_seed_1_never_changes() -> None:
    document = next(SyntheticSource(10, 0.02, seed=1).documents())
    assert document.label == 0
    assert document.text == (
        "the director was hardly to be fair very lovely . we watched it on a rainy monday . "
        "the picture was not as they say honest ."
    )


def test_digest_depends_on_seed_and_arguments() -> None:
    arguments = itertools.product((9, 10), (0.0, 0.1), (1, 2))
    assert len({SyntheticSource(*each).digest() for each in arguments}) == 8
