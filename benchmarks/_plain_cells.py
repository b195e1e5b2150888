"""A plain Python loop over `Cell.step`, whose backward pass is left to autograd.

Shapes: T time, B batch, I input features, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from celltune.models.layers.stack import RecurrentStack


def plain_layer(stack: RecurrentStack) -> Callable[[Tensor], Tensor]:
    """Return a loop with the weights of the first layer of `stack`: (T, B, I) -> (T, B, H)."""
    cell, (weights,) = stack.cell, stack.layer_weights()[0]

    def run(inputs: Tensor) -> Tensor:
        zero = inputs.new_zeros(inputs.shape[1], stack.hidden_size)
        state = (zero,) * len(cell.states)
        outputs = []
        for x in inputs:
            projected = linear(x, weights.weight_ih, weights.bias_ih)
            state = cell.step(projected, state, weights.weight_hh, weights.bias_hh)
            outputs.append(state[0])
        return torch.stack(outputs)

    return run
