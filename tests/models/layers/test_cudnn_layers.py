"""The path of cuDNN, run on torch's CPU kernels: the same calls, with the same meaning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from celltune.models.layers.cudnn_layers import FUSED, fused_layers
from celltune.models.layers.stack import RecurrentStack

LENGTHS = torch.tensor([6, 1, 4, 6])


def make_stack(name: str, layers: int, both: bool) -> RecurrentStack:
    cell, _, curve = name.partition("_")
    return RecurrentStack(
        cell,
        4,
        3,
        generator=torch.Generator().manual_seed(7),
        num_layers=layers,
        bidirectional=both,
        nonlinearity=curve or "tanh",
    ).double()


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_states_and_gradients_are_those_of_our_loops(name: str, layers: int, both: bool) -> None:
    stack = make_stack(name, layers, both)
    real = (torch.arange(6)[:, None] < LENGTHS)[:, None]
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(6, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = [stack._layer(layer) for layer in range(layers)]
    fused = fused_layers(name, inputs, LENGTHS, weights, lambda values: values)
    ours = [states.masked_fill(~real, 0) for states in stack.layers(inputs, real)]
    sources = [inputs, *stack.parameters()]
    for got, wanted in zip(fused, ours, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
    gradients = [torch.autograd.grad(s[-1].pow(2).sum(), sources) for s in (fused, ours)]
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


def test_dropout_is_between_layers_only() -> None:
    seen: list[Tensor] = []
    stack = make_stack("gru", 3, False)
    weights = [stack._layer(layer) for layer in range(3)]

    def drop(values: Tensor) -> Tensor:
        seen.append(values)
        return torch.zeros_like(values)

    layers = fused_layers("gru", torch.zeros(6, 4, 4).double(), LENGTHS, weights, drop)
    assert [values.shape for values in seen] == [(17, 3), (17, 3)]  # 17 words without padding
    assert layers[0].any()
