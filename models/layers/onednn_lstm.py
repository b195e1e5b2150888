"""The LSTM on torch's own CPU kernel (oneDNN), where there are no native loops.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).

The kernel knows no padding. In direction 0 it comes last, and nothing reads what is computed
there. Direction 1 is fed the time-flipped batch, in which padding comes first: there one more
feature is 1, whose weight shuts the input gate, so that the state stays at exactly zero (as in
``models.kernels``). So padding costs a copy of the inputs, not PackedSequence's many calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from celltune.models.layers.cells import LayerWeights
from celltune.models.layers.loop_layer import SHUT


def faster_in_torch(inputs: Tensor, hidden_size: int, directions: int) -> bool:
    """Whether torch's kernel takes a layer, and is faster than our loops on its operations.

    By measurement (docs/models.md): it is, but for training small layers in both directions over
    large batches, where our loops take both in one product.

    Args:
        inputs: (T, I, B), what the layer reads.
        hidden_size: H.
        directions: D.
    """
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32:
        return False
    small = directions == 2 and hidden_size < 32 and inputs.shape[2] > 32
    if small and torch.is_grad_enabled():
        return False
    onednn = torch.backends.mkldnn
    return bool(onednn.is_available() and onednn.enabled)  # type: ignore[no-untyped-call]


def run_torch_lstm(inputs: Tensor, real: Tensor | None, layer: Sequence[LayerWeights]) -> Tensor:
    """Run one LSTM layer, in one or both directions, from a zero state.

    Args:
        inputs: (T, I, B); a transposed view of (T, B, I) is as good.
        real: (T, 1, B) bool, False at padding (which comes last); None if nothing is padded.
        layer: the weights of each direction.

    Returns:
        (T, D * H, B): the states in time order. Values at padding mean nothing.
    """
    below = inputs.transpose(1, 2)  # (T, B, I)
    states = [_one_direction(below, layer[0])]
    for weights in layer[1:]:
        backwards, held = below.flip(0), weights
        if real is not None:
            padding = ~real.transpose(1, 2).flip(0)  # (T, B, 1)
            backwards = torch.cat([backwards, padding.to(below.dtype)], dim=2)
            held = weights._replace(weight_ih=_with_hold(weights))
        states.append(_one_direction(backwards, held).flip(0))
    return torch.cat(states, dim=2).transpose(1, 2)


def _with_hold(weights: LayerWeights) -> Tensor:
    """(4 * H, I) -> (4 * H, I + 1): the last feature shuts the input gate, torch's first block."""
    rows, size = weights.weight_hh.shape
    column = weights.weight_ih.new_zeros(rows, 1)
    column[:size] = -SHUT
    return torch.cat([weights.weight_ih, column], dim=1)


def _one_direction(below: Tensor, weights: LayerWeights) -> Tensor:
    """(T, B, I) -> (T, B, H)."""
    flat = [part for part in weights if part is not None]
    zero = below.new_zeros(1, below.shape[1], weights.weight_hh.shape[1])
    # With biases, one layer, no dropout, one direction, time first.
    states: Tensor = torch.lstm(
        below, (zero, zero), flat, True, 1, 0.0, torch.is_grad_enabled(), False, False
    )[0]
    return states
