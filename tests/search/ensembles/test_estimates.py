from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from celltune.search.ensembles.estimates import FOLDS, compare
from celltune.search.ensembles.selection import Predictions, select
from tests.search.ensembles.random_predictions import random_predictions

Floats = NDArray[np.float64]


def best_by_accuracy(known: Predictions) -> Floats:
    accuracies = (known.log_probabilities.argmax(axis=2) == known.labels).mean(axis=1)
    return np.eye(len(accuracies))[int(accuracies.argmax())]


def ensemble_of_8(known: Predictions) -> Floats:
    return select(known.of_labels(), 8)


def test_an_ensemble_of_independent_models_is_clearly_better() -> None:
    weights, single, found = compare(random_predictions(10, 400), ensemble_of_8, best_by_accuracy)
    assert weights.sum() == pytest.approx(1)
    assert single.tolist().count(1.0) == 1
    assert found.folds == FOLDS
    assert found.loss_gain.is_clear
    assert found.accuracy_gain.is_clear
    assert found.loss_gain.mean == pytest.approx(
        found.single.estimated_loss - found.ensemble.estimated_loss
    )
    assert found.accuracy_gain.mean == pytest.approx(
        found.ensemble.estimated_accuracy - found.single.estimated_accuracy
    )


def test_estimates_are_free_of_the_bias_of_selection() -> None:
    """Of models that guess, the best one seems good; its estimate is what guessing achieves."""
    naive, estimated = [], []
    for seed in range(20):
        guesses = random_predictions(40, 60, seed=seed, skill=0.0)
        _, _, found = compare(guesses, ensemble_of_8, best_by_accuracy)
        naive.append([found.single.accuracy, found.ensemble.accuracy])
        estimated.append([found.single.estimated_accuracy, found.ensemble.estimated_accuracy])
    assert np.mean(naive, axis=0).min() > 0.6
    assert np.mean(estimated, axis=0) == pytest.approx(0.5, abs=0.05)


def test_the_same_model_twice_gains_nothing() -> None:
    one = random_predictions(1, 100)
    twice = Predictions(np.repeat(one.log_probabilities, 2, axis=0), one.labels)
    _, _, found = compare(twice, ensemble_of_8, best_by_accuracy)
    assert not found.loss_gain.is_clear
    assert found.accuracy_gain.mean == found.accuracy_gain.error == 0.0


def test_each_document_is_scored_by_selections_that_did_not_see_it() -> None:
    predictions = random_predictions(3, 23, 3)
    seen: list[set[float]] = []

    def watched(known: Predictions) -> Floats:
        seen.append(set(known.log_probabilities[0, :, 0].tolist()))
        return np.array([1.0, 0.0, 0.0])

    compare(predictions, watched, lambda known: np.array([0.0, 1.0, 0.0]))
    everything, *by_fold = seen
    assert len(by_fold) == FOLDS
    left_out = [everything - known for known in by_fold]
    assert sorted(value for fold in left_out for value in fold) == sorted(everything)
    assert {len(fold) for fold in left_out} <= {4, 5}


def test_the_standard_error_is_that_of_paired_differences() -> None:
    labels = np.zeros(8, np.int64)
    logs = np.log(np.array([[[0.8, 0.2]] * 8, [[0.6, 0.4]] * 4 + [[0.3, 0.7]] * 4]))
    predictions = Predictions(logs.astype(np.float32), labels)
    _, _, found = compare(
        predictions, lambda known: np.array([1.0, 0.0]), lambda known: np.array([0.0, 1.0])
    )
    differences = np.array([0.0] * 4 + [1.0] * 4)
    assert found.accuracy_gain.mean == 0.5
    assert found.accuracy_gain.error == pytest.approx(differences.std(ddof=1) / np.sqrt(8))
    assert found.single.loss == pytest.approx(-np.log([0.6, 0.3]).mean())
