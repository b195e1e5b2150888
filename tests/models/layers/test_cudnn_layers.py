"""The layers of cuDNN, run by the same PyTorch functions on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from celltune.models.layers.base import Cell
from celltune.models.layers.cells import GruCell, LstmCell, RnnCell
from celltune.models.layers.cudnn_layers import is_bfloat16, run_cudnn_layers, torch_layer
from celltune.models.layers.stack import RecurrentStack

LENGTHS = torch.tensor([6, 1, 4, 6])
CUDNN_CELLS: dict[str, Cell] = {
    "rnn": RnnCell(),
    "lstm": LstmCell(),
    "gru": GruCell(),
}


def make_mask() -> Tensor:
    """Return (T, 1, B) for documents of the lengths `LENGTHS`."""
    return (torch.arange(6)[:, None] < LENGTHS)[:, None]


def make_stack(cell: Cell, layers: int, bidirectional: bool) -> RecurrentStack:
    return RecurrentStack(
        cell,
        4,
        3,
        generator=torch.Generator().manual_seed(7),
        num_layers=layers,
        bidirectional=bidirectional,
    ).double()


@pytest.mark.parametrize("name", CUDNN_CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_and_gradients_equal_those_of_the_loops(
    name: str, layers: int, bidirectional: bool
) -> None:
    stack = make_stack(CUDNN_CELLS[name], layers, bidirectional)
    mask = make_mask()
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(6, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    function, weights = stack.cell.torch_function, stack.layer_weights()
    layers_of_torch = run_cudnn_layers(function, inputs, mask, weights, lambda values: values)
    assert all(states.isfinite().all() for states in layers_of_torch)
    cudnn = [states.masked_fill(~mask, 0) for states in layers_of_torch]
    ours = [states.masked_fill(~mask, 0) for states in stack.all_states(inputs, mask)]
    sources = [inputs, *stack.parameters()]
    for actual, wanted in zip(cudnn, ours, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-9)
    gradients = [torch.autograd.grad(s[-1].pow(2).sum(), sources) for s in (cudnn, ours)]
    for actual, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-9)


def test_dropout_is_applied_only_between_layers() -> None:
    seen: list[Tensor] = []
    stack = make_stack(GruCell(), 3, False)
    weights = stack.layer_weights()

    def drop(values: Tensor) -> Tensor:
        seen.append(values)
        return torch.zeros_like(values)

    layers = run_cudnn_layers("gru", torch.zeros(6, 4, 4).double(), make_mask(), weights, drop)
    # The shape that the loops drop from, so that the same values are dropped.
    assert [values.shape for values in seen] == [(6, 3, 4), (6, 3, 4)]
    assert layers[0].any()


@pytest.mark.parametrize("name", CUDNN_CELLS)
def test_padding_changes_neither_states_nor_gradients(name: str) -> None:
    stack = make_stack(CUDNN_CELLS[name], 2, True)
    function, weights, mask = stack.cell.torch_function, stack.layer_weights(), make_mask()
    inputs = torch.randn(6, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    results = []
    for padding in (0.0, 1e6):
        leaf = inputs.masked_fill(~mask, padding).requires_grad_()
        states = run_cudnn_layers(function, leaf, mask, weights, lambda values: values)[-1]
        masked = states.masked_fill(~mask, 0)
        grads = torch.autograd.grad(masked.pow(2).sum(), [leaf, *stack.parameters()])
        assert not grads[0].masked_fill(mask, 0).any()
        results.append([masked, *grads])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", CUDNN_CELLS)
def test_documents_of_one_length_need_no_mask(name: str) -> None:
    stack = make_stack(CUDNN_CELLS[name], 2, True)
    inputs = torch.randn(6, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    states = [
        run_cudnn_layers(
            stack.cell.torch_function, inputs, mask, stack.layer_weights(), lambda values: values
        )
        for mask in (None, torch.ones(6, 1, 4, dtype=torch.bool))
    ]
    for unmasked, masked in zip(*states, strict=True):
        assert torch.equal(unmasked, masked)


def test_unbounded_states_do_not_run_on_cudnn() -> None:
    assert RnnCell().torch_function == "rnn_tanh"
    assert RnnCell("relu").torch_function is None


@pytest.mark.parametrize("name", CUDNN_CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torch_layer_has_the_same_parameters(name: str, bidirectional: bool) -> None:
    stack = make_stack(CUDNN_CELLS[name], 1, bidirectional)
    module = torch_layer(stack.cell.torch_function, stack.layer_weights()[0])
    assert {id(values) for values in module.parameters()} == set(map(id, stack.parameters()))
    inputs = torch.ones(3, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(
        module(inputs.transpose(1, 2))[0].transpose(1, 2), stack(inputs, None), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bfloat16_is_recognized(dtype: torch.dtype) -> None:
    assert not is_bfloat16("cpu")
    with torch.autocast("cpu", dtype):
        assert is_bfloat16("cpu") == (dtype == torch.bfloat16)
        with torch.autocast("cpu", enabled=False):
            assert not is_bfloat16("cpu")
