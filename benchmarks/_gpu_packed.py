"""Throughput of packed trials, of the same trials one after the other, and of processes on one GPU.

One after the other, trials run on cuDNN, which packed trials are defined against, and as users run
them, on the fastest implementation that celltune has. So do the processes.

All sides train the same trials on the same documents, after a warm-up epoch each. Throughput is
training documents of all trials per second, over whole epochs including validation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.layers.persistent import selection
from celltune.models.packed.trainer import PackedTrainer
from celltune.models.training.trainer import Trainer

MEDIAN_LENGTH, LENGTH_SPREAD = 200, 0.65
"""Log-normal lengths like those of IMDB: a median of 200 tokens and a mean of 250."""
START_SECONDS = 40.0
"""How long the processes may take to start and to warm up."""
FINISH_FACTOR = 4.0
"""How many times their measuring time the processes may take after their start."""
PROCESS_SHARE = 0.5
"""Share of the documents of the processes, whose epochs take longer than those of a pack."""

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
    data: PreparedData,
    members: Sequence[Trial],
    device: str,
    seconds: float,
    start_seconds: float = START_SECONDS,
) -> float:
    """Return documents per second of processes that share the device, one for each trial.

    Raises:
        TimeoutError: a process did not start within `start_seconds`, or did not finish.
        RuntimeError: a process failed.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(members))
    pipes = [context.Pipe(duplex=False) for _ in members]
    processes = [
        context.Process(
            target=_train_in_process,
            args=(data, trial, device, (seconds, start_seconds), barrier, sender),
            daemon=True,
        )
        for trial, (_, sender) in zip(members, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    try:
        limit = start_seconds + FINISH_FACTOR * seconds
        rates = list(_received([receiver for receiver, _ in pipes], limit))
    finally:
        for process in processes:
            process.kill()
            process.join()
    return sum(rates) * len(data.train)


def _received(receivers: Sequence[Connection], limit: float) -> Iterator[float]:
    deadline = time.monotonic() + limit
    for receiver in receivers:
        if not receiver.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"A training process did not finish within {limit:.0f} s.")
        try:
            result = receiver.recv()
        except EOFError:
            raise RuntimeError("A training process was killed.") from None
        failure, rate = result
        if failure:
            raise RuntimeError(f"A training process failed: {failure}")
        yield rate


def _train_in_process(
    data: PreparedData,
    trial: Trial,
    device: str,
    times: tuple[float, float],
    barrier: Any,
    sender: Connection,
) -> None:
    """Send the epochs per second, or the message of an error, without printing a traceback."""
    seconds, start_seconds = times
    try:
        torch.set_num_threads(1)
        model, training, seed = trial
        trainer = Trainer(model, training, data, seed=seed, device=device)
        trainer.run_epoch()
        barrier.wait(start_seconds)
        result = "", epochs_per_second(trainer.run_epoch, seconds)
    except threading.BrokenBarrierError:
        result = f"not all processes started within {start_seconds:.0f} s", 0.0
    except Exception as error:  # noqa: BLE001 (the parent process reports it)
        result = f"{type(error).__name__}: {error}"[:300], 0.0
    with contextlib.suppress(OSError):  # The parent no longer waits.
        sender.send(result)


def first_documents(data: PreparedData, share: float) -> PreparedData:
    """Return the data with a share of the documents of each split."""

    def cut(split: TensorizedSplit) -> TensorizedSplit:
        count = max(1, round(share * len(split)))
        offsets = split.offsets[: count + 1]
        return TensorizedSplit(split.ids[: offsets[-1]], offsets, split.labels[:count])

    return dataclasses.replace(data, train=cut(data.train), valid=cut(data.valid))


@dataclasses.dataclass
class Measurement:
    """Throughputs and ratios, which are published as soon as they exist.

    Attributes:
        results: `packed_K`: throughput of a pack of K relative to the same trials one after the
            other on cuDNN. `packed_K_vs_single`: relative to single trials as users run them.
            `packed_vs_processes`: the smallest K relative to K processes that share the device.
            `documents_per_second_...`: the throughputs.
    """

    data: PreparedData
    model: ModelConfig
    training: TrainingConfig
    seconds: float
    publish: Callable[[dict[str, float]], None] = lambda _: None
    results: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def device(self) -> str:
        """The GPU, or the CPU if there is none."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def measure_packs(self, counts: Sequence[int]) -> None:
        """Measure single trials, and packs of each size that fits into the memory."""
        for number, count in enumerate(counts):
            members = trials(self.model, self.training, count)
            with contextlib.suppress(torch.OutOfMemoryError):
                rate = packed_throughput(self.data, members, self.device, self.seconds)
                self._record(f"packed_{count}", rate)
            if self.device == "cuda":
                torch.cuda.empty_cache()
            if number == 0:
                with selection.disabled():
                    self._measure_single("one_by_one", members)
                self._measure_single("single", members)
            self._add_ratios(count)

    def measure_processes(self, count: int, start_seconds: float) -> None:
        """Measure processes that share the GPU.

        Raises:
            TimeoutError: a process did not start within `start_seconds`, or did not finish.
            RuntimeError: a process failed.
        """
        members = trials(self.model, self.training, count)
        data = first_documents(self.data, PROCESS_SHARE)
        rate = process_throughput(data, members, self.device, self.seconds, start_seconds)
        self._record(f"processes_{count}", rate)
        packed = self.results.get(f"documents_per_second_packed_{count}")
        if packed is not None:
            self.results["packed_vs_processes"] = packed / rate
        self.publish(self.results)

    def _measure_single(self, name: str, members: Sequence[Trial]) -> None:
        self._record(name, single_throughput(self.data, members, self.device, self.seconds))

    def _record(self, name: str, rate: float) -> None:
        self.results[f"documents_per_second_{name}"] = rate
        print(f"  {name:16} {rate:12,.0f} documents/s", flush=True)
        self.publish(self.results)

    def _add_ratios(self, count: int) -> None:
        packed = self.results.get(f"documents_per_second_packed_{count}")
        if packed is None:
            print(f"  packed_{count} does not fit into the memory of the GPU", flush=True)
            return
        for name, side in (
            (f"packed_{count}", "one_by_one"),
            (f"packed_{count}_vs_single", "single"),
        ):
            self.results[name] = packed / self.results[f"documents_per_second_{side}"]
        self.publish(self.results)
