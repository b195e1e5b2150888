"""The LSTM of PyTorch on the CPU (oneDNN), for machines without the native loops.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).

oneDNN does not know padding. In direction 0 padding comes last, and nothing reads the states that
are computed there. Direction 1 reads the time-flipped batch, in which padding comes first. There,
an additional input feature is 1, and its weight closes the input gate, so the state stays at
exactly zero (as in `loop_layer`). This costs a copy of the inputs, which is less than the many
calls of a PackedSequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from celltune.models.layers.base import LayerWeights
from celltune.models.layers.loop_layer import SATURATING_LOGIT


def onednn_is_faster(inputs: Tensor, hidden_size: int, directions: int) -> bool:
    """Return whether oneDNN supports a layer and is faster than the loop on PyTorch operations.

    By measurement (docs/models.md) it is faster except for training small bidirectional layers on
    large batches, where the loop computes both directions in one product.

    Args:
        inputs: (T, I, B), the inputs of the layer.
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


def run_onednn_lstm(inputs: Tensor, mask: Tensor | None, weights: Sequence[LayerWeights]) -> Tensor:
    """Run one LSTM layer, in one or both directions, from a zero state.

    Args:
        inputs: (T, I, B), contiguous or a transposed view of (T, B, I).
        mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: weights of each direction.

    Returns:
        (T, D * H, B), the states in time order. Values at padding are unspecified.
    """
    batch_first = inputs.transpose(1, 2)  # (T, B, I)
    states = [_run_direction(batch_first, weights[0])]
    for direction in weights[1:]:
        flipped, flipped_weights = batch_first.flip(0), direction
        if mask is not None:
            padding = ~mask.transpose(1, 2).flip(0)  # (T, B, 1)
            flipped = torch.cat([flipped, padding.to(flipped.dtype)], dim=2)
            flipped_weights = direction._replace(weight_ih=_with_padding_feature(direction))
        states.append(_run_direction(flipped, flipped_weights).flip(0))
    return torch.cat(states, dim=2).transpose(1, 2)


def _with_padding_feature(weights: LayerWeights) -> Tensor:
    """Add the feature that closes the input gate, the first block: (4 * H, I) -> (4 * H, I + 1)."""
    rows, size = weights.weight_hh.shape
    column = weights.weight_ih.new_zeros(rows, 1)
    column[:size] = -SATURATING_LOGIT
    return torch.cat([weights.weight_ih, column], dim=1)


def _run_direction(inputs: Tensor, weights: LayerWeights) -> Tensor:
    """Run one direction: (T, B, I) -> (T, B, H)."""
    flat_weights = [values for values in weights if values is not None]
    zero = inputs.new_zeros(1, inputs.shape[1], weights.weight_hh.shape[1])
    # The arguments after the weights: biases, layers, dropout, training, bidirectional,
    # batch_first.
    states: Tensor = torch.lstm(
        inputs, (zero, zero), flat_weights, True, 1, 0.0, torch.is_grad_enabled(), False, False
    )[0]
    return states
