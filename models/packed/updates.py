"""Updates of the weights of several trials from their stacked gradients.

Shapes: N trials.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from celltune.models.layers.persistent.selection import first_line, triton_works
from celltune.models.packed.stacks import StackedParameters
from celltune.models.training.trainer import Trainer

_log = logging.getLogger(__name__)


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
    device = stacks.tensors["output_weight"].device
    scaled = trainers[0].updater.loss_scale.scaler.is_enabled()
    if device.type == "cuda" and not scaled and fused_updates_run(device):
        from celltune.models.packed.fused_update import FusedUpdate

        return FusedUpdate(trainers, stacks)
    return OneByOne(trainers, stacks)


@functools.lru_cache
def fused_updates_run(device: torch.device) -> bool:
    """Return whether Triton is installed and can compile and run the kernel on a device.

    Raises:
        torch.OutOfMemoryError: the memory of the GPU is exhausted.
    """
    if not triton_works():
        return False
    from celltune.models.packed.fused_update import try_update

    try:
        try_update(device)
    except torch.OutOfMemoryError:
        raise  # It says nothing about the kernel: other processes use the GPU, too.
    except Exception as error:  # noqa: BLE001 (compilers and drivers raise errors of any type)
        _log.warning(
            "The optimizer kernel of packed trials cannot run here, so each trial is updated on "
            "its own, which is slower: %s",
            first_line(error),
        )
        return False
    return True
