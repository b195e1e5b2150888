"""Measures the baselines on the validation split; the test split is not read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import read_training_documents
from celltune.search.baselines.linear import (
    BASELINES,
    LabelledTexts,
    labelled_texts,
    score_predicted,
)
from celltune.search.metrics import balanced_accuracy, macro_f1


@dataclass(frozen=True)
class ValidationScores:
    """Scores of a baseline; the fields of the event `BaselineValidated`."""

    valid_accuracy: float
    valid_macro_f1: float
    valid_balanced_accuracy: float
    valid_auroc: float | None
    valid_loss: float | None
    seconds: float


@dataclass(frozen=True)
class LabelsOfSplits:
    """Labels of the prepared data, by which a change of the original data is noticed."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    num_classes: int

    @classmethod
    def of(cls, data: PreparedData) -> LabelsOfSplits:
        """Return the labels of prepared data."""
        return cls(data.train.labels, data.valid.labels, data.num_classes)


class ValidationMeter:
    """Fits baselines to the training split and scores them on the validation split.

    The documents are read at the first measurement and kept for the others.
    """

    def __init__(self, config: DataConfig, labels: LabelsOfSplits, cache_dir: Path) -> None:
        """Read nothing yet.

        Args:
            config: defines the documents and the splits.
            labels: labels that the documents must have.
            cache_dir: folder where a source finds what it downloaded.
        """
        self._config = config
        self._cache_dir = cache_dir
        self._labels = labels

    def measure(self, name: str) -> ValidationScores:
        """Measure a baseline.

        Args:
            name: a key of `BASELINES`.

        Raises:
            DataError: the data cannot be read, or changed since it was prepared.
            ValueError: the baseline cannot be fitted to these documents.
            MemoryError: there is too little memory.
        """
        train, valid = self._splits
        start = time.perf_counter()
        extractor, fit = BASELINES[name].features(), BASELINES[name].fit
        predict = fit(extractor.fit_transform(train.texts), train.labels, self._labels.num_classes)
        seconds = time.perf_counter() - start
        predicted = predict(extractor.transform(valid.texts))
        scores = score_predicted(valid.labels, predicted, self._labels.num_classes)
        return ValidationScores(
            scores.metrics["accuracy"],
            float(macro_f1(scores.confusion)),
            float(balanced_accuracy(scores.confusion)),
            scores.metrics.get("auroc"),
            scores.metrics.get("loss"),
            seconds,
        )

    @cached_property
    def _splits(self) -> tuple[LabelledTexts, LabelledTexts]:
        documents = read_training_documents(self._config, cache_dir=self._cache_dir)
        train, valid = labelled_texts(documents.train), labelled_texts(documents.valid)
        expected = self._labels
        if not (
            np.array_equal(train.labels, expected.train)
            and np.array_equal(valid.labels, expected.valid)
        ):
            raise DataError(
                f"{self._config.location}: the documents changed while the "
                "search was running. Restore the original data, and resume the search."
            )
        return train, valid
