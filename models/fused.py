"""Torch's own cells on a GPU: cuDNN's fused layers, with padding left out by packing.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2), N words of the batch
without padding.

cuDNN runs all steps of a layer in one kernel where the reviews are packed, longest first, so that
each step reads only the reviews that are still going. The lengths that say so must be on the CPU:
then nothing waits for the GPU. The same functions run on the CPU, where they are slow; that is how
they are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.cells import LayerWeights

FUSED = ("rnn", "rnn_relu", "lstm", "gru")
"""Recurrences that torch has, by their native names."""

Drop = Callable[[Tensor], Tensor]


def fused_layers(
    name: str,
    inputs: Tensor,
    lengths: Tensor,
    weights: Sequence[Sequence[LayerWeights]],
    drop: Drop,
) -> list[Tensor]:
    """Run a stack of layers as torch's kernels do.

    Args:
        name: one of ``FUSED``.
        inputs: (T, I, B) on any device.
        lengths: (B,) on the CPU, each in [1, T].
        weights: of each layer, of each direction.
        drop: applied to a layer's packed states (N, D * H) before the next layer.

    Returns:
        Of each layer, (T, D * H, B): the states in time order, zeros at padding.
    """
    packed = pack_padded_sequence(inputs.transpose(1, 2), lengths, enforce_sorted=False)
    data, outputs = packed.data, []
    for number, layer in enumerate(weights):
        if number:
            data = drop(data)
        data = _one_layer(name, data, packed.batch_sizes, layer)
        states = PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        padded, _ = pad_packed_sequence(states, total_length=len(inputs))
        outputs.append(padded.transpose(1, 2))
    return outputs


def _one_layer(
    name: str, data: Tensor, batch_sizes: Tensor, layer: Sequence[LayerWeights]
) -> Tensor:
    """(N, I) -> (N, D * H)."""
    flat = [part for direction in layer for part in direction if part is not None]
    size, batch = layer[0].weight_hh.shape[1], int(batch_sizes[0])
    zero = data.new_zeros(len(layer), batch, size)
    settings = (True, 1, 0.0, True, len(layer) == 2)  # biases, layers, dropout, training, both ways
    states: Tensor
    if name == "lstm":
        states = torch.lstm(data, batch_sizes, (zero, zero), flat, *settings)[0]
    else:
        kernel = {"gru": torch.gru, "rnn": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}[name]
        states = kernel(data, batch_sizes, zero, flat, *settings)[0]
    return states
