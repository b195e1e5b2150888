from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from celltune.search.metrics import (
    accuracy,
    auroc,
    balanced_accuracy,
    bootstrap_interval,
    confusion_matrix,
    difference_error,
    encode_outcomes,
    f1,
    macro_f1,
    pack_outcomes,
    row_shares,
    score_split,
    unpack_outcomes,
)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw labels, predicted classes, and the number of classes."""
    num_classes = draw(st.integers(2, 5))
    pair = st.tuples(st.integers(0, num_classes - 1), st.integers(0, num_classes - 1))
    pairs = np.array(draw(st.lists(pair, min_size=1, max_size=40)))
    return pairs[:, 0], pairs[:, 1], num_classes


@settings(max_examples=40)
@given(predictions())
def test_accuracy_f1_and_confusion_matrix_equal_scikit_learn(
    drawn: tuple[np.ndarray, np.ndarray, int],
) -> None:
    labels, predicted, num_classes = drawn
    matrix = confusion_matrix(encode_outcomes(labels, predicted, num_classes), num_classes)
    classes = list(range(num_classes))
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=classes)
    assert matrix.tolist() == expected.tolist()
    assert float(accuracy(matrix)) == pytest.approx(
        sklearn_metrics.accuracy_score(labels, predicted)
    )
    present = sorted(set(labels.tolist()))
    expected_f1 = sklearn_metrics.f1_score(
        labels,
        predicted,
        average="macro",
        labels=[1] if num_classes == 2 and 1 in present else present,
        zero_division=0,
    )
    assert float(f1(matrix)) == pytest.approx(expected_f1)


def test_f1_leaves_out_classes_without_a_document() -> None:
    """Class 2 has no document; one document of class 1 is assigned to it."""
    matrix = np.array([[8, 2, 0], [1, 8, 1], [0, 0, 0]])
    assert float(f1(matrix)) == pytest.approx((16 / 19 + 16 / 20) / 2)
    without = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert float(f1(without)) == pytest.approx((16 / 19 + 18 / 21) / 2)
    assert f1(np.stack([matrix, without])).tolist() == [float(f1(matrix)), float(f1(without))]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[6, 2], [2, 4]], 8 / 12),
        ([[6, 2], [0, 0]], 12 / 14),
        ([[0, 0], [2, 4]], 8 / 10),
        ([[6, 0], [0, 0]], 1.0),
        ([[0, 0], [0, 0]], 0.0),
    ],
)
def test_f1_of_two_classes_is_that_of_class_1_unless_it_has_no_document(
    matrix: list[list[int]], expected: float
) -> None:
    assert float(f1(np.array(matrix))) == pytest.approx(expected)


@given(predictions())
def test_packed_outcomes_round_trip(drawn: tuple[np.ndarray, np.ndarray, int]) -> None:
    outcomes = encode_outcomes(*drawn)
    assert unpack_outcomes(pack_outcomes(outcomes)).tolist() == outcomes.tolist()


def test_packed_outcomes_are_small() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=25_000)
    predicted = np.where(rng.random(25_000) < 0.9, labels, 1 - labels)
    assert len(pack_outcomes(encode_outcomes(labels, predicted, 2))) < 15_000


def test_row_shares_are_zero_in_an_empty_row() -> None:
    assert row_shares(np.array([[3, 1], [0, 0]])).tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_loss_needs_probabilities() -> None:
    labels, logs = np.array([0, 1]), np.log([[0.8, 0.2], [0.5, 0.5]])
    scores = score_split(labels, np.array([0, 0]), logs, 2)
    assert scores.metrics["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert scores.metrics["accuracy"] == 0.5
    assert "loss" not in score_split(labels, np.array([0, 0]), None, 2).metrics


def make_outcomes(share: float, seeds: int, documents: int, spread: int = 0) -> np.ndarray:
    """Return outcomes of documents of class 1.

    The first seed classifies the given share correctly, each further seed `spread` documents more.
    """
    correct = [int(share * documents) + spread * seed for seed in range(seeds)]
    return np.array([[3] * count + [2] * (documents - count) for count in correct])


def test_interval_of_one_seed_is_the_binomial_bootstrap_interval() -> None:
    low, high = bootstrap_interval(make_outcomes(0.9, 1, 1000), 2, accuracy)
    half = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.004)


def test_variation_between_seeds_widens_the_bootstrap_interval() -> None:
    equal, varied = (
        bootstrap_interval(make_outcomes(0.8, 3, 1000, by), 2, accuracy) for by in (0, 50)
    )
    assert varied[1] - varied[0] > 1.5 * (equal[1] - equal[0])
    assert varied[0] < 0.85 < varied[1]


def test_interval_equals_resampling_of_single_documents() -> None:
    """Drawing groups of equal outcomes gives the same distribution as drawing documents."""
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=300)
    predicted = [
        np.where(rng.random(300) < 0.7, labels, rng.integers(3, size=300)) for _ in range(3)
    ]
    outcomes = np.array([encode_outcomes(labels, classes, 3) for classes in predicted])
    means = []
    for _ in range(1000):
        drawn, seeds = rng.integers(300, size=300), rng.integers(3, size=3)
        scores = np.array([f1(confusion_matrix(row[drawn], 3)) for row in outcomes])
        means.append(scores[seeds].mean())
    expected = np.percentile(means, [2.5, 97.5])
    assert bootstrap_interval(outcomes, 3, f1) == pytest.approx(expected, abs=0.012)


def test_difference_is_computed_on_the_same_documents() -> None:
    outcomes = make_outcomes(0.9, 2, 1000)
    assert bootstrap_interval(outcomes, 2, accuracy, baseline=outcomes[0]) == (0.0, 0.0)
    low, high = bootstrap_interval(outcomes, 2, accuracy, baseline=make_outcomes(0.85, 1, 1000)[0])
    assert 0.03 < low < 0.05 < high < 0.07
    # Without pairing, the interval would be wider.
    unpaired = np.ptp(bootstrap_interval(outcomes, 2, accuracy)) + np.ptp(
        bootstrap_interval(make_outcomes(0.85, 1, 1000), 2, accuracy)
    )
    assert high - low < unpaired


def test_interval_depends_on_the_seed_of_the_resamples() -> None:
    outcomes = make_outcomes(0.7, 2, 100, 3)
    assert bootstrap_interval(outcomes, 2, accuracy, seed=4) == bootstrap_interval(
        outcomes, 2, accuracy, seed=4
    )
    assert bootstrap_interval(outcomes, 2, accuracy, seed=4) != bootstrap_interval(
        outcomes, 2, accuracy, seed=5
    )


@settings(max_examples=40)
@given(predictions())
def test_macro_f1_is_the_mean_over_the_classes_with_documents(
    drawn: tuple[np.ndarray, np.ndarray, int],
) -> None:
    labels, predicted, num_classes = drawn
    matrix = confusion_matrix(encode_outcomes(labels, predicted, num_classes), num_classes)
    expected = sklearn_metrics.f1_score(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert macro_f1(matrix) == pytest.approx(expected)


@settings(max_examples=40)
@given(predictions())
def test_balanced_accuracy_is_the_mean_recall(
    drawn: tuple[np.ndarray, np.ndarray, int],
) -> None:
    labels, predicted, num_classes = drawn
    matrix = confusion_matrix(encode_outcomes(labels, predicted, num_classes), num_classes)
    expected = sklearn_metrics.recall_score(
        labels, predicted, labels=np.unique(labels), average="macro"
    )
    assert balanced_accuracy(np.stack([matrix, matrix])) == pytest.approx([expected] * 2)


def test_the_error_of_the_auroc_is_that_of_repeated_samples() -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(300) % 3 == 0
    samples = [auroc(positive, rng.normal(positive * 1.0)) for _ in range(400)]
    areas, errors = np.array(samples).T
    assert areas.mean() == pytest.approx(0.76, abs=0.01)  # The normal distribution at 1 / sqrt(2).
    assert errors.mean() == pytest.approx(areas.std(ddof=1), rel=0.1)


def test_the_auroc_is_one_half_without_information() -> None:
    assert auroc(np.array([True, True]), np.array([1.0, 2.0])) == (0.5, 0.0)
    assert auroc(np.array([True, False]), np.zeros(2)) == (0.5, 0.0)


def test_difference_error_of_two_accuracies() -> None:
    assert difference_error(0.5, 0.5, 50) == pytest.approx(0.1)
    assert difference_error(1.0, 0.0, 1) == 0
