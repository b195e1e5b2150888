"""Updates of the weights of several trials from their stacked gradients.

Shapes: N trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from celltune.models.packed.stacks import StackedParameters
from celltune.models.training.trainer import Trainer


class PackedUpdate(Protocol):
    """The optimizers of N trials. Moments are in the optimizers of the trainers after `finish`."""

    def start(self, steps: Sequence[int]) -> None:
        """Prepare an epoch.

        Args:
            steps: the number of steps of each trial.
        """

    def scale(self, losses: Tensor) -> Tensor:
        """Return the (N,) losses, multiplied by loss scales if the precision needs them."""

    def step(self, active: Sequence[bool]) -> None:
        """Update the weights of the active trials with the gradients of the stacked tensors."""

    def finish(self) -> None:
        """Complete the optimizers' state at the end of an epoch."""


class OneByOne:
    """Each trial's own `Updater`, with the clipping and the optimizer of a single run."""

    def __init__(self, trainers: Sequence[Trainer], stacks: StackedParameters) -> None:
        """Update the weights of these trainers.

        Args:
            trainers: the trials.
            stacks: their weights.
        """
        self._updaters = [trainer.updater for trainer in trainers]
        self._stacks = stacks

    def start(self, steps: Sequence[int]) -> None:
        """See `PackedUpdate.start`."""
        del steps

    def scale(self, losses: Tensor) -> Tensor:
        """See `PackedUpdate.scale`."""
        scalers = [updater.loss_scale.scaler for updater in self._updaters]
        if not scalers[0].is_enabled():
            return losses
        scaled = [scaler.scale(loss) for scaler, loss in zip(scalers, losses, strict=True)]
        return torch.stack(scaled)

    def step(self, active: Sequence[bool]) -> None:
        """See `PackedUpdate.step`."""
        self._stacks.distribute_gradients()
        for updater, runs in zip(self._updaters, active, strict=True):
            if runs:
                updater.apply()

    def finish(self) -> None:
        """See `PackedUpdate.finish`."""


def make_update(trainers: Sequence[Trainer], stacks: StackedParameters) -> PackedUpdate:
    """Return the fastest implementation for a device and an optimizer.

    Args:
        trainers: the trials.
        stacks: their weights.
    """
    return OneByOne(trainers, stacks)
