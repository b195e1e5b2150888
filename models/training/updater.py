"""The update of the weights from the loss of a batch: backward pass, clipping, optimizer step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from celltune.models import eager
from celltune.models.config import TrainingConfig
from celltune.models.network.classifier import EmbeddingRows, TextClassifier
from celltune.models.training.averages import WeightAverage
from celltune.models.training.lazy_rows import LazyRowUpdates, supports_row_updates
from celltune.models.training.loss_scale import LossScale

FLOOR = 0.01
"""Factor of the learning rate from the end of its decay on."""


def learning_rates(training: TrainingConfig, epoch: int, steps: int) -> NDArray[np.float64]:
    """Return the learning rate of each step of an epoch, (steps,).

    The rate rises linearly over `warmup_epochs`, then falls linearly to 0 at the end of epoch
    `decay_epochs`, but not below `FLOOR` times `learning_rate`. It depends on the position in the
    epoch and not on the number of epochs of the training.

    Args:
        training: the settings of the training.
        epoch: number of completed epochs.
        steps: number of steps of the epoch.
    """
    starts = epoch + np.arange(steps) / steps
    warmup, last = training.warmup_epochs, training.decay_epochs
    factors: NDArray[np.float64] = np.ones(steps)
    if last is not None:
        span = last - warmup
        factors = np.maximum(FLOOR, (last - starts) / span) if span > 0 else np.full(steps, FLOOR)
    if warmup > 0:
        rising = np.minimum(starts + 1 / steps, warmup) / warmup
        factors = np.where(rising < 1, rising, np.minimum(factors, 1))
    rates: NDArray[np.float64] = training.learning_rate * factors
    return rates


def has_schedule(training: TrainingConfig) -> bool:
    """Return whether the learning rate varies."""
    return training.warmup_epochs > 0 or training.decay_epochs is not None


def make_optimizer(model: TextClassifier, training: TrainingConfig) -> torch.optim.Optimizer:
    """Create the optimizer of all trainable parameters of a model.

    Args:
        model: the model to optimize.
        training: the optimizer and its settings.
    """
    trainable = [values for values in model.parameters() if values.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    optimizer: torch.optim.Optimizer
    if training.optimizer == "sgd":
        momentum = training.momentum
        optimizer = eager.SGD(trainable, lr=rate, momentum=momentum, weight_decay=decay, fused=True)
        return optimizer
    if training.optimizer == "adam":
        optimizer = eager.Adam(trainable, lr=rate, weight_decay=decay, fused=True)
        return optimizer
    shrinking = set(map(id, decayed_parameters(model)))
    groups = [
        {"params": [p for p in trainable if (id(p) in shrinking) == shrinks], "weight_decay": own}
        for shrinks, own in ((True, decay), (False, 0.0))
    ]
    optimizer = eager.AdamW(groups, lr=rate, fused=True)
    return optimizer


def decayed_parameters(model: TextClassifier) -> list[nn.Parameter]:
    """Return the parameters that decoupled weight decay shrinks: all matrices but the embedding.

    Most rows of the embedding have no gradient in a step; shrinking them in each one would make
    rare words depend on the number of steps rather than on their occurrences.
    """
    return [
        values
        for values in model.parameters()
        if values.requires_grad and values.dim() > 1 and values is not model.embedding
    ]


class Updater:
    """Applies gradients to the weights of a model.

    Where possible, only the embedding rows that a batch uses are updated, with the result of a
    dense optimizer (`LazyRowUpdates`). The embedding is then incomplete until `finish` is called.

    Attributes:
        optimizer: the PyTorch optimizer. After `finish`, it, `loss_scale` and `average` contain the
            whole state.
        loss_scale: the factor of the loss.
        average: the moving average of the weights, which the model contains after `finish`; or
            None.
    """

    def __init__(
        self, model: TextClassifier, training: TrainingConfig, *, scaled: bool = False
    ) -> None:
        """Create the optimizer.

        Args:
            model: a model on its final device.
            training: the optimizer and its settings.
            scaled: whether the loss is scaled before the backward pass, as float16 needs it. A
                step whose gradients overflow is then skipped, and the scale is halved.
        """
        self._training, self._clip = training, training.gradient_clip
        self.optimizer = make_optimizer(model, training)
        table = model.embedding
        self.loss_scale = LossScale(table.device.type, enabled=scaled)
        decay = training.weight_average
        self.average = None if decay is None else WeightAverage(model, decay)
        plain = self.average is None and not has_schedule(training)
        lazy = not scaled and supports_row_updates(table, self.optimizer, plain=plain)
        self._lazy_rows = LazyRowUpdates(table, self.optimizer, self.average) if lazy else None
        self._rates: list[float] = []
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if scaled and training.optimizer == "sgd" and training.momentum:
            # If the first step is skipped, the fused kernel leaves the momentum uninitialized.
            for values in parameters:
                self.optimizer.state[values]["momentum_buffer"] = torch.zeros_like(values)
        self._clipped = [values for values in parameters if not (lazy and values is table)]

    def start(self, epoch: int, steps: int) -> None:
        """Prepare an epoch.

        Args:
            epoch: number of completed epochs.
            steps: number of steps of this one.
        """
        if has_schedule(self._training):
            rates = learning_rates(self._training, epoch, steps)
            self._rates = rates[::-1].tolist()
            if self._lazy_rows is not None:
                self._lazy_rows.schedule(rates)
        if self.average is not None:
            self.average.begin()

    def gather_rows(self, ids: Tensor) -> EmbeddingRows | None:
        """Bring the embedding rows of a batch up to date and return them.

        Args:
            ids: (T, B) int64 in [0, V).

        Returns:
            The rows, or None if the embedding itself is always up to date.
        """
        return None if self._lazy_rows is None else EmbeddingRows(*self._lazy_rows.gather(ids))

    def step(self, loss: Tensor, rows: EmbeddingRows | None) -> None:
        """Update the weights with the gradients of a batch.

        Args:
            loss: a scalar with an autograd graph.
            rows: the rows from which the model computed the loss.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(loss)
        self.apply(rows)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that the weights have.

        Args:
            loss: a scalar with an autograd graph.
        """
        self.loss_scale.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def apply(self, rows: EmbeddingRows | None = None) -> None:
        """Update the weights with the gradients that they already have.

        Args:
            rows: see `step`.
        """
        if self._rates:
            rate = self._rates.pop()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        scaler = self.loss_scale.scaler
        clipped = self._clipped if rows is None else [*self._clipped, rows.table]
        if self._clip is not None:
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(clipped, self._clip)
        scaler.step(self.optimizer)
        scaler.update()
        if self._lazy_rows is not None:
            self._lazy_rows.step()
        if self.average is not None:
            self.average.update()

    def finish(self) -> None:
        """Bring all rows of the embedding up to date, and put the average into the model."""
        if self._lazy_rows is not None:
            self._lazy_rows.flush()
        if self.average is not None:
            self.average.end()

    def reload(self) -> None:
        """Continue from the values that were loaded into the model and the optimizer."""
        if self._lazy_rows is not None:
            self._lazy_rows.reload()
