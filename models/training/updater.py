"""The update of the weights from the loss of a batch: backward pass, clipping, optimizer step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from celltune.models.config import TrainingConfig
from celltune.models.network.classifier import EmbeddingRows, TextClassifier
from celltune.models.training.lazy_rows import LazyRowUpdates, supports_row_updates
from celltune.models.training.loss_scale import LossScale


def make_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """Create Adam or SGD for all trainable parameters of a model.

    Args:
        model: the model to optimize.
        training: the optimizer and its settings.
    """
    trainable = [values for values in model.parameters() if values.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            trainable, lr=rate, momentum=training.momentum, weight_decay=decay, fused=True
        )
    return torch.optim.Adam(trainable, lr=rate, weight_decay=decay, fused=True)


class Updater:
    """Applies gradients to the weights of a model.

    Where possible, only the embedding rows that a batch uses are updated, with the result of a
    dense optimizer (`LazyRowUpdates`). The embedding is then incomplete until `flush` is called.

    Attributes:
        optimizer: the PyTorch optimizer. After `flush`, it and `loss_scale` contain the whole
            state.
        loss_scale: the factor of the loss.
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
        self._clip = training.gradient_clip
        self.optimizer = make_optimizer(model, training)
        table = model.embedding
        self.loss_scale = LossScale(table.device.type, enabled=scaled)
        lazy = not scaled and supports_row_updates(table, self.optimizer)
        self._lazy_rows = LazyRowUpdates(table, self.optimizer) if lazy else None
        parameters = self.optimizer.param_groups[0]["params"]
        if scaled and training.optimizer == "sgd" and training.momentum:
            # If the first step is skipped, the fused kernel leaves the momentum uninitialized.
            for values in parameters:
                self.optimizer.state[values]["momentum_buffer"] = torch.zeros_like(values)
        self._clipped = [values for values in parameters if not (lazy and values is table)]

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
        self.loss_scale.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.apply(rows)

    def apply(self, rows: EmbeddingRows | None = None) -> None:
        """Update the weights with the gradients that they already have.

        Args:
            rows: see `step`.
        """
        scaler = self.loss_scale.scaler
        clipped = self._clipped if rows is None else [*self._clipped, rows.table]
        if self._clip is not None:
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(clipped, self._clip)
        scaler.step(self.optimizer)
        scaler.update()
        if self._lazy_rows is not None:
            self._lazy_rows.step()

    def flush(self) -> None:
        """Bring all rows of the embedding and their moments up to date."""
        if self._lazy_rows is not None:
            self._lazy_rows.flush()

    def reload(self) -> None:
        """Continue from the values that were loaded into the model and the optimizer."""
        if self._lazy_rows is not None:
            self._lazy_rows.reload()
