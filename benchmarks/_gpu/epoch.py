"""Section 3: an epoch on IMDB, next to a plain PyTorch script."""

from __future__ import annotations

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from celltune.data_prep.dataset.subsets import stratified_subset
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.training.precision import tf32_products
from celltune.models.training.trainer import Trainer

from .common import Deadline, Options, Report, synchronize
from .documents import imdb_data, synthetic_data
from .plain_epoch import plain_epoch

MODEL = ModelConfig(
    cell="gru",
    hidden_size=64,
    bidirectional=True,
    dropout=0.5,
    readout="max",
    embedding_std=1.0,
)
"""The model of `benchmarks/imdb.py`."""
TRAINING = TrainingConfig(learning_rate=3e-3, batch_size=64)
OTHER_MODELS = (
    {"precision": "tf32"},
    {"cell": "lstm"},
    {"cell": "mgu"},
    {"cell": "gru_reset_before"},
    {"precision": "float16"},
    {"precision": "bfloat16"},
    {"batch_size": 256},
)
"""Changes of the model whose epoch is timed if time is left."""
PLAIN_BATCHES = 100
PROFILED_SHARE = 0.25
END_OF_EPOCH = ("_check_finite", "_means")
"""Functions of the trainer that read the losses once, after the last step of an epoch."""


def load(options: Options) -> PreparedData:
    """Return the reviews of `options.imdb`, or synthetic documents."""
    if options.imdb is not None:
        return imdb_data(options.imdb, options.cache, quick=options.quick)
    return synthetic_data(256, 64, words=500, max_tokens=64) if options.quick else synthetic_data()


def timed_epoch(trainer: Trainer, precision: str, device: torch.device) -> float:
    """Return the seconds of a training epoch without validation."""
    started = time.perf_counter()
    with tf32_products(precision):  # type: ignore[arg-type]
        trainer.train_epoch()
    synchronize(device)
    return time.perf_counter() - started


def count_syncs(trainer: Trainer) -> tuple[Counter[str], int]:
    """Train for an epoch on a GPU and count operations that wait for it.

    Returns:
        Counts by source line for the steps of the epoch, and the count at its end.
    """
    in_steps: Counter[str] = Counter()
    at_end = 0

    def record(message: Warning | str, *_: Any, **__: Any) -> None:
        nonlocal at_end
        if "synchronizing" not in str(message):
            return
        frames = traceback.extract_stack()[:-1]
        if any(frame.name in END_OF_EPOCH for frame in frames):
            at_end += 1
            return
        ours = [frame for frame in frames if "celltune" in frame.filename] or frames
        in_steps[f"{ours[-1].filename.rsplit('celltune', 1)[-1]}:{ours[-1].lineno}"] += 1

    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = record
        torch.cuda.set_sync_debug_mode("warn")
        try:
            trainer.train_epoch()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return in_steps, at_end


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def busy_share(trainer: Trainer, device: torch.device) -> dict[str, float]:
    """Measure in which share of an epoch at least one kernel runs on the GPU.

    The profiler slows the CPU down, so the time of the kernels is divided by the time of the
    previous epoch, which has as many steps and was not profiled.
    """
    trainer.train_epoch()
    synchronize(device)
    started = time.perf_counter()
    trainer.train_epoch()
    synchronize(device)
    seconds = time.perf_counter() - started
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    started = time.perf_counter()
    with torch.profiler.profile(activities=activities) as profile:
        trainer.train_epoch()
        synchronize(device)
        profiled_seconds = time.perf_counter() - started
    kernels: list[tuple[float, float]] = []
    calls: Counter[str] = Counter()
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            if event.name.startswith("Optimizer.") or getattr(event, "is_user_annotation", False):
                continue  # a range that contains kernels
            kernels.append((event.time_range.start, event.time_range.end))
        elif event.name.startswith("cuda") or event.name.startswith("cu"):
            calls[event.name] += 1
    busy = covered(kernels) / 1e6
    return {
        "share": busy / seconds,
        "share_of_profiled": busy / profiled_seconds,
        "kernels": len(kernels),
        "seconds": seconds,
        "profiled_seconds": profiled_seconds,
        **{f"calls of {name}": count for name, count in calls.items()},
    }


