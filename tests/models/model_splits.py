"""Small random splits."""

from __future__ import annotations

import numpy as np

from celltune.data_prep.dataset.tensorized import TensorizedSplit


def make_split(
    reviews: int, seed: int, *, vocabulary: int = 30, classes: int = 2, longest: int = 12
) -> TensorizedSplit:
    """Random reviews whose label is whether id 5 stands in them (or a random class beyond two)."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, reviews)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(2, vocabulary, offsets[-1]).astype(np.int32)
    if classes == 2:
        parts = np.split(ids, offsets[1:-1])
        labels = np.array([int(5 in part) for part in parts], dtype=np.int64)
    else:
        labels = rng.integers(0, classes, reviews).astype(np.int64)
    return TensorizedSplit(ids, offsets, labels)
