"""From the probabilities of a model to its predictions: calibration and the decision threshold.

Both are fitted to the validation split, never to the test split. Shapes: n documents, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from celltune.search.metrics import (
    SplitScores,
    calibration_error,
    confusion_matrix,
    encode_outcomes,
    score_split,
)
from celltune.search.objective import objective_metric
from celltune.search.types import TEMPERATURES, Metric

Logs = NDArray[np.float64]
"""Natural logarithms of the class probabilities of documents, (n, C)."""

_STEPS = 100
_PRECISION = 1e-9
"""Largest relative width of the interval that contains the temperature."""


@dataclass(frozen=True)
class Decision:
    """How the log-probabilities of a model become probabilities and predicted classes."""

    temperature: float = 1.0
    """The logits are divided by it (Guo et al. 2017)."""
    threshold: float | None = None
    """Class 1 of two is predicted if its probability, after the division, is at least this; None:
    the most probable class is predicted."""

    @classmethod
    def of(cls, metrics: Mapping[str, float]) -> Decision:
        """Return the decision that the metrics of an epoch contain (see `Fit`)."""
        return cls(metrics.get("temperature", 1.0), metrics.get("threshold"))

    def metrics(self) -> dict[str, float]:
        """Return the threshold and the temperature, if there are any (see `of`)."""
        known = {"threshold": self.threshold, "temperature": self.temperature}
        defaults = vars(DEFAULT)
        return {
            k: value for k, value in known.items() if value is not None and value != defaults[k]
        }

    def calibrated(self, logs: Logs) -> Logs:
        """Return the natural logarithms of the probabilities after calibration, (n, C)."""
        return logs if self.temperature == 1 else _normalized(logs / self.temperature)

    def labels(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the predicted classes, (n,).

        Args:
            probabilities: (n, C), after calibration.
        """
        if self.threshold is None:
            labels: NDArray[np.int64] = probabilities.argmax(1)
        else:
            labels = (probabilities[:, 1] >= self.threshold).astype(np.int64)
        return labels

    def metric(self, name: Metric, labels: NDArray[np.int64], logs: Logs) -> float:
        """Return a metric of documents; one of the predicted classes is that of `labels`.

        Args:
            name: the metric.
            labels: (n,).
            logs: (n, C), before calibration.
        """
        definition = objective_metric(name)
        if self.threshold is None or definition.of_confusion is None:
            return float(definition.compute(labels, logs))
        predicted = self.labels(np.exp(self.calibrated(logs)))
        matrix = confusion_matrix(encode_outcomes(labels, predicted, 2), 2)
        return float(definition.of_confusion()(matrix))

    def scores(self, labels: NDArray[np.int64], logs: Logs) -> SplitScores:
        """Score a model on one split.

        Args:
            labels: (n,) true classes.
            logs: (n, C), before calibration. With a temperature, the scores contain their loss and
                calibration error as uncalibrated_loss and uncalibrated_ece.
        """
        calibrated, classes = self.calibrated(logs), logs.shape[1]
        scores = score_split(labels, self.labels(np.exp(calibrated)), calibrated, classes)
        if self.temperature == 1:
            return scores
        before = {
            "uncalibrated_loss": float(-logs[np.arange(len(labels)), labels].mean()),
            "uncalibrated_ece": calibration_error(labels, logs),
        }
        return replace(scores, metrics={**scores.metrics, **before})


DEFAULT = Decision()
"""The model's own probabilities and the most probable class."""


