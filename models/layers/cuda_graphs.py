"""Own cells on a GPU: all steps of a pass as one CUDA graph, recorded once a shape.

Shapes: T time, B batch, I input features, H hidden, D directions (1 or 2).

A step of these cells is six small kernels. Launched one by one, each costs the CPU more time than
it takes the GPU; a graph launches thousands at once. It reads and writes the same memory each time,
so a pass copies in what it is given, replays, and copies out what came of it. Batches differ in
shape: they are padded to multiples of ``STEPS`` and ``COLUMNS``, which changes no result, so that
few graphs serve them all.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from celltune.models.layers.cells import LoopWeights
from celltune.models.layers.loop_layer import StepLoop, run_layer

STEPS, COLUMNS = 32, 16
"""Batches are padded to multiples of these: T and B."""
KEPT = 32
"""Graphs of one stack of layers; the one that was used longest ago makes room."""

Tensors: TypeAlias = tuple[Tensor, ...]
Record: TypeAlias = Callable[
    [Callable[[], Tensors], torch.device], tuple[Callable[[], None], Tensors]
]
"""What makes a pass on a device repeatable: it runs it, and gives what runs it again and where its
results stand, which each run overwrites."""

_log = logging.getLogger(__name__)


def record_graph(
    run: Callable[[], Tensors], device: torch.device
) -> tuple[Callable[[], None], Tensors]:
    """Record a pass as a CUDA graph, see ``Record``.

    Args:
        run: a pass that allocates nothing but tensors and never looks at a value.
        device: the GPU that it runs on.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()  # what cuBLAS sets up at its first call can't be recorded
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = run()
    return graph.replay, outputs


@dataclass(frozen=True)
class _Recorded:
    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]


class GraphedLoop:
    """A ``StepLoop`` whose passes are recorded once a shape and replayed from then on.

    Safe to use from several threads, one pass at a time. If a pass can't be recorded, a warning
    says so and the loop runs step by step from then on.
    """

    def __init__(self, loop: StepLoop, record: Record = record_graph) -> None:
        """Record nothing yet.

        Args:
            loop: what to record.
            record: how.
        """
        self._loop, self._record = loop, record
        self.blocks, self.hold, self.unbounded = loop.blocks, loop.hold, loop.unbounded
        self._known: OrderedDict[tuple[object, ...], _Recorded] = OrderedDict()
        self._lock = threading.Lock()
        self._works = True

    def __len__(self) -> int:
        """How many graphs are kept."""
        return len(self._known)

    def __reduce__(self) -> tuple[object, ...]:
        """A copy of a model records its own graphs."""
        return GraphedLoop, (self._loop, self._record)

    def forward(self, projected: Tensor, hidden: Tensor, weights: Tensors) -> Tensors:
        """See ``StepLoop.forward``."""

        def run(*given: Tensor) -> Tensors:
            return given[1], *self._loop.forward(given[0], given[1], given[2:])

        done = self._replayed("forward", run, (projected, hidden, *weights))
        if done is None:
            return self._loop.forward(projected, hidden, weights)
        hidden.copy_(done[0])
        return done[1:]

    def backward(
        self, grad: Tensor, hidden: Tensor, saved: Tensors, weights: Tensors
    ) -> tuple[Tensor, Tensors]:
        """See ``StepLoop.backward``."""

        def run(*given: Tensor) -> Tensors:
            kept, own = given[2 : 2 + len(saved)], given[2 + len(saved) :]
            projected, grads = self._loop.backward(given[0], given[1], kept, own)
            return projected, *grads

        done = self._replayed("backward", run, (grad, hidden, *saved, *weights))
        if done is None:
            return self._loop.backward(grad, hidden, saved, weights)
        return done[0], done[1:]

    def _replayed(self, name: str, run: Callable[..., Tensors], given: Tensors) -> Tensors | None:
        """What the pass gives, in memory of its own; None if it can't be recorded."""
        # A graph holds the kernels that were chosen when it was recorded.
        setting = torch.backends.cuda.matmul.allow_tf32
        shapes = tuple((values.shape, values.dtype, values.device) for values in given)
        with self._lock, torch.inference_mode(False), torch.no_grad():
            recorded = self._find((name, setting, *shapes), run, given)
            if recorded is None:
                return None
            for mine, values in zip(recorded.inputs, given, strict=True):
                mine.copy_(values)
            recorded.replay()
            return tuple(values.clone() for values in recorded.outputs)

    def _find(
        self, key: tuple[object, ...], run: Callable[..., Tensors], given: Tensors
    ) -> _Recorded | None:
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        if not self._works:
            return None
        inputs = tuple(values.contiguous().clone() for values in given)
        try:
            replay, outputs = self._record(lambda: run(*inputs), inputs[0].device)
        except RuntimeError as error:
            self._works = False
            _log.warning("The steps of a cell can't be recorded, each is launched alone: %s", error)
            return None
        while len(self._known) >= KEPT:
            self._known.popitem(last=False)
        self._known[key] = _Recorded(inputs, outputs, replay)
        return self._known[key]


def run_graphed_layer(
    loop: StepLoop, inputs: Tensor, real: Tensor | None, weights: LoopWeights
) -> Tensor:
    """Run one recurrent layer as ``models.kernels.run_layer``, in a shape of few.

    Args:
        loop: a ``GraphedLoop``.
        inputs: (T, I, B).
        real: (T, 1, B) bool, False at padding, which comes last; None if nothing is padded.
        weights: of the loop.

    Returns:
        (T, D * H, B): the states in time order. Values at padding mean nothing.
    """
    steps, _, batch = inputs.shape
    later, wider = -steps % STEPS, -batch % COLUMNS
    if real is None:
        real = inputs.new_ones(steps, 1, batch, dtype=torch.bool)
    # More columns are read as text and thrown away; more steps are padding.
    real = functional.pad(functional.pad(real, (0, wider), value=True), (0, 0, 0, 0, 0, later))
    inputs = functional.pad(inputs, (0, wider, 0, 0, 0, later))
    return run_layer(loop, inputs, real, *weights)[:steps, :, :batch]
