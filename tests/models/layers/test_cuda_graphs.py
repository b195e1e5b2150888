"""The logic around CUDA graphs, with a recorder that overwrites its results as a graph does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from celltune.models.layers import cuda_graphs as graphed
from celltune.models.layers.cells import CELLS
from celltune.models.layers.cuda_graphs import GraphedLoop, Tensors, run_graphed_layer
from celltune.models.layers.loop_layer import run_layer
from celltune.models.layers.stack import RecurrentStack
from celltune.models.native import library as native
from celltune.models.training.precision import tensor_cores


def record(run: Callable[[], Tensors], device: torch.device) -> tuple[Callable[[], None], Tensors]:
    """What a graph does: the same operations from the same memory into the same memory."""
    assert device == torch.device("cpu")
    outputs = run()

    def replay() -> None:
        for mine, values in zip(outputs, [new.clone() for new in run()], strict=True):
            mine.copy_(values)

    return replay, outputs


def make_stack(cell: str, layers: int, both: bool) -> RecurrentStack:
    generator = torch.Generator().manual_seed(7)
    stack = RecurrentStack(cell, 4, 3, generator=generator, num_layers=layers, bidirectional=both)
    return stack.double()


def run_both(
    stack: RecurrentStack, loop: GraphedLoop, lengths: list[int], seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """States and gradients of a stack whose layers share a graphed loop, and of plain loops."""
    steps = max(lengths)
    full = min(lengths) == steps
    real = None if full else (torch.arange(steps)[:, None] < torch.tensor(lengths))[:, None]
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(steps, 4, len(lengths), dtype=torch.float64, generator=generator)
    inputs.requires_grad_()
    results = []
    for graphs in (True, False):
        states = inputs
        for layer in range(stack.num_layers):
            weights = stack.cell.arrange(stack._layer(layer))
            if graphs:
                states = run_graphed_layer(loop, states, real, weights)
            else:
                states = run_layer(stack.cell.loop, states, real, *weights)
        kept = states if real is None else states.masked_fill(~real, 0)
        grads = torch.autograd.grad(kept.pow(2).sum(), [inputs, *stack.parameters()])
        results.append([kept.detach(), *grads])
    return results[0], results[1]


@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=8, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    layers=st.integers(1, 2),
    both=st.booleans(),
)
def test_replayed_states_and_gradients_are_those_of_the_loop(
    cell: str, batches: list[list[int]], layers: int, both: bool
) -> None:
    stack = make_stack(cell, layers, both)
    loop = GraphedLoop(stack.cell.loop, record)
    for seed, lengths in enumerate(batches):
        for got, wanted in zip(*run_both(stack, loop, lengths, seed), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_batches_of_many_shapes_share_few_graphs() -> None:
    stack = make_stack("mgu", 1, True)
    loop = GraphedLoop(stack.cell.loop, record)
    for seed, lengths in enumerate(([3], [7, 2], [32, 5, 6], [1] * 16)):
        run_both(stack, loop, lengths, seed)
    assert len(loop) == 2  # one forward, one backward: up to 32 steps and 16 reviews
    run_both(stack, loop, [33], 5)
    run_both(stack, loop, [3] * 17, 6)
    assert len(loop) == 6


def test_the_graph_that_was_used_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed, "KEPT", 2)
    recorded: list[int] = []

    def counting(
        run: Callable[[], Tensors], device: torch.device
    ) -> tuple[Callable[[], None], Tensors]:
        recorded.append(1)
        return record(run, device)

    stack = make_stack("mgu", 1, False)
    loop = GraphedLoop(stack.cell.loop, counting)
    for steps, count in ((3, 2), (5, 2), (40, 4), (3, 6)):
        run_both(stack, loop, [steps], 1)
        assert (len(loop), len(recorded)) == (2, count)


def test_what_was_recorded_in_evaluation_serves_training() -> None:
    stack = make_stack("gru_reset_before", 1, True)
    loop = GraphedLoop(stack.cell.loop, record)
    weights = stack.cell.arrange(stack._layer(0))
    with torch.inference_mode():
        run_graphed_layer(loop, torch.ones(3, 4, 2, dtype=torch.float64), None, weights)
    for got, wanted in zip(*run_both(stack, loop, [3, 2], 1), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_a_new_setting_of_tensor_cores_is_recorded_anew() -> None:
    stack = make_stack("mgu", 1, False)
    loop = GraphedLoop(stack.cell.loop, record)
    for precision, count in (("float32", 2), ("tf32", 4), ("float32", 4)):
        with tensor_cores(precision):
            run_both(stack, loop, [3], 1)
        assert len(loop) == count


def test_where_nothing_can_be_recorded_the_loop_runs(caplog: pytest.LogCaptureFixture) -> None:
    def broken(
        run: Callable[[], Tensors], device: torch.device
    ) -> tuple[Callable[[], None], Tensors]:
        raise RuntimeError("operation not permitted when stream is capturing")

    stack = make_stack("mgu", 2, True)
    loop = GraphedLoop(stack.cell.loop, broken)
    for got, wanted in zip(*run_both(stack, loop, [4, 2], 1), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    assert [entry.message for entry in caplog.records] == [
        "The steps of a cell can't be recorded, each is launched alone: "
        "operation not permitted when stream is capturing"
    ]


def test_a_copy_of_a_model_records_its_own() -> None:
    stack = make_stack("mgu", 1, False)
    loop = GraphedLoop(stack.cell.loop, record)
    run_both(stack, loop, [3], 1)
    assert len(copy.deepcopy(loop)) == 0
    copied = copy.deepcopy(stack)
    assert all(map(torch.equal, copied.parameters(), stack.parameters()))


def test_a_gpus_layers_of_own_cells_are_graphed(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu(Tensor):
        @property
        def is_cuda(self) -> bool:
            return True

        def to(self, *_: object, **__: object) -> OnGpu:
            return self

    seen: list[object] = []

    def run(loop: GraphedLoop, *given: object) -> Tensor:
        seen.append(loop)
        return torch.zeros(2, 3, 5)

    monkeypatch.setattr("celltune.models.layers.stack.run_graphed_layer", run)
    stack = make_stack("mgu", 2, False).float()
    inputs = torch.zeros(2, 4, 5).as_subclass(OnGpu)
    with native.disabled():
        stack(inputs, None, lengths=torch.tensor([2] * 5))
    assert seen == [stack._graphed]  # the second layer reads what isn't marked as on a GPU
