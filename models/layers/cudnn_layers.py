"""The layer functions of PyTorch over padded documents, which call cuDNN on a GPU.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).

cuDNN runs all steps of a layer in one kernel, but only if all documents of a batch have the same
length; packed documents of different length take it several times as long (decision 35). So each
direction reads all T steps. Padding comes after the tokens: direction 1 reads each document
reversed within its length. The states that are computed at padding are never read, and have a
gradient of zero. They are finite, because tanh bounds them.

Nothing here reads a value on the CPU. The same functions run on the CPU, where they are slow; the
tests use this.

PyTorch has no bfloat16 for cuDNN's layers. With that precision they compute in float32 with TF32
products, which have more bits of mantissa.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from celltune.models.layers.base import LayerWeights, TorchFunction

Dropout = Callable[[Tensor], Tensor]

_MODULES: dict[TorchFunction, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


def run_cudnn_layers(
    function: TorchFunction,
    inputs: Tensor,
    mask: Tensor | None,
    weights: Sequence[Sequence[LayerWeights]],
    dropout: Dropout,
) -> list[Tensor]:
    """Run a stack of recurrent layers.

    Args:
        function: the PyTorch function that computes the cell.
        inputs: (T, I, B) on any device.
        mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: weights of each direction of each layer.
        dropout: applied to the states (T, D * H, B) between two layers.

    Returns:
        (T, D * H, B) for each layer: the states in time order. Values at padding are unspecified
        and finite.
    """
    if inputs.is_cuda and is_bfloat16("cuda"):
        # Autocast would run cuDNN's layers in float16 instead, whose range needs a scaled loss.
        with torch.autocast("cuda", enabled=False):
            exact = inputs.to(weights[0][0].weight_ih.dtype)
            return run_cudnn_layers(function, exact, mask, weights, dropout)
    positions = None
    if len(weights[0]) == 2:
        positions = _reversed_positions(mask, inputs)
    outputs: list[Tensor] = []
    for layer in weights:
        values = dropout(outputs[-1]) if outputs else inputs
        by_document = values.transpose(1, 2)  # (T, B, I)
        states = [_run_direction(function, by_document, layer[0])]
        if positions is not None:
            reversed_documents = _reorder(by_document, positions)
            backwards = _run_direction(function, reversed_documents, layer[1])
            states.append(_reorder(backwards, positions))
        outputs.append(torch.cat(states, dim=2).transpose(1, 2))
    return outputs


def flatten_weights(function: TorchFunction, layer: Sequence[LayerWeights]) -> None:
    """Move the parameters on a GPU to the blocks of memory that cuDNN reads, one per direction.

    Otherwise each pass copies them there. The parameters remain the same objects.

    Args:
        function: the PyTorch function that computes the cell.
        layer: parameters of each direction.
    """
    for direction in layer:
        torch_layer(function, [direction]).flatten_parameters()


def torch_layer(function: TorchFunction, layer: Sequence[LayerWeights]) -> nn.RNNBase:
    """Return the PyTorch module of a layer, with the same parameters."""
    features, size = layer[0].weight_ih.shape[1], layer[0].weight_hh.shape[1]
    module = _MODULES[function](features, size, bidirectional=len(layer) == 2, device="meta")
    for weights, suffix in zip(layer, ("", "_reverse"), strict=False):
        for name, values in weights._asdict().items():
            setattr(module, f"{name}_l0{suffix}", values)
    return module


def is_bfloat16(device: str) -> bool:
    """Return whether autocast computes products in bfloat16 on a type of device."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.bfloat16


def _reversed_positions(mask: Tensor | None, inputs: Tensor) -> Tensor:
    """Return (T * B,), where each document reversed within its length takes its values from.

    Padding stays in its place, so the reordering is its own inverse.
    """
    steps, _, batch = inputs.shape
    times = torch.arange(steps, device=inputs.device)[:, None]
    columns = torch.arange(batch, device=inputs.device)
    if mask is None:
        return (times.flip(0) * batch + columns).flatten()
    last = mask.sum(0) - 1  # (1, B)
    return (torch.where(mask[:, 0], last - times, times) * batch + columns).flatten()


def _reorder(values: Tensor, positions: Tensor) -> Tensor:
    """Reorder the positions of (T, B, F) by a permutation that is its own inverse."""
    reordered: Tensor = _Reordering.apply(values, positions)  # type: ignore[no-untyped-call]
    return reordered


class _Reordering(torch.autograd.Function):
    """`index_select`, whose own backward pass would add up gradients with atomic operations."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, positions: Tensor) -> Tensor:
        ctx.save_for_backward(positions)
        return values.flatten(0, 1).index_select(0, positions).view(values.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (positions,) = ctx.saved_tensors
        return grad.flatten(0, 1).index_select(0, positions).view(grad.shape), None


def _run_direction(function: TorchFunction, inputs: Tensor, weights: LayerWeights) -> Tensor:
    """Run one direction in the order of its inputs: (T, B, I) -> (T, B, H)."""
    flat_weights = [values for values in weights if values is not None]
    zero = inputs.new_zeros(1, inputs.shape[1], weights.weight_hh.shape[1])
    initial = (zero, zero) if function == "lstm" else zero
    run = getattr(torch, function)
    # The arguments after the weights: biases, layers, dropout, training, bidirectional, batch first
    states: Tensor = run(inputs, initial, flat_weights, True, 1, 0.0, True, False, False)[0]
    return states
