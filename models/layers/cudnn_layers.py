"""The layer functions of PyTorch over packed documents, which call cuDNN on a GPU.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2), N tokens of the batch
without padding.

cuDNN runs all steps of a layer in one kernel. The documents are packed, longest first, so each
step reads only documents that have not ended. The lengths must be on the CPU, so nothing waits for
the GPU; `torch.nn.utils.rnn.pack_padded_sequence` waits for it when it copies the sorted order.
The same functions run on the CPU, where they are slow; the tests use this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from celltune.models.layers.base import LayerWeights, TorchFunction

Dropout = Callable[[Tensor], Tensor]


class _Packing(NamedTuple):
    """The token positions of a padded batch in the order of a packed batch."""

    positions: Tensor
    """(N,), on the device of the inputs: index of each packed token in the T * B positions."""
    batch_sizes: Tensor
    """(longest document,), on the CPU: number of documents that have a token at each step."""


def run_cudnn_layers(
    function: TorchFunction,
    inputs: Tensor,
    lengths: Tensor,
    weights: Sequence[Sequence[LayerWeights]],
    dropout: Dropout,
) -> list[Tensor]:
    """Run a stack of recurrent layers.

    Args:
        function: the PyTorch function that computes the cell.
        inputs: (T, I, B) on any device.
        lengths: (B,) on the CPU, each in [1, T].
        weights: weights of each direction of each layer.
        dropout: applied to the packed states (N, D * H) between two layers.

    Returns:
        (T, D * H, B) for each layer: the states in time order, zero at padding.
    """
    steps, _, batch = inputs.shape
    packing = _pack(lengths, steps, inputs.device)
    packed = inputs.transpose(1, 2).flatten(0, 1).index_select(0, packing.positions)  # (N, I)
    outputs = []
    for number, layer in enumerate(weights):
        if number:
            packed = dropout(packed)
        packed = _run_layer(function, packed, packing.batch_sizes, layer)
        padded = packed.new_zeros(steps * batch, packed.shape[1])
        padded = padded.index_copy(0, packing.positions, packed)
        outputs.append(padded.view(steps, batch, -1).transpose(1, 2))
    return outputs


def _pack(lengths: Tensor, steps: int, device: torch.device) -> _Packing:
    order = lengths.argsort(descending=True, stable=True)
    mask = torch.arange(steps)[:, None] < lengths[order]  # (T, B)
    times, columns = mask.nonzero(as_tuple=True)
    positions = times * len(lengths) + order[columns]
    batch_sizes = mask.sum(1)[: int(lengths.max())]  # every step of a packed batch has a token
    return _Packing(positions.to(device, non_blocking=True), batch_sizes)


def _run_layer(
    function: TorchFunction, packed: Tensor, batch_sizes: Tensor, layer: Sequence[LayerWeights]
) -> Tensor:
    """Run one layer: (N, I) -> (N, D * H)."""
    flat_weights = [values for direction in layer for values in direction if values is not None]
    size, batch = layer[0].weight_hh.shape[1], int(batch_sizes[0])
    zero = packed.new_zeros(len(layer), batch, size)
    initial = (zero, zero) if function == "lstm" else zero
    run = getattr(torch, function)
    # The arguments after the weights: biases, layers, dropout, training, bidirectional.
    states: Tensor = run(
        packed, batch_sizes, initial, flat_weights, True, 1, 0.0, True, len(layer) == 2
    )[0]
    return states
