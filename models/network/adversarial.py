"""Adversarial perturbations of word vectors.

Shapes: T time, B batch, E embedding, V rows of a table of word vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from celltune.models.network.classifier import EmbeddingRows

_SMALLEST = 1e-30
"""Below the norm of any gradient that is not zero, as it is for padding."""


def adversarial_shift(shift: Tensor, rows: EmbeddingRows, lengths: Tensor, size: float) -> Tensor:
    """Return the change of the word vectors that increases the loss of each document the most.

    Miyato et al. (2017), equation 5, perturb word vectors v that are normalized to (v - E v) / s,
    with mean and standard deviation s over all words, so that training cannot make a perturbation
    of constant length harmless with longer vectors. Here the vectors are as they are, and their
    perturbation is that of the normalized ones times s. With the gradient g, it is
    size * s^2 g / |s g|. The standard deviation is that of the words of the batch.

    Args:
        shift: (T, B, E), what was added to the vectors, with the gradient of the loss.
        rows: the table of the vectors, and the row of each word.
        lengths: (B,), on any device.
        size: length of the perturbation of the normalized vectors of a document.

    Returns:
        (T, B, E), zero if the loss has no gradient.
    """
    scale = _deviations(rows, lengths.to(shift.device, non_blocking=True))
    scaled = torch.zeros_like(shift) if shift.grad is None else shift.grad * scale
    norms = torch.linalg.vector_norm(scaled, dim=(0, 2), keepdim=True)  # (1, B, 1)
    factors: Tensor = size / norms.clamp(min=_SMALLEST)
    return scaled * scale * factors


def _deviations(rows: EmbeddingRows, lengths: Tensor) -> Tensor:
    """Return (E,), the standard deviation of each number of the vectors over the words."""
    table, indices = rows.table.detach(), rows.indices
    times = torch.arange(len(indices), device=indices.device)[:, None]
    present = (times < lengths).to(table.dtype).flatten()
    counts = table.new_zeros(len(table)).index_add_(0, indices.flatten(), present)  # (V,)
    shares = (counts / counts.sum())[:, None]
    mean = (shares * table).sum(0)
    return (shares * (table - mean).square()).sum(0).sqrt()
