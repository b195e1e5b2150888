"""Fits the wide part: chooses the penalty, cross-fits the training split, fits the final model.

Training documents get the outputs of models that were fitted without them. A model's outputs for
its own training documents are far too confident (nearly all of them are right), and a network that
is trained on top of those would learn that the wide part is always right.

Shapes: n documents, L outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.types import JSON
from celltune.data_prep.wide.features import FittedFeatures, NgramFeatures, Presence
from celltune.data_prep.wide.folds import assign_folds
from celltune.data_prep.wide.model import WideModel
from celltune.data_prep.wide.regression import (
    Labels,
    Regression,
    Weights,
    log_probabilities,
    problems,
)
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig

WIDE_VERSION = 2
"""Incremented whenever the same documents would give another wide part; part of fingerprints."""


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Documents of a split.

    Attributes:
        texts: whole, untruncated texts.
        labels: `(n,)` class of each document.
        groups: `(n,)` group of each document; None if it has none.
    """

    texts: Sequence[str]
    labels: Labels
    groups: Sequence[str | None]


@dataclass(frozen=True, eq=False)
class FittedWide:
    """A wide part and its outputs.

    Attributes:
        model: fitted on the whole training split.
        train: `(n, L)` cross-fitted outputs.
        valid: `(n, L)` outputs of `model`.
        info: number of features in total and of each kind, chosen penalty, loss and accuracy on the
            validation split.
    """

    model: WideModel
    train: NDArray[np.float32]
    valid: NDArray[np.float32]
    info: dict[str, JSON]


class _Candidate(NamedTuple):
    """A model for one penalty, with its loss on the validation split."""

    loss: float
    penalty: float
    weights: Weights


class _Steps:
    """Reports the progress of a number of steps.

    Args:
        total: number of steps.
        on_progress: is called with the number of finished steps and the total.
    """

    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        self._total, self._on_progress, self._finished = total, on_progress, -1
        self.reach(0)

    def finish(self) -> None:
        """Report that another step is finished."""
        self.reach(self._finished + 1)

    def reach(self, finished: int) -> None:
        """Report that a number of steps is finished, some of which may have been unnecessary."""
        if finished > self._finished:
            self._finished = finished
            self._on_progress(finished, self._total)


class WideFitter:
    """Fits the wide parts of a config.

    Args:
        config: the n-grams and the candidates for the penalty.
        classes: number of classes.
        seed: determines the folds and the order in which the solver visits the documents.
    """

    def __init__(self, config: WideConfig, classes: int, seed: int) -> None:
        self._config, self._classes, self._seed = config, classes, seed

    def fit(
        self,
        train: LabelledTexts,
        valid: LabelledTexts,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> FittedWide:
        """Fit the wide part of a training split.

        Args:
            train: the documents to fit on.
            valid: the documents by which the penalty is chosen.
            on_progress: is called with the number of finished steps, and of all: counts of n-grams
                of one length, and fits of one class.

        Raises:
            DataError: the training documents cannot be divided, or have too many n-grams.
        """
        config, classes = self._config, len(problems(self._classes))
        texts = [normalize(text) for text in train.texts]
        folds = assign_folds(texts, train.labels, train.groups, folds=config.folds, seed=self._seed)
        counts, fits = config.words + config.characters, len(config.penalties)
        steps = _Steps(counts + (fits + int(folds.max()) + 1) * classes, on_progress)
        fitted = NgramFeatures.fit(texts, config, steps.finish)
        steps.reach(counts)
        presence = fitted.features.presence([normalize(text) for text in valid.texts])
        chosen = self._choose(fitted, train.labels, presence, valid.labels, steps.finish)
        steps.reach(counts + fits * classes)
        model = _model(fitted.features, chosen.weights)
        outputs = model.logits_of(presence)
        return FittedWide(
            model,
            self._cross_fit(fitted, train.labels, folds, chosen.penalty, steps.finish),
            outputs,
            {
                "features": fitted.features.total,
                **{block.kind: block.table.features for block in fitted.features.blocks},
                "penalty": chosen.penalty,
                "valid_loss": chosen.loss,
                "valid_accuracy": _accuracy(outputs, valid.labels),
            },
        )

    def _choose(
        self,
        fitted: FittedFeatures,
        labels: Labels,
        valid: Presence,
        valid_labels: Labels,
        on_fit: Callable[[], None],
    ) -> _Candidate:
        """Return the model with the penalty whose validation loss is lowest.

        The loss as a function of the penalty has one minimum, so the search descends from the
        middle of the candidates: first upwards, and downwards if that did not help.
        """
        regression = self._regression(fitted, fitted.presence, labels)

        def candidate(penalty: float) -> _Candidate:
            weights = regression.fit(penalty, on_fit)
            return _Candidate(_loss(weights.outputs(valid), valid_labels), penalty, weights)

        penalties = sorted(self._config.penalties)
        middle = len(penalties) // 2
        first = best = candidate(penalties[middle])
        for direction in (penalties[middle + 1 :], penalties[:middle][::-1]):
            for penalty in direction:
                following = candidate(penalty)
                if following.loss >= best.loss:
                    break
                best = following
            if best is not first:
                break
        return best

    def refit(self, documents: LabelledTexts, penalty: float) -> WideModel:
        """Fit a model with a given penalty.

        Raises:
            DataError: the documents have too many n-grams.
        """
        fitted = NgramFeatures.fit([normalize(text) for text in documents.texts], self._config)
        regression = self._regression(fitted, fitted.presence, documents.labels)
        return _model(fitted.features, regression.fit(penalty, lambda: None))

    def _regression(self, fitted: FittedFeatures, presence: Presence, labels: Labels) -> Regression:
        return Regression(
            presence,
            labels,
            self._classes,
            min_documents=fitted.min_documents,
            seed=self._seed,
        )

    def _cross_fit(
        self,
        fitted: FittedFeatures,
        labels: Labels,
        folds: NDArray[np.int64],
        penalty: float,
        on_fit: Callable[[], None],
    ) -> NDArray[np.float32]:
        """Return the outputs for each training document, from a model of the other folds, `(n, L)`.

        The n-grams of at least k documents of the other folds are among those of at least k
        documents of all folds, so the texts are not read again.
        """
        outputs = np.empty((len(labels), len(problems(self._classes))), np.float32)
        for fold in range(int(folds.max()) + 1):
            held_out = folds == fold
            others = fitted.presence.documents(~held_out)
            weights = self._regression(fitted, others, labels[~held_out]).fit(penalty, on_fit)
            outputs[held_out] = weights.outputs(fitted.presence.documents(held_out))
        return outputs


def _model(features: NgramFeatures, weights: Weights) -> WideModel:
    return WideModel(features, weights.values, weights.intercepts)


def _loss(outputs: NDArray[np.float32], labels: Labels) -> float:
    """Return the mean cross-entropy of the labels, in nats."""
    return float(-log_probabilities(outputs)[np.arange(len(labels)), labels].mean())


def _accuracy(outputs: NDArray[np.float32], labels: Labels) -> float:
    return float((log_probabilities(outputs).argmax(axis=1) == labels).mean())
