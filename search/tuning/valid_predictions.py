"""Predictions for the validation split in the checkpoints of trials, for ensembles.

Shapes: n documents of the validation split, C classes, k stored documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.batching import evaluation_order
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.training.checkpoint import State
    from celltune.models.training.metrics import Predictions

_ROUNDING = 1e-3
"""Largest difference of a sum of probabilities from 1."""

LOG_PROBABILITIES = "valid.log_probabilities"
"""Name of the tensor in a checkpoint: (k, C), float32, natural logarithms, in the order of the
documents in the split. It belongs neither to the model nor to the optimizer."""

MOST_VALUES = 1 << 20
"""Largest number of stored values. It limits the tensor to 4 MiB, so that it stays small next to
the weights and their moments, and is reached by 500,000 documents of two classes."""


def stored_documents(documents: int, num_classes: int) -> slice:
    """Return which documents of a validation split have stored predictions.

    Args:
        documents: n.
        num_classes: C.

    Returns:
        All documents or, above `MOST_VALUES`, evenly spaced ones.
    """
    return slice(0, documents, max(1, -(-documents * num_classes // MOST_VALUES)))


def in_document_order(predictions: Predictions, valid: TensorizedSplit) -> NDArray[np.float32]:
    """Return the natural logarithms of the probabilities, (n, C), in the order of the split.

    Args:
        predictions: the predictions for `valid`, in the order of `evaluation_order`.
        valid: the validation split.

    Raises:
        ValueError: the predictions are in another order, or for other documents.
    """
    order = evaluation_order(valid)
    labels, log_probabilities = predictions.arrays()
    if not np.array_equal(labels, valid.labels[order]):
        raise ValueError(
            "The labels of the predictions are not those of the validation split in the order of "
            "evaluation_order. Append the batches of evaluation_plan in their order."
        )
    ordered = np.empty(log_probabilities.shape, np.float32)
    ordered[order] = log_probabilities
    return ordered


def add_predictions(state: State, log_probabilities: NDArray[np.float32]) -> State:
    """Return a training state that also contains predictions for the validation split.

    Args:
        state: the state of a model after an epoch.
        log_probabilities: (n, C), see `in_document_order`.
    """
    import torch

    tensors, values = state
    stored = log_probabilities[stored_documents(*log_probabilities.shape)]
    return {**tensors, LOG_PROBABILITIES: torch.from_numpy(np.ascontiguousarray(stored))}, values


def remove_predictions(state: State) -> State:
    """Return a state without the predictions that `add_predictions` added."""
    tensors, values = state
    return {name: tensor for name, tensor in tensors.items() if name != LOG_PROBABILITIES}, values


def find_predictions(tensors: dict[str, Tensor]) -> NDArray[np.float32] | None:
    """Return the (k, C) predictions in the tensors of a checkpoint; None in those of old releases.

    The documents are those of `stored_documents`.

    Raises:
        CheckpointError: they are not the logarithms of probabilities.
    """
    stored = tensors.get(LOG_PROBABILITIES)
    if stored is None:
        return None
    values: NDArray[Any] = stored.numpy()
    if values.dtype != np.float32 or values.ndim != 2:
        raise _no_predictions(f"they are {values.dtype} with {values.ndim} dimensions")
    sums = np.exp(np.minimum(values, 1), dtype=np.float64).sum(axis=1)
    if not (np.abs(sums - 1) <= _ROUNDING).all():
        raise _no_predictions("the probabilities of a document do not sum to 1")
    return values


def _no_predictions(reason: str) -> CheckpointError:
    return CheckpointError(f"Its predictions for the validation split are invalid: {reason}.")
