from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from celltune.search.evaluation.metrics import (
    accuracy,
    confusion,
    f1,
    interval,
    outcomes,
    pack,
    row_shares,
    score_split,
    unpack,
)


@st.composite
def answered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    classes = draw(st.integers(2, 5))
    pairs = st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))
    found = np.array(draw(st.lists(pairs, min_size=1, max_size=40)))
    return found[:, 0], found[:, 1], classes


@settings(max_examples=40)
@given(answered())
def test_accuracy_f1_and_confusion_are_scikit_learns(
    made: tuple[np.ndarray, np.ndarray, int],
) -> None:
    labels, answers, classes = made
    matrix = confusion(outcomes(labels, answers, classes), classes)
    known = list(range(classes))
    assert matrix.tolist() == confusion_matrix(labels, answers, labels=known).tolist()
    assert float(accuracy(matrix)) == pytest.approx(accuracy_score(labels, answers))
    average = "binary" if classes == 2 else "macro"
    of_labels = None if classes == 2 else known
    theirs = f1_score(labels, answers, average=average, labels=of_labels, zero_division=0)
    assert float(f1(matrix)) == pytest.approx(theirs)


@given(answered())
def test_packed_outcomes_come_back(made: tuple[np.ndarray, np.ndarray, int]) -> None:
    found = outcomes(*made)
    assert unpack(pack(found)).tolist() == found.tolist()


def test_packed_outcomes_are_small() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=25_000)
    answers = np.where(rng.random(25_000) < 0.9, labels, 1 - labels)
    assert len(pack(outcomes(labels, answers, 2))) < 15_000


def test_row_shares_are_by_the_truth_and_survive_an_empty_row() -> None:
    assert row_shares(np.array([[3, 1], [0, 0]])).tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_a_part_has_a_loss_only_where_there_are_probabilities() -> None:
    labels, logs = np.array([0, 1]), np.log([[0.8, 0.2], [0.5, 0.5]])
    found = score_split(labels, np.array([0, 0]), logs, 2)
    assert found.metrics["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert found.metrics["accuracy"] == 0.5
    assert "loss" not in score_split(labels, np.array([0, 0]), None, 2).metrics


def rows(share: float, seeds: int, reviews: int, spread: int = 0) -> np.ndarray:
    """Outcomes of class-1 reviews of which each seed gets a share right, seeds unlike by spread."""
    right = [int(share * reviews) + spread * seed for seed in range(seeds)]
    return np.array([[3] * count + [2] * (reviews - count) for count in right])


def test_the_interval_of_one_seed_is_the_binomial_one() -> None:
    low, high = interval(rows(0.9, 1, 1000), 2, accuracy)
    half = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.004)


def test_seeds_that_differ_widen_the_interval() -> None:
    same, unlike = (interval(rows(0.8, 3, 1000, by), 2, accuracy) for by in (0, 50))
    assert unlike[1] - unlike[0] > 1.5 * (same[1] - same[0])
    assert unlike[0] < 0.85 < unlike[1]


def test_the_interval_is_that_of_resampled_reviews() -> None:
    """Drawing kinds of reviews is drawing reviews: beside the plain way, for F1 of three seeds."""
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=300)
    found = np.array(
        [
            outcomes(labels, np.where(rng.random(300) < 0.7, labels, rng.integers(3, size=300)), 3)
            for _ in range(3)
        ]
    )
    plain = []
    for _ in range(1000):
        drawn, seeds = rng.integers(300, size=300), rng.integers(3, size=3)
        each = np.array([f1(confusion(row[drawn], 3)) for row in found])
        plain.append(each[seeds].mean())
    assert interval(found, 3, f1) == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.012)


def test_a_difference_is_taken_on_the_same_reviews() -> None:
    mine = rows(0.9, 2, 1000)
    assert interval(mine, 2, accuracy, against=mine[0]) == (0.0, 0.0)
    low, high = interval(mine, 2, accuracy, against=rows(0.85, 1, 1000)[0])
    assert 0.03 < low < 0.05 < high < 0.07
    # Unpaired, the interval would be wider.
    apart = np.ptp(interval(mine, 2, accuracy)) + np.ptp(interval(rows(0.85, 1, 1000), 2, accuracy))
    assert high - low < apart


def test_equal_seeds_of_the_drawing_give_equal_intervals() -> None:
    found = rows(0.7, 2, 100, 3)
    assert interval(found, 2, accuracy, seed=4) == interval(found, 2, accuracy, seed=4)
    assert interval(found, 2, accuracy, seed=4) != interval(found, 2, accuracy, seed=5)
