"""A recurrent layer that runs `Cell.step` and leaves the backward pass to PyTorch.

The path of cells without a hand-written loop. It runs on every device and in every floating-point
type, and launches each operation of each step separately.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2), G gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from celltune.models.layers.base import Cell, LayerWeights


def run_autograd_layer(
    cell: Cell, inputs: Tensor, mask: Tensor | None, weights: Sequence[LayerWeights]
) -> Tensor:
    """Run one recurrent layer, in one or both directions, from a zero state.

    Args:
        cell: the recurrence.
        inputs: (T, I, B).
        mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: weights of each direction.

    Returns:
        (T, D * H, B), the states in time order. Values at padding are unspecified.
    """
    batch_first = inputs.transpose(1, 2)  # (T, B, I)
    tokens = None if mask is None else mask.transpose(1, 2)  # (T, B, 1)
    if tokens is not None:
        # Padding may contain infinities, whose gradients would be NaN.
        batch_first = batch_first.masked_fill(~tokens, 0)
    outputs = [
        _run_direction(cell, batch_first, tokens, direction, backwards=index == 1)
        for index, direction in enumerate(weights)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _run_direction(
    cell: Cell, inputs: Tensor, tokens: Tensor | None, weights: LayerWeights, *, backwards: bool
) -> Tensor:
    """Run one direction: (T, B, I) -> (T, B, H)."""
    steps, batch, _ = inputs.shape
    projected = linear(inputs, weights.weight_ih, weights.bias_ih).unbind(0)
    zero = inputs.new_zeros(batch, weights.weight_hh.shape[1])
    state = (zero,) * len(cell.states)
    outputs = [zero] * steps
    for t in reversed(range(steps)) if backwards else range(steps):
        new_state = cell.step(projected[t], state, weights.weight_hh, weights.bias_hh)
        if tokens is not None:
            new_state = tuple(
                torch.where(tokens[t], new, old) for new, old in zip(new_state, state, strict=True)
            )
        state = new_state
        outputs[t] = state[0]
    return torch.stack(outputs)
