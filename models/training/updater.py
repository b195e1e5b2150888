"""From a batch's loss to new weights: backward, clipping, and the optimizer's step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from celltune.models.config import TrainingConfig
from celltune.models.network.classifier import TextClassifier, WordRows
from celltune.models.training.lazy_rows import LazyRowUpdates, can_update_rows
from celltune.models.training.loss_scale import LossScale


def make_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """Build torch's Adam or SGD over all of a model's learned parameters.

    Args:
        model: where the parameters are.
        training: which optimizer, with which settings.
    """
    learned = [values for values in model.parameters() if values.requires_grad]
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            learned, lr=rate, momentum=training.momentum, weight_decay=decay, fused=True
        )
    return torch.optim.Adam(learned, lr=rate, weight_decay=decay, fused=True)


class Updater:
    """Brings gradients into a model's weights.

    The embedding is updated by rows where that gives the dense result (``LazyRowUpdates``). So
    between ``words`` and ``settle`` the table isn't the dense optimizer's yet.

    Attributes:
        optimizer: torch's; with ``loss_scale`` it holds the whole state once ``settle`` was called.
        loss_scale: what losses are multiplied by.
    """

    def __init__(
        self, model: TextClassifier, training: TrainingConfig, *, scaled: bool = False
    ) -> None:
        """Build the optimizer.

        Args:
            model: on its device already.
            training: how it learns.
            scaled: whether losses are scaled up before the way back, as float16 needs it. A step
                whose gradients overflow is left out then, and the scale halved.
        """
        self._clip = training.gradient_clip
        self.optimizer = make_optimizer(model, training)
        table = model.embedding
        self.loss_scale = LossScale(table.device.type, enabled=scaled)
        by_rows = not scaled and can_update_rows(table, self.optimizer)
        self._rows = LazyRowUpdates(table, self.optimizer) if by_rows else None
        if scaled and training.optimizer == "sgd" and training.momentum:
            # Left to itself, a first step that is left out leaves the fused kernel's momentum to
            # chance.
            for values in self.optimizer.param_groups[0]["params"]:
                self.optimizer.state[values]["momentum_buffer"] = torch.zeros_like(values)
        self._clipped = [
            values
            for values in self.optimizer.param_groups[0]["params"]
            if not (by_rows and values is table)
        ]

    def words(self, ids: Tensor) -> WordRows | None:
        """Get the rows of a batch's words ready; None where the table itself is ready.

        Args:
            ids: (T, B) int64 in [0, V).
        """
        return None if self._rows is None else WordRows(*self._rows.gather(ids))

    def step(self, loss: Tensor, words: WordRows | None) -> None:
        """Learn from one batch.

        Args:
            loss: a scalar with a graph.
            words: what the model was given for the batch.
        """
        self.optimizer.zero_grad(set_to_none=True)
        scaler = self.loss_scale.scaler
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        clipped = self._clipped if words is None else [*self._clipped, words.table]
        if self._clip is not None:
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(clipped, self._clip)
        scaler.step(self.optimizer)
        scaler.update()
        if self._rows is not None:
            self._rows.step()

    def settle(self) -> None:
        """Make the table and its moments what the dense optimizer would have."""
        if self._rows is not None:
            self._rows.settle()

    def restart(self) -> None:
        """Go on from what was loaded into model and optimizer."""
        if self._rows is not None:
            self._rows.restart()
