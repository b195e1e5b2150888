"""Metrics of a classifier's predictions, and their confidence intervals.

Pure functions without Ray and torch. Shapes: n documents, C classes, S seeds, K groups of
documents, R resamples.

The outcome of a document is a single number: its class times C, plus the predicted class. Accuracy,
F1 and the confusion matrix are functions of the outcomes of a split.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outcomes = NDArray[np.int64]
"""The outcomes of a split, (n,)."""

ConfusionMetric = Callable[[NDArray[Any]], NDArray[np.float64]]
"""Maps confusion matrices, (..., C, C), to one value each, (...)."""

RESAMPLES = 1_000
"""Number of bootstrap resamples."""
LEVEL = 0.95
"""Confidence level of the bootstrap intervals."""
Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
_RESAMPLES_PER_BLOCK = 100
"""Number of resamples that are computed together; limits the memory."""


def encode_outcomes(labels: NDArray[Any], predictions: NDArray[Any], num_classes: int) -> Outcomes:
    """Return the outcomes of documents, (n,).

    Args:
        labels: (n,) true classes.
        predictions: (n,) predicted classes.
        num_classes: C.
    """
    return labels.astype(np.int64) * num_classes + predictions.astype(np.int64)


def confusion_matrix(outcomes: Outcomes, num_classes: int) -> NDArray[np.int64]:
    """Count the outcomes: (C, C), one row per true class, one column per predicted class."""
    return np.bincount(outcomes, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Return the accuracy of each confusion matrix: (..., C, C) -> (...)."""
    correct = np.trace(matrices, axis1=-2, axis2=-1)
    return np.asarray(correct / matrices.sum((-2, -1)), dtype=np.float64)


