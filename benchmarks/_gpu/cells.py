"""Section 2: time of each cell, forward and backward, relative to cuDNN through torch.nn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from celltune.models.config import Precision
from celltune.models.extensions import CELLS
from celltune.models.layers.stack import RecurrentStack
from celltune.models.training.precision import mixed_precision, tf32_products

from .common import (
    Deadline,
    Options,
    Report,
    Run,
    alternating_medians,
    context_is_lost,
    synchronize,
)
from .compiling import Compilation, Job
from .documents import draw_lengths

FEATURES = 100
PEERS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
CELL_ORDER = ("gru", "lstm", "rnn", "gru_reset_before", "mgu")
WARM_UP, MIN_RUNS, MAX_RUNS = 2, 3, 9
MEASURING_SECONDS = 0.6
"""Time for the runs of one shape, which determines their number."""
COMPILE_SECONDS = 25.0


@dataclass(frozen=True)
class Shape:
    """The size of a layer and of its batch."""

    hidden: int
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"hidden {self.hidden:3} batch {self.batch:3} steps {self.steps:3}"


def shapes(*, quick: bool) -> list[Shape]:
    """Return the measured shapes, the most common ones first."""
    if quick:
        return [Shape(16, 16, 24)]
    hidden_sizes, others = (
        (64, 128, 256, 16, 32, 512),
        ((256, 64), (256, 256), (512, 64), (128, 64)),
    )
    grid = [(hidden, *other) for other in others for hidden in hidden_sizes]
    grid += [(hidden, steps, 256) for steps in (128, 512) for hidden in hidden_sizes]
    return [Shape(hidden, batch, steps) for hidden, steps, batch in grid]


def peer_of(cell: str) -> str:
    """Return the torch module that a cell is compared with."""
    return cell if cell in PEERS else "gru"


class Layers:
    """One layer of each cell and of each module of torch, on the same padded batch."""

    def __init__(self, shape: Shape, device: torch.device, precision: Precision) -> None:
        """Draw a batch with lengths like those of IMDB, cut at the number of steps."""
        self._shape, self._device, self._precision = shape, device, precision
        lengths = draw_lengths(np.random.default_rng(1), shape.batch, shape.steps)
        lengths[0] = shape.steps
        self._lengths = torch.from_numpy(lengths)
        real = torch.arange(shape.steps)[:, None] < self._lengths
        self._real = real[:, None].to(device)  # (T, 1, B)
        generator = torch.Generator().manual_seed(2)
        inputs = torch.randn(shape.steps, shape.batch, FEATURES, generator=generator)
        self._inputs = inputs.to(device).requires_grad_()
        grads = torch.randn(shape.steps, shape.hidden, shape.batch, generator=generator)
        self._tall = grads.to(device).masked_fill(~self._real, 0)  # (T, H, B)
        self._wide = self._tall.transpose(1, 2).contiguous()  # (T, B, H)

    def ours(self, cell: str) -> Run:
        """Return a function that computes the gradients of a layer of celltune."""
        stack = RecurrentStack(
            CELLS.load(cell)(),
            FEATURES,
            self._shape.hidden,
            generator=torch.Generator().manual_seed(1),
        ).to(self._device)

        def forward() -> Tensor:
            states: Tensor = stack(self._inputs.transpose(1, 2), self._real)
            return states

        return self._gradients(forward, self._tall, stack)

    def peer(self, name: str) -> Run:
        """Return a function that computes the gradients of a module of torch."""
        module = PEERS[name](FEATURES, self._shape.hidden).to(self._device)

        def forward() -> Tensor:
            packed = pack_padded_sequence(self._inputs, self._lengths, enforce_sorted=False)
            return pad_packed_sequence(module(packed)[0])[0]

        return self._gradients(forward, self._wide, module)

    def _gradients(self, forward: Callable[[], Tensor], grad: Tensor, module: nn.Module) -> Run:
        sources = [self._inputs, *module.parameters()]

        def run() -> object:
            with mixed_precision(self._precision, self._device.type):
                states = forward()
            return torch.autograd.grad(states, sources, grad.to(states.dtype))

        return run


def measure_shape(
    shape: Shape, precision: Precision, options: Options, rep: Report
) -> list[dict[str, Any]]:
    """Return a row for each cell that ran.

    Raises:
        RuntimeError: the CUDA context is lost.
    """
    layers = Layers(shape, options.device, precision)
    sides: dict[str, Run] = {}
    candidates = [(f"torch {name}", lambda name=name: layers.peer(name)) for name in PEERS]
    candidates += [(cell, lambda cell=cell: layers.ours(cell)) for cell in CELL_ORDER]
    for name, build in candidates:
        try:
            run = build()
            run()
            synchronize(options.device)
            sides[name] = run
        except Exception as error:
            rep.fail(f"{name}, {shape}, {precision}", error)
            if context_is_lost(error):
                raise
    runs = _number_of_runs(sides, options)
    times = alternating_medians(sides, options.device, warm_up=0, runs=runs)
    rows = []
    for cell in CELL_ORDER:
        peer = f"torch {peer_of(cell)}"
        if cell in times and peer in times:
            rows.append(
                {
                    "cell": cell,
                    "precision": precision,
                    "hidden": shape.hidden,
                    "batch": shape.batch,
                    "steps": shape.steps,
                    "ours_ms": round(times[cell], 4),
                    "torch_ms": round(times[peer], 4),
                    "ratio": times[cell] / times[peer],
                }
            )
    return rows


def _number_of_runs(sides: dict[str, Run], options: Options) -> int:
    """Warm all sides up and return how many runs of each fit into the time."""
    if options.quick:
        return 2
    for _ in range(WARM_UP):
        started = time.perf_counter()
        for run in sides.values():
            run()
        synchronize(options.device)
        seconds = time.perf_counter() - started
    return max(MIN_RUNS, min(MAX_RUNS, int(MEASURING_SECONDS / seconds)))


def figures_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the worst and the median ratio of each cell in float32."""
    figures: dict[str, float] = {}
    for cell in CELL_ORDER:
        ratios = [
            row["ratio"] for row in rows if row["cell"] == cell and row["precision"] == "float32"
        ]
        if ratios:
            figures[cell] = max(ratios)
            figures[f"{cell}_median"] = statistics.median(ratios)
    return figures


