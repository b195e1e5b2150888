"""Checks of a split, or of one batch, against the model that reads it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError


def check_split(split: TensorizedSplit, name: str, vocabulary_size: int, num_classes: int) -> None:
    """Refuse what would crash, or teach nonsense, later on.

    Args:
        split: the reviews.
        name: how messages call it.
        vocabulary_size: ids must be in [0, this).
        num_classes: labels must be in [0, this).

    Raises:
        DataError: the split is empty, has an empty review, or an id or label out of range.
    """
    if len(split) == 0:
        raise DataError(f"The {name} split holds no reviews; it needs at least 1. Load more data.")
    lengths = np.diff(split.offsets)
    if lengths.min() < 1:
        raise DataError(
            f"Review {int(lengths.argmin())} of the {name} split has no tokens; each needs at "
            "least 1. Leave empty reviews out, or give them the unknown word."
        )
    _check_range(split.ids, f"word id in the {name} split", "vocabulary_size", vocabulary_size)
    _check_range(split.labels, f"label in the {name} split", "num_classes", num_classes)


def check_batch(ids: Tensor, lengths: Tensor, vocabulary_size: int) -> None:
    """Refuse a batch that would crash, or be classified by what isn't there.

    What lies on a GPU isn't looked at, which would wait for it.

    Args:
        ids: (T, B), must be in [0, ``vocabulary_size``).
        lengths: (B,), must be in [1, T].
        vocabulary_size: V.

    Raises:
        DataError: an id or a length is out of range.
    """
    if lengths.device.type == "cpu":
        low, high = (int(bound) for bound in lengths.aminmax())
        if low < 1 or high > len(ids):
            raise DataError(
                f"A length in a batch is {low if low < 1 else high}; allowed are 1 to {len(ids)}, "
                "the batch's number of steps. Leave empty reviews out, or give them the unknown "
                "word."
            )
    if ids.device.type == "cpu":
        _check_range(ids.numpy(), "word id in a batch", "vocabulary_size", vocabulary_size)


def _check_range(
    values: NDArray[np.int32] | NDArray[np.int64], what: str, limit_name: str, limit: int
) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= limit:
        value = low if low < 0 else high
        raise DataError(
            f"A {what} is {value}; allowed are 0 to {limit - 1} ({limit_name} is {limit}). "
            f"Tensorize the data and build the model with the same {limit_name}."
        )
