"""Section 5: trials of one shape that are trained as one batched model."""

from __future__ import annotations

import importlib
from typing import Any

from celltune.models.config import ModelConfig, TrainingConfig

from .common import Deadline, Options, Report
from .compiling import Compilation, Job

COUNTS = (8, 32)
HIDDEN = (64, 16)
"""Hidden sizes; the first one gives the figures, the others the details."""
DOCUMENTS = 4_000
COMPILE_SECONDS = 20.0
MEASUREMENTS = 16
"""Parts into which the time is divided: five for each size, and the processes with their start."""
PROCESS_START_SECONDS, MIN_START_SECONDS = 45.0, 15.0


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section, and save each figure as soon as it exists."""
    # Its processes import it by this name, so it has to be found next to the script.
    trials = importlib.import_module("_gpu_packed")
    data = trials.imdb_like_data(60 if options.quick else DOCUMENTS)
    counts = (2,) if options.quick else COUNTS
    jobs = [Job("gru", hidden, packed=packed) for hidden in HIDDEN for packed in (True, False)]
    with Compilation(jobs, options.device) as compilation:
        limit = min(COMPILE_SECONDS, 0.5 * deadline.left)
        rep.details["compile_seconds"] = compilation.wait(limit)
    seconds = min(3.0, max(0.0, deadline.left) / MEASUREMENTS)
    sizes = HIDDEN[:1] if options.quick else HIDDEN
    sides = [_side(trials, data, hidden, seconds, rep) for hidden in sizes]
    # The first size is measured completely before the second one.
    for number, side in enumerate(sides):
        hidden = side.model.hidden_size
        if deadline.passed:
            rep.left_out.append(f"packed trials of hidden size {hidden}")
            continue
        print(f"  hidden size {hidden}, {seconds:.1f} s for each side", flush=True)
        rep.attempt(f"packs of hidden size {hidden}", lambda side=side: side.measure_packs(counts))
        start = min(PROCESS_START_SECONDS, max(MIN_START_SECONDS, deadline.left))
        if number > 0 and deadline.left < MIN_START_SECONDS:
            rep.left_out.append(f"processes of hidden size {hidden}")
        else:
            rep.attempt(
                f"processes of hidden size {hidden}",
                lambda side=side, start=start: side.measure_processes(min(counts), start),
            )
        ratios = [
            f"{name} {value:.2f}" for name, value in side.results.items() if "_per_" not in name
        ]
        print("  " + ", ".join(ratios), flush=True)


def _side(trials: Any, data: Any, hidden: int, seconds: float, rep: Report) -> Any:
    def publish(results: dict[str, float]) -> None:
        rep.details[f"hidden {hidden}"] = results
        if hidden == HIDDEN[0]:
            rep.figures.update(
                {name: value for name, value in results.items() if name.startswith("packed_")}
            )
        rep.save()

    return trials.Measurement(
        data,
        ModelConfig(cell="gru", hidden_size=hidden, readout="max"),
        TrainingConfig(batch_size=64),
        seconds,
        publish,
    )
