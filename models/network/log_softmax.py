"""Log-probabilities from logits, without PyTorch.

Shapes: n documents, C classes, L = 1 for two classes and C for more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the natural logarithms of the probabilities of all classes, (n, C).

    Args:
        logits: (n, L); with L = 1, that of class 1.
    """
    values = logits.astype(np.float64)
    if values.shape[1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values
