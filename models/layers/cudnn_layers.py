"""Torch's own cells on a GPU: cuDNN's fused layers, with padding left out by packing.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2), N words of the batch
without padding.

cuDNN runs all steps of a layer in one kernel where the reviews are packed, longest first, so that
each step reads only the reviews that are still going. The lengths that say so must be on the CPU:
then nothing waits for the GPU. (torch's pack_padded_sequence does wait, for the order of the
reviews.) The same functions run on the CPU, where they are slow; that is how they are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from celltune.models.layers.cells import LayerWeights

FUSED = ("rnn", "rnn_relu", "lstm", "gru")
"""Recurrences that torch has, by their native names."""

Drop = Callable[[Tensor], Tensor]


class _Packing(NamedTuple):
    """Where the words of a padded batch stand in a packed one."""

    places: Tensor
    """(N,), on the inputs' device: of each packed word, its place among the T * B."""
    batch_sizes: Tensor
    """(longest review,), on the CPU: how many reviews are still going at each step."""


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
    steps, _, batch = inputs.shape
    packing = _packing(lengths, steps, inputs.device)
    data = inputs.transpose(1, 2).flatten(0, 1).index_select(0, packing.places)  # (N, I)
    outputs = []
    for number, layer in enumerate(weights):
        if number:
            data = drop(data)
        data = _one_layer(name, data, packing.batch_sizes, layer)
        padded = data.new_zeros(steps * batch, data.shape[1])
        padded = padded.index_copy(0, packing.places, data)
        outputs.append(padded.view(steps, batch, -1).transpose(1, 2))
    return outputs


def _packing(lengths: Tensor, steps: int, device: torch.device) -> _Packing:
    order = lengths.argsort(descending=True, stable=True)
    going = torch.arange(steps)[:, None] < lengths[order]  # (T, B)
    times, columns = going.nonzero(as_tuple=True)
    places = times * len(lengths) + order[columns]
    sizes = going.sum(1)[: int(lengths.max())]  # no step of a packed batch is empty
    return _Packing(places.to(device, non_blocking=True), sizes)


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
