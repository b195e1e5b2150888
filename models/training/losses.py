"""Cross-entropy and number of correct labels of a batch, and their means over an epoch.

Shapes: B batch, C classes, S steps of an epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of a batch with (B,) or (B, C) logits."""
    return document_losses(logits, labels, "sum")


def document_losses(logits: Tensor, labels: Tensor, reduction: str = "none") -> Tensor:
    """Return the cross-entropy of each document.

    Args:
        logits: (B,) of class 1, or (B, C).
        labels: (B,).
        reduction: "none" for (B,), or "sum" for a scalar.
    """
    if logits.dim() == 1:
        targets = labels.to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction=reduction)
    return functional.cross_entropy(logits, labels, reduction=reduction)


def correct_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (B,), whether the predicted label of each document is correct."""
    predicted = (logits > 0).long() if logits.dim() == 1 else logits.argmax(1)
    return predicted == labels


def means(losses: Tensor, correct: Tensor, documents: int) -> tuple[float, float]:
    """Return the mean loss and the accuracy of an epoch.

    Args:
        losses: (S,), the sum of the losses of each step.
        correct: (S,), the number of correct labels of each step.
        documents: number of documents in all steps.
    """
    return float(losses.double().sum()) / documents, int(correct.sum()) / documents


def first_not_finite(losses: Tensor) -> int | None:
    """Return the index of the first loss that is NaN or infinite; None if there is none.

    Args:
        losses: (S,).
    """
    indices = (~torch.isfinite(losses)).nonzero()
    return int(indices[0]) if len(indices) else None
