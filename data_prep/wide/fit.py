"""Fits the wide part: chooses the penalty, cross-fits the training split, fits the final model.

Training documents get the outputs of models that were fitted without them. A model's outputs for
its own training documents are far too confident (nearly all of them are right), and a network that
is trained on top of those would learn that the wide part is always right.

Shapes: n documents, L outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.types import JSON
from celltune.data_prep.wide.features import FittedFeatures, NgramFeatures, Presence
from celltune.data_prep.wide.folds import assign_folds
from celltune.data_prep.wide.model import WideModel
from celltune.data_prep.wide.regression import (
    Regression,
    Weights,
    log_probabilities,
    problems,
)
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig

WIDE_VERSION = 1
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
    labels: NDArray[np.int64]
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
            on_progress: is called with the number of finished fits, and of all.

        Raises:
            DataError: the training documents cannot be divided, or have too many n-grams.
        """
        config, finished = self._config, 0
        texts = [normalize(text) for text in train.texts]
        folds = assign_folds(texts, train.labels, train.groups, folds=config.folds, seed=self._seed)
        fits = len(config.penalties) + int(folds.max()) + 1
        total = fits * len(problems(self._classes))

        def on_fit() -> None:
            nonlocal finished
            finished += 1
            on_progress(finished, total)

        on_progress(0, total)
        fitted = NgramFeatures.fit(texts, config)
        presence = fitted.features.presence([normalize(text) for text in valid.texts])
        candidates = self._regression(fitted, fitted.presence, train.labels).fit(
            config.penalties, on_fit
        )
        losses = [_loss(weights.outputs(presence), valid.labels) for weights in candidates]
        best = int(np.argmin(losses))
        penalty, model = config.penalties[best], _model(fitted.features, candidates[best])
        outputs = model.logits_of(presence)
        return FittedWide(
            model,
            self._cross_fit(fitted, train.labels, folds, penalty, on_fit),
            outputs,
            {
                "features": fitted.features.total,
                **{block.kind: block.table.features for block in fitted.features.blocks},
                "penalty": penalty,
                "valid_loss": losses[best],
                "valid_accuracy": _accuracy(outputs, valid.labels),
            },
        )

    def refit(self, documents: LabelledTexts, penalty: float) -> WideModel:
        """Fit a model with a given penalty.

        Raises:
            DataError: the documents have too many n-grams.
        """
        fitted = NgramFeatures.fit([normalize(text) for text in documents.texts], self._config)
        regression = self._regression(fitted, fitted.presence, documents.labels)
        return _model(fitted.features, regression.fit([penalty], lambda: None)[0])

    def _regression(
        self, fitted: FittedFeatures, presence: Presence, labels: NDArray[np.int64]
    ) -> Regression:
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
        labels: NDArray[np.int64],
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
            (weights,) = self._regression(fitted, others, labels[~held_out]).fit([penalty], on_fit)
            outputs[held_out] = weights.outputs(fitted.presence.documents(held_out))
        return outputs


def _model(features: NgramFeatures, weights: Weights) -> WideModel:
    # A view would keep the weights for all penalties in memory.
    return WideModel(features, weights.values.copy(), weights.intercepts.copy())


def _loss(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of the labels, in nats."""
    return float(-log_probabilities(outputs)[np.arange(len(labels)), labels].mean())


def _accuracy(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float((log_probabilities(outputs).argmax(axis=1) == labels).mean())
