"""Selection of the members of an ensemble by their predictions for the validation split.

Shapes: M candidates, n documents, C classes. Everything here is deterministic.

Source: Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BAGS = 20
"""Number of random subsets of the candidates, as in section 2.3 of the source."""
BAG_SHARE = 0.5
"""Share of the candidates in a subset, as in section 2.3 of the source."""

ROUNDING = 1e-12
"""A smaller decrease of the loss is no improvement."""

Floats = NDArray[np.float64]

SMALLEST = np.finfo(np.float64).tiny
"""Probabilities below it would have a loss of infinity."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of all candidates for the same documents."""

    log_probabilities: NDArray[np.float32]
    """(M, n, C), natural logarithms."""
    labels: NDArray[np.int64]
    """(n,)."""

    def at(self, documents: NDArray[np.int64]) -> Predictions:
        """Return the predictions for the documents with the given indices."""
        return Predictions(self.log_probabilities[:, documents], self.labels[documents])

    def of_labels(self) -> Floats:
        """Return the probabilities of the true classes, (M, n)."""
        chosen = self.log_probabilities[:, np.arange(len(self.labels)), self.labels]
        probabilities: Floats = np.maximum(np.exp(chosen.astype(np.float64)), SMALLEST)
        return probabilities

    def average(self, weights: Floats) -> Floats:
        """Return the weighted averages of the probabilities, (n, C), for (M,) weights."""
        members = np.flatnonzero(weights)
        chosen = self.log_probabilities[members].astype(np.float64)
        average: Floats = np.tensordot(weights[members], np.exp(chosen), axes=1)
        return average


def greedy_counts(of_labels: Floats, size: int) -> NDArray[np.int64]:
    """Return how often forward selection with replacement selects each candidate, (M,).

    Each step adds the candidate that gives the average of the probabilities the smallest mean
    cross-entropy; of several, the first one. The result is the best of the ensembles after 1 to
    `size` steps. It is at least as good as each candidate, because the best one is the first step.

    Args:
        of_labels: (M, n) probabilities of the true classes, above 0.
        size: number of steps, at least 1.
    """
    counts = np.zeros(len(of_labels), np.int64)
    best_counts, best_loss = counts, np.inf
    total = np.zeros(of_labels.shape[1])
    for step in range(1, size + 1):
        losses = np.log(step) - np.log(total + of_labels).mean(axis=1)
        chosen = int(losses.argmin())
        total += of_labels[chosen]
        counts[chosen] += 1
        if losses[chosen] < best_loss - ROUNDING:
            best_counts, best_loss = counts.copy(), losses[chosen]
    return best_counts


def select(of_labels: Floats, size: int) -> Floats:
    """Return the weights of the selected members, (M,): multiples of 1/`size` that sum to 1.

    With many candidates, some combination of them is better on these documents by chance. Greedy
    selection from random halves of the candidates rarely contains that combination, so the weights
    are averaged over several halves (section 2.3 of the source) and rounded, which limits the
    number of members to `size`.

    Args:
        of_labels: (M, n) probabilities of the true classes, above 0.
        size: number of selections, at least 1.
    """
    candidates = len(of_labels)
    in_bag = max(1, round(BAG_SHARE * candidates))
    rng = np.random.default_rng(0)
    weights = np.zeros(candidates)
    for _ in range(BAGS):
        bag = np.sort(rng.choice(candidates, in_bag, replace=False))
        counts = greedy_counts(of_labels[bag], size)
        weights[bag] += counts / counts.sum() / BAGS
    return apportion(weights, size) / size


def apportion(weights: Floats, size: int) -> NDArray[np.int64]:
    """Return whole numbers that sum to `size` and are closest to `size * weights`, (M,).

    Each weight gets its quota rounded down, and the largest remainders get one more; of equal ones,
    the first (Hamilton's method).

    Args:
        weights: (M,), which sum to 1.
        size: at least 1.
    """
    # Rounded, so that sums of fractions such as 0.1 give the same remainders in every order.
    quotas = np.round(size * weights, 9)
    seats = np.floor(quotas).astype(np.int64)
    order = np.argsort(seats - quotas, kind="stable")
    seats[order[: size - seats.sum()]] += 1
    return seats
