from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from celltune.data_prep.sources.synthetic import SyntheticSource


def test_counting_words_stays_far_below_reading_them_in_order() -> None:
    rows = list(SyntheticSource(3_000, 0.02, seed=1).documents())
    labels = np.array([row.label for row in rows])
    counter = CountVectorizer(token_pattern=r"\S+")  # noqa: S106 - a pattern, not a password
    counts = counter.fit_transform([row.text for row in rows])
    model = LogisticRegression(max_iter=1_000).fit(counts[:2_400], labels[:2_400])
    # Who reads in order is right but for the noise: 98 %.
    assert 0.55 < model.score(counts[2_400:], labels[2_400:]) < 0.72


def test_the_grammar_decides_every_label_but_for_the_noise() -> None:
    """A reader of the grammar: the last clause of each sentence, turned round if negated."""
    blame = {"bad", "awful", "dull", "clumsy", "boring", "cold", "weak", "ugly", "stupid"}
    blame |= {"fake", "lazy", "hollow", "noisy"}
    negations = {"not", "never", "hardly"}
    for row in SyntheticSource(600, 0.0, seed=3).documents():
        opinions = [s.split(" but ")[-1].split() for s in row.text.split(" .") if " was " in s]
        opinions = [words for words in opinions if words[0] == "the" and words[2] == "was"]
        said = {(words[-1] not in blame) ^ bool(negations & set(words)) for words in opinions}
        assert said == {bool(row.label)}, row.text


def test_lengths_are_spread_from_5_to_200_tokens() -> None:
    lengths = [len(row.text.split()) for row in SyntheticSource(3_000, 0.02, seed=1).documents()]
    assert min(lengths) == 5
    assert 150 < max(lengths) <= 200
    assert 20 < np.median(lengths) < 36


def test_the_noise_turns_its_share_of_labels_and_nothing_else() -> None:
    clean = list(SyntheticSource(4_000, 0.0, seed=5).documents())
    noisy = list(SyntheticSource(4_000, 0.1, seed=5).documents())
    assert [row.text for row in clean] == [row.text for row in noisy]
    turned = np.mean([a.label != b.label for a, b in zip(clean, noisy, strict=True)])
    assert 0.08 < turned < 0.12


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63), reviews=st.integers(2, 40))
def test_the_seed_decides_the_reviews(seed: int, reviews: int) -> None:
    rows = list(SyntheticSource(reviews, 0.02, seed).documents())
    assert rows == list(SyntheticSource(reviews, 0.02, seed).documents())
    assert len(rows) == reviews
    assert all(5 <= len(row.text.split()) <= 200 for row in rows)


def test_the_first_review_of_seed_1_is_the_same_on_every_machine() -> None:
    row = next(SyntheticSource(10, 0.02, seed=1).documents())
    assert row.label == 0
    assert row.text == (
        "the director was hardly to be fair very lovely . we watched it on a rainy monday . "
        "the picture was not as they say honest ."
    )


def test_seed_and_arguments_name_the_content() -> None:
    arguments = itertools.product((9, 10), (0.0, 0.1), (1, 2))
    assert len({SyntheticSource(*each).digest() for each in arguments}) == 8
