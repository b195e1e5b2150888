"""Validation metrics that can decide a search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from celltune.search.extensions import METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from celltune.search.metrics import ConfusionMetric


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
    classes: int | None = None
    """The number of classes that the metric is meant for, usually 2; None: any. A config with
    another number is rejected, but `compute` returns a value for it."""
    of_confusion: Callable[[], ConfusionMetric] | None = None
    """Returns the function that computes the metric from confusion matrices (..., C, C), with one
    row per true class; None if the metric depends on more than the predicted classes."""


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


def check_classes(name: str, classes: int, key: str = "metric") -> None:
    """Check that a metric can be used with a number of classes.

    Args:
        name: the metric.
        classes: the number of classes.
        key: the key of the config that selects the metric, for the message.

    Raises:
        ValueError: it cannot.
    """
    needed = objective_metric(name).classes
    if needed not in (None, classes):
        raise ValueError(
            f"{key} is {name}, which needs {needed} classes, but the data has {classes}. Set {key} "
            "to another metric, such as valid_macro_f1."
        )


def majority_scores(
    names: Iterable[str], train_labels: NDArray[np.int64], valid_labels: NDArray[np.int64]
) -> dict[str, float]:
    """Return what metrics of the validation split are if nothing is known about the texts.

    Each document then has the class probabilities of the training split, so that its most frequent
    class is predicted. The accuracy and the loss are left out: trials are compared with the
    majority class by accuracy if they are ranked by one of these two.

    Args:
        names: names of metrics.
        train_labels: (n,) labels of the training split; every class occurs.
        valid_labels: (m,) labels of the validation split.
    """
    import numpy as np

    counts = np.bincount(train_labels, minlength=int(valid_labels.max()) + 1)
    shares = np.log(np.maximum(counts, 1) / np.maximum(counts, 1).sum())
    constant = np.tile(shares, (len(valid_labels), 1))
    return {
        name: float(objective_metric(name).compute(valid_labels, constant))
        for name in names
        if name not in BY_ACCURACY
    }


BY_ACCURACY = ("valid_accuracy", "valid_loss")
"""Metrics of searches whose trials are compared with other models by their accuracy."""


def _of_confusion(
    name: str,
) -> tuple[
    Callable[[NDArray[np.int64], NDArray[np.float64]], float], Callable[[], ConfusionMetric]
]:
    """Return `compute` and `of_confusion` of a metric in `celltune.search.metrics`."""

    def load() -> ConfusionMetric:
        # numpy, which that module needs, is not imported by commands that only read results.
        from celltune.search import metrics

        function: ConfusionMetric = getattr(metrics, name)
        return function

    def compute(labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]) -> float:
        from celltune.search.metrics import confusion_matrix, encode_outcomes

        classes = log_probabilities.shape[1]
        outcomes = encode_outcomes(labels, log_probabilities.argmax(1), classes)
        return float(load()(confusion_matrix(outcomes, classes)))

    return compute, load


def _cross_entropy(labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]) -> float:
    return float(-log_probabilities[range(len(labels)), labels].mean())


def _auroc(labels: NDArray[np.int64], log_probabilities: NDArray[np.float64]) -> float:
    from celltune.search.metrics import auroc

    # Of the log-odds, because probabilities close to 1 are rounded to equal numbers.
    return auroc(labels == 1, log_probabilities[:, 1] - log_probabilities[:, 0])[0]


def _share(name: str) -> ObjectiveMetric:
    compute, load = _of_confusion(name)
    return ObjectiveMetric("maximize", compute, "percent", (0.0, 1.0), of_confusion=load)


VALID_ACCURACY = _share("accuracy")
"""Share of correct predictions."""

VALID_LOSS = ObjectiveMetric("minimize", _cross_entropy, bounds=(0.0, math.inf))
"""Mean cross-entropy (natural logarithm)."""

VALID_MACRO_F1 = _share("macro_f1")
"""Mean of the F1 scores of the classes that have a document."""

VALID_BALANCED_ACCURACY = _share("balanced_accuracy")
"""Mean recall of the classes that have a document."""

VALID_AUROC = ObjectiveMetric("maximize", _auroc, "percent", (0.0, 1.0), classes=2)
"""Area under the ROC curve: the probability that a document of class 1 has a higher probability of
class 1 than one of class 0."""
