"""Section 5: trials of one shape that are trained as one batched model."""

from __future__ import annotations

import importlib

from celltune.models.config import ModelConfig, TrainingConfig

from .common import Deadline, Options, Report

COUNTS = (8, 32)
HIDDEN = (64, 16)
MEASUREMENTS = 2 * (len(COUNTS) + 2)
"""Runs of a time limit that one call needs: warm-up and measurement of each side."""


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section: the first hidden size gives the figures, the others the details."""
    # Its processes import it by this name, so it has to be found next to the script.
    trials = importlib.import_module("_gpu_packed")
    data = trials.imdb_like_data(60 if options.quick else 4_000)
    counts = (2,) if options.quick else COUNTS
    for number, hidden in enumerate(HIDDEN[:1] if options.quick else HIDDEN):
        if deadline.passed:
            rep.left_out.append(f"packed trials of hidden size {hidden}")
            continue
        seconds = deadline.part(1 / (len(HIDDEN) - number)).left / MEASUREMENTS
        print(f"  hidden size {hidden}, {seconds:.0f} s for each side", flush=True)
        results = trials.measure_packed(
            data,
            model=ModelConfig(cell="gru", hidden_size=hidden, readout="max"),
            training=TrainingConfig(batch_size=64),
            counts=counts,
            seconds=seconds,
        )
        rep.details[f"hidden {hidden}"] = results
        if number == 0:
            rep.figures.update(
                {name: value for name, value in results.items() if name.startswith("packed_")}
            )
        ratios = [f"{name} {value:.2f}" for name, value in results.items() if "packed_" in name[:7]]
        print("  " + ", ".join(ratios), flush=True)
        rep.save()
