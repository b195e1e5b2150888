"""Measures of a classifier's answers, and how sure they are. Pure; knows neither Ray nor torch.

Shapes: n reviews, C classes, S seeds, K kinds of reviews, R resamples.

A review's outcome is one number: its class times C plus the answer. The outcomes of a split say
all that accuracy, F1 and the confusion matrix need.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outcomes = NDArray[np.int64]
Measure = Callable[[NDArray[Any]], NDArray[np.float64]]
"""Takes confusion matrices, (..., C, C), and gives a value for each, (...)."""

RESAMPLES = 1_000
LEVEL = 0.95
_AT_ONCE = 100


def outcomes(labels: NDArray[Any], answers: NDArray[Any], classes: int) -> Outcomes:
    """The outcome of each review, (n,), of its label and answer, (n,) each and below `classes`."""
    return labels.astype(np.int64) * classes + answers.astype(np.int64)


def confusion(found: Outcomes, classes: int) -> NDArray[np.int64]:
    """Count the outcomes: (C, C), rows the truth, columns the answers."""
    return np.bincount(found, minlength=classes**2).reshape(classes, classes)


def accuracy(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """The share of right answers of each confusion matrix: (..., C, C) -> (...)."""
    right = np.trace(matrices, axis1=-2, axis2=-1)
    return np.asarray(right / matrices.sum((-2, -1)), dtype=np.float64)


def f1(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of class 1 where there are two classes, the mean of all classes' (macro) where more.

    A class that neither stands in the truth nor among the answers counts 0, as in scikit-learn.

    Args:
        matrices: (..., C, C) confusion matrices.
    """
    right = np.diagonal(matrices, axis1=-2, axis2=-1)  # (..., C)
    either = matrices.sum(-1) + matrices.sum(-2)
    each = np.divide(2 * right, either, out=np.zeros(right.shape), where=either > 0)
    return np.asarray(each[..., 1] if each.shape[-1] == 2 else each.mean(-1), dtype=np.float64)


def row_shares(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Each row of a confusion matrix by its sum; a row without reviews is zero."""
    sums = matrix.sum(1, keepdims=True)
    return np.asarray(matrix / np.maximum(sums, 1), dtype=np.float64)


@dataclass(frozen=True)
class SplitScores:
    """What a model came to on one split.

    Attributes:
        metrics: accuracy, f1, and loss where there are probabilities: the mean of -log p(class).
        confusion: (C, C), rows the truth, columns the answers.
        outcomes: (n,).
    """

    metrics: dict[str, float]
    confusion: NDArray[np.int64]
    outcomes: Outcomes


def score_split(
    labels: NDArray[Any], answers: NDArray[Any], logs: NDArray[np.float64] | None, classes: int
) -> SplitScores:
    """Measure answers.

    Args:
        labels: (n,), below C.
        answers: (n,), below C.
        logs: (n, C) log probabilities, where the model has some.
        classes: C.
    """
    found = outcomes(labels, answers, classes)
    matrix = confusion(found, classes)
    metrics = {"accuracy": float(accuracy(matrix)), "f1": float(f1(matrix))}
    if logs is not None:
        metrics["loss"] = float(-logs[np.arange(len(labels)), labels].mean())
    return SplitScores(metrics, matrix, found)


@dataclass(frozen=True)
class Scores:
    """What a model came to on both splits, as `search.events` keeps it."""

    metrics: dict[str, float]
    train_confusion: list[list[int]]
    test_confusion: list[list[int]]
    test_outcomes: str


def combine_scores(train: SplitScores, test: SplitScores, more: dict[str, float]) -> Scores:
    """Put both splits' measures together, with `more` of them."""
    parts = {"train": train, "test": test}
    named = {f"{part}_{k}": v for part, found in parts.items() for k, v in found.metrics.items()}
    return Scores(
        {**more, **named}, train.confusion.tolist(), test.confusion.tolist(), pack(test.outcomes)
    )


def interval(
    found: NDArray[np.int64],
    classes: int,
    measure: Measure,
    *,
    against: Outcomes | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """A bootstrap interval (percentiles) of a measure's mean over seeds.

    In each of `RESAMPLES` resamples n reviews are drawn with replacement, the same for all seeds,
    and S of the seeds with replacement. So the interval speaks of other reviews of the same kind
    and of other seeds; with one seed, of other reviews only.

    Args:
        found: (S, n) outcomes, of the same reviews for each seed.
        classes: C.
        measure: such as `accuracy`.
        against: (n,) outcomes of another model on the same reviews: the interval is then of the
            difference to it, with the same reviews drawn for both.
        seed: of the drawing.

    Returns:
        The interval's ends, at `LEVEL`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    rows = found if against is None else np.vstack([found, against])
    # Reviews with the same outcomes are alike, so kinds are drawn instead of reviews.
    kinds, counts = np.unique(rows, axis=1, return_counts=True)  # (rows, K), (K,)
    is_cell = (kinds[:, :, None] == np.arange(classes**2)).astype(np.float64)  # (rows, K, C * C)
    rng = np.random.default_rng(seed)
    total, seeds = int(counts.sum()), len(found)
    values: list[NDArray[np.float64]] = []
    for begin in range(0, RESAMPLES, _AT_ONCE):
        size = min(_AT_ONCE, RESAMPLES - begin)
        drawn = rng.multinomial(total, counts / total, size=size).astype(np.float64)  # (R, K)
        cells = np.stack([drawn @ each for each in is_cell], axis=1)  # (R, rows, C * C)
        measured = measure(cells.reshape(size, len(rows), classes, classes))  # (R, rows)
        chosen = rng.integers(seeds, size=(size, seeds))
        mean = np.take_along_axis(measured, chosen, axis=1).mean(1)
        values.append(mean if against is None else mean - measured[:, -1])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(values), [tail, 100 - tail])
    return float(low), float(high)


def pack(found: Outcomes) -> str:
    """Outcomes as text, for a ledger: some 8 kB for 25,000 reviews."""
    return base64.b64encode(zlib.compress(found.astype("<u4").tobytes(), 9)).decode()


def unpack(text: str) -> Outcomes:
    """What `pack` wrote."""
    raw = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(raw, dtype="<u4").astype(np.int64)


Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share, such as an accuracy, that was counted on `count` cases.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    Journal of the American Statistical Association 22, 1927.

    Args:
        share: from 0 to 1.
        count: on how many cases, above 0.
    """
    centre = (share + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    variance = share * (1 - share) / count + Z95**2 / (4 * count**2)
    half = Z95 * math.sqrt(variance) / (1 + Z95**2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)
