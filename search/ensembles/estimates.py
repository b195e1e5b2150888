"""Estimates of how good a selected ensemble is on documents that its selection did not see.

Shapes: M candidates, n documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.search.ensembles.selection import SMALLEST, Floats, Predictions
from celltune.search.ledger.ensembles import Gain, ValidScores

FOLDS = 5
"""Number of folds of the cross-validation; fewer with fewer documents."""

Select = Callable[[Predictions], Floats]
"""Returns (M,) weights of the candidates, from their predictions."""


@dataclass(frozen=True)
class Comparison:
    """Scores of an ensemble and of the best single candidate."""

    ensemble: ValidScores
    single: ValidScores
    loss_gain: Gain
    accuracy_gain: Gain
    folds: int


@dataclass(frozen=True)
class _Outcomes:
    """How a model did on each document."""

    losses: Floats
    """(n,) cross-entropy."""
    correct: Floats
    """(n,) 1 if the most probable class is the label, otherwise 0."""

    @classmethod
    def of(cls, predictions: Predictions, weights: Floats) -> _Outcomes:
        average, labels = predictions.average(weights), predictions.labels
        of_label = average[np.arange(len(labels)), labels]
        losses = -np.log(np.clip(of_label, SMALLEST, 1.0))
        return cls(losses, (average.argmax(axis=1) == labels).astype(np.float64))


def compare(
    predictions: Predictions, select_ensemble: Select, select_single: Select
) -> tuple[Floats, Floats, Comparison]:
    """Select an ensemble and a single candidate, and compare them without the bias of selection.

    The scores on the documents of a selection are biased, because it prefers what is good on them
    by chance. Cross-validation repeats both selections without each fold of the documents and
    scores them on the fold. What remains is the bias of the candidates themselves: their epochs and
    hyperparameters were chosen by the same documents. It affects the ensemble and the single
    candidate alike.

    Args:
        predictions: of all candidates for the validation split.
        select_ensemble: selects the ensemble.
        select_single: selects the best candidate, as a weight of 1.

    Returns:
        The (M,) weights of the ensemble and of the single candidate, and their comparison.
    """
    selections = (select_ensemble, select_single)
    weights = [selection(predictions) for selection in selections]
    naive = [_Outcomes.of(predictions, chosen) for chosen in weights]
    documents = len(predictions.labels)
    held_out = [_Outcomes(np.empty(documents), np.empty(documents)) for _ in selections]
    folds = list(_folds(predictions.labels))
    for fold in folds:
        others = predictions.at(np.setdiff1d(np.arange(documents), fold))
        scored = predictions.at(fold)
        for selection, outcomes in zip(selections, held_out, strict=True):
            of_fold = _Outcomes.of(scored, selection(others))
            outcomes.losses[fold], outcomes.correct[fold] = of_fold.losses, of_fold.correct
    ensemble, single = held_out
    return (
        weights[0],
        weights[1],
        Comparison(
            _scores(naive[0], ensemble),
            _scores(naive[1], single),
            _gain(single.losses - ensemble.losses),
            _gain(ensemble.correct - single.correct),
            len(folds),
        ),
    )


def _folds(labels: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the documents of each fold: random ones, with an equal share of each class."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = min(FOLDS, len(labels))
    for first in range(folds):
        yield np.sort(by_class[first::folds])


def _scores(naive: _Outcomes, held_out: _Outcomes) -> ValidScores:
    return ValidScores(
        loss=float(naive.losses.mean()),
        accuracy=float(naive.correct.mean()),
        estimated_loss=float(held_out.losses.mean()),
        estimated_accuracy=float(held_out.correct.mean()),
    )


def _gain(differences: Floats) -> Gain:
    """Return the mean of (n,) paired differences and its standard error."""
    deviation = differences.std(ddof=1) if len(differences) > 1 else 0.0
    error = float(deviation / np.sqrt(len(differences)))
    return Gain(mean=float(differences.mean()), error=error)
