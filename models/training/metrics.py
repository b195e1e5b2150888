"""What a trainer reports after an epoch: its metrics, and on request its predictions.

Shapes: n documents, B batch, C classes, L = 1 for two classes and C for more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celltune.models.network.predict import class_log_probabilities
from celltune.models.training.losses import document_losses


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch. Losses are means over documents (natural logarithm).

    Training metrics are those of the steps themselves, with dropout and changing weights.
    Accuracies are fractions.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    """Wall-clock time of training and validation together."""
    tokens_per_second: float
    """Training and validation tokens, without padding, divided by `seconds`."""
    wide_gain: float | None = None
    """Mean validation loss of the wide part alone minus that of the whole model; None if the
    model does not add the outputs of a wide part."""
    wide_gain_error: float | None = None
    """Standard error of `wide_gain`, from the differences of the documents."""

    def by_name(self) -> dict[str, float]:
        """Return all metrics that the model has, without the epoch."""
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return {k: float(value) for k, value in values if value is not None and k != "epoch"}


class Evaluation(NamedTuple):
    """The metrics of a split. See `EpochMetrics`."""

    loss: float
    accuracy: float
    wide_gain: float | None = None
    wide_gain_error: float | None = None


@dataclass
class Predictions:
    """Predictions for a split, batch by batch, on the trainer's device."""

    labels: list[Tensor] = field(default_factory=list)
    """(B,) of each batch."""
    logits: list[Tensor] = field(default_factory=list)
    """(B,) or (B, C) of each batch."""

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the labels (n,) and the natural logarithms of the probabilities (n, C).

        The documents are in the order of `evaluation_order`.
        """
        log_probabilities = class_log_probabilities(torch.cat(self.logits))
        return torch.cat(self.labels).cpu().numpy(), log_probabilities.cpu().numpy()


def wide_gains(logits: Tensor, wide: Tensor, labels: Tensor) -> Tensor:
    """Return (B,), the loss of the wide part alone minus that of the whole model.

    Args:
        logits: (B,) or (B, C) of the whole model.
        wide: (B, L) outputs of the wide part.
        labels: (B,).
    """
    alone = wide.squeeze(1) if logits.dim() == 1 else wide
    return document_losses(alone, labels) - document_losses(logits, labels)


def mean_gain(gains: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error (0 for a single document).

    Args:
        gains: (n,).
    """
    gains = gains.double()
    error = float(gains.std() / len(gains) ** 0.5) if len(gains) > 1 else 0.0
    return float(gains.mean()), error
