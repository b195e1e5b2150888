"""The contract of cells for all built-in cells, with and without native loops."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from celltune.models.extensions import CELLS
from celltune.models.layers.base import Cell
from celltune.models.layers.cells import RnnCell
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native
from celltune.testing.cell import FEATURES, HIDDEN, LENGTHS, SHAPES, CellContract, make_inputs

TORCH_MODULES = {
    "rnn": nn.RNN,
    "rnn_relu": functools.partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
BUILTIN_CELLS = (*CELLS.names(), "rnn_relu")
"""The built-in cells, and `rnn` with ReLU."""


@pytest.fixture(autouse=True, scope="module", params=["native", "fallback"])
def _loops(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "fallback":
        with native.disabled():
            yield
    elif native.available():
        yield
    else:
        pytest.skip("no C++ compiler")


class TestRnn(CellContract):
    cell = "rnn"


class TestRnnWithRelu(CellContract):
    cell = "rnn"
    settings = {"nonlinearity": "relu"}  # noqa: RUF012 (never changed)


class TestLstm(CellContract):
    cell = "lstm"


class TestGru(CellContract):
    cell = "gru"


class TestGruResetBefore(CellContract):
    cell = "gru_reset_before"


class TestMgu(CellContract):
    cell = "mgu"


def make_cell(name: str) -> Cell:
    return RnnCell("relu") if name == "rnn_relu" else CELLS.load(name)()


def make_stack(cell: str, layers: int, bidirectional: bool, dtype: torch.dtype) -> RecurrentStack:
    return RecurrentStack(
        make_cell(cell),
        FEATURES,
        HIDDEN,
        generator=torch.Generator().manual_seed(7),
        num_layers=layers,
        bidirectional=bidirectional,
    ).to(dtype)


@pytest.mark.parametrize("cell", TORCH_MODULES)
@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
def test_equals_the_torch_module_with_the_same_weights(
    cell: str, layers: int, bidirectional: bool
) -> None:
    stack = make_stack(cell, layers, bidirectional, torch.float32)
    module = TORCH_MODULES[cell](FEATURES, HIDDEN, layers, bidirectional=bidirectional)
    stack.load_state_dict(module.state_dict())
    inputs, mask = make_inputs(LENGTHS, torch.float32)
    inputs.requires_grad_()
    packed = nn.utils.rnn.pack_padded_sequence(inputs, LENGTHS, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(module(packed)[0])  # (T, B, D * H)
    expected = expected.transpose(1, 2)
    states = stack(inputs.transpose(1, 2), mask).masked_fill(~mask, 0)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)
    names = [name for name, _ in stack.named_parameters()]
    module_parameters = dict(module.named_parameters())
    actual = torch.autograd.grad(states.pow(2).sum(), [inputs, *stack.parameters()])
    wanted = torch.autograd.grad(
        expected.pow(2).sum(), [inputs, *(module_parameters[name] for name in names)]
    )
    for ours, theirs in zip(actual, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    module.load_state_dict(stack.state_dict())


@pytest.mark.parametrize("cell", BUILTIN_CELLS)
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
)
def test_document_has_the_same_states_alone_and_in_any_batch(
    cell: str, lengths: list[int], layers: int, bidirectional: bool
) -> None:
    stack = make_stack(cell, layers, bidirectional, torch.float32)
    inputs, mask = make_inputs(torch.tensor(lengths), torch.float32)
    together = stack(inputs.transpose(1, 2), mask)
    for b, length in enumerate(lengths):
        alone = stack(inputs[:length, b : b + 1].transpose(1, 2), None)
        torch.testing.assert_close(together[:length, :, b : b + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", BUILTIN_CELLS)
def test_gradients_do_not_depend_on_the_chunk_size(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(cell, 1, True, torch.float64)
    inputs, mask = make_inputs(torch.tensor([7, 5]), torch.float64)

    def gradients() -> tuple[Tensor, ...]:
        states = stack(inputs.transpose(1, 2), mask).masked_fill(~mask, 0)
        return torch.autograd.grad(states.pow(2).sum(), list(stack.parameters()))

    one_chunk = gradients()
    monkeypatch.setattr("celltune.models.layers.standard_loops.CHUNK_ELEMENTS", 2 * HIDDEN * 2 * 3)
    for chunked, expected in zip(gradients(), one_chunk, strict=True):
        torch.testing.assert_close(chunked, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("documents", [15, 16])
def test_infinite_states_at_padding_leave_gradients_finite(documents: int) -> None:
    stack = make_stack("rnn_relu", 1, False, torch.float32)
    with torch.no_grad():
        for name, values in stack.named_parameters():
            values.abs_().mul_(9 if "hh" in name else 1)
    lengths = torch.full((documents,), 120)
    lengths[0] = 120 if documents == 15 else 3
    inputs, mask = make_inputs(lengths, torch.float32)
    # Tokens keep the state at zero; padding lets it grow.
    inputs = torch.where(mask.transpose(1, 2), -1e3, torch.zeros_like(inputs))
    states = stack(inputs.transpose(1, 2), None if documents == 15 else mask)
    states[lengths - 1, :, torch.arange(documents)].sum().backward()
    assert all(values.grad.isfinite().all() for values in stack.parameters())


class StepOnlyCell(Cell):
    """A cell with nothing but a step, which a third party would write."""

    gates = ("h",)

    def step(
        self,
        projected: Tensor,
        state: tuple[Tensor, ...],
        weight_hh: Tensor,
        bias_hh: Tensor | None,
    ) -> tuple[Tensor, ...]:
        return (torch.relu(projected + state[0] @ weight_hh.t()),)


def test_cell_without_a_loop_ignores_non_finite_padding() -> None:
    stack = RecurrentStack(
        StepOnlyCell(),
        FEATURES,
        HIDDEN,
        generator=torch.Generator().manual_seed(7),
        num_layers=2,
        bidirectional=True,
    )
    inputs, mask = make_inputs(LENGTHS, torch.float32)
    padded = inputs.masked_fill(~mask.transpose(1, 2), torch.inf)
    expected, states = (stack(values.transpose(1, 2), mask) for values in (inputs, padded))
    torch.testing.assert_close(states.masked_fill(~mask, 0), expected.masked_fill(~mask, 0))
    states.masked_fill(~mask, 0).sum().backward()
    assert all(values.grad.isfinite().all() for values in stack.parameters())
