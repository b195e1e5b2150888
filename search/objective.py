"""Validation metrics that can decide a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from celltune.search.extensions import METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ObjectiveMetric:
    """A validation metric that can decide a search: the extension point `METRICS`.

    Contract: `compute` is a pure function that does not modify its arguments and returns a finite
    number within `bounds`, also if some classes are never predicted. It runs in the workers after
    every epoch, unless the trainer reports the metric itself.
    """

    direction: Literal["maximize", "minimize"]
    compute: Callable[[NDArray[np.int64], NDArray[np.float64]], float]
    """Computes the metric from the labels (n,) and the natural logarithms of the class
    probabilities (n, C) of the validation split. The order of the documents is arbitrary."""
    style: Literal["percent", "number"] = "number"
    """How values are written for people: 0.91 as 91.00 %, or as 0.9100."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The smallest and the largest possible value; budget.target must be between them."""


@cache  # called for every epoch of a ledger
def objective_metric(name: str) -> ObjectiveMetric:
    """Return the definition of a metric.

    Raises:
        ExtensionError: the metric is unknown or cannot be imported.
    """
    return METRICS.load(name)


def sign(name: str) -> int:
    """Return +1 if larger values of the metric are better, -1 if smaller ones are."""
    return 1 if objective_metric(name).direction == "maximize" else -1


def _accuracy(labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]) -> float:
    return float((log_probabilities.argmax(1) == labels).mean())


def _cross_entropy(labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]) -> float:
    return float(-log_probabilities[range(len(labels)), labels].mean())


VALID_ACCURACY = ObjectiveMetric("maximize", _accuracy, style="percent", bounds=(0.0, 1.0))
"""Share of correct predictions."""

VALID_LOSS = ObjectiveMetric("minimize", _cross_entropy, bounds=(0.0, math.inf))
"""Mean cross-entropy (natural logarithm)."""
