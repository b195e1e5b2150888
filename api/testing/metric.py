"""Contract tests for objective metrics; they need pytest.

Subclass `MetricContract` in a test module and set the registered name::

    class TestMyMetric(MetricContract):
        metric = "my_metric"
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from celltune.search.extensions import METRICS
from celltune.search.metrics import confusion_matrix, encode_outcomes
from celltune.search.objective import ObjectiveMetric, objective_metric, sign
from celltune.search.wording import metric_text

Arrays = tuple[NDArray[np.int64], NDArray[np.float64]]


def predictions(documents: int, classes: int, *, correct: float) -> Arrays:
    """Return random labels and predictions, a share of which is correct."""
    rng = np.random.default_rng(documents + classes)
    labels = rng.integers(0, classes, documents)
    right = rng.random(documents) < correct
    predicted = np.where(right, labels, (labels + 1) % classes)
    logits = rng.random((documents, classes))
    logits[np.arange(documents), predicted] += 2
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for array in (labels, log_probabilities):
        array.setflags(write=False)
    return labels, log_probabilities


class MetricContract:
    """The requirements of every metric (see `ObjectiveMetric`)."""

    metric: ClassVar[str]
    """Registered name of the metric under test."""

    def value(self, arrays: Arrays) -> float:
        """Return the metric; assert that it is a valid value."""
        metric = objective_metric(self.metric)
        value = metric.compute(*arrays)
        assert isinstance(value, float)
        assert math.isfinite(value)
        assert metric.bounds[0] <= value <= metric.bounds[1]
        return value

    def test_is_registered(self) -> None:
        assert self.metric in METRICS
        metric = objective_metric(self.metric)
        assert isinstance(metric, ObjectiveMetric)
        assert metric.direction in ("maximize", "minimize")
        assert metric.style in ("percent", "number")
        assert metric.bounds[0] < metric.bounds[1]
        assert metric_text(self.metric, 0.5) == (
            "50.00 %" if metric.style == "percent" else "0.5000"
        )

    @pytest.mark.parametrize("classes", [2, 5])
    @pytest.mark.parametrize("documents", [1, 2, 100])
    @pytest.mark.parametrize("correct", [0.0, 0.6, 1.0])
    def test_values_are_finite_and_within_the_bounds(
        self, classes: int, documents: int, correct: float
    ) -> None:
        self.value(predictions(documents, classes, correct=correct))

    def test_classes_without_documents_or_predictions_are_supported(self) -> None:
        _, log_probabilities = predictions(20, 3, correct=0.5)
        self.value((np.zeros(20, np.int64), log_probabilities))
        certain = np.log(np.full((20, 3), 0.005))
        certain[:, 0] = np.log(0.99)
        self.value((predictions(20, 3, correct=0.5)[0], certain))

    def test_the_order_of_the_documents_does_not_matter(self) -> None:
        labels, log_probabilities = predictions(50, 3, correct=0.6)
        reverse = (labels[::-1].copy(), log_probabilities[::-1].copy())
        assert self.value(reverse) == pytest.approx(self.value((labels, log_probabilities)))

    def test_values_are_reproducible(self) -> None:
        arrays = predictions(50, 3, correct=0.6)
        assert self.value(arrays) == self.value(arrays)

    @pytest.mark.parametrize("classes", [2, 5])
    def test_the_function_of_confusion_matrices_computes_the_same(self, classes: int) -> None:
        metric = objective_metric(self.metric)
        labels, log_probabilities = predictions(50, classes, correct=0.6)
        outcomes = encode_outcomes(labels, log_probabilities.argmax(1), classes)
        matrices = np.stack([confusion_matrix(outcomes, classes)] * 2)
        values = (
            [self.value((labels, log_probabilities))] * 2
            if metric.of_confusion is None
            else metric.of_confusion()(matrices)
        )
        assert np.shape(values) == (2,)
        assert values == pytest.approx([self.value((labels, log_probabilities))] * 2)

    @pytest.mark.parametrize("classes", [2, 5])
    def test_correct_predictions_are_not_worse_than_wrong_ones(self, classes: int) -> None:
        wrong, right = (self.value(predictions(100, classes, correct=c)) for c in (0.0, 1.0))
        assert sign(self.metric) * right >= sign(self.metric) * wrong
