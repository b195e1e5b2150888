"""Random predictions of candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from celltune.search.ensembles.selection import Predictions


def random_predictions(
    candidates: int, documents: int, classes: int = 2, *, seed: int = 0, skill: float = 1.0
) -> Predictions:
    """Return predictions of equally good candidates with independent errors.

    Args:
        candidates: M.
        documents: n.
        classes: C.
        seed: of the random numbers.
        skill: mean difference of the logit of the true class from the others.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, documents)
    logits = rng.normal(0, 1.5, (candidates, documents, classes))
    logits[:, np.arange(documents), labels] += skill
    return Predictions(log_softmax(logits), labels)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.log(exponentials / exponentials.sum(-1, keepdims=True)).astype(np.float32)
