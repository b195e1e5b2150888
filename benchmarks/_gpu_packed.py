"""Throughput of packed trials, of the same trials one after the other, and of processes on one GPU.

All sides train the same trials on the same documents, after a warm-up epoch each. Throughput is
training documents of all trials per second, over whole epochs including validation.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.packed.trainer import PackedTrainer
from celltune.models.training.trainer import Trainer

MEDIAN_LENGTH, LENGTH_SPREAD = 200, 0.65
"""Log-normal lengths like those of IMDB: a median of 200 tokens and a mean of 250."""
START_SECONDS = 120
"""How long the processes may take to start and to warm up."""

Trial = tuple[ModelConfig, TrainingConfig, int]


def imdb_like_data(
    documents: int, *, longest: int = 256, vocabulary: int = 25_000, seed: int = 1
) -> PreparedData:
    """Return random documents with IMDB's lengths and word frequencies (Zipf), in two classes.

    Args:
        documents: number of training documents; a tenth as many validate.
        longest: longer documents are truncated.
        vocabulary: number of words.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    ranks = np.arange(2, vocabulary)
    frequencies = 1 / ranks / (1 / ranks).sum()

    def make(count: int) -> TensorizedSplit:
        lengths = rng.lognormal(np.log(MEDIAN_LENGTH), LENGTH_SPREAD, count).astype(np.int64)
        offsets = np.concatenate([[0], np.clip(lengths, 10, longest).cumsum()])
        ids = rng.choice(ranks, offsets[-1], p=frequencies).astype(np.int32)
        return TensorizedSplit(ids, offsets, rng.integers(0, 2, count))

    train, valid = make(documents), make(max(1, documents // 10))
    words = tuple(map(str, range(vocabulary)))
    return PreparedData("synthetic", train, valid, ("negative", "positive"), words)


def trials(model: ModelConfig, training: TrainingConfig, count: int) -> list[Trial]:
    """Return trials of one shape with different rates and seeds."""
    rates = np.geomspace(0.3, 3, count) * training.learning_rate
    return [
        (
            model.model_copy(update={"dropout": 0.1 + 0.4 * number / count}),
            training.model_copy(update={"learning_rate": float(rate)}),
            number,
        )
        for number, rate in enumerate(rates)
    ]


def epochs_per_second(run_epoch: Callable[[], object], seconds: float) -> float:
    """Return the rate of an epoch, over at least one epoch and at least `seconds`."""
    started, epochs = time.perf_counter(), 0
    while not epochs or time.perf_counter() - started < seconds:
        run_epoch()
        epochs += 1
    return epochs / (time.perf_counter() - started)


def packed_throughput(
    data: PreparedData, members: Sequence[Trial], device: str, seconds: float
) -> float:
    """Return documents per second of a pack."""
    pack = PackedTrainer(data, device=device)
    for model, training, seed in members:
        pack.add(model, training, seed=seed)
    pack.run_epoch()
    rate = epochs_per_second(pack.run_epoch, seconds)
    if len(pack.members) != len(members):
        raise RuntimeError("A trial of the benchmark diverged. Use a smaller learning rate.")
    return rate * len(members) * len(data.train)


def single_throughput(
    data: PreparedData, members: Sequence[Trial], device: str, seconds: float
) -> float:
    """Return documents per second of trials one after the other: of as many as the time allows."""
    started, rates = time.perf_counter(), list[float]()
    for model, training, seed in members:
        if rates and time.perf_counter() - started > seconds:
            break
        trainer = Trainer(model, training, data, seed=seed, device=device)
        trainer.run_epoch()
        rates.append(epochs_per_second(trainer.run_epoch, 0))
    return len(data.train) * len(rates) / sum(1 / rate for rate in rates)


def process_throughput(
    data: PreparedData, members: Sequence[Trial], device: str, seconds: float
) -> float:
    """Return documents per second of processes that share the device, one for each trial."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(members))
    pipes = [context.Pipe(duplex=False) for _ in members]
    processes = [
        context.Process(
            target=_train_in_process, args=(data, trial, device, seconds, barrier, sender)
        )
        for trial, (_, sender) in zip(members, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    try:
        rates = list(_received([receiver for receiver, _ in pipes], 2 * START_SECONDS + seconds))
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return sum(rates) * len(data.train)


def _received(receivers: Sequence[Connection], limit: float) -> Iterator[float]:
    deadline = time.monotonic() + limit
    for receiver in receivers:
        if not receiver.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"A training process did not finish within {limit:.0f} s.")
        try:
            yield receiver.recv()
        except EOFError:
            raise RuntimeError("A training process failed; see its message above.") from None


def _train_in_process(
    data: PreparedData,
    trial: Trial,
    device: str,
    seconds: float,
    barrier: Any,
    sender: Connection,
) -> None:
    torch.set_num_threads(1)
    model, training, seed = trial
    trainer = Trainer(model, training, data, seed=seed, device=device)
    trainer.run_epoch()
    barrier.wait(START_SECONDS)
    sender.send(epochs_per_second(trainer.run_epoch, seconds))


def measure_packed(
    data: PreparedData,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    counts: Sequence[int],
    seconds: float,
) -> dict[str, float]:
    """Measure packs of several sizes on the GPU, or on the CPU if there is none.

    Args:
        data: the documents.
        model: the shape of the trials.
        training: its batch size and the middle of the learning rates.
        counts: sizes of packs. A pack that does not fit into the memory of the GPU is left out.
        seconds: limit of each measurement after its warm-up; one epoch is always completed.

    Returns:
        `packed_K`: throughput of a pack of K relative to the same trials one after the other.
        `packed_vs_processes`: the same for the smallest K, relative to K processes that share the
        device. `documents_per_second_...`: the throughputs.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results: dict[str, float] = {}

    def record(name: str, value: float) -> float:
        results[f"documents_per_second_{name}"] = value
        print(f"{name:16} {value:12,.0f} documents/s", flush=True)
        return value

    smallest, largest = min(counts), max(counts)
    singles = trials(model, training, largest)
    single = record("one_by_one", single_throughput(data, singles, device, seconds))
    for count in counts:
        members = trials(model, training, count)
        try:
            packed = record(f"packed_{count}", packed_throughput(data, members, device, seconds))
        except torch.OutOfMemoryError as error:
            print(f"packed_{count} does not fit into the memory of the GPU: {error}", flush=True)
            continue
        finally:
            if device == "cuda":
                torch.cuda.empty_cache()
        results[f"packed_{count}"] = packed / single
    members = trials(model, training, smallest)
    processes = process_throughput(data, members, device, seconds)
    record(f"processes_{smallest}", processes)
    packed = results.get(f"documents_per_second_packed_{smallest}")
    if packed is not None:
        results["packed_vs_processes"] = packed / processes
    return results
