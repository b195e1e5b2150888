"""Small random data sets."""

from __future__ import annotations

import numpy as np

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit


def make_split(
    documents: int,
    seed: int,
    *,
    vocabulary: int = 30,
    classes: int = 2,
    longest: int = 12,
    wide: bool = False,
) -> TensorizedSplit:
    """Random documents, labelled by whether they contain id 5 (with more classes at random).

    With `wide`, the outputs of the wide part are random numbers.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(2, vocabulary, offsets[-1]).astype(np.int32)
    if classes == 2:
        texts = np.split(ids, offsets[1:-1])
        labels = np.array([int(5 in text) for text in texts], dtype=np.int64)
    else:
        labels = rng.integers(0, classes, documents).astype(np.int64)
    outputs = rng.normal(size=(documents, 1 if classes == 2 else classes)).astype(np.float32)
    return TensorizedSplit(ids, offsets, labels, outputs if wide else None)


def make_data(
    train: TensorizedSplit,
    valid: TensorizedSplit,
    *,
    vocabulary: int = 30,
    classes: int = 2,
    vectors: np.ndarray | None = None,
    vectors_tuned: bool = True,
) -> PreparedData:
    """Training data with the given splits."""
    return PreparedData(
        fingerprint="",
        train=train,
        valid=valid,
        classes=tuple(map(str, range(classes))),
        words=tuple(map(str, range(vocabulary))),
        vectors=vectors,
        vectors_tuned=vectors_tuned,
    )
