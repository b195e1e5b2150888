"""The layer functions of PyTorch over packed documents, which call cuDNN on a GPU.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2), N tokens of the batch
without padding.

cuDNN runs all steps of a layer in one kernel. The documents are packed, longest first, so each
step reads only documents that have not ended. The lengths must be on the CPU, so nothing waits for
the GPU; `torch.nn.utils.rnn.pack_padded_sequence` waits for it when it copies the sorted order.
The same functions run on the CPU, where they are slow; the tests use this.

PyTorch has no bfloat16 for cuDNN's layers. With that precision they compute in float32 with TF32
products, which have more bits of mantissa.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from celltune.models.layers.base import LayerWeights, TorchFunction

Dropout = Callable[[Tensor], Tensor]

_MODULES: dict[TorchFunction, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


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
    if inputs.is_cuda and is_bfloat16("cuda"):
        # Autocast would run cuDNN's layers in float16 instead, whose range needs a scaled loss.
        with torch.autocast("cuda", enabled=False):
            exact = inputs.to(weights[0][0].weight_ih.dtype)
            return run_cudnn_layers(function, exact, lengths, weights, dropout)
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


def flatten_weights(function: TorchFunction, layer: Sequence[LayerWeights]) -> None:
    """Move the parameters of a layer on a GPU to the one block of memory that cuDNN reads.

    Otherwise each pass copies them there. The parameters remain the same objects.

    Args:
        function: the PyTorch function that computes the cell.
        layer: parameters of each direction.
    """
    torch_layer(function, layer).flatten_parameters()


def torch_layer(function: TorchFunction, layer: Sequence[LayerWeights]) -> nn.RNNBase:
    """Return the PyTorch module of a layer, with the same parameters."""
    features, size = layer[0].weight_ih.shape[1], layer[0].weight_hh.shape[1]
    module = _MODULES[function](features, size, bidirectional=len(layer) == 2, device="meta")
    for weights, suffix in zip(layer, ("", "_reverse"), strict=False):
        for name, values in weights._asdict().items():
            setattr(module, f"{name}_l0{suffix}", values)
    return module


def _pack(lengths: Tensor, steps: int, device: torch.device) -> _Packing:
    # Only the order and the sizes are copied to the device: a copy of all positions from pageable
    # memory is so large that it would wait for the steps before it.
    order = lengths.argsort(descending=True, stable=True)
    batch_sizes = (torch.arange(steps)[:, None] < lengths).sum(1)
    batch_sizes = batch_sizes[: int(lengths.max())]  # every step of a packed batch has a token
    copied = torch.cat([order, batch_sizes]).to(device, non_blocking=True)
    order, sizes = copied[: len(lengths)], copied[len(lengths) :]
    tokens = int(lengths.sum())
    times = torch.repeat_interleave(sizes, output_size=tokens)  # (N,)
    first_tokens = sizes.cumsum(0) - sizes
    columns = torch.arange(tokens, device=device) - first_tokens[times]
    return _Packing(times * len(lengths) + order[columns], batch_sizes)


def is_bfloat16(device: str) -> bool:
    """Return whether autocast computes products in bfloat16 on a type of device."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.bfloat16


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
