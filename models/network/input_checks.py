"""Checks of the ids, labels and lengths of a split or batch against the model that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def check_split(split: TensorizedSplit, name: str, vocabulary_size: int, num_classes: int) -> None:
    """Check a split before it is used for training or evaluation.

    Args:
        split: the documents.
        name: the name of the split in messages.
        vocabulary_size: exclusive upper bound of ids.
        num_classes: exclusive upper bound of labels.

    Raises:
        DataError: the split is empty, has an empty document, or an id or label out of range.
    """
    if len(split) == 0:
        raise DataError(f"The {name} split is empty. It needs at least 1 document.")
    lengths = np.diff(split.offsets)
    if lengths.min() < 1:
        raise DataError(
            f"Document {int(lengths.argmin())} of the {name} split has no tokens. Remove empty "
            "documents, or replace each one with the unknown word."
        )
    _check_range(split.ids, f"word id in the {name} split", "vocabulary_size", vocabulary_size)
    _check_range(split.labels, f"label in the {name} split", "num_classes", num_classes)


def check_wide(split: TensorizedSplit, name: str, num_classes: int) -> None:
    """Check the outputs of the wide part for a split, if a model reads them.

    Args:
        split: the documents.
        name: the name of the split in messages.
        num_classes: number of classes.

    Raises:
        DataError: the outputs are missing, of another shape, or not finite.
    """
    if split.wide is None:
        raise missing_wide(f"the {name} split")
    expected = (len(split), 1 if num_classes == 2 else num_classes)
    if split.wide.shape != expected:
        raise DataError(
            f"The outputs of the wide part for the {name} split have shape {split.wide.shape}, but "
            f"they must have {expected}. Prepare the data again."
        )
    if not np.isfinite(split.wide).all():
        raise DataError(
            f"An output of the wide part for the {name} split is NaN or infinite. Prepare the data "
            "again."
        )


def missing_wide(where: str) -> DataError:
    """Return the error for documents without the outputs of the wide part.

    Args:
        where: what lacks them.
    """
    return DataError(
        f"The model uses the outputs of a wide part, but {where} has none. Set data.wide to "
        "true, or space.wide to none."
    )


def check_batch(ids: Tensor, lengths: Tensor, vocabulary_size: int) -> None:
    """Check a batch. Tensors on a GPU are not checked, because reading them would wait for it.

    Args:
        ids: (T, B), in [0, `vocabulary_size`).
        lengths: (B,), in [1, T].
        vocabulary_size: V.

    Raises:
        DataError: an id or a length is out of range.
    """
    if lengths.device.type == "cpu":
        shortest, longest = (int(bound) for bound in lengths.aminmax())
        if shortest < 1 or longest > len(ids):
            raise DataError(
                f"A length in a batch is {shortest if shortest < 1 else longest}. Lengths are from "
                f"1 to {len(ids)}, the number of steps of the batch. Remove empty documents, or "
                "replace each one with the unknown word."
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
            f"A {what} is {value}. Allowed values are 0 to {limit - 1} ({limit_name} is {limit}). "
            f"Prepare the data and build the model with the same {limit_name}."
        )
