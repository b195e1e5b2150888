"""The logic around CUDA graphs, with a capture function that works on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from celltune.models.extensions import CELLS
from celltune.models.layers import cuda_graphs
from celltune.models.layers.cuda_graphs import GraphedLoop, Tensors, run_graphed_layer
from celltune.models.layers.loop_layer import run_loop_layer
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native
from celltune.models.training.precision import tf32_products


def capture(run: Callable[[], Tensors], device: torch.device) -> tuple[Callable[[], None], Tensors]:
    """Repeat the same operations from the same memory into the same memory, like a CUDA graph."""
    assert device == torch.device("cpu")
    outputs = run()

    def replay() -> None:
        for target, values in zip(outputs, [new.clone() for new in run()], strict=True):
            target.copy_(values)

    return replay, outputs


def make_stack(cell: str, layers: int, bidirectional: bool) -> RecurrentStack:
    return RecurrentStack(
        CELLS.load(cell)(),
        4,
        3,
        generator=torch.Generator().manual_seed(7),
        num_layers=layers,
        bidirectional=bidirectional,
    ).double()


def run_both(
    stack: RecurrentStack, loop: GraphedLoop, lengths: list[int], seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return states and gradients of a stack on a graphed loop, and of the same on plain loops."""
    steps = max(lengths)
    full = min(lengths) == steps
    mask = None if full else (torch.arange(steps)[:, None] < torch.tensor(lengths))[:, None]
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(steps, 4, len(lengths), dtype=torch.float64, generator=generator)
    inputs.requires_grad_()
    results = []
    for graphs in (True, False):
        states = inputs
        for layer in stack.layer_weights():
            weights = stack.cell.loop.arrange(layer)
            if graphs:
                states = run_graphed_layer(loop, states, mask, weights)
            else:
                states = run_loop_layer(stack.cell.loop, states, mask, weights)
        known = states if mask is None else states.masked_fill(~mask, 0)
        grads = torch.autograd.grad(known.pow(2).sum(), [inputs, *stack.parameters()])
        results.append([known.detach(), *grads])
    return results[0], results[1]


@pytest.mark.parametrize("cell", CELLS.names())
@settings(max_examples=8, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
)
def test_replayed_states_and_gradients_equal_those_of_the_loop(
    cell: str, batches: list[list[int]], layers: int, bidirectional: bool
) -> None:
    stack = make_stack(cell, layers, bidirectional)
    loop = GraphedLoop(stack.cell.loop, capture)
    for seed, lengths in enumerate(batches):
        for actual, wanted in zip(*run_both(stack, loop, lengths, seed), strict=True):
            torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12)


def test_batches_of_many_shapes_share_few_graphs() -> None:
    stack = make_stack("mgu", 1, True)
    loop = GraphedLoop(stack.cell.loop, capture)
    for seed, lengths in enumerate(([3], [7, 2], [32, 5, 6], [1] * 16)):
        run_both(stack, loop, lengths, seed)
    assert len(loop) == 2  # one forward, one backward: up to 32 steps and 16 documents
    run_both(stack, loop, [33], 5)
    run_both(stack, loop, [3] * 17, 6)
    assert len(loop) == 6


def test_least_recently_used_graph_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    captured: list[int] = []

    def counting(
        run: Callable[[], Tensors], device: torch.device
    ) -> tuple[Callable[[], None], Tensors]:
        captured.append(1)
        return capture(run, device)

    stack = make_stack("mgu", 1, False)
    loop = GraphedLoop(stack.cell.loop, counting)
    for steps, count in ((3, 2), (5, 2), (40, 4), (3, 6)):
        run_both(stack, loop, [steps], 1)
        assert (len(loop), len(captured)) == (2, count)


def test_graph_captured_in_evaluation_is_used_in_training() -> None:
    stack = make_stack("gru_reset_before", 1, True)
    loop = GraphedLoop(stack.cell.loop, capture)
    weights = stack.cell.loop.arrange(stack.layer_weights()[0])
    with torch.inference_mode():
        run_graphed_layer(loop, torch.ones(3, 4, 2, dtype=torch.float64), None, weights)
    for actual, wanted in zip(*run_both(stack, loop, [3, 2], 1), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12)


def test_graphs_are_separate_for_each_tf32_setting() -> None:
    stack = make_stack("mgu", 1, False)
    loop = GraphedLoop(stack.cell.loop, capture)
    for precision, count in (("float32", 2), ("tf32", 4), ("float32", 4)):
        with tf32_products(precision):
            run_both(stack, loop, [3], 1)
        assert len(loop) == count


def test_loop_runs_if_capturing_fails(caplog: pytest.LogCaptureFixture) -> None:
    def broken(
        run: Callable[[], Tensors], device: torch.device
    ) -> tuple[Callable[[], None], Tensors]:
        raise RuntimeError("operation not permitted when stream is capturing")

    stack = make_stack("mgu", 2, True)
    loop = GraphedLoop(stack.cell.loop, broken)
    for actual, wanted in zip(*run_both(stack, loop, [4, 2], 1), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12)
    assert [entry.message for entry in caplog.records] == [
        "The steps of a cell cannot be captured as a CUDA graph and are launched one by one, "
        "which is slower: "
        "operation not permitted when stream is capturing"
    ]


def test_copy_of_a_model_has_no_graphs() -> None:
    stack = make_stack("mgu", 1, False)
    loop = GraphedLoop(stack.cell.loop, capture)
    run_both(stack, loop, [3], 1)
    assert len(copy.deepcopy(loop)) == 0
    copied = copy.deepcopy(stack)
    assert all(map(torch.equal, copied.parameters(), stack.parameters()))


def test_hand_written_loops_are_graphed_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu(Tensor):
        @property
        def is_cuda(self) -> bool:
            return True

        def to(self, *_: object, **__: object) -> OnGpu:
            return self

    seen: list[object] = []

    def run(loop: GraphedLoop, *arguments: object) -> Tensor:
        seen.append(loop)
        return torch.zeros(2, 3, 5)

    monkeypatch.setattr("celltune.models.layers.stack.run_graphed_layer", run)
    stack = make_stack("mgu", 2, False).float()
    inputs = torch.zeros(2, 4, 5).as_subclass(OnGpu)
    with native.disabled():
        stack(inputs, None)
    assert seen == [stack._graphed_loop]  # the second layer reads a tensor on the CPU
