"""Exponential moving averages of the weights, with which a model is evaluated.

Training continues with the weights themselves. While it runs, the model contains them; between
epochs the model contains the averages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.printable import quoted


def average_decays(limit: float, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the decay of the average after each step: at most (1 + k) / (10 + k) after step k.

    The average so forgets the initial weights quickly (the `num_updates` of TensorFlow's
    ExponentialMovingAverage).

    Args:
        limit: the largest decay, in (0, 1).
        steps: numbers of steps, counted from 1.
    """
    return np.minimum(limit, (1 + steps) / (10 + steps))


class WeightAverage:
    """The averages of the trainable weights of a model.

    After each step, average = d average + (1 - d) weight, with the d of `average_decays`.

    Attributes:
        decay: the largest decay.
        steps: number of steps so far.
        others: for each trainable parameter, by its name, the values that the model does not
            contain: the weights between epochs, otherwise the averages.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start with averages that equal the weights.

        Args:
            model: the model, on its final device.
            decay: the largest decay, in (0, 1).
        """
        self.decay, self.steps = decay, 0
        trainable = {n: values for n, values in model.named_parameters() if values.requires_grad}
        self._parameters = trainable
        self.others = {name: values.detach().clone() for name, values in trainable.items()}
        self._training = False
        self._lazy: str | None = None

    def delay(self, table: Tensor) -> Tensor:
        """Leave the updates of a parameter to `LazyRowUpdates`.

        Args:
            table: the parameter.

        Returns:
            A tensor like it. In training, it has to contain the average minus the weights.
        """
        self._lazy = next(n for n, values in self._parameters.items() if values is table)
        return self.others[self._lazy]

    def begin(self) -> None:
        """Put the weights into the model, to train it."""
        if not self._training:
            self._exchange()
            if self._lazy is not None:
                self.others[self._lazy].sub_(self._parameters[self._lazy].detach())
            self._training = True

    def update(self) -> None:
        """Count a step, and update the averages except the delayed one."""
        self.steps += 1
        share = 1 - float(average_decays(self.decay, np.array([self.steps], np.float64))[0])
        for name, average in self.others.items():
            if name != self._lazy:
                average.lerp_(self._parameters[name].detach(), share)

    def end(self) -> None:
        """Put the averages into the model, to evaluate it."""
        if self._training:
            if self._lazy is not None:
                self.others[self._lazy].add_(self._parameters[self._lazy].detach())
            self._exchange()
            self._training = False

    def _exchange(self) -> None:
        for name, values in self._parameters.items():
            kept = values.detach().clone()
            values.data.copy_(self.others[name])
            self.others[name].copy_(kept)

    def load(self, weights: dict[str, Tensor], steps: int) -> None:
        """Continue from a state, after the averages were loaded into the model.

        Args:
            weights: a value of `others`.
            steps: number of steps of the state.
        """
        for name, values in self.others.items():
            values.copy_(weights[name])
        self.steps, self._training = steps, False

    def own_memory(self) -> None:
        """Copy `others`, which may be views of stacked tensors, so that these can be freed."""
        self.others = {name: values.clone() for name, values in self.others.items()}


def read_steps(meta: JSON) -> int:
    """Return the number of steps of a state.

    Args:
        meta: the value of the state.

    Raises:
        CheckpointError: it is not a number of steps.
    """
    if not isinstance(meta, int) or isinstance(meta, bool) or meta < 0:
        raise CheckpointError(
            f"The state's number of averaged steps is {quoted(meta)}. It must be a whole number of "
            "at least 0. Load a state that Trainer.state() returned."
        )
    return meta
