"""What the scores of an evaluated model have to satisfy: matrices, outcomes and accuracy agree."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence

from celltune.search.ledger.fields import LARGEST

Matrix = Sequence[Sequence[int]]
"""A confusion matrix: one row per true class, one column per predicted class."""

_TOLERANCE = 1e-4
"""Largest difference of a stored accuracy from that of its confusion matrix, due to rounding."""


def check_scores(
    classes: Sequence[str],
    matrices: Mapping[str, Matrix],
    packed_outcomes: str,
    metrics: Mapping[str, float],
    needed: Sequence[str],
) -> None:
    """Check the scores that an event contains.

    Args:
        classes: the names of the classes.
        matrices: the confusion matrices by split, `train` and `test`.
        packed_outcomes: the outcomes of the test split (see `search.metrics.pack_outcomes`).
        metrics: the scores by name.
        needed: the names of those that must be there, such as `test_accuracy`.

    Raises:
        ValueError: they contradict each other, or are none.
    """
    if not classes or len(set(classes)) < len(classes):
        raise ValueError("its classes are none, or two have the same name")
    for split, matrix in matrices.items():
        _check_matrix(split, matrix, len(classes))
        _check_accuracy(f"{split}_accuracy", matrix, metrics)
    if missing := [name for name in needed if name not in metrics]:
        raise ValueError(f"it has no {missing[0]}")
    _check_outcomes(packed_outcomes, matrices["test"])


def _check_matrix(split: str, matrix: Matrix, classes: int) -> None:
    if len(matrix) != classes or any(len(row) != classes for row in matrix):
        raise ValueError(f"{split}_confusion does not have a row and a column for each class")
    if any(count < 0 for row in matrix for count in row):
        raise ValueError(f"{split}_confusion has a negative count")
    if not 0 < sum(map(sum, matrix)) <= LARGEST:
        raise ValueError(f"{split}_confusion counts no documents, or too many")


def _check_accuracy(name: str, matrix: Matrix, metrics: Mapping[str, float]) -> None:
    """Check that an accuracy, if there is one, is that of a confusion matrix."""
    documents = sum(map(sum, matrix))
    correct = sum(row[index] for index, row in enumerate(matrix))
    if name in metrics and abs(metrics[name] - correct / documents) > _TOLERANCE:
        raise ValueError(
            f"its {name} is {metrics[name]:g}, but {correct} of {documents} predictions in its "
            "confusion matrix are correct"
        )


def _check_outcomes(packed: str, matrix: Matrix) -> None:
    """Check that the outcomes of documents are those that a confusion matrix counts."""
    import numpy as np

    size = 4 * sum(map(sum, matrix))
    try:
        decompressor = zlib.decompressobj()
        # No more than the documents need: text of 1 MB can decompress to 1 GB.
        content = decompressor.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"test_outcomes cannot be decompressed: {error}") from error
    if len(content) != size or not decompressor.eof:
        raise ValueError("test_outcomes has not one outcome for each document")
    cells = len(matrix) ** 2
    outcomes = np.frombuffer(content, dtype="<u4")
    if outcomes.max() >= cells or not np.array_equal(
        np.bincount(outcomes, minlength=cells), np.ravel(matrix)
    ):
        raise ValueError("test_outcomes and test_confusion do not agree")
