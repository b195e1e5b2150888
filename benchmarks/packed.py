"""Packed trials on the CPU, compared with the same trials one after the other.

Usage: python benchmarks/packed.py [--quick]

Eight trials with different learning rates, dropout and seeds train an epoch on documents with the
lengths of IMDB (at most 256 tokens, 25,000 words of 100 numbers), with one thread. The pack is
computed as one batched model, as on a GPU; celltune itself does not do this on a CPU, and the
figures are the reason. All sides run alternately after a warm-up. The medians of the CPU times of 3
runs are compared, which other load on the machine disturbs little. The figures are throughputs of
the pack relative to the trials one after the other; above 1 would mean that packing is faster:
  packed_8_cpu_H           gru of H hidden units, batches of 64, to the native loops
  packed_8_cpu_H_fallback  the same, to the loops on PyTorch operations
The details also contain batches of 16, and the other cells with 16 hidden units.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
from _gpu_packed import Trial, imdb_like_data, trials
from _measure import finish

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.extensions import CELLS
from celltune.models.native import library as native
from celltune.models.packed import trainer as packed_trainer
from celltune.models.packed.trainer import PackedTrainer
from celltune.models.training.trainer import Trainer

TRIALS = 8


def seconds_of(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def one_by_one(data: PreparedData, members: Sequence[Trial]) -> Callable[[], None]:
    """Return a function that trains an epoch of each trial."""
    trainers = [Trainer(model, training, data, seed=seed) for model, training, seed in members]

    def run() -> None:
        for trainer in trainers:
            trainer.run_epoch()

    return run


def as_one_model(data: PreparedData, members: Sequence[Trial]) -> Callable[[], object]:
    """Return a function that trains an epoch of a pack."""
    pack = PackedTrainer(data)
    for model, training, seed in members:
        pack.add(model, training, seed=seed)
    return pack.run_epoch


def compare(members: Sequence[Trial], data: PreparedData, runs: int) -> dict[str, float]:
    """Return the median CPU seconds of an epoch of all trials."""
    sides: dict[str, Callable[[], object]] = {}
    if native.available():
        sides["native"] = one_by_one(data, members)
    with native.disabled():
        sides["packed"] = as_one_model(data, members)
        sides["fallback"] = one_by_one(data, members)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs + 1):
        for name, run in sides.items():
            with nullcontext() if name == "native" else native.disabled():
                times[name].append(seconds_of(run))
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def measure(sizes: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the throughput of packs relative to each other side, by shape and side."""
    ratios: dict[str, dict[str, float]] = {}
    for cell, hidden, batch in sizes["shapes"]:
        data = imdb_like_data(sizes["steps"] * batch)
        model = ModelConfig(cell=cell, hidden_size=hidden)
        members = trials(model, TrainingConfig(batch_size=batch), TRIALS)
        seconds = compare(members, data, sizes["runs"])
        packed = seconds.pop("packed")
        name = f"{cell} hidden {hidden} batch {batch}"
        ratios[name] = {side: value / packed for side, value in seconds.items()}
        text = "  ".join(f"{side} {value:.2f}" for side, value in ratios[name].items())
        print(f"{name:35} pack {packed:6.2f} s, relative throughput: {text}", flush=True)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes, under a minute")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hidden_sizes = (16,) if options.quick else (16, 32, 64)
    shapes = [("gru", hidden, 64) for hidden in hidden_sizes]
    if not options.quick:
        shapes += [("gru", hidden, 16) for hidden in hidden_sizes]
        shapes += [(cell, 16, 64) for cell in CELLS.names() if cell != "gru"]
    steps, runs = (1, 2) if options.quick else (2, 3)
    sizes: dict[str, Any] = {"shapes": shapes, "steps": steps, "runs": runs}
    with patch.object(packed_trainer, "runs_batched", lambda *_: True):
        ratios = measure(sizes)
    figures: dict[str, float] = {}
    for hidden in hidden_sizes:
        gru = ratios[f"gru hidden {hidden} batch 64"]
        figures[f"packed_8_cpu_{hidden}"] = gru.get("native", gru["fallback"])
        figures[f"packed_8_cpu_{hidden}_fallback"] = gru["fallback"]
    finish("packed", figures, {"sizes": sizes, "ratios": ratios}, keep=not options.quick)


if __name__ == "__main__":
    main()