def plan_of(options: Options) -> list[tuple[Shape, Precision]]:
    """Return all shapes in float32, then on a GPU the first ones in other precisions."""
    chosen = shapes(quick=options.quick)
    plan: list[tuple[Shape, Precision]] = [(shape, "float32") for shape in chosen]
    if options.device.type == "cuda":
        plan += [(shape, precision) for precision in ("tf32", "float16") for shape in chosen[:12]]
    return plan


def compiled_jobs(plan: Sequence[tuple[Shape, Precision]]) -> list[Job]:
    """Return the kernels of a plan in its order; float16 uses those of TF32."""
    return [
        Job(cell, shape.hidden, "float32" if precision == "float32" else "tf32")
        for shape, precision in plan
        for cell in CELL_ORDER
    ]


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section."""
    plan = plan_of(options)
    with Compilation(compiled_jobs(plan), options.device) as compilation:
        limit = min(COMPILE_SECONDS, 0.4 * deadline.left)
        rep.details["compile_seconds"] = compilation.wait(limit)
    rows: list[dict[str, Any]] = []
    print("  milliseconds of celltune, and their ratio to torch.nn")
    print(f"  {'':38} " + "  ".join(f"{cell:>16}" for cell in CELL_ORDER))
    for number, (shape, precision) in enumerate(plan):
        if deadline.passed:
            rep.left_out.append(f"{len(plan) - number} of {len(plan)} shapes: from {shape}")
            break
        try:
            with tf32_products(precision):
                new = measure_shape(shape, precision, options, rep)
        except Exception as error:  # noqa: BLE001 (a failed shape must not end the run)
            rep.fail(f"{shape}, {precision}", error)
            if context_is_lost(error):
                rep.left_out.append(f"{len(plan) - number} shapes after a lost CUDA context")
                break
            continue
        rows += new
        _print_row(shape, precision, new)
        rep.figures.update(figures_of(rows))
        rep.details["rows"] = rows
        rep.save()
        if options.device.type == "cuda":
            torch.cuda.empty_cache()  # The captured graphs of this shape are not needed again.


def _print_row(shape: Shape, precision: Precision, rows: Sequence[dict[str, Any]]) -> None:
    by_cell = {row["cell"]: row for row in rows}
    texts = [
        f"{by_cell[cell]['ours_ms']:8.2f} ({by_cell[cell]['ratio']:5.2f})"
        if cell in by_cell
        else "failed"
        for cell in CELL_ORDER
    ]
    columns = "  ".join(f"{text:>16}" for text in texts)
    print(f"  {shape!s} {precision:8} {columns}", flush=True)
