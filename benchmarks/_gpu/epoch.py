"""Section 3: an epoch on IMDB, next to a plain PyTorch script."""

from __future__ import annotations

import inspect
import time
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
from .compiling import Compilation, Job
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
WARM_UP_STEPS = 10
COUNTED_STEPS = 40
"""Steps in which synchronisations are counted and kernels are recorded. Both slow a step down."""
MAX_STACKS = 200
COMPILE_SECONDS = 20.0
END_OF_EPOCH = "finish_training"
"""The function of the trainer that reads the losses once, after the last step of an epoch."""
SYNC_WARNING = "called a synchronizing"
"""In the text of PyTorch's warning. Switching the mode on warns, too, with other words."""


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
        if SYNC_WARNING not in str(message):
            return
        frames = [] if in_steps.total() >= MAX_STACKS else _callers()
        if any(name == END_OF_EPOCH for _, name in frames):
            at_end += 1
            return
        ours = [place for place, _ in frames if "celltune" in place] or ["another place"]
        in_steps[ours[0].rsplit("celltune", 1)[-1]] += 1

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


def _callers() -> list[tuple[str, str]]:
    """Return file, line and function of the callers, the innermost first."""
    frame = inspect.currentframe()
    found = []
    while frame is not None:
        code = frame.f_code
        found.append((f"{code.co_filename}:{frame.f_lineno}", code.co_name))
        frame = frame.f_back
    return found


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

    Events of the CPU are not recorded, because processing them takes minutes. The profiler still
    slows the CPU down, so the time of the kernels is divided by the time of the previous epoch,
    which has as many steps and was not profiled.
    """
    trainer.train_epoch()
    synchronize(device)
    started = time.perf_counter()
    trainer.train_epoch()
    synchronize(device)
    seconds = time.perf_counter() - started
    activities = [torch.profiler.ProfilerActivity.CUDA]
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


def make_trainer(data: PreparedData, options: Options, changes: dict[str, Any]) -> Trainer:
    """Return a trainer of the model of `benchmarks/imdb.py` with some changes."""
    model_changes = {key: changes[key] for key in changes if key in ModelConfig.model_fields}
    training_changes = {key: changes[key] for key in changes if key not in model_changes}
    return Trainer(
        MODEL.model_copy(update=model_changes),
        TRAINING.model_copy(update=training_changes),
        data,
        seed=1,
        device=str(options.device),
    )


def some_steps(data: PreparedData, steps: int) -> PreparedData:
    """Return the data with as many documents for training as some steps need."""
    share = min(1.0, steps * TRAINING.batch_size / len(data.train))
    return replace(data, train=stratified_subset(data.train, share, 1))


def measure_epochs(
    data: PreparedData, options: Options, rep: Report, changes: dict[str, Any], count: int = 1
) -> dict[str, float]:
    """Time epochs of a model after some steps that initialize libraries; return the last one."""
    device = options.device
    precision = changes.get("precision", "float32")
    warm_up = make_trainer(some_steps(data, WARM_UP_STEPS), options, changes)
    row: dict[str, float] = {"warm_up_seconds": timed_epoch(warm_up, precision, device)}
    del warm_up
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = make_trainer(data, options, changes)
    times = [timed_epoch(trainer, precision, device) for _ in range(count)]
    row |= {"first_seconds": times[0], "seconds": times[-1]}
    row["tokens_per_second"] = data.train.tokens / times[-1]
    if device.type == "cuda":
        row["peak_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    name = ", ".join(f"{key} {value}" for key, value in changes.items()) or "gru of imdb.py"
    rep.details.setdefault("epochs", {})[name] = row
    print(
        f"  {name:24} first epoch {times[0]:6.2f} s, last {times[-1]:6.2f} s, "
        f"{row['tokens_per_second'] / 1e6:.2f} million tokens/s, "
        f"{row.get('peak_memory_mb', float('nan')):.0f} MB",
        flush=True,
    )
    return row


def compiled_jobs() -> list[Job]:
    """Return the kernels of all models, those of the first one first."""
    changes: list[dict[str, Any]] = [{}, *OTHER_MODELS]
    half = ("float16", "bfloat16")
    return [
        Job(
            change.get("cell", MODEL.cell),
            MODEL.hidden_size,
            "tf32" if change.get("precision") in half else change.get("precision", "float32"),
        )
        for change in changes
    ]


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section, and save the figures of each part before the next one starts."""
    with Compilation(compiled_jobs(), options.device) as compilation:
        data = _load(options, rep)
        limit = min(COMPILE_SECONDS, 0.4 * deadline.left)
        rep.details["compile_seconds"] = compilation.wait(limit)
    row = measure_epochs(data, options, rep, {}, count=2)
    rep.figures["epoch_seconds"] = row["seconds"]
    rep.figures["tokens_per_second"] = row["tokens_per_second"]
    if "peak_memory_mb" in row:
        rep.figures["peak_memory_mb"] = row["peak_memory_mb"]
    rep.save()
    _compare(data, options, rep, row["seconds"])
    rep.save()
    if options.device.type == "cuda":
        few = some_steps(data, COUNTED_STEPS)
        rep.attempt("host synchronisations", lambda: _syncs(few, options, rep))
        rep.save()
        rep.attempt("profile", lambda: _profile(few, options, rep))
    else:
        rep.left_out.append("host_syncs and gpu_busy_share, which need a GPU")
    rep.save()
    _others(data, options, deadline, rep)


def _load(options: Options, rep: Report) -> PreparedData:
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
    return data


def _others(data: PreparedData, options: Options, deadline: Deadline, rep: Report) -> None:
    slowest = rep.details["epochs"]["gru of imdb.py"]["first_seconds"]
    for changes in () if options.quick else OTHER_MODELS:
        what = f"epoch with {changes}"
        if deadline.left < 1.5 * slowest:
            rep.left_out.append(what)
            continue

        def run(changes: dict[str, Any] = changes) -> None:
            nonlocal slowest
            slowest = max(slowest, measure_epochs(data, options, rep, changes)["seconds"])

        rep.attempt(what, run)
        rep.save()


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


def _syncs(few: PreparedData, options: Options, rep: Report) -> None:
    trainer = make_trainer(few, options, {})
    trainer.train_epoch()
    in_steps, at_end = count_syncs(trainer)
    rep.figures["host_syncs"] = sum(in_steps.values())
    rep.details["host_syncs"] = {"in_steps": dict(in_steps.most_common(20)), "at_end": at_end}
    print(
        f"  host synchronisations: {sum(in_steps.values())} in {COUNTED_STEPS} steps, {at_end} at "
        f"its end; most frequent: {in_steps.most_common(4)}",
        flush=True,
    )


def _profile(few: PreparedData, options: Options, rep: Report) -> None:
    profile = busy_share(make_trainer(few, options, {}), options.device)
    rep.figures["gpu_busy_share"] = profile["share"]
    rep.details["profile"] = profile
    print(
        f"  GPU busy {100 * profile['share']:.0f} % of the time ({profile['kernels']} kernels in "
        f"{profile['seconds']:.2f} s; {100 * profile['share_of_profiled']:.0f} % when profiled)",
        flush=True,
    )