def measure_epochs(
    data: PreparedData, options: Options, rep: Report, changes: dict[str, Any]
) -> Trainer:
    """Time the second epoch of a model; the first one compiles and captures kernels."""
    model_changes = {key: changes[key] for key in changes if key in ModelConfig.model_fields}
    model = MODEL.model_copy(update=model_changes)
    training = TRAINING.model_copy(
        update={key: changes[key] for key in changes if key not in model_changes}
    )
    device = options.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(model, training, data, seed=1, device=str(device))
    first = timed_epoch(trainer, training.precision, device)
    second = timed_epoch(trainer, training.precision, device)
    row: dict[str, Any] = {"first_seconds": first, "seconds": second}
    row["tokens_per_second"] = data.train.tokens / second
    if device.type == "cuda":
        row["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    name = ", ".join(f"{key} {value}" for key, value in changes.items()) or "gru of imdb.py"
    rep.details.setdefault("epochs", {})[name] = row
    print(
        f"  {name:24} first epoch {first:6.2f} s, second {second:6.2f} s, "
        f"{row['tokens_per_second'] / 1e6:.2f} million tokens/s, "
        f"{row.get('peak_memory_mb', float('nan')):.0f} MB",
        flush=True,
    )
    return trainer


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section."""
    started = time.perf_counter()
    data = load(options)
    kind = "IMDB" if options.imdb else "synthetic documents with the lengths of IMDB"
    rep.details["data"] = {
        "kind": kind,
        "documents": len(data.train),
        "tokens": data.train.tokens,
        "vocabulary": data.vocabulary_size,
        "seconds": time.perf_counter() - started,
    }
    print(f"  {kind}: {len(data.train):,} documents, {data.train.tokens:,} tokens", flush=True)
    trainer = measure_epochs(data, options, rep, {})
    row = rep.details["epochs"]["gru of imdb.py"]
    rep.figures["epoch_seconds"] = row["seconds"]
    rep.figures["tokens_per_second"] = row["tokens_per_second"]
    if "peak_memory_mb" in row:
        rep.figures["peak_memory_mb"] = row["peak_memory_mb"]
    rep.save()
    _compare(data, options, rep, row["seconds"])
    if options.device.type == "cuda":
        rep.attempt("host synchronisations", lambda: _syncs(trainer, rep))
        rep.attempt("profile", lambda: _profile(data, options, rep))
    else:
        rep.left_out.append("host_syncs and gpu_busy_share, which need a GPU")
    rep.save()
    for changes in () if options.quick else OTHER_MODELS:
        if deadline.left < 3 * row["first_seconds"]:
            rep.left_out.append(f"epoch with {changes}")
            continue
        what = f"epoch with {changes}"
        rep.attempt(what, lambda c=changes: _ignore(measure_epochs(data, options, rep, c)))
        rep.save()


def _ignore(trainer: Trainer) -> None:
    del trainer


def _compare(data: PreparedData, options: Options, rep: Report, seconds: float) -> None:
    def run() -> None:
        batches = 4 if options.quick else PLAIN_BATCHES
        plain = plain_epoch(
            MODEL, TRAINING, data.train, data.vocabulary_size, options.device, batches
        )
        rep.details["plain"] = plain
        rep.figures["plain_epoch_seconds"] = plain["epoch_seconds"]
        rep.figures["epoch_vs_plain"] = seconds / plain["epoch_seconds"]
        print(
            f"  plain script: {plain['epoch_seconds']:.1f} s per epoch, extrapolated from "
            f"{batches} batches; celltune takes {rep.figures['epoch_vs_plain']:.3f} of it",
            flush=True,
        )

    rep.attempt("plain script", run)


def _syncs(trainer: Trainer, rep: Report) -> None:
    in_steps, at_end = count_syncs(trainer)
    rep.figures["host_syncs"] = sum(in_steps.values())
    rep.details["host_syncs"] = {"in_steps": dict(in_steps.most_common(20)), "at_end": at_end}
    print(
        f"  host synchronisations: {sum(in_steps.values())} in the steps of an epoch, {at_end} at "
        f"its end; most frequent: {in_steps.most_common(4)}",
        flush=True,
    )


def _profile(data: PreparedData, options: Options, rep: Report) -> None:
    small = replace(data, train=stratified_subset(data.train, PROFILED_SHARE, 1))
    trainer = Trainer(MODEL, TRAINING, small, seed=1, device=str(options.device))
    profile = busy_share(trainer, options.device)
    rep.figures["gpu_busy_share"] = profile["share"]
    rep.details["profile"] = profile
    print(
        f"  GPU busy {100 * profile['share']:.0f} % of the time ({profile['kernels']} kernels in "
        f"{profile['seconds']:.2f} s; {100 * profile['share_of_profiled']:.0f} % when profiled)",
        flush=True,
    )
