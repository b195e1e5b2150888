"""Hand-written loops on a GPU: all steps of a pass are one CUDA graph, captured once per shape.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).

A step of these cells is six small GPU kernels. Launching one costs the CPU more time than the GPU
needs to run it; a graph launches thousands at once. A graph always reads and writes the same
memory, so a pass copies its inputs in, replays the graph, and copies the results out. Batches are
padded to multiples of `STEP_MULTIPLE` and `BATCH_MULTIPLE`, which does not change any result, so
that a small number of graphs is enough for batches of all shapes.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from celltune.models.layers.base import LayerWeights, LoopWeights, StepLoop
from celltune.models.layers.loop_layer import run_loop_layer
from celltune.models.layers.tf32 import float32_products

STEP_MULTIPLE, BATCH_MULTIPLE = 32, 16
"""T and B are padded to multiples of these."""
MAX_GRAPHS = 32
"""Graphs per stack of layers. The least recently used graph is dropped."""

Tensors: TypeAlias = tuple[Tensor, ...]
Capture: TypeAlias = Callable[
    [Callable[[], Tensors], torch.device], tuple[Callable[[], None], Tensors]
]
"""Captures a pass on a device. Returns a function that replays it, and the result tensors, which
every replay overwrites."""

_log = logging.getLogger(__name__)


def capture_graph(
    run: Callable[[], Tensors], device: torch.device
) -> tuple[Callable[[], None], Tensors]:
    """Capture a pass as a CUDA graph, see `Capture`.

    Args:
        run: a pass that allocates only tensors and never reads a value on the CPU.
        device: the GPU that it runs on.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()  # cuBLAS initializes itself in its first call, which cannot be captured
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = run()
    return graph.replay, outputs


@dataclass(frozen=True)
class _CapturedPass:
    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]


class GraphedLoop:
    """A `StepLoop` whose passes are captured once per shape and then replayed.

    Several threads may use it; it runs one pass at a time. If a pass cannot be captured, it logs a
    warning and runs all later passes step by step.
    """

    def __init__(self, loop: StepLoop, capture: Capture = capture_graph) -> None:
        """Create a loop without graphs.

        Args:
            loop: the loop to capture.
            capture: captures a pass.
        """
        self._loop, self._capture = loop, capture
        self.blocks, self.unbounded = loop.blocks, loop.unbounded
        self.padding_input = loop.padding_input
        self._passes: OrderedDict[tuple[object, ...], _CapturedPass] = OrderedDict()
        self._lock = threading.Lock()
        self._can_capture = True

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self._passes)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy the loop without its graphs, which belong to memory of this object."""
        return GraphedLoop, (self._loop, self._capture)

    def arrange(self, weights: Sequence[LayerWeights]) -> LoopWeights:
        """See `StepLoop.arrange`."""
        return self._loop.arrange(weights)

    def forward(self, projected: Tensor, hidden: Tensor, weights: Tensors) -> Tensors:
        """See `StepLoop.forward`."""

        def run(*tensors: Tensor) -> Tensors:
            return tensors[1], *self._loop.forward(tensors[0], tensors[1], tensors[2:])

        results = self._replay("forward", run, (projected, hidden, *weights))
        if results is None:
            return self._loop.forward(projected, hidden, weights)
        hidden.copy_(results[0])
        return results[1:]

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: Tensors, weights: Tensors
    ) -> tuple[Tensor, Tensors]:
        """See `StepLoop.backward`."""
        first_weight = 2 + len(saved)

        def run(*tensors: Tensor) -> Tensors:
            projected, grads = self._loop.backward(
                tensors[0], tensors[1], tensors[2:first_weight], tensors[first_weight:]
            )
            return projected, *grads

        results = self._replay("backward", run, (grad, hidden, *saved, *weights))
        if results is None:
            return self._loop.backward(grad, hidden, saved, weights)
        return results[0], results[1:]

    def _replay(self, name: str, run: Callable[..., Tensors], inputs: Tensors) -> Tensors | None:
        """Return new tensors with the results of a pass, or None if it cannot be captured."""
        # A graph contains the GPU kernels that were selected when it was captured.
        shapes = tuple((values.shape, values.dtype, values.device) for values in inputs)
        with self._lock, torch.inference_mode(False), torch.no_grad():
            captured = self._find_or_capture((name, float32_products(), *shapes), run, inputs)
            if captured is None:
                return None
            for target, values in zip(captured.inputs, inputs, strict=True):
                target.copy_(values)
            captured.replay()
            return tuple(values.clone() for values in captured.outputs)

    def _find_or_capture(
        self, key: tuple[object, ...], run: Callable[..., Tensors], inputs: Tensors
    ) -> _CapturedPass | None:
        if key in self._passes:
            self._passes.move_to_end(key)
            return self._passes[key]
        if not self._can_capture:
            return None
        copies = tuple(values.contiguous().clone() for values in inputs)
        try:
            replay, outputs = self._capture(lambda: run(*copies), copies[0].device)
        except RuntimeError as error:
            self._can_capture = False
            _log.warning(
                "The steps of a cell cannot be captured as a CUDA graph and are launched one by "
                "one, which is slower: %s",
                error,
            )
            return None
        while len(self._passes) >= MAX_GRAPHS:
            self._passes.popitem(last=False)
        self._passes[key] = _CapturedPass(copies, outputs, replay)
        return self._passes[key]


def run_graphed_layer(
    loop: StepLoop, inputs: Tensor, mask: Tensor | None, weights: LoopWeights
) -> Tensor:
    """Run one recurrent layer like `run_loop_layer`, with the batch padded to one of few shapes.

    Args:
        loop: a `GraphedLoop`.
        inputs: (T, I, B).
        mask: (T, 1, B) bool, False at padding, which comes last; None if there is no padding.
        weights: as arranged by `loop`.

    Returns:
        (T, D * H, B), the states in time order. Values at padding are unspecified.
    """
    steps, _, batch = inputs.shape
    missing_steps, missing_columns = -steps % STEP_MULTIPLE, -batch % BATCH_MULTIPLE
    if mask is None:
        mask = inputs.new_ones(steps, 1, batch, dtype=torch.bool)
    # Additional columns count as tokens and are dropped at the end. Additional steps are padding.
    mask = functional.pad(mask, (0, missing_columns), value=True)
    mask = functional.pad(mask, (0, 0, 0, 0, 0, missing_steps))
    inputs = functional.pad(inputs, (0, missing_columns, 0, 0, 0, missing_steps))
    return run_loop_layer(loop, inputs, mask, weights)[:steps, :, :batch]
