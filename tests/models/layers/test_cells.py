"""One contract for every cell of the registry, native and not. Shapes as in models.kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from celltune.models.config import CELL_NAMES
from celltune.models.layers.cells import CELLS
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native
from tests.models.plain_loops import STEPS, plain_stack

SHAPES = [(1, False), (1, True), (2, False), (2, True)]
TORCH = {
    "rnn": nn.RNN,
    "rnn_relu": functools.partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
KINDS = (*CELLS, "rnn_relu")
"""Every cell, and ``rnn`` with its other nonlinearity."""
LENGTHS = torch.tensor([6, 1, 4, 6])
FEATURES, HIDDEN = 4, 3


@pytest.fixture(autouse=True, scope="module", params=["native", "fallback"])
def _loops(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "fallback":
        with native.disabled():
            yield
    elif native.available():
        yield
    else:
        pytest.skip("no C++ compiler here")


def make_stack(cell: str, layers: int, both: bool, dtype: torch.dtype) -> RecurrentStack:
    name, nonlinearity = ("rnn", "relu") if cell == "rnn_relu" else (cell, "tanh")
    stack = RecurrentStack(
        name,
        FEATURES,
        HIDDEN,
        generator=torch.Generator().manual_seed(7),
        num_layers=layers,
        bidirectional=both,
        nonlinearity=nonlinearity,
    )
    return stack.to(dtype)


def make_inputs(lengths: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(T, B, I) inputs with noise in the padding too, and the (T, 1, B) map of real words."""
    steps = int(lengths.max())
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(steps, len(lengths), FEATURES, dtype=dtype, generator=generator)
    return inputs, (torch.arange(steps)[:, None] < lengths)[:, None]


def test_a_config_can_name_every_cell() -> None:
    assert tuple(CELLS) == CELL_NAMES


def test_every_cell_has_a_reference() -> None:
    assert set(STEPS) == set(KINDS)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_values_and_gradients_agree_with_a_plain_loop(cell: str, layers: int, both: bool) -> None:
    stack = make_stack(cell, layers, both, torch.float64)
    inputs, real = make_inputs(LENGTHS, torch.float64)
    inputs.requires_grad_()
    weights = dict(stack.named_parameters())
    ours = stack(inputs.transpose(1, 2), real)  # (T, D * H, B)
    loss, expected_loss = inputs.new_zeros(()), inputs.new_zeros(())
    for b, length in enumerate(LENGTHS.tolist()):
        expected = plain_stack(cell, inputs[:length, b], weights, layers, stack.suffixes)
        torch.testing.assert_close(ours[:length, :, b], expected, rtol=0, atol=1e-12)
        loss = loss + ours[:length, :, b].pow(2).sum()
        expected_loss = expected_loss + expected.pow(2).sum()
    sources = [inputs, *weights.values()]
    for got, wanted in zip(
        torch.autograd.grad(loss, sources), torch.autograd.grad(expected_loss, sources), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("cell", TORCH)
@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_agrees_with_torch_packed_on_torchs_own_weights(cell: str, layers: int, both: bool) -> None:
    stack = make_stack(cell, layers, both, torch.float32)
    peer = TORCH[cell](FEATURES, HIDDEN, layers, bidirectional=both)
    stack.load_state_dict(peer.state_dict())
    inputs, real = make_inputs(LENGTHS, torch.float32)
    inputs.requires_grad_()
    packed = nn.utils.rnn.pack_padded_sequence(inputs, LENGTHS, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(peer(packed)[0])  # (T, B, D * H)
    expected = expected.transpose(1, 2)
    ours = stack(inputs.transpose(1, 2), real).masked_fill(~real, 0)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    names = [name for name, _ in stack.named_parameters()]
    theirs = dict(peer.named_parameters())
    got = torch.autograd.grad(ours.pow(2).sum(), [inputs, *stack.parameters()])
    wanted = torch.autograd.grad(expected.pow(2).sum(), [inputs, *(theirs[n] for n in names)])
    for mine, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    peer.load_state_dict(stack.state_dict())


@pytest.mark.parametrize("cell", KINDS)
def test_gradcheck(cell: str) -> None:
    stack = make_stack(cell, 1, True, torch.float64)
    inputs, real = make_inputs(torch.tensor([3, 2]), torch.float64)
    names = [name for name, _ in stack.named_parameters()]

    def run(values: Tensor, *weights: Tensor) -> Tensor:
        named = dict(zip(names, weights, strict=True))
        states: Tensor = torch.func.functional_call(stack, named, (values, real))
        return states.masked_fill(~real, 0)

    values = inputs.transpose(1, 2).contiguous().requires_grad_()
    assert torch.autograd.gradcheck(run, (values, *stack.parameters()), fast_mode=True)


@pytest.mark.parametrize("cell", KINDS)
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    layers=st.integers(1, 3),
    both=st.booleans(),
)
def test_a_review_reads_the_same_alone_and_in_any_batch(
    cell: str, lengths: list[int], layers: int, both: bool
) -> None:
    stack = make_stack(cell, layers, both, torch.float32)
    inputs, real = make_inputs(torch.tensor(lengths), torch.float32)
    together = stack(inputs.transpose(1, 2), real)
    for b, length in enumerate(lengths):
        alone = stack(inputs[:length, b : b + 1].transpose(1, 2), None)
        torch.testing.assert_close(together[:length, :, b : b + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", KINDS)
def test_long_reviews_in_chunks_have_the_gradients_of_one_chunk(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(cell, 1, True, torch.float64)
    inputs, real = make_inputs(torch.tensor([7, 5]), torch.float64)

    def gradients() -> tuple[Tensor, ...]:
        states = stack(inputs.transpose(1, 2), real).masked_fill(~real, 0)
        return torch.autograd.grad(states.pow(2).sum(), list(stack.parameters()))

    whole = gradients()
    monkeypatch.setattr("celltune.models.layers.standard_loops.CHUNK_ELEMENTS", 2 * HIDDEN * 2 * 3)
    for chunked, expected in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(chunked, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reviews", [15, 16])
def test_states_that_explode_where_nothing_is_read_leave_gradients_finite(reviews: int) -> None:
    stack = make_stack("rnn_relu", 1, False, torch.float32)
    with torch.no_grad():
        for name, values in stack.named_parameters():
            values.abs_().mul_(9 if "hh" in name else 1)
    lengths = torch.full((reviews,), 120)
    lengths[0] = 120 if reviews == 15 else 3
    inputs, real = make_inputs(lengths, torch.float32)
    # Words keep the state at zero, padding lets it grow.
    inputs = torch.where(real.transpose(1, 2), -1e3, torch.zeros_like(inputs))
    states = stack(inputs.transpose(1, 2), None if reviews == 15 else real)
    states[lengths - 1, :, torch.arange(reviews)].sum().backward()
    assert all(values.grad.isfinite().all() for values in stack.parameters())