def f1(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Return the F1 score of each confusion matrix: (..., C, C) -> (...).

    With two classes, it is the F1 score of class 1; with more classes, the mean over the classes
    (macro). Classes without a document do not count: neither in the mean, nor as class 1, whose
    place the other class takes then. A document that is assigned to such a class counts as an error
    of its own class. This differs from scikit-learn, where such a class counts as 0.
    """
    counted = matrices.sum(-1) > 0
    if counted.shape[-1] == 2:
        counted = np.stack([counted[..., 0] & ~counted[..., 1], counted[..., 1]], axis=-1)
    return _mean_over(counted, _f1_of_classes(matrices))


def macro_f1(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean F1 score of the classes that have a document, also for two classes.

    Args:
        matrices: (..., C, C) confusion matrices.

    Returns:
        (...).
    """
    return _mean_over(matrices.sum(-1) > 0, _f1_of_classes(matrices))


def balanced_accuracy(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean recall of the classes that have a document: (..., C, C) -> (...).

    Source: Brodersen et al., "The Balanced Accuracy and Its Posterior Distribution", ICPR 2010.
    """
    documents = matrices.sum(-1)
    correct = np.diagonal(matrices, axis1=-2, axis2=-1)
    return _mean_over(documents > 0, correct / np.maximum(documents, 1))


def class_scores(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Return precision, recall and F1 score of each class; 0 where there is nothing to divide by.

    Args:
        matrix: (C, C) confusion matrix.

    Returns:
        (C, 3).
    """
    correct = np.diagonal(matrix)
    precision = correct / np.maximum(matrix.sum(0), 1)
    recall = correct / np.maximum(matrix.sum(1), 1)
    return np.stack([precision, recall, _f1_of_classes(matrix)], axis=1)


def _f1_of_classes(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Return the F1 score of each class, (..., C); 0 without documents and predictions."""
    correct = np.diagonal(matrices, axis1=-2, axis2=-1)
    total = matrices.sum(-1) + matrices.sum(-2)
    scores = np.zeros(correct.shape)
    np.divide(2 * correct, total, out=scores, where=total > 0)
    return scores


def _mean_over(counted: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean score of the counted classes: (..., C) and (..., C) -> (...)."""
    score = (scores * counted).sum(-1) / np.maximum(counted.sum(-1), 1)
    return np.asarray(score, dtype=np.float64)


def auroc(positive: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[float, float]:
    """Return the area under the ROC curve, and its standard error.

    The area is the probability that a positive document has a higher score than a negative one;
    equal scores count half. The standard error is that of DeLong et al., "Comparing the Areas under
    Two or More Correlated Receiver Operating Characteristic Curves", Biometrics 44, 1988.

    Args:
        positive: (n,) whether the document is of class 1.
        scores: (n,) larger for documents that are rather of class 1.

    Returns:
        0.5 and 0 if one of the two classes has no document.
    """
    counts = np.array([(~positive).sum(), positive.sum()], dtype=np.float64)
    if not counts.all():
        return 0.5, 0.0
    ranks = _midranks(scores)
    # Of each document: the share of the other class's documents that it is ordered correctly with.
    shares = [
        (ranks[rows] - _midranks(scores[rows])) / counts[1 - label]
        for label, rows in enumerate((~positive, positive))
    ]
    area = float(shares[1].mean())
    variances = [
        of_class.var(ddof=1) / len(of_class) if len(of_class) > 1 else 0.0 for of_class in shares
    ]
    return area, math.sqrt(sum(variances))


def calibration_error(
    labels: NDArray[Any], log_probabilities: NDArray[np.float64], bins: int = 15
) -> float:
    """Return the expected calibration error of the probabilities of the most probable classes.

    The probabilities are divided into bins of equal width. The error is the mean over the documents
    of the difference, in their bin, between the accuracy and the mean probability.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        labels: (n,) true classes.
        log_probabilities: (n, C).
        bins: their number; bin k contains the probabilities in (k / bins, (k + 1) / bins].
    """
    probabilities = np.exp(log_probabilities.max(1))
    correct = log_probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(probabilities * bins).astype(np.int64) - 1, 0, bins - 1)
    differences = np.bincount(bin_of, weights=correct - probabilities, minlength=bins)
    return float(np.abs(differences).sum() / len(labels))


def _midranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks of values from 1 on, (n,); equal values have the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks


def row_shares(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Divide each row of a confusion matrix by its sum; a row without documents stays zero."""
    sums = matrix.sum(1, keepdims=True)
    return np.asarray(matrix / np.maximum(sums, 1), dtype=np.float64)


@dataclass(frozen=True)
class SplitScores:
    """Scores of a model on one split."""

    metrics: dict[str, float]
    """accuracy and f1; if the model gives probabilities, loss (mean of -log p(class)) and ece (see
    `calibration_error`); with two classes auroc and auroc_error, its standard error."""
    confusion: NDArray[np.int64]
    """(C, C), one row per true class."""
    outcomes: Outcomes
    """(n,)."""


def score_split(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    log_probabilities: NDArray[np.float64] | None,
    num_classes: int,
    *,
    scores: NDArray[np.float64] | None = None,
) -> SplitScores:
    """Score the predictions of a model on one split.

    Args:
        labels: (n,) true classes.
        predictions: (n,) predicted classes.
        log_probabilities: (n, C); None if the model gives no probabilities.
        num_classes: C.
        scores: (n,) larger for documents that are rather of class 1; None: the log-odds.
    """
    outcomes = encode_outcomes(labels, predictions, num_classes)
    matrix = confusion_matrix(outcomes, num_classes)
    metrics = {"accuracy": float(accuracy(matrix)), "f1": float(f1(matrix))}
    if log_probabilities is not None:
        metrics["loss"] = float(-log_probabilities[np.arange(len(labels)), labels].mean())
        metrics["ece"] = calibration_error(labels, log_probabilities)
        scores = log_probabilities[:, 1] - log_probabilities[:, 0] if scores is None else scores
    if num_classes == 2 and scores is not None:
        metrics["auroc"], metrics["auroc_error"] = auroc(labels == 1, scores)
    return SplitScores(metrics, matrix, outcomes)


@dataclass(frozen=True)
class Scores:
    """Scores of a model on the training and the test split, as the ledger stores them."""

    metrics: dict[str, float]
    train_confusion: list[list[int]]
    test_confusion: list[list[int]]
    test_outcomes: str
    """Outcomes of the test split, packed by `pack_outcomes`."""


def combine_scores(
    train: SplitScores, test: SplitScores, other_metrics: Mapping[str, float]
) -> Scores:
    """Combine the scores of both splits with other metrics of the model."""
    metrics = dict(other_metrics)
    for split, scores in (("train", train), ("test", test)):
        metrics.update({f"{split}_{name}": value for name, value in scores.metrics.items()})
    return Scores(
        metrics, train.confusion.tolist(), test.confusion.tolist(), pack_outcomes(test.outcomes)
    )


def bootstrap_interval(
    outcomes: NDArray[np.int64],
    num_classes: int,
    metric: ConfusionMetric,
    *,
    baseline: Outcomes | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a metric's mean over seeds, at `LEVEL`.

    Each of the `RESAMPLES` resamples draws n documents with replacement (the same ones for all
    seeds), and S of the seeds with replacement. The interval therefore covers the variation between
    documents of the same kind and between seeds. With one seed, it covers that between documents
    only.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        outcomes: (S, n) outcomes of the same documents for each seed.
        num_classes: C.
        metric: such as `accuracy`.
        baseline: (n,) outcomes of another model on the same documents. If given, the interval is
            that of the difference to it, on the same resamples.
        seed: seed of the resamples.
    """
    rows = outcomes if baseline is None else np.vstack([outcomes, baseline])
    # Documents with equal outcomes are interchangeable, so groups of them are drawn: this is equal
    # in distribution and faster.
    groups, counts = np.unique(rows, axis=1, return_counts=True)  # (rows, K), (K,)
    is_cell = (groups[:, :, None] == np.arange(num_classes**2)).astype(np.float64)
    rng = np.random.default_rng(seed)
    total, seeds = int(counts.sum()), len(outcomes)
    means: list[NDArray[np.float64]] = []
    for begin in range(0, RESAMPLES, _RESAMPLES_PER_BLOCK):
        size = min(_RESAMPLES_PER_BLOCK, RESAMPLES - begin)
        drawn = rng.multinomial(total, counts / total, size=size).astype(np.float64)  # (R, K)
        cells = np.stack([drawn @ row for row in is_cell], axis=1)  # (R, rows, C * C)
        values = metric(cells.reshape(size, len(rows), num_classes, num_classes))  # (R, rows)
        drawn_seeds = rng.integers(seeds, size=(size, seeds))
        mean = np.take_along_axis(values, drawn_seeds, axis=1).mean(1)
        means.append(mean if baseline is None else mean - values[:, -1])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def pack_outcomes(outcomes: Outcomes) -> str:
    """Return outcomes as text for the ledger, about 8 kB for 25,000 documents."""
    return base64.b64encode(zlib.compress(outcomes.astype("<u4").tobytes(), 9)).decode()


def unpack_outcomes(text: str) -> Outcomes:
    """Return the outcomes that `pack_outcomes` packed."""
    content = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(content, dtype="<u4").astype(np.int64)


def difference_error(first: float, second: float, count: int) -> float:
    """Return the binomial standard error of the difference of two accuracies.

    It treats them as independent. If both models read the same documents and mostly fail on the
    same ones, the difference is more precise than this.

    Args:
        first: accuracy of a model, between 0 and 1.
        second: accuracy of the other one.
        count: number of documents; above 0.
    """
    return math.sqrt((first * (1 - first) + second * (1 - second)) / count)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, such as an accuracy.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    Journal of the American Statistical Association 22, 1927.

    Args:
        share: between 0 and 1.
        count: number of cases that the share was computed from; above 0.
    """
    center = (share + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    variance = share * (1 - share) / count + Z95**2 / (4 * count**2)
    half = Z95 * math.sqrt(variance) / (1 + Z95**2 / count)
    return max(0.0, center - half), min(1.0, center + half)
