from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from celltune.search.ensembles.selection import (
    Predictions,
    apportion,
    greedy_counts,
    select,
)
from tests.search.ensembles.random_predictions import random_predictions

Floats = NDArray[np.float64]

LIBRARIES = st.tuples(st.integers(1, 8), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(1e-6, 1.0))
)
"""(M, n) probabilities of the true classes."""


def loss(of_labels: Floats, weights: Floats) -> float:
    return float(-np.log(weights @ of_labels).mean())


@given(LIBRARIES, st.integers(1, 10))
def test_greedy_selection_is_at_least_as_good_as_the_best_candidate(
    of_labels: Floats, size: int
) -> None:
    counts = greedy_counts(of_labels, size)
    assert 1 <= counts.sum() <= size
    best = -np.log(of_labels).mean(axis=1).min()
    assert loss(of_labels, counts / counts.sum()) <= best + 1e-9


@given(LIBRARIES, st.integers(1, 6))
def test_each_greedy_step_is_the_best_of_all_steps(of_labels: Floats, size: int) -> None:
    """A brute-force selection with the same rule has the same loss."""
    total, best = np.zeros(of_labels.shape[1]), np.inf
    for step in range(1, size + 1):
        losses = [-np.log((total + row) / step).mean() for row in of_labels]
        total = total + of_labels[int(np.argmin(losses))]
        best = min(best, *losses)
    counts = greedy_counts(of_labels, size)
    assert loss(of_labels, counts / counts.sum()) == pytest.approx(best, abs=1e-9)


def test_models_that_err_on_different_documents_are_combined() -> None:
    of_labels = np.array([[0.9, 0.2, 0.8], [0.2, 0.9, 0.8], [0.5, 0.5, 0.5]])
    assert greedy_counts(of_labels, 2).tolist() == [1, 1, 0]
    # A third step would make one of them heavier, which is worse.
    assert greedy_counts(of_labels, 3).tolist() == [1, 1, 0]


def test_of_equal_candidates_the_first_is_selected() -> None:
    assert greedy_counts(np.full((3, 4), 0.6), 5).tolist() == [1, 0, 0]


@given(LIBRARIES, st.integers(1, 12))
def test_weights_are_multiples_of_one_over_size_and_sum_to_1(of_labels: Floats, size: int) -> None:
    weights = select(of_labels, size)
    counts = size * weights
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert counts.sum() == pytest.approx(size)
    assert weights.min() >= 0
    assert np.count_nonzero(weights) <= size
    np.testing.assert_array_equal(select(of_labels.copy(), size), weights)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any),
    st.integers(1, 20),
)
def test_apportioned_seats_are_within_one_of_their_quotas(votes: list[int], size: int) -> None:
    weights = np.array(votes) / sum(votes)
    seats = apportion(weights, size)
    assert seats.sum() == size
    assert np.all(np.abs(seats - size * weights) < 1 + 1e-6)
    assert np.all(seats[weights == 0] == 0)


def test_equal_remainders_go_to_the_first() -> None:
    assert apportion(np.array([0.25, 0.25, 0.25, 0.25]), 2).tolist() == [1, 1, 0, 0]
    assert apportion(np.array([0.1] * 10), 10).tolist() == [1] * 10


def test_bags_overfit_less_than_one_selection_from_all_candidates() -> None:
    """With many noise candidates and few documents, bagging is better on new documents."""
    differences = []
    for seed in range(12):
        predictions = random_predictions(60, 1_030, seed=seed, skill=0.5)
        known, new = predictions.at(np.arange(30)), predictions.at(np.arange(30, 1_030))
        counts = greedy_counts(known.of_labels(), 8)
        plain = loss(new.of_labels(), counts / counts.sum())
        differences.append(plain - loss(new.of_labels(), select(known.of_labels(), 8)))
    assert np.mean(differences) > 0


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(1, 20), st.integers(0, 99))
def test_the_average_is_that_of_probabilities(classes: int, documents: int, seed: int) -> None:
    predictions = random_predictions(3, documents, classes, seed=seed)
    average = predictions.average(np.array([0.25, 0.0, 0.75]))
    np.testing.assert_allclose(average.sum(axis=1), 1.0, atol=1e-6)
    expected = np.exp(predictions.log_probabilities.astype(float))
    np.testing.assert_allclose(average, 0.25 * expected[0] + 0.75 * expected[2])


def test_a_probability_of_zero_has_a_finite_loss() -> None:
    logs = np.array([[[0.0, -np.inf]], [[-0.7, -0.7]]], np.float32)
    predictions = Predictions(logs, np.array([1]))
    assert np.isfinite(np.log(predictions.of_labels())).all()
    assert select(predictions.of_labels(), 1).tolist() == [0.0, 1.0]