@dataclass(frozen=True)
class Fit:
    """What is fitted to the predictions for the validation split after every epoch."""

    threshold: Metric | None = None
    """The metric that the threshold maximizes (or minimizes); None: there is no threshold."""
    temperature: bool = False

    def __bool__(self) -> bool:
        """Return whether anything is fitted."""
        return self.temperature or self.threshold is not None

    def decision(self, labels: NDArray[np.int64], logs: Logs) -> Decision:
        """Return the best decision for documents.

        Args:
            labels: (n,).
            logs: (n, C).
        """
        temperature = fit_temperature(labels, logs) if self.temperature else 1.0
        if self.threshold is None:
            return Decision(temperature)
        calibrated = Decision(temperature).calibrated(logs)
        return Decision(temperature, best_threshold(labels, calibrated, self.threshold))

    def metrics(self, labels: NDArray[np.int64], logs: Logs) -> tuple[Decision, dict[str, float]]:
        """Return the best decision, and what the metrics of an epoch record about it.

        Args:
            labels: (n,).
            logs: (n, C).

        Returns:
            The decision and, depending on what is fitted, threshold, temperature, the calibration
            error before and after the division by it (valid_ece, valid_calibrated_ece), and
            valid_calibrated_loss.
        """
        decision = self.decision(labels, logs)
        values = decision.metrics()
        if self.temperature:
            calibrated = decision.calibrated(logs)
            values["valid_ece"] = calibration_error(labels, logs)
            values["valid_calibrated_ece"] = calibration_error(labels, calibrated)
            values["valid_calibrated_loss"] = float(-calibrated[range(len(labels)), labels].mean())
        return decision, values


NOTHING = Fit()
"""Neither a threshold nor a temperature."""


def fit_temperature(labels: NDArray[np.int64], logs: Logs) -> float:
    """Return the temperature that minimizes the cross-entropy of documents.

    With a = 1 / T, the cross-entropy is convex: its derivative is the mean of E[z] - z_label under
    the probabilities, its second derivative the mean variance of z. The zero of the derivative is
    found by Newton's method, which bisects whenever a step leaves the interval that contains it.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.

    Args:
        labels: (n,).
        logs: (n, C), which differ from the logits z by a constant for each document.
    """
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    of_label = logs[np.arange(len(labels)), labels]
    inverse = 1.0
    for _ in range(_STEPS):
        probabilities = np.exp(_normalized(inverse * logs))
        # A probability of 0 has the logarithm -inf, and contributes nothing.
        finite = np.where(probabilities > 0, logs, 0.0)
        means = (probabilities * finite).sum(1)
        slope = float((means - of_label).mean())
        curvature = float(((probabilities * finite**2).sum(1) - means**2).mean())
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        if high - low <= _PRECISION * high:
            break
        step = inverse - slope / curvature if curvature > 0 else math.inf
        if abs(step - inverse) <= _PRECISION * inverse:
            break
        inverse = step if low < step < high else (low + high) / 2
    return 1 / inverse


def best_threshold(labels: NDArray[np.int64], logs: Logs, metric: Metric) -> float:
    """Return the probability of class 1 from which on it is predicted for the best metric.

    The candidates are 0.5 and the middles, in log-odds, between adjacent documents. Of equally good
    ones, the closest to 0.5 is returned.

    Args:
        labels: (n,) of two classes.
        logs: (n, 2).
        metric: a metric that depends on the predicted classes only.
    """
    definition = objective_metric(metric)
    if definition.of_confusion is None:
        raise ValueError(f"{metric} does not depend on the predicted classes only.")
    odds = logs[:, 1] - logs[:, 0]
    order = np.argsort(-odds, kind="stable")
    falling = odds[order]
    middles = (falling[:-1] + falling[1:])[falling[:-1] > falling[1:]] / 2
    # Beyond, a threshold would round to 0 or 1.
    cuts = np.unique(np.append(middles[np.abs(middles) < 30], 0.0))
    predicted = np.searchsorted(-falling, -cuts, side="right")  # documents at or above each cut
    values = definition.of_confusion()(_confusions(labels[order], predicted))
    goodness = values if definition.direction == "maximize" else -values
    best = cuts[goodness >= goodness.max() - 1e-12]
    return float(1 / (1 + np.exp(-best[np.abs(best).argmin()])))


def _confusions(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the confusion matrices if class 1 is predicted for the first documents, (K, 2, 2).

    Args:
        labels: (n,).
        predicted: (K,) numbers of documents for which it is.
    """
    positive = np.concatenate([[0], np.cumsum(labels)])
    hits, total = positive[predicted], positive[-1]
    false_alarms = predicted - hits
    rows = [[len(labels) - total - false_alarms, false_alarms], [total - hits, hits]]
    return np.moveaxis(np.array(rows), -1, 0)


def _normalized(values: Logs) -> Logs:
    """Return the natural logarithms of the softmax of rows."""
    shifted = values - values.max(1, keepdims=True)
    normalized: Logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return normalized
