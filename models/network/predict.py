"""What a trained model says of each review of a split.

Shapes: n reviews, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from celltune.data_prep.dataset.batching import cut_batch, evaluation_plan
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.denormals import denormals_as_zero
from celltune.models.network.classifier import TextClassifier


@denormals_as_zero()
def log_probabilities(
    model: TextClassifier, split: TensorizedSplit, *, batch_size: int
) -> NDArray[np.float64]:
    """The logarithm of the probability of each class, for each review.

    Args:
        model: is set to evaluate, and computes on the device that it is on.
        split: reviews with ids in the range that the model was built for.
        batch_size: reviews a batch, at least 1; the result doesn't depend on it.

    Returns:
        (n, C) natural logarithms, in the order of the split.
    """
    model.eval()
    found = np.empty((len(split), model.num_classes))
    with torch.inference_mode():
        for chosen in evaluation_plan(split, batch_size):
            batch = cut_batch(split, chosen)
            ids = torch.from_numpy(batch.ids).to(model.embedding.device)
            logits = model(ids, torch.from_numpy(batch.lengths)).double().cpu()
            if logits.dim() == 1:
                logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
            found[chosen] = functional.log_softmax(logits, dim=1).numpy()
    return found
