"""Predictions of a trained model for the documents of a split.

Shapes: n documents, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from celltune.data_prep.dataset.batching import cut_batch, evaluation_plan
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.denormals import denormals_as_zero
from celltune.models.network.classifier import TextClassifier


@denormals_as_zero()
def log_probabilities(
    model: TextClassifier, split: TensorizedSplit, *, batch_size: int
) -> NDArray[np.float64]:
    """Return the log-probability of each class for each document.

    Args:
        model: switched to evaluation mode; computes on its current device.
        split: documents whose ids are in the range of the model, with outputs of the wide part if
            the model reads them.
        batch_size: documents per batch, at least 1. The result does not depend on it.

    Returns:
        (n, C) natural logarithms in the order of the split.

    Raises:
        DataError: the model reads outputs of the wide part, and the split has none.
    """
    model.eval()
    result = np.empty((len(split), model.num_classes))
    with torch.inference_mode():
        for chosen in evaluation_plan(split, batch_size):
            batch = cut_batch(split, chosen)
            ids = torch.from_numpy(batch.ids).to(model.embedding.device)
            wide = None if batch.wide is None else torch.from_numpy(batch.wide).to(ids.device)
            logits = model(ids, torch.from_numpy(batch.lengths), wide=wide)
            result[chosen] = class_log_probabilities(logits).cpu().numpy()
    return result


def class_log_probabilities(logits: Tensor) -> Tensor:
    """Return the natural logarithms of the probabilities of all classes, (n, C) in float64.

    Args:
        logits: (n,) of class 1, or (n, C).
    """
    logits = logits.double()
    if logits.dim() == 1:
        logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
    return functional.log_softmax(logits, dim=1)
