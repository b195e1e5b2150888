"""Losses and number of correct labels of a batch, and their means over an epoch.

Shapes: n documents, B batch, C classes, S steps of an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from celltune.models.class_weights import given_weights
from celltune.models.config import TrainingConfig
from celltune.models.errors import DivergedError


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


def uniform_losses(logits: Tensor) -> Tensor:
    """Return the cross-entropy of each document with the uniform distribution over the classes.

    Args:
        logits: (B,) of class 1, or (B, C).
    """
    if logits.dim() == 1:
        return functional.softplus(logits) - logits / 2
    return -functional.log_softmax(logits, dim=1).mean(1)


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return the weight n / (C n_c) of each class, (C,), as in scikit-learn; absent classes have 0.

    King & Zeng (2001), "Logistic regression in rare events data", section 4.2.

    Args:
        labels: (n,).
        num_classes: C.
    """
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.where(counts > 0, len(labels) / (num_classes * np.maximum(counts, 1)), 0)
    return weights.astype(np.float32)


def class_weights(
    training: TrainingConfig, labels: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.float32] | None:
    """Return the weight of each class, (C,); None if all are 1.

    The mean weight of the documents is 1, so that the step sizes do not depend on the scale.

    Args:
        training: the settings of the training.
        labels: (n,), those of the training split.
        classes: the names of the C classes.

    Raises:
        ValueError: the training has weights of other classes.
    """
    if training.class_weights == "balanced":
        return balanced_weights(labels, len(classes))
    given = given_weights(training.class_weights, classes)
    if given is None:
        return None
    weights = np.array(given)
    weights /= weights[labels].mean()
    return weights.astype(np.float32)


class TrainingLoss:
    """The loss that training minimizes, per document: weighted, with smoothed labels.

    With smoothing e, a label is the distribution (1 - e) [c = label] + e / C (Szegedy et al. 2016,
    section 7), so its loss is (1 - e) times the cross-entropy plus e times that of the uniform
    distribution.

    Attributes:
        smoothing: e.
        weights: (C,) of the classes; None: all are 1.
    """

    def __init__(
        self, training: TrainingConfig, labels: NDArray[np.int64], classes: Sequence[str]
    ) -> None:
        """Compute the weights.

        Args:
            training: the settings of the training.
            labels: (n,), those of the training split.
            classes: the names of the C classes.

        Raises:
            ValueError: the training has weights of other classes.
        """
        self.smoothing = training.label_smoothing
        weights = class_weights(training, labels, classes)
        self.weights = None if weights is None else torch.from_numpy(weights)

    @property
    def plain(self) -> bool:
        """Whether it equals the cross-entropy."""
        return self.weights is None and self.smoothing == 0

    def to(self, device: torch.device) -> TrainingLoss:
        """Move the weights to a device and return this object."""
        if self.weights is not None:
            self.weights = self.weights.to(device)
        return self

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each document, (B,).

        Args:
            logits: (B,) of class 1, or (B, C).
            labels: (B,).
        """
        losses = document_losses(logits, labels)
        if self.smoothing:
            losses = torch.lerp(losses, uniform_losses(logits), self.smoothing)
        return losses if self.weights is None else losses * self.weights[labels]


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


def diverged(phase: str, epoch: int, step: int, training: TrainingConfig) -> DivergedError:
    """Return the error of a loss that is not finite.

    Args:
        phase: training or evaluation.
        epoch: number of the epoch, from 1.
        step: number of the step, from 1.
        training: the settings of the training.
    """
    clip = training.gradient_clip
    clip_advice = ", or a gradient_clip of at most 1.0" if clip is None or clip > 1 else ""
    return DivergedError(
        f"The {phase} loss is NaN or infinite at epoch {epoch}, step {step}, with learning rate "
        f"{training.learning_rate:g} and gradient_clip {clip}. Try a learning rate ten times "
        f"smaller{clip_advice}."
    )
