"""The LSTM of oneDNN: agreement with the loop, padding, and when it is used."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.models.layers import onednn_lstm
from celltune.models.layers.cells import LstmCell
from celltune.models.layers.loop_layer import run_loop_layer
from celltune.models.layers.onednn_lstm import onednn_is_faster, run_onednn_lstm
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native


def make_stack(hidden: int = 3, *, bidirectional: bool) -> RecurrentStack:
    return RecurrentStack(
        LstmCell(),
        4,
        hidden,
        generator=torch.Generator().manual_seed(7),
        bidirectional=bidirectional,
    )


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    bidirectional=st.booleans(),
    double=st.booleans(),
)
def test_states_and_gradients_equal_those_of_the_loop(
    lengths: list[int], bidirectional: bool, double: bool
) -> None:
    dtype, tolerance = (torch.float64, 1e-9) if double else (torch.float32, 1e-5)
    stack = make_stack(bidirectional=bidirectional).to(dtype)
    steps = max(lengths)
    mask = (torch.arange(steps)[:, None] < torch.tensor(lengths))[:, None]
    mask_or_none = None if min(lengths) == steps else mask
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(steps, 4, len(lengths), dtype=dtype, generator=generator)
    inputs.requires_grad_()
    weights = stack.layer_weights()[0]
    results = []
    for states in (
        run_onednn_lstm(inputs, mask_or_none, weights),
        run_loop_layer(LstmCell.loop, inputs, mask_or_none, LstmCell.loop.arrange(weights)),
    ):
        known = states.masked_fill(~mask, 0)
        grads = torch.autograd.grad(known.pow(2).sum(), [inputs, *stack.parameters()])
        results.append([known, *grads])
    for actual, wanted in zip(*results, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("hidden", "bidirectional", "batch", "training", "chosen"),
    [
        (3, False, 64, True, True),
        (16, True, 64, True, False),
        (16, True, 64, False, True),
        (16, True, 32, True, True),
        (32, True, 64, True, True),
    ],
)
def test_implementation_is_chosen_by_shape(
    hidden: int,
    bidirectional: bool,
    batch: int,
    training: bool,
    chosen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[int] = []

    def run(*arguments: object) -> torch.Tensor:
        ran.append(1)
        return run_onednn_lstm(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("celltune.models.layers.stack.run_onednn_lstm", run)
    stack = make_stack(hidden, bidirectional=bidirectional)
    inputs = torch.zeros(2, 4, batch)
    with native.disabled(), torch.set_grad_enabled(training):
        stack(inputs, None)
        assert ran == [1] * chosen
        stack.double()(inputs.double(), None)
    stack.float()(inputs, None)
    assert ran == [1] * (chosen if native.available() else 2 * chosen)


def test_onednn_is_used_only_for_float32_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.zeros(2, 4, 8)
    assert onednn_is_faster(inputs, 64, 2)
    assert not onednn_is_faster(inputs.double(), 64, 2)
    assert not onednn_is_faster(inputs.to("meta"), 64, 2)
    monkeypatch.setattr(onednn_lstm.torch.backends.mkldnn, "is_available", lambda: False)
    assert not onednn_is_faster(inputs, 64, 2)
