"""The LSTM on torch's kernel beside our loops: padding, both directions, and which one runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.models.layers import onednn_lstm as torch_lstm
from celltune.models.layers.loop_layer import run_layer
from celltune.models.layers.onednn_lstm import faster_in_torch, run_torch_lstm
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native


def make_stack(hidden: int = 3, *, both: bool, layers: int = 1) -> RecurrentStack:
    return RecurrentStack(
        "lstm",
        4,
        hidden,
        generator=torch.Generator().manual_seed(7),
        num_layers=layers,
        bidirectional=both,
    )


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    both=st.booleans(),
    double=st.booleans(),
)
def test_states_and_gradients_are_those_of_our_loops(
    lengths: list[int], both: bool, double: bool
) -> None:
    dtype, tolerance = (torch.float64, 1e-9) if double else (torch.float32, 1e-5)
    stack = make_stack(both=both).to(dtype)
    steps = max(lengths)
    real = (torch.arange(steps)[:, None] < torch.tensor(lengths))[:, None]
    padded = None if min(lengths) == steps else real
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(steps, 4, len(lengths), dtype=dtype, generator=generator)
    inputs.requires_grad_()
    layer = stack._layer(0)
    results = []
    for states in (
        run_torch_lstm(inputs, padded, layer),
        run_layer(stack.cell.loop, inputs, padded, *stack.cell.arrange(layer)),
    ):
        kept = states.masked_fill(~real, 0)
        grads = torch.autograd.grad(kept.pow(2).sum(), [inputs, *stack.parameters()])
        results.append([kept, *grads])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("hidden", "both", "batch", "learns", "chosen"),
    [
        (3, False, 64, True, True),
        (16, True, 64, True, False),
        (16, True, 64, False, True),
        (16, True, 32, True, True),
        (32, True, 64, True, True),
    ],
)
def test_the_faster_one_runs_by_shape(
    hidden: int,
    both: bool,
    batch: int,
    learns: bool,
    chosen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[int] = []

    def run(*given: object) -> torch.Tensor:
        ran.append(1)
        return run_torch_lstm(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("celltune.models.layers.stack.run_torch_lstm", run)
    stack = make_stack(hidden, both=both)
    inputs = torch.zeros(2, 4, batch)
    with native.disabled(), torch.set_grad_enabled(learns):
        stack(inputs, None)
        assert ran == [1] * chosen
        stack.double()(inputs.double(), None)
    stack.float()(inputs, None)
    assert ran == [1] * (chosen if native.available() else 2 * chosen)


def test_without_onednn_our_loops_run(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.zeros(2, 4, 8)
    assert faster_in_torch(inputs, 64, 2)
    assert not faster_in_torch(inputs.double(), 64, 2)
    assert not faster_in_torch(inputs.to("meta"), 64, 2)
    monkeypatch.setattr(torch_lstm.torch.backends.mkldnn, "is_available", lambda: False)
    assert not faster_in_torch(inputs, 64, 2)
