"""The parameters of several models of one shape, stored along a new first axis.

Shapes: N models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class StackedParameters:
    """Parameters of N models as (N, ...) tensors, of which the models' own parameters are views.

    A step computes with the stacked tensors, which are leaves of autograd; the models see every
    update, because they share the memory.

    Attributes:
        tensors: (N, ...) by the name of the parameter.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        """Copy the parameters into stacked tensors and make the models' own ones views of them.

        Args:
            models: at least one; all have parameters of the same names and shapes.
        """
        by_model = [dict(model.named_parameters()) for model in models]
        self.tensors: dict[str, Tensor] = {}
        self._parameters: dict[str, list[nn.Parameter]] = {}
        for name, first in by_model[0].items():
            parameters = [own[name] for own in by_model]
            stacked = torch.stack([values.detach() for values in parameters])
            for values, row in zip(parameters, stacked, strict=True):
                values.data = row
            self._parameters[name] = parameters
            self.tensors[name] = stacked.requires_grad_(first.requires_grad)

    def trainable(self) -> Iterator[tuple[Tensor, list[nn.Parameter]]]:
        """Yield each stacked tensor that is trained, with the parameters that are its rows."""
        for name, stacked in self.tensors.items():
            if stacked.requires_grad:
                yield stacked, self._parameters[name]

    def clear_gradients(self) -> None:
        """Drop the gradients of the stacked tensors."""
        for stacked in self.tensors.values():
            stacked.grad = None

    def distribute_gradients(self) -> None:
        """Make the gradient of each model's parameters a view of the stacked gradient."""
        for stacked, parameters in self.trainable():
            rows = [None] * len(parameters) if stacked.grad is None else stacked.grad.unbind(0)
            for values, row in zip(parameters, rows, strict=True):
                values.grad = row


def own_memory(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy the weights and moments of a model out of stacked tensors, which can then be freed.

    Args:
        model: a model whose parameters may be views of stacked tensors.
        optimizer: its optimizer, whose moments may be views, too.
    """
    for values in model.parameters():
        values.data = values.detach().clone()
        values.grad = None
    for state in optimizer.state.values():
        for name, moment in state.items():
            state[name] = moment.clone() if isinstance(moment, Tensor) else moment
